"""`unclutter data rendered`: scenes with and without one of their things, by physics, with exact masks of what it changes."""

from __future__ import annotations

import functools

import numpy as np
import torch
from einops import rearrange
from scipy.ndimage import gaussian_filter, label, median_filter
from torch import Tensor

from ..generate import generate
from . import render
from .geometry import Array
from .settings import RenderedConfig
from .views import draw_scene

KINDS = ("source", "mask", "target", "effect_mask", "instance_masks")
RAYS = 16
"""A pixel, that tell which thing it shows."""
TOUCHED = 0.05
"""Least share of a pixel that the thing covers for its mask to cover it too: no rim of it stays outside."""
EFFECT, BLUR = 2.5, 1 / 205
"""Pictures that differ by more than this (of 255) in a mean over this share of their side (sigma) differ visibly."""
STRONG, SPECK = 12.0, 1.5e-4
"""A median of nine pixels that differs by more than this differs visibly too; a smaller share of
the picture together is noise."""
MIDDLE, WHITE = 0.40, 3.5
"""Brightness that the geometric mean of a picture is set to, and the one that becomes white."""


def render_pairs(config: RenderedConfig) -> None:
    """Render scenes; what is there from a run that was stopped is kept.

    Raises:
        ModuleNotFoundError: Mitsuba is not installed.
        ValueError: the output holds another set, or Mitsuba cannot render here.
    """
    variant = render.choose(config.renderer)
    settings = {
        "command": "rendered",
        "size": config.size,
        "seed": config.seed,
        "samples": config.samples,
        "renderer": variant,
    }
    draw = functools.partial(draw_pair, config.size, config.seed, config.samples, variant)
    generate(config.output, draw, settings, KINDS, [None] * config.count, config.workers)


def draw_pair(size: int, seed: int, samples: int, variant: str, index: int) -> dict[str, Tensor | str]:
    """Scene `index` of a seed, by kind: [3, H, W] or [1, H, W] in 0..1; and its caption, "prompt"."""
    render.start(variant)
    scene = draw_scene(np.random.default_rng([seed, index]))
    number = seed * 1_000_003 + index
    # Of both pictures the same, as a camera's would be.
    light = render.render(scene, size, samples, number % 2**24)
    exposure = MIDDLE / float(np.exp(np.log(light.mean(axis=-1) + 1e-3).mean()))
    source = develop(light, exposure)
    target = develop(render.render(scene, size, samples, number % 2**24, without=scene.target), exposure)
    shares = render.Sight(scene.setting).shares(scene.camera, size, RAYS)
    mask = shares[scene.target] >= TOUCHED
    numbers = np.where(shares.max(axis=0) >= 0.5, shares.argmax(axis=0) + 1, 0)
    pictures = {"source": source, "target": target}
    masks = {"mask": mask, "effect_mask": changed(source, target, mask) | mask, "instance_masks": numbers / 255}
    return {
        **{kind: rearrange(torch.from_numpy(pixels).float(), "h w c -> c h w") for kind, pixels in pictures.items()},
        **{kind: torch.from_numpy(np.asarray(pixels, dtype=np.float32))[None] for kind, pixels in masks.items()},
        "prompt": scene.caption,
    }


def develop(light: Array, exposure: float) -> Array:
    """Linear light as sRGB in 0..1 of 8 bits, bright parts compressed (Reinhard et al. 2002, Eq. 4)."""
    exposed = light * exposure
    shown = (exposed * (1 + exposed / WHITE**2) / (1 + exposed)).clip(0, 1)
    encoded = np.where(shown <= 0.0031308, shown * 12.92, 1.055 * shown.clip(1e-9) ** (1 / 2.4) - 0.055)
    return (encoded * 255).round() / 255


def changed(source: Array, target: Array, mask: Array) -> Array:
    """The pixels [H, W] outside of the thing in which the two pictures [H, W, 3] in 0..1 differ visibly.

    Noise is the same in both where light does not meet the thing, and a mean over some pixels quietens the rest of it.
    The thing itself, grown by a pixel, is left out of that mean.
    """
    outside = np.logical_not(mask)
    weight = outside.astype(float)
    difference = (source - target) * 255 * weight[..., None]
    blur = max(1.0, BLUR * len(mask))
    mean = gaussian_filter(difference, (blur, blur, 0)) / gaussian_filter(weight, blur).clip(1e-3)[..., None]
    found = (np.abs(mean).max(axis=-1) > EFFECT) | (median_filter(np.abs(difference).max(axis=-1), 3) > STRONG)
    parts, _ = label((found & outside) | mask)
    sizes = np.bincount(parts.ravel())
    return found & outside & (sizes[parts] >= SPECK * mask.size)
