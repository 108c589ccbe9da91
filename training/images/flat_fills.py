"""Holes filled with paint: what every method has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.regions import grow

RING = 3
"""Width in pixels of the ring around a hole whose colour is taken."""


def ring_fill(picture: Tensor, hole: Tensor) -> Tensor:
    """Paint each hole in the median colour of a ring around it; pictures [B, 3, H, W], holes [B, H, W] of 0 and 1."""
    ring = grow(hole, pixels=RING) - hole
    fills = []
    for image, inside, around in zip(picture, hole, ring, strict=True):
        around_it = image[:, around > 0] if around.any() else image[:, inside == 0]
        colour = around_it.median(dim=1).values if around_it.numel() else image.new_full((3,), 0.5)
        fills.append(torch.where(inside > 0, colour[:, None, None], image))
    return torch.stack(fills)


def grey_fill(picture: Tensor, hole: Tensor) -> Tensor:
    """Paint each hole in mid-grey; pictures [B, 3, H, W], holes [B, H, W] of 0 and 1."""
    return torch.where(hole[:, None] > 0, 0.5, picture)
