"""Measures of a fill against a known truth, and how sure they are."""

from __future__ import annotations

from torch import Tensor


def error(fill: Tensor, other: Tensor, region: Tensor) -> Tensor:
    """Mean squared error of pictures [B, 3, H, W] in a region [B, H, W] of 0 and 1: [B]."""
    area = 3 * region.sum(dim=(1, 2)).clamp(min=1)
    return ((fill - other).square() * region[:, None]).sum(dim=(1, 2, 3)) / area


def decibels(error: Tensor) -> Tensor:
    """PSNR of a mean squared error, at most 100 dB."""
    return -10 * error.clamp(min=1e-10).log10()
