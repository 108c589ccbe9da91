"""Times of several ways, taken in turn in one run, and the machine that took them."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def ratios(calls: dict[str, Callable[[], Tensor]], repeats: int, device: str) -> dict[str, float]:
    """Median of each call's time over the first one's, measured in turn."""

    def clock(call: Callable[[], Tensor]) -> float:
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.inference_mode():
        for call in calls.values():
            call()
        rounds = [[clock(call) for call in calls.values()] for _ in range(repeats)]
    return {name: statistics.median(row[i] / row[0] for row in rounds) for i, name in enumerate(calls)}


def machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def machine_defaults(device: str | None, dtype: str | None) -> tuple[str, torch.dtype]:
    """A GPU where there is one, and bfloat16 there; float32 on a CPU."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return device, getattr(torch, dtype or ("float32" if device == "cpu" else "bfloat16"))
