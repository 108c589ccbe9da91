"""EraDiff's dynamic image synthesis: a picture's own object, moved within it, makes a pair of which the truth is known."""

from __future__ import annotations

import math

import torch
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from kornia.morphology import dilation
from torch import Tensor

SCALE, ROTATION = (0.5, 1.5), 30.0
OVERLAP = 0.5
"""Largest share of the moved object that may lie on the original one."""
VISIBLE = 0.6
"""Least share of the moved object that must lie inside the picture."""
TRIES = 20


def synthesize(picture: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the object out, turn, scale and mirror it, and paste it elsewhere by feathered alpha.

    Args:
        picture: [3, H, W] in 0..1, which stays as the target.
        mask: [H, W] of 0 and 1, the object in it.

    Returns:
        source [3, H, W], target [3, H, W], and the mask [H, W] of all pixels that differ between them, and one more.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("The mask is empty, expected an object to move: `unclutter data check` lists such masks.")
    height, width = mask.shape
    ys, xs = mask.nonzero(as_tuple=True)
    centre = torch.stack([xs.float().mean(), ys.float().mean()])
    # Soft on the inner side alone: outside of it lies the background of its old place, which would show as a fringe.
    alpha = torch.minimum(mask, gaussian_blur2d(mask[None, None], (5, 5), (1.0, 1.0)))
    layers = torch.cat([picture[None], alpha, mask[None, None]], dim=1)
    best, least = layers, math.inf
    for _ in range(TRIES):
        numbers = torch.rand(5, generator=generator)
        angle = math.radians(ROTATION) * (2 * float(numbers[0]) - 1)
        scale = SCALE[0] + (SCALE[1] - SCALE[0]) * float(numbers[1])
        place = numbers[2:4] * torch.tensor([width, height])
        matrix = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        if numbers[4] < 0.5:
            matrix[:, 0] *= -1
        shift = place - matrix @ centre
        moved = warp_affine(layers, torch.cat([matrix, shift[:, None]], dim=1)[None], (height, width))
        area = moved[:, 4].sum()
        hidden = 1 - area / (mask.sum() * scale**2)
        overlap = (moved[:, 4] * mask).sum() / area.clamp(min=1)
        fault = max(float(hidden) - (1 - VISIBLE), 0) + max(float(overlap) - OVERLAP, 0)
        if fault < least:
            best, least = moved, fault
        if fault == 0:
            break
    source = torch.lerp(picture, best[0, :3], best[0, 3:4])
    changed = dilation((best[:, 3:4] > 0).float(), torch.ones(3, 3))[0, 0]
    return source, picture, changed
