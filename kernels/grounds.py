"""The empty backgrounds of drawn scenes: soft ones, and ones whose structure goes on behind whatever stands before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from einops import rearrange
from torch import Tensor

TEXTURES = ("plain", "stripes", "checks", "waves", "tiles", "bricks", "planks")
PLAIN = TEXTURES.index("plain")
SOFT = ("plain", "stripes", "checks", "waves")
"""The textures of soft grounds, the first of `TEXTURES`."""

Uniform = Callable[..., Tensor]
"""uniform(*shape, low=0.0, high=1.0) -> random numbers of that shape."""


@dataclass(frozen=True)
class Ground:
    """Backgrounds of a batch of scenes.

    Attributes:
        picture: [B, 3, H, W] in 0..1.
        texture, colour: [B, 2] indices into `TEXTURES` and the scenes' colours, above and below a border; the same twice
            where there is none.
        floor: [B, H, W] in 0..1, the part below the border, which can reflect.
    """

    picture: Tensor
    texture: Tensor
    colour: Tensor
    floor: Tensor


def soft_ground(x: Tensor, y: Tensor, texture: Tensor, colour: Tensor, rgb: Tensor, uniform: Uniform) -> Ground:
    """One muted colour with a faint pattern and a gradient across.

    Args:
        x, y: [H, W], the middles of pixels in sides of the picture.
        texture, colour: [B] indices into `SOFT` and `rgb`.
        rgb: [colours, 3] in 0..1.
    """
    batch = len(texture)

    def number(low: float, high: float) -> Tensor:
        return uniform(batch, 1, 1, low=low, high=high)

    angle, frequency, phase = number(0, pi), number(4, 9) * 2 * pi, number(0, 2 * pi)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    stripes = torch.sin(frequency * along + phase)
    checks = stripes * torch.sin(frequency * across + phase)
    waves = torch.sin(frequency * along + 2 * torch.sin(frequency * across / 3) + phase)
    pattern = torch.stack([torch.zeros_like(stripes), stripes, checks, waves], dim=1)
    pattern = pattern[torch.arange(batch, device=texture.device), texture]
    direction = number(0, 2 * pi)
    gradient = (x - 0.5) * direction.cos() + (y - 0.5) * direction.sin()
    light = 0.30 * gradient + number(0.06, 0.14) * (4 * pattern).tanh()
    chosen = rgb[colour]
    muted = torch.lerp(chosen, torch.full_like(chosen, 0.55), uniform(batch, 1, low=0.3, high=0.6))
    picture = (rearrange(muted, "b c -> b c 1 1") + light[:, None]).clamp(0, 1)
    twice = torch.stack([texture, texture], dim=1), torch.stack([colour, colour], dim=1)
    return Ground(picture, *twice, torch.zeros_like(picture[:, 0]))


def structured_ground(
    x: Tensor, y: Tensor, textures: Tensor, colours: Tensor, rgb: Tensor, sun: Tensor, uniform: Uniform
) -> Ground:
    """Two grounds that meet at a slanted border, each plain or of two tones of strong contrast, under a light that falls off.

    The pattern goes on behind every object, so that what a hole hides can be told from what is seen around it.

    Args:
        x, y: [H, W], the middles of pixels in sides of the picture.
        textures, colours: [B, 2] indices into `TEXTURES` and `rgb`, above and below the border. Most plain grounds have
            broad bands.
        rgb: [colours, 3] in 0..1.
        sun: [B], the direction that the light comes from, in radians.
    """
    batch = len(textures)
    edge = uniform(batch, 1, 1, low=0.3, high=0.7) + uniform(batch, 1, 1, low=-0.35, high=0.35) * (x - 0.5)
    floor = _cover(y - edge, x.shape[-1])
    above, below = (
        _two_tones(x, y, textures[:, side], rgb[colours[:, side]], uniform) for side in range(textures.shape[1])
    )
    picture = torch.lerp(above, below, floor[:, None])
    sun = sun[:, None, None]
    light = 1 + uniform(batch, 1, 1, low=0.2, high=0.6) * ((x - 0.5) * sun.cos() + (y - 0.5) * sun.sin())
    return Ground((picture * light[:, None]).clamp(0, 1), textures, colours, floor)


def _two_tones(x: Tensor, y: Tensor, texture: Tensor, colour: Tensor, uniform: Uniform) -> Tensor:
    """[B, 3, H, W]: a pale colour, and the same darker where the pattern is."""
    batch = len(texture)
    pale = torch.lerp(colour, torch.full_like(colour, 0.8), uniform(batch, 1, low=0.25, high=0.55))
    darker = uniform(batch, 1, 1, low=0.4, high=0.7)
    pattern = torch.empty(batch, *x.shape, device=x.device)
    angle, phase, shift = uniform(batch, 1, 1, high=pi), uniform(batch, 1, 1), uniform(batch, 1, 1)
    frequency, banded = uniform(batch, 1, 1, low=3, high=6), uniform(batch) < 0.8
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    drawn = (_plain, _stripes, _checks, _waves, _tiles, _bricks, _planks)
    for index, draw in enumerate(drawn):
        chosen = texture == index
        per_side = frequency[chosen]
        if index == PLAIN:
            pattern[chosen] = 0
            chosen, draw = chosen & banded, _stripes
            per_side = frequency[chosen] * 0.4
        p, q = along[chosen] * per_side + phase[chosen], across[chosen] * per_side + shift[chosen]
        pattern[chosen] = draw(p, q, x.shape[-1] / per_side)
    return pale[..., None, None] * (1 - darker * pattern)[:, None]


def _cover(signed: Tensor, pixels: Tensor | float) -> Tensor:
    """Coverage in 0..1 of the pixels where `signed` is positive, their borders softened over a pixel and a half.

    Args:
        signed: the distance to the border, positive inside, in a unit of `pixels` pixels.
    """
    return (0.5 + signed * pixels / 1.5).clamp(0, 1)


def _plain(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    return torch.zeros_like(p)


def _stripes(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    return _cover((p % 1 - 0.5).abs() - 0.25, pixels)


def _checks(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    one, other = _stripes(p, q, pixels), _stripes(q, p, pixels)
    return one + other - 2 * one * other


def _waves(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    return _stripes(p + 0.2 * torch.sin(2 * pi * q), q, pixels)


def _tiles(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    return torch.maximum(_joint(p, pixels), _joint(q, pixels))


def _bricks(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    row = 2 * q
    joint = _joint(p + 0.5 * (row.floor() % 2), pixels)
    return torch.maximum(joint, _joint(row, pixels / 2))


def _planks(p: Tensor, q: Tensor, pixels: Tensor) -> Tensor:
    """Boards beside each other, light, middle and dark in turn."""
    board = p.floor()
    tone = (board * 2 % 3) / 2 * 0.7
    return torch.maximum(tone, _joint(p, pixels))


def _joint(p: Tensor, pixels: Tensor) -> Tensor:
    """A line of an eighth of the period at every whole number."""
    return _cover((p % 1 - 0.5).abs() - 0.4375, pixels)
