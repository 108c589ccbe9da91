"""Drawn, cluttered scenes whose truth is known: every layer, every mask, and the picture without any one object.

A scene is a textured background and three to seven shaded objects with soft contact shadows, most of the time
look-alikes of one kind and colour. All scenes of a batch are drawn at once, on the device of the generator.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from math import pi

import torch
from einops import rearrange
from torch import Tensor

KINDS = ("disc", "square", "triangle", "ring", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
TEXTURES = ("plain", "stripes", "checks", "waves")
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven")

_RGB = torch.tensor(
    [
        [0.85, 0.15, 0.15],
        [0.95, 0.55, 0.10],
        [0.95, 0.85, 0.20],
        [0.20, 0.65, 0.25],
        [0.15, 0.35, 0.85],
        [0.55, 0.25, 0.70],
        [0.92, 0.92, 0.92],
        [0.12, 0.12, 0.14],
    ]
)
_SLOTS = 7
EFFECT = 2 / 255
"""A pixel that changes by more is an effect of what is removed."""
CROWD = 3
"""Objects of a crowd."""
_LOOK_ALIKES = 0.7  # share of scenes whose objects are all of one kind and colour
_LIMBS = torch.tensor([hsv_to_rgb(limb / 8, 1, 1) for limb in range(8)])
_BETWEEN_LIMBS = 2 * pi / len(_LIMBS)
_LIMB_WIDTH = 1.5  # pixels


@dataclass(frozen=True)
class Scenes:
    """A batch of drawn scenes, kept as layers. Objects are painted in the order of their index.

    Attributes:
        base: [B, 3, H, W] in 0..1, the empty background.
        colours: [B, K, 3, H, W] in 0..1, the shaded surface of each object.
        alphas: [B, K, H, W] in 0..1, coverage of each object; all zero where the slot is unused.
        shadows: [B, K, H, W] in 0..1, how much light each object takes from what lies below it.
        present: [B, K] bool, which slots hold an object.
        kind, colour: [B, K] indices into `KINDS` and `COLOURS`.
        centre, radius, angle: [B, K, 2], [B, K] and [B, K], where each object is and how large, in sides of the picture,
            and how it is turned, in radians.
        texture, ground: [B] indices into `TEXTURES` and `COLOURS`, for the background.
    """

    base: Tensor
    colours: Tensor
    alphas: Tensor
    shadows: Tensor
    present: Tensor
    kind: Tensor
    colour: Tensor
    centre: Tensor
    radius: Tensor
    angle: Tensor
    texture: Tensor
    ground: Tensor

    def picture(self, keep: Tensor | None = None) -> Tensor:
        """The scene [B, 3, H, W] with the objects of `keep` ([B, K] bool, all by default)."""
        keep = self.present if keep is None else keep & self.present
        canvas = self.base
        for slot in range(self.alphas.shape[1]):
            shown = keep[:, slot, None, None].float()
            canvas = canvas * (1 - self.shadows[:, slot] * shown)[:, None]
            canvas = torch.lerp(canvas, self.colours[:, slot], (self.alphas[:, slot] * shown)[:, None])
        return canvas

    def without(self, index: Tensor) -> Tensor:
        """The scene [B, 3, H, W] in which object `index[b]` ([B] long) never was, nor its shadow."""
        slots = torch.arange(self.present.shape[1], device=index.device)
        return self.picture(slots != index[:, None])

    def instance_masks(self) -> Tensor:
        """The visible part of each object, [B, K, H, W] in {0, 1}."""
        covered_later = torch.zeros_like(self.alphas[:, 0])
        masks = []
        for slot in reversed(range(self.alphas.shape[1])):
            masks.append(self.alphas[:, slot] * (1 - covered_later) > 0.5)
            covered_later = torch.maximum(covered_later, self.alphas[:, slot])
        return torch.stack(masks[::-1], dim=1).float()

    def pose(self) -> Tensor:
        """A skeleton of each object on black, as OpenPose draws people: [B, 3, H, W] in 0..1.

        Limbs of eight colours go from the middle to the outline, of the whole object, also where others hide it.
        """
        u, v = self.axes()
        inside = _distance(u, v, self.kind) < 0
        limb = (torch.atan2(v, u) / _BETWEEN_LIMBS).round()
        direction = limb * _BETWEEN_LIMBS
        beside = (v * direction.cos() - u * direction.sin()).abs() * self.radius[..., None, None] * u.shape[-1]
        drawn = inside & (beside < _LIMB_WIDTH / 2) & self.present[..., None, None]
        colours = rearrange(_LIMBS.to(u)[limb.long() % len(_LIMBS)], "b k h w c -> b k c h w")
        canvas = torch.zeros_like(self.base)
        for slot in range(drawn.shape[1]):
            canvas = torch.where(drawn[:, slot, None], colours[:, slot], canvas)
        return canvas

    def parsing(self) -> Tensor:
        """The parts of what is seen of the objects, their quarters, as labels 1 to 4 on 0: [B, H, W]."""
        u, v = self.axes()
        return (self.instance_masks() * (1 + (u > 0) + 2 * (v > 0))).sum(dim=1)

    def axes(self) -> tuple[Tensor, Tensor]:
        """Coordinates along each object's own axes, in units of its radius: [B, K, H, W] each."""
        return _turned(*_local(self.base.shape[-1], self.centre, self.radius), self.angle)

    def effect_mask(self, index: Tensor, threshold: float = EFFECT) -> Tensor:
        """Every pixel that removing object `index[b]` changes, its shadow included: [B, H, W] in {0, 1}."""
        return ((self.picture() - self.without(index)).abs().amax(dim=1) > threshold).float()

    def pick_object(self, generator: torch.Generator) -> Tensor:
        """One object a scene, [B] long, never one that is almost hidden."""
        visible = self.instance_masks().sum(dim=(2, 3)) / self.alphas.sum(dim=(2, 3)).clamp(min=1)
        weights = (self.present & (visible > 0.5)).float() + 1e-6 * self.present
        return torch.multinomial(weights, 1, generator=generator)[:, 0]

    def caption(self, row: int) -> str:
        """What an annotator would write under the whole scene `row`."""
        count = int(self.present[row].sum())
        first = int(self.present[row].float().argmax())
        what = self.object_caption(row, first) if self.look_alikes()[row] else "objects"
        return f"{COUNTS[count]} {what} on {self.ground_caption(row)}"

    def look_alikes(self) -> Tensor:
        """Which scenes have objects of one kind and colour only: [B] bool."""
        first = self.present.float().argmax(dim=1, keepdim=True)
        same = (self.kind == self.kind.gather(1, first)) & (self.colour == self.colour.gather(1, first))
        return (same | ~self.present).all(dim=1)

    def object_caption(self, row: int, slot: int) -> str:
        return f"{COLOURS[int(self.colour[row, slot])]} {KINDS[int(self.kind[row, slot])]}"

    def ground_caption(self, row: int) -> str:
        return f"{COLOURS[int(self.ground[row])]} {TEXTURES[int(self.texture[row])]} background"


