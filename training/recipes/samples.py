"""The sheet of samples that a training draws of itself: in one batch, with a bar, and never for longer than a tenth of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .objective import Objective

SHARE, LEAST = 0.1, 10.0
"""The sheet takes at most this share of the time that the training has taken; so many seconds after a training so short that
the share is less."""


class TooLong(Exception):
    """The pictures of the sheet would take longer than they may; `share` of the time is what they may take."""

    def __init__(self, share: float) -> None:
        super().__init__(f"{share:.0%} of the time that all pictures take is left")
        self.share = share


def sample_rows(objective: Objective, batch: dict[str, Any], trained: float) -> list[list[tuple[str, Tensor]]]:
    """For each picture of a batch, or as many as there is time and memory for: what was given, what the adapters make of
    it, what it should be.

    Args:
        trained: seconds that the training has taken.
    """
    sources, targets, masks = (batch[key] for key in ("source", "target", objective.mask_key))
    count, end = len(sources), time.monotonic() + max(LEAST, SHARE * trained)
    while count:
        try:
            results = objective.erase(sources[:count], masks[:count], until(end)).cpu()
        except TooLong as fault:
            count = min(count - 1, int(count * fault.share))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            count //= 2
        else:
            given = zip(sources, masks[:, None].expand(-1, 3, -1, -1), results, targets, strict=False)
            names = ("source", "mask", "result", "target")
            return [[(name, layer[None]) for name, layer in zip(names, row, strict=True)] for row in given]
    return []


def until(end: float) -> Callable[[Iterable], Iterable]:
    """A progress bar over the steps of sampling, which raises `TooLong` as soon as the steps, as fast as they have been, would
    not be done at `end`, a time of `time.monotonic`."""

    def watch(steps: Iterable) -> Iterator:
        whole = list(steps)
        begun = time.monotonic()
        for done, step in enumerate(tqdm(whole, desc="samples", leave=False), start=1):
            yield step
            now = time.monotonic()
            needed = (now - begun) / done * len(whole)
            if begun + needed > end:
                raise TooLong(max(0.0, end - now) / needed)

    return watch
