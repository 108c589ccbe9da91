"""Drawn scenes to remove an object from, with their truth, and the masks that an artist may give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...adapters import mini
from ...kernels.regions import grow
from ...kernels.scene_layers import Scenes
from ...kernels.scenes import draw_scenes
from ...kernels.vocabulary import Difficulty
from ..images.masks import move, shrink
from .judge import own_ground
from .settings import MaskKind

SEED = 20_000
"""Scenes of trainings and of the demo come from other seeds."""


@dataclass(frozen=True)
class Case:
    """A batch of scenes, one object of each to be removed.

    Attributes:
        picture, truth: [B, 3, H, W] in 0..1, with the object, and as though it never was.
        place: [B, H, W] of 0 and 1, what is seen of the object, and a little around it.
        effect: the same of all that it changes, its shadow and reflection included.
        ground: the part of its place where no other object is.
    """

    drawn: Scenes
    picture: Tensor
    truth: Tensor
    place: Tensor
    effect: Tensor
    ground: Tensor


def draw(
    count: int, generator: torch.Generator, size: int = mini.SIZE, difficulty: Difficulty = mini.DIFFICULTY
) -> Case:
    drawn = draw_scenes(count, size, generator, difficulty=difficulty)
    index = drawn.pick_object(generator)
    place = grow(drawn.instance_masks()[torch.arange(count), index], pixels=size / 64)
    effect, ground = drawn.effect_mask(index), own_ground(drawn, index)
    return Case(drawn, drawn.picture(), drawn.without(index), place, effect, ground)


def marked(kind: MaskKind, case: Case) -> Tensor:
    """The mask of a kind, [B, H, W] of 0 and 1; `unclutter evaluate --help` explains the kinds."""
    unit = case.place.shape[-1] // 64
    if kind == "object":
        return case.place
    if kind == "effect":
        return torch.maximum(case.effect, case.place)
    if kind == "dilated":
        return grow(case.place, pixels=4 * unit)
    if kind == "shifted":
        return torch.stack([move(mask, 3 * unit, 3 * unit) for mask in case.place])
    if kind == "eroded":
        return torch.stack([shrink(mask, 0.6) for mask in case.place])
    return torch.stack([mask - shrink(mask, 0.2) for mask in case.place])
