"""Even colours where copies meet: the Poisson equation on a hole (Pérez, Gangnet, Blake, "Poisson Image Editing",
SIGGRAPH 2003), except across edges that are meant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .regions import around
from .shift_map import Level, at

EDGE = 0.15
"""A jump of colour between two copies above this (in 0..1) is an edge of the picture, and stays."""
ITERATIONS, COARSE_ITERATIONS = 40, 200


def blend_seams(image: Tensor, level: Level, shifts: Tensor, labels: Tensor) -> Tensor:
    """Adds to the copies in a hole the smooth field that takes away the jumps between them and to the known pixels.

    Args:
        image: [3, h, w], the composed picture.
        level: the picture it was composed from.
        shifts, labels: [K, 2] and [h, w], as `shift_map.compose` took them.

    Returns:
        [3, h, w], equal to `image` beyond the hole.
    """
    rows, columns = around(level.hole.float(), 1)
    hole = level.hole[rows, columns]
    place = level.hole.new_ones(level.hole.shape).nonzero().view(*level.hole.shape, 2)[rows, columns]
    shift = torch.where(hole[..., None], shifts[labels[rows, columns].clamp(0, len(shifts) - 1)], 0)
    part = image[:, rows, columns]
    down = _wanted(level, part, place, shift)
    right = _wanted(level, part.transpose(1, 2), place.transpose(0, 1), shift.transpose(0, 1))
    blended = image.clone()
    blended[:, rows, columns] = part + _from_coarse(hole, *down, *(t.transpose(-1, -2) for t in right))
    return blended


def solve(
    hole: Tensor, down: Tensor, free_down: Tensor, right: Tensor, free_right: Tensor, start: Tensor, iterations: int
) -> Tensor:
    """The field on a hole whose differences between neighbours come nearest to the wanted ones in the sum of squares, and
    which is zero beyond the hole; by conjugate gradients.

    Args:
        hole: bool [h, w].
        down, right: [C, h, w], the wanted difference from each pixel to the one below and to the one on its right.
        free_down, free_right: [h, w], how much each counts; 0 in the last row or column.
        start: [C, h, w], where the search begins.

    Returns:
        [C, h, w].
    """

    def divergence(below: Tensor, beside: Tensor) -> Tensor:
        below, beside = free_down * below, free_right * beside
        return (below.roll(1, -2) - below + beside.roll(1, -1) - beside) * hole

    def laplacian(field: Tensor) -> Tensor:
        return divergence(field.roll(-1, -2) - field, field.roll(-1, -1) - field)

    weight = free_down + free_down.roll(1, -2) + free_right + free_right.roll(1, -1)
    field = start * hole
    rest = divergence(down, right) - laplacian(field)
    scaled = direction = rest / weight.clamp(min=1e-6)
    norm = (rest * scaled).sum((1, 2), keepdim=True)
    for _ in range(iterations):
        bent = laplacian(direction)
        step = norm / (direction * bent).sum((1, 2), keepdim=True).clamp(min=1e-12)
        field, rest = field + step * direction, rest - step * bent
        scaled = rest / weight.clamp(min=1e-6)
        last, norm = norm, (rest * scaled).sum((1, 2), keepdim=True)
        direction = scaled + norm / last.clamp(min=1e-12) * direction
    return field


def pull_push(image: Tensor, known: Tensor) -> Tensor:
    """Fills what is not known with the mean colours of ever larger surroundings (Gortler and others, "The Lumigraph",
    SIGGRAPH 1996).

    Args:
        image: [C, h, w].
        known: bool [h, w], or [C, h, w] where the channels differ.

    Returns:
        [C, h, w], equal to `image` where it is known; a channel of which nothing is known stays as it is.
    """
    known = known if known.ndim == 3 else known[None]
    if (known.all(-1).all(-1) | ~known.any(-1).any(-1)).all():
        return image
    height, width = known.shape[1:]
    pad = (0, width % 2, 0, height % 2)
    weight = F.avg_pool2d(F.pad(known.float(), pad), 2)
    mean = F.avg_pool2d(F.pad(torch.where(known, image, 0), pad), 2) / weight.clamp(min=0.25)
    coarse = pull_push(mean, weight > 0)
    smooth = F.interpolate(coarse[None], scale_factor=2, mode="bilinear")[0, :, :height, :width]
    return torch.where(known | ~known.any(-1, keepdim=True).any(-2, keepdim=True), image, smooth)


def _wanted(level: Level, part: Tensor, place: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the jump from each pixel to the one below has to change, [3, h, w], and whether it may, [h, w] of 0 and
    1. At a seam it becomes the mean of what the two copies hold there, as far as neither holds the hole itself."""
    change, free = torch.zeros_like(part), torch.ones_like(part[0])
    free[-1] = 0
    rows, columns = (shift[:-1] != shift[1:]).any(-1).nonzero().T
    a, b = place[rows, columns], place[rows + 1, columns]
    held, count = torch.zeros_like(part[:, rows, columns]), torch.zeros_like(part[0, rows, columns])
    for by in (shift[rows, columns], shift[rows + 1, columns]):
        seen = ~(at(level.hole[None], a + by) | at(level.hole[None], b + by))[0]
        held += (at(level.image, b + by) - at(level.image, a + by)) * seen
        count += seen
    wanted = held / count.clamp(min=1) - (part[:, rows + 1, columns] - part[:, rows, columns])
    edge = (wanted.abs().amax(0) > EDGE) | (count == 0)
    change[:, rows, columns] = torch.where(edge, 0.0, wanted)
    free[rows, columns] = (~edge).to(free)
    return change, free


def _from_coarse(hole: Tensor, down: Tensor, free_down: Tensor, right: Tensor, free_right: Tensor) -> Tensor:
    """`solve`, begun from the solution at half the size, in which far ends are near."""
    height, width = hole.shape
    if min(height, width) < 24:
        return solve(hole, down, free_down, right, free_right, torch.zeros_like(down), COARSE_ITERATIONS)
    pad = (0, width % 2, 0, height % 2)
    coarse = _from_coarse(
        F.max_pool2d(F.pad(hole, pad)[None].float(), 2)[0] > 0,
        _halve(F.pad(down * free_down, pad)),
        _halve(F.pad(free_down[None], pad))[0] / 2,
        _halve(F.pad(right * free_right, pad).transpose(1, 2)).transpose(1, 2),
        _halve(F.pad(free_right[None], pad).transpose(1, 2)).transpose(1, 2)[0] / 2,
    )
    start = F.interpolate(coarse[None], scale_factor=2, mode="bilinear")[0, :, :height, :width]
    return solve(hole, down, free_down, right, free_right, start, ITERATIONS)


def _halve(down: Tensor) -> Tensor:
    """Differences to the pixel below, [C, h, w], of a picture of half the size. From the middle of a cell to that of the
    next lie half a difference, a whole one, and half of one."""
    upper, lower = down[:, ::2], down[:, 1::2]
    path = upper / 2 + lower + F.pad(upper[:, 1:], (0, 0, 0, 1)) / 2
    path[:, -1] = 0
    return (path[:, :, ::2] + path[:, :, 1::2]) / 2
