"""CFD: does a fill hold an object of its own, and does it suit its surroundings (OmniPaint, arXiv 2503.08677)?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.ndimage import label
from torch import Tensor

from .crops import box_of, crop
from .dino import Dino
from .facts import MetricFacts
from .metric import Metric
from .result import Result
from .sam import Sam

SIDE = 224
"""Pixels of what DINOv2 is shown, on each side."""
SAME, WITHIN = 0.8, 0.9
"""A segment is left out where it overlaps a larger one by more than this IoU, or lies in it by more than this share."""
REACH = 6
"""Pixels between segments that are next to each other: three dilations by a square of 5."""


class FeatureDeviation(Metric):
    """CFD by its authors' constants, the mean over the parts of the mask; 0 where all suits. None without a mask.

    It adds two terms. The mask and the frame around it, a third of its size wide, should look alike. And each segment
    that lies wholly in the mask, which may be an object that the method invented, should look like the segments next to
    it that come in from outside, weighted by area.
    """

    def __init__(self, facts: MetricFacts, sam: Sam, dino: Dino) -> None:
        super().__init__(facts)
        self.sam, self.dino = sam, dino

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [self.value(result) for result in results]

    def value(self, result: Result) -> float | None:
        parts, count = label(result.hole.numpy(), structure=torch.ones(3, 3).numpy())
        if not count:
            return None
        segments = distinct(self.sam.segments(result.after))
        holes = [torch.from_numpy(parts == number) for number in range(1, count + 1)]
        return sum(self.deviation(result.after, hole, segments) for hole in holes) / count

    def deviation(self, picture: Tensor, hole: Tensor, segments: list[Tensor]) -> float:
        """CFD of one connected part of the mask."""
        total = self.distance((picture, hole), (picture, frame_of(hole)))
        nested = [segment for segment in segments if (segment & ~hole).sum() == 0]
        entering = [segment & hole for segment in segments if (segment & hole).any() and (segment & ~hole).any()]
        area = sum(int(segment.sum()) for segment in nested)
        for segment in nested:
            beside = [other for other in entering if adjacent(segment, other)]
            if beside:
                around = torch.stack(beside).any(dim=0)
                share = int(segment.sum()) / area
                total += share * self.distance(cut_out(picture, segment), cut_out(picture, around))
        return total

    def distance(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
        """1 minus the cosine of what DINOv2 sees in two regions, each a picture and the region in it."""
        return 1 - F.cosine_similarity(self.seen(*first), self.seen(*second), dim=0).item()

    def seen(self, picture: Tensor, region: Tensor) -> Tensor:
        """The mean [D] of the class token and of the patches of a region [H, W] of bool, each of length 1."""
        square = F.interpolate(picture[None], (SIDE, SIDE), mode="bicubic", antialias=True)[0].clamp(0, 1)
        tokens = F.normalize(self.dino.tokens(square), dim=1)
        grid = round((len(tokens) - 1) ** 0.5)
        inside = F.interpolate(region[None, None].to(torch.float32), (grid, grid), mode="nearest-exact").flatten() > 0
        return tokens[torch.cat([torch.ones(1, dtype=torch.bool), inside])].mean(dim=0)


def distinct(segments: list[Tensor]) -> list[Tensor]:
    """Segments, the largest first, without those that nearly equal a larger one or lie in it."""
    kept: list[Tensor] = []
    for segment in sorted(segments, key=lambda each: -int(each.sum())):
        area = int(segment.sum())
        overlaps = [(int((segment & other).sum()), int((segment | other).sum())) for other in kept]
        if area and not any(both > SAME * either or both > WITHIN * area for both, either in overlaps):
            kept.append(segment)
    return kept


def frame_of(hole: Tensor) -> Tensor:
    """The pixels that are not of the hole [H, W] in the box around it, grown by a third of its size on each side."""
    box = box_of(hole)
    assert box is not None
    top, left, bottom, right = box
    high, wide = (bottom - top) // 3, (right - left) // 3
    frame = torch.zeros_like(hole)
    frame[max(0, top - high) : bottom + high, max(0, left - wide) : right + wide] = True
    return frame & ~hole


def adjacent(first: Tensor, second: Tensor) -> bool:
    """Whether two segments [H, W] of bool are at most 6 pixels from each other."""
    grown = F.max_pool2d(first[None].to(torch.float32), 2 * REACH + 1, 1, REACH)[0] > 0
    return bool((grown & second).any())


def cut_out(picture: Tensor, segment: Tensor) -> tuple[Tensor, Tensor]:
    """A segment on white in the box around it, and where it is in there."""
    box = box_of(segment)
    assert box is not None
    return crop(torch.where(segment, picture, 1.0), box), crop(segment, box)
