"""Masks as careless users draw them: what OSOR's second phase is shown in place of the true one (Figure 6)."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ...images.masks import convex_hulls, dilate, move, shrink
from .settings import IncompleteMasks, Mode

TOGETHER = 2
"""Consecutive rows that share one mode, as on each of the devices of OSOR's training, which drew once for its batch."""


def incomplete_masks(
    targets: Tensor, cores: Tensor, settings: IncompleteMasks, generators: list[torch.Generator]
) -> Tensor:
    """Masks [B, H, W] as phase 2 is shown them: rows 0 and 1 are changed in one mode, rows 2 and 3 in another, each by its own random numbers.

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
    """Change a mask in one of the modes.

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
