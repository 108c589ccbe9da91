"""Masks as careless users draw them: what OSOR's second phase is shown in place of the true one (Figure 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ...images.masks import convex_hulls, dilate, move, shrink

Mode = Literal["shrink", "core", "expand", "holes", "shift"]
TOGETHER = 2
"""Pictures that suffer the same: what one device held in OSOR's training, where each draws once for its batch."""


@dataclass(frozen=True)
class IncompleteMasks:
    """How often masks suffer what, and how much. The defaults are OSOR's for SDXL at a short side of 512 pixels."""

    shrink: float = 0.35
    """Chance that only the innermost part is kept."""
    core: float = 0.3
    """Chance that the object's own mask, without its shadow, takes its place; shrunk instead where there is no such."""
    expand: float = 0.2
    """Chance that each part grows to its convex hull and beyond."""
    holes: float = 0.1
    """Chance of square holes."""
    shift: float = 0.05
    """Chance that it is moved."""
    kept: tuple[float, float] = (0.5, 0.7)
    """Share of the area that shrinking keeps, drawn from this range."""
    growth: tuple[int, ...] = (7, 11, 17)
    """Sides of the square that the hull is dilated by, in pixels; one is drawn."""
    growth_times: int = 3
    """It is dilated 1 to this many times."""
    hole_density: float = 5e-4
    """Holes for each pixel of the picture."""
    hole_sides: tuple[int, ...] = (17, 21, 31)
    """Sides of the holes in pixels; one is drawn for all holes."""
    hole_rest: float = 0.4
    """Share of the area that must be left, else there are no holes."""
    distance: int = 35
    """Longest way in pixels that it is moved, down and across."""

    def __post_init__(self) -> None:
        chances = self.chances()
        if min(chances) < 0 or abs(sum(chances) - 1) > 1e-6:
            raise ValueError(f"The chances of the mask modes are {chances}, expected them to sum to 1.")
        even = [side for side in (*self.growth, *self.hole_sides) if side < 1 or side % 2 == 0]
        if even:
            raise ValueError(f"A square's side is {even[0]} pixels, expected odd numbers.")

    def chances(self) -> tuple[float, ...]:
        return tuple(getattr(self, mode) for mode in get_args(Mode))


def incomplete_masks(
    targets: Tensor, cores: Tensor, settings: IncompleteMasks, generators: list[torch.Generator]
) -> Tensor:
    """Masks [B, H, W] as phase 2 is shown them: rows 0 and 1 suffer one mode, rows 2 and 3 another, each in its own way.

    Args:
        targets, cores: [B, H, W] of 0 and 1, as in `incomplete_mask`.
        generators: of the rows, on the CPU.
    """
    chances = torch.tensor(settings.chances())
    modes = [get_args(Mode)[int(torch.multinomial(chances, 1, generator=generator))] for generator in generators]
    made = [
        incomplete_mask(target, core, modes[row - row % TOGETHER], settings, generator)
        for row, (target, core, generator) in enumerate(zip(targets, cores, generators, strict=True))
    ]
    return torch.stack(made)


def incomplete_mask(
    target: Tensor, core: Tensor, mode: Mode, settings: IncompleteMasks, generator: torch.Generator
) -> Tensor:
    """What a mode makes of a mask.

    Args:
        target: [H, W] of 0 and 1: the object and its shadow.
        core: [H, W] of 0 and 1: the object alone.
        generator: on the CPU.

    Returns:
        [H, W] of 0 and 1. Where nothing would be left, the mask as it came.
    """
    has_core = bool(core.any()) and bool((core < target).any())
    if mode == "shrink" or (mode == "core" and not has_core):
        low, high = settings.kept
        made = shrink(target, low + (high - low) * uniform(generator))
    elif mode == "core":
        made = core
    elif mode == "expand":
        side, times = one_of(settings.growth, generator), one_of(range(1, settings.growth_times + 1), generator)
        made = dilate(convex_hulls(target), times * (side - 1) + 1)
    elif mode == "holes":
        seeds = (torch.rand(target.shape, generator=generator) < settings.hole_density).to(target)
        made = target * (1 - dilate(seeds, one_of(settings.hole_sides, generator)))
        if made.sum() < settings.hole_rest * target.sum():
            made = target
    else:
        steps = range(-settings.distance, settings.distance + 1)
        made = move(target, one_of(steps, generator), one_of(steps, generator))
    return made if made.any() else target


def uniform(generator: torch.Generator) -> float:
    return torch.rand(1, generator=generator).item()


def one_of(choices: range | tuple[int, ...], generator: torch.Generator) -> int:
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]
