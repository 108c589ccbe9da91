"""Filling a few pictures and living with what fails: a bad picture, a checkpoint that cannot be loaded, a missing package."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .contestants import Contestant
from .fillers import Filler, Fillers
from .pictures import Picture

FAILURES = (ValueError, OSError, RuntimeError, MemoryError)
"""Of one picture: damaged or missing files, masks that suit nothing, pictures too large for the memory."""


class Unopened(Exception):
    """A row that can fill nothing, and why in one sentence: its checkpoint cannot be loaded, or a package is missing."""


@dataclass
class Late:
    """The filler of a row, opened when it is first called, so that nothing is loaded for a row that is finished."""

    row: Contestant
    fillers: Fillers
    filler: Filler | None = None

    def __call__(self, pictures: Sequence[Picture], holes: Sequence[Tensor], seed: int) -> list[Tensor]:
        if self.filler is None:
            try:
                self.filler = self.fillers.of(self.row)
            except FAILURES as error:
                raise Unopened(f"{self.row.name} could not be loaded: {sentence(error)}") from error
        return self.filler(pictures, holes, seed)


@dataclass(frozen=True)
class Attempt:
    """A picture with its fill [1, 3, H, W], or with a sentence that says why there is none; its seconds, and MB of memory."""

    picture: Picture
    filled: Tensor | None
    error: str
    seconds: float
    memory_mb: int


def attempts(
    filler: Filler, pictures: Sequence[Picture], holes: Sequence[Tensor], seed: int, device: str
) -> Iterator[Attempt]:
    """Fill pictures side by side; where that fails, each alone, so that one does not spoil the others.

    Raises:
        Unopened: the row can fill nothing at all.
    """
    if not pictures:
        return
    meter = Meter(device)
    try:
        filled = filler(pictures, holes, seed)
    except ModuleNotFoundError as error:
        raise Unopened(f'{error.name} is missing: run `pip install -e ".[evaluate]"` in the pack\'s folder.') from error
    except FAILURES as error:
        if len(pictures) == 1:
            yield Attempt(pictures[0], None, sentence(error), *meter.read())
            return
        for picture, hole in zip(pictures, holes, strict=True):
            yield from attempts(filler, [picture], [hole], seed, device)
        return
    seconds, memory = meter.read()
    for picture, each in zip(pictures, filled, strict=True):
        yield Attempt(picture, each, "", seconds / len(pictures), memory)


class Meter:
    """Seconds and memory since it was made: the peak on a GPU, on a CPU what the process holds at the end."""

    def __init__(self, device: str) -> None:
        self.gpu = device.startswith("cuda")
        if self.gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.start = time.perf_counter()

    def read(self) -> tuple[float, int]:
        """Seconds, and MB."""
        if self.gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.start
        return seconds, (torch.cuda.max_memory_allocated() if self.gpu else held_bytes()) // 2**20


def held_bytes() -> int:
    """The memory that this process holds."""
    import psutil  # of accelerate's own dependencies

    return psutil.Process().memory_info().rss


def sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
