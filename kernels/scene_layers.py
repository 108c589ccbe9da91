"""A batch of drawn scenes as layers: the picture with any of the objects, and what is known of each of them."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from math import pi

import torch
from einops import rearrange
from torch import Tensor

from .grounds import TEXTURES, Ground
from .outlines import FIGURE, KINDS, PARTS, distance, parts, segment_distance, skeleton

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven")
EFFECT = 2 / 255
"""A pixel that changes by more is an effect of what is removed."""

_LIMB_COLOURS = torch.tensor([hsv_to_rgb(limb / 8, 1, 1) for limb in range(8)])
_BETWEEN_LIMBS = 2 * pi / len(_LIMB_COLOURS)
_LIMB_WIDTH = 1.5 / 64  # of the side of the picture


@dataclass(frozen=True)
class Scenes:
    """A batch of drawn scenes, kept as layers. Objects are painted in the order of their index.

    Attributes:
        ground: the empty backgrounds.
        surface: [B, K, P, 3] in 0..1, the colour of each object; of a figure, that of each of its `PARTS`.
        light: [B, K, H, W], how bright the surface of each object is.
        alphas: [B, K, H, W] in 0..1, coverage of each object; all zero where the slot is unused.
        shadows: [B, K, H, W] in 0..1, how much light each object takes from what lies below it.
        reflections: [B, K, H, W] in 0..1, how much of each object's colour the floor shows.
        present: [B, K] bool, which slots hold an object.
        kind, colour: [B, K] indices into `KINDS` and `COLOURS`.
        centre, radius, angle: [B, K, 2], [B, K] and [B, K], where each object is and how large, in sides of the picture,
            and how it is turned, in radians.
        limbs: [B, K, 4], the angles of figures' limbs, in radians.
    """

    ground: Ground
    surface: Tensor
    light: Tensor
    alphas: Tensor
    shadows: Tensor
    reflections: Tensor
    present: Tensor
    kind: Tensor
    colour: Tensor
    centre: Tensor
    radius: Tensor
    angle: Tensor
    limbs: Tensor

    @property
    def base(self) -> Tensor:
        """The empty background, [B, 3, H, W] in 0..1."""
        return self.ground.picture

    @property
    def colours(self) -> Tensor:
        """The shaded surface of each object, [B, K, 3, H, W] in 0..1."""
        if self.surface.shape[2] == 1:
            surface = self.surface[:, :, 0, :, None, None]
        else:
            u, v = (axis.flatten(0, 1) for axis in self.axes())
            part = parts(u, v, self.limbs.flatten(0, 1)).unflatten(0, self.present.shape)
            one_hot = torch.nn.functional.one_hot(part, len(PARTS)).to(self.surface)
            surface = torch.einsum("b k h w p, b k p c -> b k c h w", one_hot, self.surface)
        return (surface * self.light[:, :, None]).clamp(0, 1)

    def picture(self, keep: Tensor | None = None) -> Tensor:
        """The scene [B, 3, H, W] with the objects of `keep` ([B, K] bool, all by default)."""
        keep = self.present if keep is None else keep & self.present
        canvas, colours = self.base, self.colours
        if self.reflections.any():
            for slot in range(keep.shape[1]):
                shown = (self.reflections[:, slot] * keep[:, slot, None, None])[:, None]
                mirrored = self.surface[:, slot, -1, :, None, None].clamp(0, 1)
                canvas = torch.lerp(canvas, mirrored.expand_as(canvas), shown)
        for slot in range(keep.shape[1]):
            shown = keep[:, slot, None, None].float()
            canvas = canvas * (1 - self.shadows[:, slot] * shown)[:, None]
            canvas = torch.lerp(canvas, colours[:, slot], (self.alphas[:, slot] * shown)[:, None])
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

        Bones of several colours: those of figures, and from the middle of a shape to its outline. Hidden ones are drawn too.
        """
        u, v = self.axes()
        width = _LIMB_WIDTH / 2 / self.radius[..., None, None]
        inside = self._distance(u, v) < 0
        limb = (torch.atan2(v, u) / _BETWEEN_LIMBS).round()
        direction = limb * _BETWEEN_LIMBS
        drawn = inside & ((v * direction.cos() - u * direction.sin()).abs() < width)
        number = limb.long() % len(_LIMB_COLOURS)
        if (self.kind == FIGURE).any():
            bones = skeleton(self.limbs.flatten(0, 1))
            flat = u.flatten(0, 1), v.flatten(0, 1)
            each = [segment_distance(*flat, *bone.unbind(dim=1)) for bone in bones.unbind(dim=1)]
            nearest, bone = (value.unflatten(0, self.present.shape) for value in torch.stack(each).min(dim=0))
            figures = (self.kind == FIGURE)[..., None, None]
            drawn, number = torch.where(figures, nearest < width, drawn), torch.where(figures, bone, number)
        drawn = drawn & self.present[..., None, None]
        colours = rearrange(_LIMB_COLOURS.to(u)[number], "b k h w c -> b k c h w")
        canvas = torch.zeros_like(self.base)
        for slot in range(drawn.shape[1]):
            canvas = torch.where(drawn[:, slot, None], colours[:, slot], canvas)
        return canvas

    def parsing(self) -> Tensor:
        """The parts of what is seen of the objects as labels 1 to 4 on 0: [B, H, W].

        A figure's `PARTS`, and the quarters of a shape.
        """
        u, v = self.axes()
        label = 1 + (u > 0) + 2 * (v > 0)
        if (self.kind == FIGURE).any():
            part = parts(u.flatten(0, 1), v.flatten(0, 1), self.limbs.flatten(0, 1)).unflatten(0, self.present.shape)
            label = torch.where((self.kind == FIGURE)[..., None, None], 1 + part, label)
        return (self.instance_masks() * label).sum(dim=1)

    def axes(self) -> tuple[Tensor, Tensor]:
        """Coordinates along each object's own axes, in units of its radius: [B, K, H, W] each."""
        place = (value.flatten(0, 1) for value in (self.centre, self.radius, self.angle))
        x, y = coordinates(self.base.shape[-1], self.base.device)
        u, v = along_axes(x, y, *place)
        return u.unflatten(0, self.present.shape), v.unflatten(0, self.present.shape)

    def effect_mask(self, index: Tensor, threshold: float = EFFECT) -> Tensor:
        """Every pixel that removing object `index[b]` changes, its shadow included: [B, H, W] in {0, 1}."""
        return ((self.picture() - self.without(index)).abs().amax(dim=1) > threshold).float()

    def pick_object(self, generator: torch.Generator) -> Tensor:
        """One object a scene, [B] long, never one that is almost hidden."""
        visible = self.instance_masks().sum(dim=(2, 3)) / self.alphas.sum(dim=(2, 3)).clamp(min=1)
        weights = (self.present & (visible > 0.5)).float() + 1e-6 * self.present
        return torch.multinomial(weights, 1, generator=generator)[:, 0]

    def caption(self, row: int) -> str:
        """The caption that an annotator would write for the whole scene `row`."""
        count = int(self.present[row].sum())
        first = int(self.present[row].float().argmax())
        what = self.object_caption(row, first) if self.look_alikes()[row] else "objects"
        return f"{COUNTS[count]} {what} on {self.ground_caption(row)}"

    def look_alikes(self) -> Tensor:
        """Tells which scenes have objects of one kind and colour only: [B] bool."""
        first = self.present.float().argmax(dim=1, keepdim=True)
        same = (self.kind == self.kind.gather(1, first)) & (self.colour == self.colour.gather(1, first))
        return (same | ~self.present).all(dim=1)

    def object_caption(self, row: int, slot: int) -> str:
        return f"{COLOURS[int(self.colour[row, slot])]} {KINDS[int(self.kind[row, slot])]}"

    def ground_caption(self, row: int) -> str:
        sides = zip(self.ground.colour[row].tolist(), self.ground.texture[row].tolist(), strict=True)
        return f"{' over '.join(dict.fromkeys(f'{COLOURS[c]} {TEXTURES[t]}' for c, t in sides))} background"

    def _distance(self, u: Tensor, v: Tensor) -> Tensor:
        flat = (value.flatten(0, 1) for value in (u, v, self.kind, self.limbs))
        return distance(*flat).unflatten(0, self.present.shape)


def coordinates(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of the middles of pixels, in sides of the picture: [H, W] each."""
    axis = (torch.arange(size, device=device) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def local(x: Tensor, y: Tensor, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in units of the radius of each of N objects, from its centre: [N, H, W] each."""
    centre_x, centre_y = centre[..., None, None].unbind(dim=1)
    return (x - centre_x) / radius[:, None, None], (y - centre_y) / radius[:, None, None]


def along_axes(x: Tensor, y: Tensor, centre: Tensor, radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates as from `local`, along each object's own axes: [N, H, W] each."""
    u, v = local(x, y, centre, radius)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return u * cos + v * sin, v * cos - u * sin
