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
from .settings import PrecisionBenchConfig
from .timing import machine


def bench_precision(config: PrecisionBenchConfig) -> list[dict[str, float | str]]:
    """Errors of region attention and of FlexAttention against the plain formula in fp32, and the ratio of their times."""
    device = config.device
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    flex: Any = torch.compile(flex_attention) if config.compiled else flex_attention
    rows: list[dict[str, float | str]] = []
    for count in config.tokens:
        generator = torch.Generator().manual_seed(0)
        exact = [torch.randn(1, config.heads, count, config.width, generator=generator).to(device) for _ in range(3)]
        objects = torch.zeros(1, count, dtype=torch.bool, device=device)
        objects[:, : round(config.masked * count)] = True
        for dtype in config.dtypes:
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
                        "time by FlexAttention's": ratio(ours, theirs, config.repeats, device),
                    }
                )
    report(
        f"{machine(device)}, {config.heads} heads of {config.width}, {config.masked:.0%} masked", rows, config.markdown
    )
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
