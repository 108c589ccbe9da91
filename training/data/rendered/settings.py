"""Settings of `unclutter data rendered`, checked before Mitsuba is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class RenderedConfig:
    """Render rooms, halls, tables, shelves and yards with and without one of their things, in physically right light.

    The picture without the thing is the true one: shadows, reflections on floors and in mirrors, and the light that the
    thing throws around are gone with it. effect_mask/ is all that it changes visibly, instance_masks/ numbers all things.
    A stopped run goes on where it was. Needs the extra `render` (Mitsuba 3).
    """

    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """Folder that receives source/, target/, mask/, effect_mask/, instance_masks/, manifest.jsonl and sheet.png."""
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 500
    """Number of pairs."""
    size: int = 512
    """Side of the pictures in pixels."""
    seed: int = 0
    """Seed of the scenes. One seed always makes equal scenes, and equal bytes with one renderer, whatever the number of workers."""
    samples: int = 128
    """Paths of light a pixel, a multiple of 16: more take longer and leave less noise."""
    workers: int | None = None
    """Processes. None: one a core."""
    renderer: Literal["auto", "llvm", "scalar"] = "auto"
    """llvm is about twice as fast and needs LLVM's library (`apt install libllvm19`, or DRJIT_LIBLLVM_PATH); auto takes it
    where a trial in another process succeeds."""

    def __post_init__(self) -> None:
        if self.samples < 16 or self.samples % 16:
            raise ValueError(f"samples is {self.samples}, expected a multiple of 16, such as 64 or 128.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}, expected at least 1.")

    def check(self) -> None:
        if self.count < 1 or self.size < 32:
            raise ValueError(f"count is {self.count} and size {self.size}, expected at least 1 pair of 32 pixels.")
