"""Crops of filled pictures around what was to go."""

from __future__ import annotations

import torch
from torch import Tensor


def box_of(region: Tensor) -> tuple[int, int, int, int] | None:
    """The smallest box (top, left, bottom, right; the last two beyond it) around a region [H, W] of bool, None of an empty
    one."""
    if not region.any():
        return None
    rows, columns = torch.where(region.any(dim=1))[0], torch.where(region.any(dim=0))[0]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def crop(picture: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """The part [..., h, w] of a picture [..., H, W] in a box."""
    top, left, bottom, right = box
    return picture[..., top:bottom, left:right]


def square_around(box: tuple[int, int, int, int], margin: int, height: int, width: int) -> tuple[int, int, int, int]:
    """A square that holds a box with a margin in pixels on each side, moved into a picture of H × W and cut to it."""
    top, left, bottom, right = box
    side = max(bottom - top, right - left) + 2 * margin
    top = max(0, min(top - margin, height - side))
    left = max(0, min(left - margin, width - side))
    return top, left, min(height, top + side), min(width, left + side)
