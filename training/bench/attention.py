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


def bench_attention(
    tokens: tuple[int, ...] = (1024, 4096, 16384),
    masked: tuple[float, ...] = (0.1, 0.3, 0.6),
    heads: int = 10,
    width: int = 64,
    dtype: str = "float32",
    repeats: int = 5,
    device: str | None = None,
    markdown: bool = False,
    families: bool = False,
) -> list[dict[str, float | str]]:
    """Region attention against ordinary attention, ordinary attention with a dense mask, and the plain formula.

    Every number is the median of time / time of ordinary attention, taken in turn in one run; below 1 is faster.

    Args:
        tokens: sequence lengths N.
        masked: shares of object tokens.
        heads: attention heads.
        width: channels of a head.
        dtype: float32, float16 or bfloat16.
        repeats: rounds of measurements.
        device: "cpu", "cuda"; by default the GPU where there is one.
        markdown: print a Markdown table.
        families: measure at the shapes of this year's models instead, where only the picture's tokens can be the object's;
            tokens, heads and width do not count then.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, float | str]] = []
    shapes = [("", heads, width, 0, count) for count in tokens]
    if families:
        shapes = [(name, *shape, PICTURE) for name, shape in FAMILIES.items()]
    for name, heads, width, text, count in shapes:
        for share in tqdm(masked, desc=name or f"N = {count}"):
            generator = torch.Generator().manual_seed(0)
            q, k, v = (
                torch.randn(1, heads, text + count, width, generator=generator).to(device, getattr(torch, dtype))
                for _ in range(3)
            )
            objects = torch.zeros(1, text + count, dtype=torch.bool, device=device)
            objects[:, text : text + round(share * count)] = True
            family = {"family": name, "heads": f"{heads} of {width}"} if families else {}
            measured = ratios(candidates(q, k, v, objects), repeats, device)
            rows.append({**family, "N": str(text + count), "masked": f"{share:.0%}", **measured})
    report(f"{machine(device)}, {dtype}" + ("" if families else f", {heads} heads of {width}"), rows, markdown)
    return rows


def candidates(q: Tensor, k: Tensor, v: Tensor, objects: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The ways to compare; the first is what the others are measured against."""
    visible = ~objects[:, None, None, :].expand(-1, -1, q.shape[2], -1)
    ways: dict[str, Callable[[], Tensor]] = {"SDPA": lambda: F.scaled_dot_product_attention(q, k, v)}
    for name, settings in SETTINGS.items():
        ways[name] = lambda settings=settings: region_attention(q, k, v, objects, settings)
    ways["dense mask"] = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    if q.is_cuda:
        ways["FlexAttention"] = flex_attention(q, k, v, objects)
    if q.shape[1] * q.shape[2] <= 10 * PLAIN_FORMULA_TOKENS:
        ways["plain formula"] = lambda: region_attention_reference(q, k, v, objects, AAS)
    return ways


def flex_attention(q: Tensor, k: Tensor, v: Tensor, objects: Tensor) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ~objects[b, key]

    block_mask = create_block_mask(sees, 1, None, q.shape[2], q.shape[2], device=str(q.device))
    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return lambda: compiled(q, k, v, block_mask=block_mask)
