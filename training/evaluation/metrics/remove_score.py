"""ReMOVE: whether SAM sees the same in a fill as around it, without a truth (Chandrasekar et al., arXiv 2409.00707)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .crops import box_of, crop, square_around
from .facts import MetricFacts
from .metric import Metric
from .result import Result
from .sam import Sam

MARGIN = 16
"""Pixels of the surroundings on each side, as in the authors' code."""


class Remove(Metric):
    """The cosine of SAM's mean features in the mask and around it, in a square around what was to go.

    None without a mask, and where no cell of the features lies wholly inside of it, or none around it.
    """

    def __init__(self, facts: MetricFacts, network: Sam) -> None:
        super().__init__(facts)
        self.network = network

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [self.value(result) for result in results]

    def value(self, result: Result) -> float | None:
        box = box_of(result.hole)
        if box is None:
            return None
        square = square_around(box, MARGIN, *result.mask.shape)
        return remove_score(self.network.features(crop(result.after, square)), crop(result.hole, square))


def remove_score(features: Tensor, hole: Tensor) -> float | None:
    """The score of features [C, h, w] of a picture whose mask is [H, W] of bool; cells on its outline count as around."""
    _, height, width = features.shape
    share = F.adaptive_avg_pool2d(hole.to(torch.float32)[None], (height, width))[0]
    inside = share >= 1 - 1e-6
    if not inside.any() or inside.all():
        return None
    return F.cosine_similarity(features[:, inside].mean(dim=1), features[:, ~inside].mean(dim=1), dim=0).item()
