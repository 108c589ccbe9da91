"""PSNR and SSIM: how near every pixel of a fill is to the true background."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ..measures import decibels, error
from .metric import Metric
from .result import Result

MOST = 100.0
"""Decibels of a picture that is the same in every pixel, whose PSNR has no end."""
WINDOW = 11
"""Width in pixels of the window of SSIM."""


class Psnr(Metric):
    """PSNR of the whole picture, for pixels in 0..1; at most 100 dB. None without a truth."""

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [None if result.truth is None else psnr(result.after, result.truth) for result in results]


class Ssim(Metric):
    """SSIM (Wang et al. 2004) with its authors' Gaussian window of 11 pixels, mean over the picture and its channels.

    None without a truth, and of a picture with a side of less than 11 pixels.
    """

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [
            None
            if result.truth is None or min(result.truth.shape[1:]) < WINDOW
            else ssim(result.after, result.truth).item()
            for result in results
        ]


class HolePsnr(Metric):
    """PSNR of the pixels that the mask marks. None without a truth or without a hole."""

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [region_psnr(result.after, result.truth, result.hole) for result in results]


class EffectPsnr(Metric):
    """PSNR of shadow and reflection outside of the mask. None without a truth or an effect there."""

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [region_psnr(result.after, result.truth, result.beyond) for result in results]


class OutsidePsnr(Metric):
    """PSNR of the pixels that the object does not change, against the picture with the object. None where there are none."""

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        return [region_psnr(result.after, result.before, result.untouched) for result in results]


def psnr(after: Tensor, truth: Tensor) -> float:
    return min(MOST, peak_signal_noise_ratio(after, truth, data_range=(0.0, 1.0)).item())


def ssim(after: Tensor, truth: Tensor) -> Tensor:
    value = structural_similarity_index_measure(after[None], truth[None], data_range=(0.0, 1.0), kernel_size=WINDOW)
    assert isinstance(value, Tensor)
    return value


def region_psnr(after: Tensor, truth: Tensor | None, region: Tensor | None) -> float | None:
    """PSNR in a region [H, W] of bool; None where there is no truth, no region, or nothing in it."""
    if truth is None or region is None or not region.any():
        return None
    return decibels(error(after[None], truth[None], region[None].to(torch.float32))).item()
