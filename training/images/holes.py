"""Holes that know nothing of the picture, for trainings from nothing."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor


def random_masks(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Ellipses, rectangles and strokes, one to three a mask: [B, H, W] in {0, 1}."""
    device = generator.device
    axis = (torch.arange(size, device=device) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    numbers = torch.rand(5, batch, 3, 1, 1, generator=generator, device=device)
    angle, shape = 2 * pi * numbers[2], numbers[3]
    dx, dy = x - numbers[0], y - numbers[1]
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    length = 0.08 + 0.22 * numbers[4]
    along, across = along.abs() / length, across.abs() / (length * (0.25 + 0.75 * shape))
    ellipse = along.square() + across.square() < 1
    rectangle = torch.maximum(along, across) < 0.9
    parts = torch.where(shape < 0.5, rectangle, ellipse)
    used = torch.arange(3, device=device)[:, None, None] < torch.randint(
        1, 4, (batch, 1, 1, 1), generator=generator, device=device
    )
    return (parts & used).any(dim=1).float()
