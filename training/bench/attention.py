"""`unclutter bench attention`: region attention beside ordinary attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ...kernels.attention import AAS, SRA, aas, region_attention, region_attention_reference, sma
from ..evaluation.report import report
from .settings import AttentionBenchConfig
from .timing import machine, ratios

SETTINGS = {"AAS": AAS, "AAS + SS": aas(0.3), "SRA": SRA, "SMA": sma(-0.5, 0.5)}
FAMILIES = {
    "FLUX.2": (48, 128, 512),
    "Qwen-Image": (24, 128, 256),
    "Z-Image": (30, 128, 128),
    "Stable Diffusion 3.5": (38, 64, 333),
}
"""Heads, channels of a head, and tokens of a text, beside the 4,096 tokens of a picture of 1024×1024."""
PICTURE = 4096
PLAIN_FORMULA_TOKENS = 4096
"""The plain formula holds N×N logits in fp32, 0.7 GB for ten heads at this size; beyond it is left out."""


def bench_attention(config: AttentionBenchConfig) -> list[dict[str, float | str]]:
    """Region attention against ordinary attention, ordinary attention with a dense mask, and the plain formula."""
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, float | str]] = []
    shapes = [("", config.heads, config.width, 0, count) for count in config.tokens]
    if config.families:
        shapes = [(name, *shape, PICTURE) for name, shape in FAMILIES.items()]
    for name, heads, width, text, count in shapes:
        for share in tqdm(config.masked, desc=name or f"N = {count}"):
            generator = torch.Generator().manual_seed(0)
            q, k, v = (
                torch.randn(1, heads, text + count, width, generator=generator).to(device, getattr(torch, config.dtype))
                for _ in range(3)
            )
            objects = torch.zeros(1, text + count, dtype=torch.bool, device=device)
            objects[:, text : text + round(share * count)] = True
            family = {"family": name, "heads": f"{heads} of {width}"} if config.families else {}
            measured = ratios(candidates(q, k, v, objects), config.repeats, device)
            rows.append({**family, "N": str(text + count), "masked": f"{share:.0%}", **measured})
    shape = "" if config.families else f", {config.heads} heads of {config.width}"
    report(f"{machine(device)}, {config.dtype}{shape}", rows, config.markdown)
    return rows


def candidates(q: Tensor, k: Tensor, v: Tensor, objects: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The kinds of attention to compare; the first is what the others are measured against."""
    visible = ~objects[:, None, None, :].expand(-1, -1, q.shape[2], -1)
    attentions: dict[str, Callable[[], Tensor]] = {"SDPA": lambda: F.scaled_dot_product_attention(q, k, v)}
    for name, settings in SETTINGS.items():
        attentions[name] = lambda settings=settings: region_attention(q, k, v, objects, settings)
    attentions["dense mask"] = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    if q.is_cuda:
        attentions["FlexAttention"] = flex_attention(q, k, v, objects)
    if q.shape[1] * q.shape[2] <= 10 * PLAIN_FORMULA_TOKENS:
        attentions["plain formula"] = lambda: region_attention_reference(q, k, v, objects, AAS)
    return attentions


def flex_attention(q: Tensor, k: Tensor, v: Tensor, objects: Tensor) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ~objects[b, key]

    block_mask = create_block_mask(sees, 1, None, q.shape[2], q.shape[2], device=str(q.device))
    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return lambda: compiled(q, k, v, block_mask=block_mask)
