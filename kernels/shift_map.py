"""Shift maps: for each pixel of a hole one of a few shifts, at which distance it is copied from.

Pritch, Kav-Venaki, Peleg, "Shift-Map Image Editing" (ICCV 2009). A shift is (rows, columns); labels are places in a list
of shifts. `patch_offsets` finds the shifts, `expansion` chooses among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .regions import around

RING = 3
"""Reach in pixels at which the known pixels around the hole judge a shift."""
DISTANCE_WEIGHT = 0.5
"""Cost a pixel of a shift as long as the picture. Without it the brick from beside a shutter lands in the shutter."""
IMPOSSIBLE = 1e5
"""Cost of a pixel that a shift would copy from what is not known."""


@dataclass(frozen=True)
class Level:
    """A picture at one size.

    Attributes:
        image: [3, h, w] in 0..1; in the hole a guess, which is never copied: it judges pieces just beyond their pixels.
        hole: bool [h, w], what is to be filled.
        known: bool [h, w], what may be copied.
    """

    image: Tensor
    hole: Tensor
    known: Tensor

    def halved(self) -> Level:
        """The picture at half the size: its sides are even. A pixel is in the hole if any of its four is, and known if all
        four are."""
        hole = F.max_pool2d(self.hole.float()[None], 2)[0] > 0
        return Level(F.avg_pool2d(self.image, 2), hole, F.avg_pool2d(self.known.float()[None], 2)[0] == 1)


def usable(level: Level, shifts: Tensor) -> Tensor:
    """Tells for each shift [K, 2] and each pixel of the hole whether the pixel is copied from a known one: bool [K, pixels]."""
    return (
        torch.stack([known_at(level, level.hole.nonzero() + shift) for shift in shifts])
        if len(shifts)
        else (level.hole.new_zeros(0, int(level.hole.sum())))
    )


def cover_all(level: Level, shifts: Tensor, seed: int) -> Tensor:
    """Adds shifts until each pixel of the hole has one that it can use.

    Raises:
        ValueError: nothing is known.
    """
    known = level.known.nonzero()
    if not len(known):
        raise ValueError(
            "The mask leaves no background to copy from: mark less, avoid less, or give more of the picture around it."
        )
    pixels = level.hole.nonzero()
    generator = torch.Generator().manual_seed(seed)
    bare = ~usable(level, shifts).any(0)
    while bare.any():
        pixel = pixels[bare][int(bare.sum()) // 2]
        some = known[torch.randint(len(known), (64,), generator=generator).to(known.device)] - pixel
        covered = usable(level, some)
        best = int((covered & bare).sum(1).argmax())
        shifts, bare = torch.cat([shifts, some[best : best + 1]]), bare & ~covered[best]
    return shifts


def unary_costs(level: Level, shifts: Tensor, distance_weight: float = DISTANCE_WEIGHT) -> Tensor:
    """The cost of each shift for each pixel: how badly the known pixels around it agree with theirs under the same shift,
    and the length of the shift.

    Args:
        distance_weight: the cost a pixel of a shift as long as the picture.

    Returns:
        [K, pixels of the hole]; `IMPOSSIBLE` where the source is not known or beyond the picture.
    """
    height, width = level.hole.shape
    rows, columns = around(level.hole.float(), RING)
    hole = level.hole[rows, columns]
    places = level.hole.new_ones(level.hole.shape).nonzero().view(height, width, 2)[rows, columns]
    inside, side = level.hole.nonzero(), 2 * RING + 1
    costs = []
    for shift in shifts:
        judged = known_at(level, places + shift) & ~hole
        differences = (level.image[:, rows, columns] - at(level.image, places + shift)).norm(dim=0) * judged
        ring = F.avg_pool2d(differences[None], side, 1, RING)[0] * side
        length = distance_weight * float(shift.float().norm()) / max(height, width)
        costs.append(torch.where(known_at(level, inside + shift), ring[hole] + length, IMPOSSIBLE))
    return torch.stack(costs)


def align(level: Level, shifts: Tensor, labels: Tensor) -> Tensor:
    """Moves each piece as a whole by up to one pixel, to where it fits the pieces and the known pixels around it best.

    A shift that was chosen at half the size is known to within a pixel; this finds the pixel.

    Returns:
        int [K, 2], the shifts.
    """
    height, width = level.hole.shape
    own = torch.tensor(len(shifts))  # the label of the known pixels, whose shift is zero
    shifts = torch.cat([shifts, shifts.new_zeros(1, 2)])
    flat = torch.where(level.hole, labels, own.to(labels)).flatten()
    number = torch.arange(height * width, device=flat.device).view(height, width)
    first, second = neighbours(number)
    differ = flat[first] != flat[second]
    first, second = first[differ], second[differ]
    inner, outer = torch.cat([first, second]), torch.cat([second, first])
    steps = torch.tensor([[0, 0], *([i, j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)], device=flat.device)
    for label in flat[level.hole.flatten()].unique().tolist():
        members = _place((flat == label).nonzero()[:, 0], width)
        beside = flat[inner] == label
        a, b, others = _place(inner[beside], width), _place(outer[beside], width), flat[outer[beside]]
        candidates = shifts[label] + steps
        possible = torch.stack([known_at(level, members + shift).all() for shift in candidates])
        other = shifts[others]
        at_a = (at(level.image, a + candidates[:, None]) - at(level.image, a + other)[:, None]).norm(dim=0)
        at_b = (at(level.image, b + candidates[:, None]) - at(level.image, b + other)[:, None]).norm(dim=0)
        edge = others == own.to(others)  # there the colour of a is not known
        cost = torch.where(edge, 2 * at_b, at_a + at_b).sum(1)
        shifts[label] = candidates[int(torch.where(possible, cost, math.inf).argmin())]
    return shifts[:-1]


def compose(level: Level, shifts: Tensor, labels: Tensor) -> Tensor:
    """The picture with its hole filled by copies: [3, h, w]."""
    filled = level.image.clone()
    pixels = level.hole.nonzero()
    filled[:, level.hole] = at(level.image, pixels + shifts[labels[level.hole]])
    return filled


def neighbours(number: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of neighbours, below and to the right, of the numbered pixels [h, w]; -1 has none."""
    pairs = ((number[:-1], number[1:]), (number[:, :-1], number[:, 1:]))
    both = [(a >= 0) & (b >= 0) for a, b in pairs]
    first = torch.cat([a[inside] for (a, _), inside in zip(pairs, both, strict=True)])
    return first, torch.cat([b[inside] for (_, b), inside in zip(pairs, both, strict=True)])


def at(image: Tensor, places: Tensor) -> Tensor:
    """image [C, h, w] at places [..., 2], those beyond its sides at the nearest pixel: [C, ...]."""
    height, width = image.shape[-2:]
    return image[:, places[..., 0].clamp(0, height - 1), places[..., 1].clamp(0, width - 1)]


def known_at(level: Level, places: Tensor) -> Tensor:
    height, width = level.hole.shape
    inside = (places >= 0).all(-1) & (places[..., 0] < height) & (places[..., 1] < width)
    return inside & at(level.known[None], places)[0]


def _place(number: Tensor, width: int) -> Tensor:
    return torch.stack([number // width, number % width], -1)
