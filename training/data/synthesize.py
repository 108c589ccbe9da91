"""EraDiff's dynamic image synthesis: a picture's own object, moved within it, makes a pair of which the truth is known.

On the fly in the loader, or as a set of files by `unclutter data synthesize`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

from ...kernels import seeds
from ..images.files import read_image, read_mask
from .blend import warp
from .generate import generate
from .manifest import read_manifest
from .sample import Sample
from .settings import SynthesizeConfig

SCALE, ROTATION = (0.5, 1.5), 30.0
OVERLAP = 0.5
"""Largest share of the moved object that may lie on the original one."""
VISIBLE = 0.6
"""Least share of the moved object that must lie inside the picture."""
TRIES, TRIED_AT = 20, 128
"""Places that are tried, and the longest side in pixels at which they are."""
KINDS = ("source", "mask", "target")


def synthesize_pairs(config: SynthesizeConfig) -> None:
    """Make a set; what is there from a run that was stopped is kept.

    Raises:
        ValueError: there are no pictures, one cannot be used, or the output holds a set of other settings.
    """
    samples = read_manifest(config.data, targets=False)
    if not samples:
        raise ValueError(f"{config.data} holds no pictures, expected at least one with its mask: give another folder.")
    settings = {"command": "synthesize", **asdict(config), "output": None, "workers": None, "count": None}
    prompts = [samples[index % len(samples)].prompt for index in range(config.count or len(samples))]
    draw = functools.partial(draw_pair, config, samples)
    generate(config.output, draw, settings, KINDS, prompts, config.workers)


def draw_pair(config: SynthesizeConfig, samples: list[Sample], index: int) -> dict[str, Tensor]:
    """Triplet `index`, by kind: [3, H, W] or [1, H, W] in 0..1."""
    sample = samples[index % len(samples)]
    picture, mask = read_image(sample.source), (read_mask(sample.mask) > 0.5).float()
    height, width = picture.shape[-2:]
    if mask.shape[-2:] != (height, width) or not mask.any():
        raise ValueError(
            f"The mask of {sample.name} is empty or not of {width}x{height} pixels: expected white where the object is."
        )
    if (scale := config.size / max(height, width)) < 1:
        sides = [max(1, round(side * scale)) for side in (height, width)]
        picture = F.interpolate(picture, sides, mode="bicubic", antialias=True).clamp(0, 1)
        mask = F.adaptive_max_pool2d(mask, sides)
    source, target, changed = synthesize(picture[0], mask[0], seeds.generator(config.seed, index))
    return {"source": source, "mask": changed[None], "target": target}


def synthesize(picture: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the object out, turn, scale and mirror it, and paste it elsewhere by feathered alpha.

    Args:
        picture: [3, H, W] in 0..1, which stays as the target.
        mask: [H, W] of 0 and 1, the object in it.

    Returns:
        source [3, H, W], target [3, H, W], and the mask [H, W] of all pixels that differ between them, and one more.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("The mask is empty, expected an object to move: `unclutter data check` lists such masks.")
    height, width = mask.shape
    ys, xs = mask.nonzero(as_tuple=True)
    matrix, shift = find_place(mask, torch.stack([xs.float().mean(), ys.float().mean()]), generator)
    top, left = (max(0, int(found.min()) - 2) for found in (ys, xs))
    box = slice(top, int(ys.max()) + 3), slice(left, int(xs.max()) + 3)
    # Soft on the inner side alone: outside of it lies the background of its old place, which would show as a fringe.
    inside = F.pad(mask[box], (2, 2, 2, 2))[None, None]
    alpha = torch.minimum(inside, gaussian_blur2d(inside, (5, 5), (1.0, 1.0)))[0, :, 2:-2, 2:-2]
    layers = torch.cat([picture[:, box[0], box[1]], alpha])
    moved = warp(layers, matrix, shift + matrix @ torch.tensor([left, top], dtype=torch.float32), height, width)
    source, changed = picture.clone(), torch.zeros(1, height, width)
    moved.of(source).lerp_(moved.values[:3], moved.values[3:])
    moved.of(changed).copy_(moved.values[3:] > 0)
    return source, picture, F.max_pool2d(changed, 3, stride=1, padding=1)[0]


def find_place(mask: Tensor, centre: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The matrix [2, 2] and shift [2] of the first place tried, or the best, that keeps to VISIBLE and OVERLAP."""
    height, width = mask.shape
    step = max(1, -(-max(height, width) // TRIED_AT))
    small = F.interpolate(mask[None, None], [-(-side // step) for side in mask.shape], mode="area")[0]
    best, least = None, math.inf
    for _ in range(TRIES):
        numbers = torch.rand(5, generator=generator)
        angle = math.radians(ROTATION) * (2 * float(numbers[0]) - 1)
        scale = SCALE[0] + (SCALE[1] - SCALE[0]) * float(numbers[1])
        matrix = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        if numbers[4] < 0.5:
            matrix[:, 0] *= -1
        shift = numbers[2:4] * torch.tensor([width, height]) - matrix @ centre
        moved = warp(small, matrix, shift / step, small.shape[-2], small.shape[-1])
        area = moved.values.sum()
        hidden = 1 - area / (small.sum() * scale**2)
        overlap = (moved.values * moved.of(small)).sum() / area.clamp(min=1e-6)
        fault = max(float(hidden) - (1 - VISIBLE), 0) + max(float(overlap) - OVERLAP, 0)
        if fault < least:
            best, least = (matrix, shift), fault
        if fault == 0:
            break
    assert best is not None
    return best
