"""CMMD: how far two sets of pictures are from one another as CLIP sees them (Jayasumana et al., arXiv 2401.09603)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .clip import ClipMetric
from .result import Result

SIGMA, SCALE = 10.0, 1000.0
"""Width of the Gaussian kernel and factor of the value, the authors'."""


class Cmmd(ClipMetric):
    """CMMD between the method's pictures and the truths; None for fewer than two pictures.

    Where a truth is not known the picture with the object is taken, as for FID.
    """

    def measure_set(self, results: Sequence[Result]) -> float | None:
        pairs = [(self.network.picture(result.reference), self.network.picture(result.after)) for result in results]
        if len(pairs) < 2:
            return None
        real, fake = (torch.stack(each) for each in zip(*pairs, strict=True))
        return cmmd(real, fake).item()


def cmmd(real: Tensor, fake: Tensor) -> Tensor:
    """1000 times the squared MMD, by its biased estimate, of embeddings [N, D] and [M, D]."""

    def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(x, y).square() / (2 * SIGMA**2)).mean()

    real, fake = real.double(), fake.double()
    return SCALE * (mean_kernel(real, real) + mean_kernel(fake, fake) - 2 * mean_kernel(real, fake))