def draw_scenes(batch: int, size: int, generator: torch.Generator, crowd: bool = False) -> Scenes:
    """Draw `batch` scenes of `size`×`size` pixels on the generator's device.

    Args:
        crowd: three large objects that stand before one another, in place of three to seven that hardly touch.
    """
    device = generator.device

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device) * (high - low) + low

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator, device=device)

    x, y = _coordinates(size, device)
    rgb = _RGB.to(device)

    texture, ground = integers(len(TEXTURES), batch), integers(len(COLOURS), batch)
    base = _background(x, y, texture, rgb[ground], uniform)

    present = torch.arange(_SLOTS, device=device) < 3 + integers(_SLOTS - 2, batch, 1)
    alike = uniform(batch, 1) < _LOOK_ALIKES
    kind, colour = integers(len(KINDS), batch, _SLOTS), integers(len(COLOURS), batch, _SLOTS)
    colour = torch.where(colour == ground[:, None], (colour + 1) % len(COLOURS), colour)
    kind, colour = torch.where(alike, kind[:, :1], kind), torch.where(alike, colour[:, :1], colour)

    # Nine cells, shuffled: objects crowd and touch, but no scene is one heap.
    cells = uniform(batch, 9).argsort(dim=1)[:, :_SLOTS]
    centre_x = (cells % 3 + 0.5) / 3 + uniform(batch, _SLOTS, low=-0.09, high=0.09)
    centre_y = (cells // 3 + 0.5) / 3 + uniform(batch, _SLOTS, low=-0.09, high=0.09)
    radius = uniform(batch, _SLOTS, low=0.085, high=0.15)
    radius = torch.where(alike, radius[:, :1] * uniform(batch, _SLOTS, low=0.9, high=1.1), radius)
    angle = uniform(batch, _SLOTS, low=0, high=2 * pi)
    if crowd:
        present = torch.arange(_SLOTS, device=device).expand(batch, -1) < CROWD
        radius = radius * 1.5
        # Corners of a triangle around the middle, turned at random: each overlaps the next, none hides another.
        corner = 2 * pi / CROWD * torch.arange(_SLOTS, device=device) + uniform(batch, 1, high=2 * pi)
        away = 0.6 * radius + uniform(batch, _SLOTS, low=0.02, high=0.08)
        centre_x, centre_y = 0.5 + away * corner.cos(), 0.5 + away * corner.sin()

    centre = torch.stack([centre_x, centre_y], dim=-1)

    def distance(shift: float) -> Tensor:
        return _distance(*_turned(*_local(size, centre, radius, shift), angle), kind)

    pixel = 1 / (size * radius[..., None, None])
    shown = present[..., None, None]
    alphas = (0.5 - distance(0.0) / pixel).clamp(0, 1) * shown
    shadows = 0.6 * torch.sigmoid(-8 * distance(0.35)) * shown
    u, v = _local(size, centre, radius)
    light = (1 - 0.35 * (u + v)).clamp(0.55, 1.35)
    surface = rgb[colour] * uniform(batch, _SLOTS, 1, low=0.9, high=1.1)
    colours = (surface[..., None, None] * light[:, :, None]).clamp(0, 1)
    return Scenes(base, colours, alphas, shadows, present, kind, colour, centre, radius, angle, texture, ground)


def random_masks(batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Masks that know nothing of the picture: ellipses, rectangles and strokes, [B, H, W] in {0, 1}."""
    device = generator.device
    x, y = _coordinates(size, device)
    numbers = torch.rand(5, batch, 3, 1, 1, generator=generator, device=device)
    angle, shape = 2 * pi * numbers[2], numbers[3]
    dx, dy = x - numbers[0], y - numbers[1]
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    length = 0.08 + 0.22 * numbers[4]
    along, across = along.abs() / length, across.abs() / (length * (0.25 + 0.75 * shape))
    ellipse = along.square() + across.square() < 1
    rectangle = torch.maximum(along, across) < 0.9
    parts = torch.where(shape < 0.5, rectangle, ellipse)
    used = torch.arange(3, device=device)[:, None, None] < torch.randint(
        1, 4, (batch, 1, 1, 1), generator=generator, device=device
    )
    return (parts & used).any(dim=1).float()


def _background(x: Tensor, y: Tensor, texture: Tensor, colour: Tensor, uniform) -> Tensor:
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
    muted = torch.lerp(colour, torch.full_like(colour, 0.55), uniform(batch, 1, low=0.3, high=0.6))
    return (rearrange(muted, "b c -> b c 1 1") + light[:, None]).clamp(0, 1)


def _coordinates(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of the middles of pixels, in sides of the picture: [H, W] each."""
    axis = (torch.arange(size, device=device) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def _local(size: int, centre: Tensor, radius: Tensor, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Coordinates in units of each object's radius, seen from a point shifted down and right: [B, K, H, W] each."""
    x, y = _coordinates(size, centre.device)
    centre_x, centre_y = centre[..., None, None].unbind(dim=2)
    return (x - centre_x) / radius[..., None, None] - shift, (y - centre_y) / radius[..., None, None] - shift


def _turned(u: Tensor, v: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """The same along each object's own axes."""
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    return u * cos + v * sin, v * cos - u * sin


def _distance(u: Tensor, v: Tensor, kind: Tensor) -> Tensor:
    """Signed distance to the outline of each object, in units of its radius, negative inside: [B, K, H, W]."""
    length = (u.square() + v.square()).sqrt()
    kind = kind[..., None, None]
    distance = length - 1
    distance = torch.where(kind == 1, torch.maximum(u.abs(), v.abs()) - 0.85, distance)
    distance = torch.where(kind == 2, torch.maximum(u.abs() * 0.866 + v * 0.5, -v) - 0.55, distance)
    distance = torch.where(kind == 3, (length - 0.7).abs() - 0.3, distance)
    bar = torch.maximum(u.abs() - 1, v.abs() - 0.35)
    other = torch.maximum(v.abs() - 1, u.abs() - 0.35)
    return torch.where(kind == 4, torch.minimum(bar, other), distance)
