"""The shifts by which a picture resembles itself: He and Sun, "Statistics of Patch Offsets for Image Completion" (ECCV 2012)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .shift_map import Level, usable

PATCH = 8
"""Side of the patches whose likenesses give the shifts."""
QUERIES = 1200
"""Patches that are asked for their like."""
NEARNESS = 0.3
"""Cost of a like at the picture's other end, in squared differences of features: of equals the nearer counts."""


def dominant_shifts(level: Level, everywhere: int, beside_hole: int) -> Tensor:
    """The shifts by which most patches find their like in the picture, farther away than a fifteenth of it, and again
    farther than half of the hole.

    Args:
        level: the picture; patches lie in its known part.
        everywhere: how many shifts at most, by patches from all over the picture.
        beside_hole: how many more, by the patches within four pixels of the hole.

    Returns:
        int [up to everywhere + beside_hole, 2], without repeats; a shift that no pixel of the hole can use is left out.
    """
    height, width = level.hole.shape
    whole = _window_max(~level.known, PATCH) == 0
    places = whole.nonzero()
    if len(places) < 2:
        return places.new_zeros(0, 2)
    patches = F.unfold(level.image[None], PATCH)[0].T[whole.flatten()]
    patches = patches - patches.mean(0)
    features = patches @ torch.linalg.eigh(patches.T @ patches)[1][:, -24:]  # the principal components
    features = torch.cat([features, places * math.sqrt(NEARNESS / (height**2 + width**2))], 1)
    beside = (_window_max(F.pad(level.hole, (4,) * 4), PATCH + 8)[whole] > 0).nonzero()[:, 0]
    found = []
    for asked, count in ((torch.arange(len(places), device=places.device), everywhere), (beside, beside_hole)):
        shifts = _likes(level, whole, places, features, asked[:: max(1, len(asked) // QUERIES)])
        found.append(_peaks(level, shifts, count))
    return torch.unique(torch.cat(found), dim=0)


def _likes(level: Level, whole: Tensor, places: Tensor, features: Tensor, asked: Tensor) -> Tensor:
    """The shift from each place `asked` to the one [N, 2] whose features [N, C] are nearest, of those beyond each reach."""
    height, width = level.hole.shape
    rows, columns = level.hole.any(1).sum(), level.hole.any(0).sum()
    reaches = (max(3.0, max(height, width) / 15), max(1.0, float(min(rows, columns)) / 2))
    margin = math.ceil(max(reaches))
    number = torch.full(whole.shape, len(places), device=places.device)  # that of one more, for places that are none
    number[whole] = torch.arange(len(places), device=places.device)
    number = F.pad(number, (margin,) * 4, value=len(places))
    features = F.pad(features, (0, 0, 0, 1))
    norms = F.pad(features[:-1].square().sum(1), (0, 1), value=math.inf)
    shifts = [places.new_zeros(0, 2)]
    for some in asked.split(256):
        difference = torch.addmm(norms, features[some], features.T, alpha=-2)
        for reach in reaches:
            near = places[some, None] + margin + _disc(reach, height, width).to(places)
            difference.scatter_(1, number[near[..., 0], near[..., 1]], math.inf)
            value, best = difference.min(1)
            beyond = value < math.inf
            shifts.append(places[best[beyond]] - places[some[beyond]])
    return torch.cat(shifts)


def _peaks(level: Level, shifts: Tensor, count: int) -> Tensor:
    """The most frequent of shifts [N, 2] and of their opposites, by how much of the hole they can fill."""
    height, width = level.hole.shape
    center = shifts.new_tensor([height, width])
    votes = torch.zeros(2 * height + 1, 2 * width + 1, device=shifts.device)
    votes.index_put_(tuple(torch.cat([shifts + center, center - shifts]).T), votes.new_ones(()), accumulate=True)
    votes = F.avg_pool2d(votes[None], 3, 1, 1)[0] + 0.01 * votes  # of a plateau, its middle
    peaks = (F.max_pool2d(votes[None], 5, 1, 2)[0] == votes) & (votes > 0)
    strength = votes[peaks].sort(descending=True, stable=True)
    found = peaks.nonzero()[strength.indices[: 4 * count]] - center
    score = strength.values[: 4 * count] * usable(level, found).float().mean(1)
    order = score.sort(descending=True, stable=True).indices[:count]
    return found[order[score[order] > 0]]


def _disc(radius: float, height: int, width: int) -> Tensor:
    """Steps [N, 2] shorter than the radius that do not lead out of every picture of that size."""
    rows, columns = (min(math.ceil(radius), side) for side in (height, width))
    steps = torch.cartesian_prod(torch.arange(-rows, rows + 1), torch.arange(-columns, columns + 1))
    return steps[steps.square().sum(1) < radius**2]


def _window_max(marked: Tensor, side: int) -> Tensor:
    return F.max_pool2d(marked.float()[None], side, 1)[0]
