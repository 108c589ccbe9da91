"""Measures of a fill against a known truth, and how sure they are."""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

NOISE = 0.05
"""A difference is called noise where chance alone would make one as large this often."""


def error(fill: Tensor, other: Tensor, region: Tensor) -> Tensor:
    """Mean squared error of pictures [B, 3, H, W] in a region [B, H, W] of 0 and 1: [B]."""
    area = 3 * region.sum(dim=(1, 2)).clamp(min=1)
    return ((fill - other).square() * region[:, None]).sum(dim=(1, 2, 3)) / area


def decibels(error: Tensor) -> Tensor:
    """PSNR of a mean squared error, at most 100 dB."""
    return -10 * error.clamp(min=1e-10).log10()


def bootstrap_interval(values: Tensor, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of `values` [N], by drawing N of them with repetition many times.

    Given the differences of two methods on the same scenes, it is the interval of their mean difference.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (rounds, len(values)), generator=generator)
    low, high = values.double()[drawn].mean(dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return low, high


def mcnemar(first: Tensor, second: Tensor) -> float:
    """McNemar's exact test: how often chance would make two rates on the same scenes differ as much as these.

    Args:
        first, second: [N] bool, whether each method succeeded on each scene.

    Returns:
        The two-sided p-value. Only scenes on which one of both succeeded count: n of them, of which chance gives k or
        fewer to one method with probability Σ C(n, i) / 2ⁿ over i ≤ k, as a fair coin would.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    disagree = only_first + only_second
    tail = sum(comb(disagree, count) for count in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**disagree)


def rate_interval(successes: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate, each end in 0..1; it holds for rates near 0 and 1 too."""
    z, rate = 1.959964, successes / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * (rate * (1 - rate) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, middle - reach), min(1.0, middle + reach)
