"""`unclutter bench precision`: region attention in half precision against its plain formula, and beside FlexAttention."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from tqdm import tqdm

from ...kernels.attention import PLAIN, RegionSettings, region_attention, region_attention_reference
from ..evaluation.report import report
from .attention import SETTINGS
from .timing import machine


def bench_precision(
    tokens: tuple[int, ...] = (1024, 4096, 16384),
    masked: float = 0.3,
    heads: int = 2,
    width: int = 64,
    dtypes: tuple[str, ...] = ("float16", "bfloat16"),
    repeats: int = 5,
    compiled: bool = True,
    device: str | None = None,
    markdown: bool = False,
) -> list[dict[str, float | str]]:
    """Errors of region attention and of FlexAttention against the plain formula in fp32, and the ratio of their times.

    The plain formula holds N×N numbers for every head, which at 16,384 tokens are a gigabyte each.

    Args:
        tokens: sequence lengths N.
        masked: share of object tokens.
        heads: attention heads.
        width: channels of a head.
        dtypes: float16, bfloat16 or float32.
        repeats: rounds of measurements; medians are shown.
        compiled: compile FlexAttention, without which it is slow.
        device: "cpu", "cuda"; by default the GPU where there is one.
        markdown: print a Markdown table.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    flex: Any = torch.compile(flex_attention) if compiled else flex_attention
    rows: list[dict[str, float | str]] = []
    for count in tokens:
        generator = torch.Generator().manual_seed(0)
        exact = [torch.randn(1, heads, count, width, generator=generator).to(device) for _ in range(3)]
        objects = torch.zeros(1, count, dtype=torch.bool, device=device)
        objects[:, : round(masked * count)] = True
        for dtype in dtypes:
            torch.compiler.reset()  # it stops compiling after eight kinds of call
            q, k, v = (x.to(getattr(torch, dtype)) for x in exact)
            for name, settings in tqdm({"plain": PLAIN, **SETTINGS}.items(), desc=f"N = {count}, {dtype}"):
                # The same rounded inputs, so that what is left is the error of the computation.
                truth = region_attention_reference(q.float(), k.float(), v.float(), objects, settings)
                score = score_of(settings, objects)
                ours: Callable[[], Tensor] = partial(region_attention, q, k, v, objects, settings)
                theirs: Callable[[], Tensor] = partial(flex, q, k, v, score_mod=score)
                rows.append(
                    {
                        "N": str(count),
                        "dtype": dtype,
                        "settings": name,
                        "largest error": f"{(ours().float() - truth).abs().max().item():.1e}",
                        "of FlexAttention": f"{(theirs().float() - truth).abs().max().item():.1e}",
                        "time by FlexAttention's": ratio(ours, theirs, repeats, device),
                    }
                )
    report(f"{machine(device)}, {heads} heads of {width}, {masked:.0%} masked", rows, markdown)
    return rows


def score_of(settings: RegionSettings, objects: Tensor) -> Callable[..., Tensor]:
    """The operator τ[m_i] · q·k/√d + δ[m_i] · m_j as FlexAttention's change of a score."""
    temperature = torch.tensor([float(value) for value in settings.temperature], device=objects.device)
    logit = torch.tensor([float(value) for value in settings.object_logit], device=objects.device)

    def score_mod(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        kind = objects[batch, query].long()
        return torch.where(objects[batch, key], temperature[kind] * score + logit[kind], temperature[kind] * score)

    return score_mod


def ratio(first: Callable[[], Tensor], second: Callable[[], Tensor], repeats: int, device: str) -> float:
    """Median of time of the first by time of the second, measured in turn."""

    def seconds(function: Callable[[], Tensor]) -> float:
        start = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return statistics.median(seconds(first) / seconds(second) for _ in range(repeats))
