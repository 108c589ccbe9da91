"""Lays a result back on the picture that it was made of: edit models shift what they are shown by a few pixels, and scale
it by a hair. Measured around the mask, where both show the same; used only where it helps on pixels held out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 128
"""How far from the mask the two are compared, in pixels: further out, an edit model has shifted by other amounts."""
TILE = 16
"""Side in pixels of the squares that are measured on and held out in turns."""
LEAST = 0.05
"""Displacements below this many pixels everywhere are the noise of the measurement."""
LARGEST = 768
"""Side in pixels of the largest picture that is measured on; larger ones are made smaller first."""
GAIN = 0.97
"""The error on the held-out half must fall to this share of what it was, or below."""
ALIKE = 0.5
"""The correlation of the two on the held-out half, after the move, at which they show the same."""
FARTHEST = 0.05
"""Moves by more than this share of the picture, and scales further from 1, are no slip of an edit model."""


@dataclass(frozen=True)
class Similarity:
    """A shift (down, right) in pixels and a scale about the centre: the picture's pixel at p, measured from the centre,
    lies in the result at scale · p + shift."""

    down: float = 0.0
    right: float = 0.0
    scale: float = 1.0

    def largest(self, height: int, width: int) -> float:
        """The largest displacement within a picture of this size, in pixels."""
        stretch = abs(self.scale - 1) * math.hypot(height, width) / 2
        return math.hypot(self.down, self.right) + stretch


def align(result: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """The result moved back onto the original, or the result itself, bit for bit, where it lies on it already.

    Args:
        result, original: [1, 3, H, W] in 0..1.
        mask: [1, H, W] of 0 and 1; outside of it the two show the same, but for what the removal changed there.
    """
    move = find_shift(result, original, mask)
    return result if move is None else apply(result, move)


def find_shift(result: Tensor, original: Tensor, mask: Tensor) -> Similarity | None:
    """How the result lies on the original around the mask, or None where moving it would not help.

    It is found on half of the squares of a checkerboard and must lower the error on the other half; what the removal
    changed (a shadow that went) weighs little in both. Shapes as in `align`.
    """
    from scipy.ndimage import distance_transform_edt

    height, width = mask.shape[-2:]
    if min(height, width) < 2 * TILE:
        return None
    distance = torch.from_numpy(distance_transform_edt(mask[0].cpu().numpy() == 0))
    around = ((distance > 0) & (distance <= REACH)).to(result)[None, None]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    squares = ((y // TILE + x // TILE) % 2).to(around)[None, None]
    one, other = result.float(), original.float()
    move = measure(one, other, around * squares)
    if move is None or move.largest(height, width) < LEAST:
        return None
    held_out = around * (1 - squares)
    fine = details(one), details(other), held_out
    if error(*fine, move) > GAIN * error(*fine, Similarity()) or correlation(*fine, move) < ALIKE:
        return None
    return measure(one, other, around)


def apply(result: Tensor, move: Similarity) -> Tensor:
    """The result [B, C, H, W] moved back by `move`, by cubic interpolation, in 0..1."""
    return sample(result.float(), move).clamp(0, 1).to(result)


def details(picture: Tensor) -> Tensor:
    """The picture without its slow changes, so that a shift in colour is not taken for one in place."""
    from kornia.filters import gaussian_blur2d

    return picture - gaussian_blur2d(picture, (25, 25), (6.0, 6.0), "reflect")


def measure(one: Tensor, other: Tensor, weight: Tensor) -> Similarity | None:
    """The move by which `one` [1, C, H, W] lies best on `other` where weight [1, 1, H, W] is 1.

    Gauss-Newton on the squared difference from coarse to fine, each pixel weighted by how well it fits already (Tukey's
    biweight). None where there is too little structure to tell.
    """
    sizes = [(one, other, weight)]
    while min(sizes[-1][0].shape[-2:]) >= 96:
        one_half, other_half, weight_half = (F.avg_pool2d(picture, 2) for picture in sizes[-1])
        sizes.append((one_half, other_half, weight_half))
    # A twentieth of a pixel at half the size is a tenth of one: the largest sizes would cost most and tell no more.
    sizes = [size for size in sizes if max(size[0].shape[-2:]) <= LARGEST] or sizes[-1:]
    levels = [(details(one_here), details(other_here), weight_here) for one_here, other_here, weight_here in sizes]
    move = search(*levels[-1])
    for level in reversed(levels):
        for _ in range(12 if max(level[0].shape) <= 256 else 4):
            step = improve(*level, move)
            if step is None:
                return None
            move = move + step
            if not float(move.abs().max()) < 2 * FARTHEST:
                return None
            if float(step.abs().max()) < 1e-6:
                break
    down, right, scale = move.tolist()
    return Similarity(down * one.shape[-2] / 2, right * one.shape[-1] / 2, math.exp(scale))


def search(one: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """The move to begin with at the coarsest size: the best of the moves by up to two of its pixels and a hundredth in scale, as
    (down, right) in half heights and widths and log scale."""
    height, width = one.shape[-2:]
    shifts = (-2, -1, 0, 1, 2)
    moves = [Similarity(y, x, scale) for y in shifts for x in shifts for scale in (0.99, 1.0, 1.01)]
    best = min(moves, key=lambda move: float(((sample(one, move) - other).abs() * weight).sum()))
    return torch.tensor([2 * best.down / height, 2 * best.right / width, math.log(best.scale)], dtype=torch.float64)


def improve(one: Tensor, other: Tensor, weight: Tensor, move: Tensor) -> Tensor | None:
    """One step of Gauss-Newton on the move, in units of half the picture."""
    down, right, scale = move.tolist()
    height, width = one.shape[-2:]
    moved = sample(one, Similarity(down * height / 2, right * width / 2, math.exp(scale)))
    # By how much the moved picture changes for a move by half the picture down, right, and outwards.
    vertical = F.pad(moved[..., 2:, :] - moved[..., :-2, :], (0, 0, 1, 1)) * height / 4
    horizontal = F.pad(moved[..., :, 2:] - moved[..., :, :-2], (1, 1, 0, 0)) * width / 4
    y, x = torch.meshgrid(centred(height, one), centred(width, one), indexing="ij")
    slopes = torch.stack([vertical, horizontal, vertical * y + horizontal * x], dim=-1)
    difference = other - moved
    steep = slopes[..., :2].square().sum(dim=(1, -1))[:, None] * weight
    trust = weight * biweight(difference, steep > steep.sum() / weight.sum().clamp(min=1))
    slopes, trust = slopes.flatten(0, 3).double(), trust.expand_as(difference).flatten().double()
    normal = slopes.T @ (trust[:, None] * slopes)
    least = torch.linalg.eigvalsh(normal)
    if not torch.isfinite(least).all() or least[0] <= 1e-6 * least[-1] or least[-1] <= 0:
        return None
    return torch.linalg.solve(normal, slopes.T @ (trust * difference.flatten().double()))


def biweight(difference: Tensor, steep: Tensor) -> Tensor:
    """Tukey's weights in 0..1 for differences [1, C, H, W]. Their spread is taken where the picture is `steep` [1, 1, H, W]
    (bool): on flat ground it would be that of the noise alone, and every edge that is out of place would count as changed."""
    size = difference.abs().mean(dim=1, keepdim=True)
    seen = size[steep]
    spread = 1.4826 * seen.median() if len(seen) else size.new_zeros(())
    return (1 - (size / (4.685 * spread + 1e-4)).square()).clamp(min=0).square()


def error(one: Tensor, other: Tensor, weight: Tensor, move: Similarity) -> float:
    """The median difference where the weight is 1, after the move."""
    size = (sample(one, move) - other).abs().mean(dim=1, keepdim=True)[weight > 0.5]
    return float(size.median()) if len(size) else 0.0


def correlation(one: Tensor, other: Tensor, weight: Tensor, move: Similarity) -> float:
    """How alike the two are where the weight is 1, after the move: -1 to 1."""
    one, other = (picture * weight for picture in (sample(one, move), other))
    return float((one * other).sum() / (one.square().sum() * other.square().sum()).sqrt().clamp(min=1e-12))


def sample(picture: Tensor, move: Similarity) -> Tensor:
    """The picture [B, C, H, W] read at scale · p + shift for each pixel p, measured from the centre; cubic."""
    height, width = picture.shape[-2:]
    y = move.scale * centred(height, picture) + 2 * move.down / height
    x = move.scale * centred(width, picture) + 2 * move.right / width
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    return F.grid_sample(picture, grid.expand(len(picture), -1, -1, -1), "bicubic", "border", align_corners=False)


def centred(side: int, like: Tensor) -> Tensor:
    """The middles of `side` pixels, in half sides from the centre: -1 to 1."""
    return (2 * torch.arange(side, device=like.device, dtype=torch.float32) + 1) / side - 1
