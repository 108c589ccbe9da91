"""Drawn, cluttered scenes whose truth is known: every layer, every mask, and the picture without any one object.

A scene is a background and a few shaded objects with contact shadows, often look-alikes of one kind and colour. All
scenes of a batch are drawn at once, on the device of the generator.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from .grounds import SOFT, TEXTURES, Ground, Uniform, soft_ground, structured_ground
from .outlines import FIGURE, LIMBS, SHAPES, distance, random_limbs
from .scene_layers import COLOURS, Scenes, along_axes, coordinates, local
from .vocabulary import DIFFICULTIES, Difficulty

CROWD = 3
"""Objects of a crowd."""

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
_SKIN = torch.tensor([[0.95, 0.78, 0.65], [0.80, 0.58, 0.43], [0.58, 0.38, 0.27], [0.36, 0.24, 0.18]])
_SLOTS = 7
_LOOK_ALIKES = {"objects": 0.7, "smooth": 0.7, "texture": 0.7, "clutter": 1.0}  # share of scenes of one kind and colour
_COUNTS = {"objects": (3, 7), "smooth": (3, 5), "texture": (3, 5), "clutter": (5, 7)}  # fewest and most objects
_RADII = {"objects": (0.085, 0.15), "smooth": (0.12, 0.19), "texture": (0.12, 0.19), "clutter": (0.12, 0.18)}
_REFLECTING = 0.5  # share of structured scenes whose floor reflects


def draw_scenes(
    batch: int, size: int, generator: torch.Generator, crowd: bool = False, difficulty: Difficulty = "objects"
) -> Scenes:
    """Draw `batch` scenes of `size`×`size` pixels on the generator's device.

    Args:
        crowd: three large objects that stand before one another in place of several that hardly touch; where the difficulty
            is not `objects`, they are people-like figures.

    Raises:
        ValueError: there is no such difficulty.
    """
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty is {difficulty}, expected one of {', '.join(DIFFICULTIES)}.")
    device, structured = generator.device, difficulty != "objects"

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device) * (high - low) + low

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator, device=device)

    x, y = coordinates(size, device)
    rgb = _RGB.to(device)
    # The direction of the light; in `objects` it comes from the upper left.
    sun = uniform(batch, high=2 * pi) if structured else torch.full((batch,), 1.25 * pi, device=device)
    if structured:
        ground = _structured_ground(x, y, batch, difficulty, rgb, sun, uniform, integers)
    else:
        texture, colour = integers(len(SOFT), batch), integers(len(COLOURS), batch)
        ground = soft_ground(x, y, texture, colour, rgb, uniform)

    fewest, most = _COUNTS[difficulty]
    present = torch.arange(_SLOTS, device=device) < fewest + integers(most - fewest + 1, batch, 1)
    alike = uniform(batch, 1) < _LOOK_ALIKES[difficulty]
    kind, colour = integers(SHAPES, batch, _SLOTS), integers(len(COLOURS), batch, _SLOTS)
    for side in ground.colour.unbind(dim=1) if structured else ground.colour[:, :1].unbind(dim=1):
        colour = torch.where(colour == side[:, None], (colour + 1) % len(COLOURS), colour)
    kind, colour = torch.where(alike, kind[:, :1], kind), torch.where(alike, colour[:, :1], colour)

    # Nine cells, shuffled: objects crowd and touch, but no scene is one heap.
    cells = uniform(batch, 9).argsort(dim=1)[:, :_SLOTS]
    centre_x = (cells % 3 + 0.5) / 3 + uniform(batch, _SLOTS, low=-0.09, high=0.09)
    centre_y = (cells // 3 + 0.5) / 3 + uniform(batch, _SLOTS, low=-0.09, high=0.09)
    smallest, largest = _RADII[difficulty]
    radius = uniform(batch, _SLOTS, low=smallest, high=largest)
    radius = torch.where(alike, radius[:, :1] * uniform(batch, _SLOTS, low=0.9, high=1.1), radius)
    angle = uniform(batch, _SLOTS, low=0, high=2 * pi)
    if crowd:
        present = torch.arange(_SLOTS, device=device).expand(batch, -1) < CROWD
        if structured:
            kind = torch.full_like(kind, FIGURE)
            radius = uniform(batch, _SLOTS, low=0.34, high=0.42)
            angle = uniform(batch, _SLOTS, low=-0.12, high=0.12)
            # Beside each other, in any order from back to front: each hides some of the next.
            place = uniform(batch, _SLOTS).masked_fill(~present, torch.inf).argsort(dim=1).argsort(dim=1) - CROWD // 2
            centre_x = 0.5 + 0.19 * place + uniform(batch, _SLOTS, low=-0.04, high=0.04)
            centre_y = uniform(batch, _SLOTS, low=0.5, high=0.58)
        else:
            radius = radius * 1.5
            # Corners of a triangle around the middle, turned at random: each overlaps the next, none hides another.
            corner = 2 * pi / CROWD * torch.arange(_SLOTS, device=device) + uniform(batch, 1, high=2 * pi)
            away = 0.6 * radius + uniform(batch, _SLOTS, low=0.02, high=0.08)
            centre_x, centre_y = 0.5 + away * corner.cos(), 0.5 + away * corner.sin()
    centre = torch.stack([centre_x, centre_y], dim=-1)

    tone = uniform(batch, _SLOTS, 1, low=0.9, high=1.1)
    surface = (rgb[colour] * tone)[:, :, None]
    limbs = torch.zeros(batch, _SLOTS, LIMBS, device=device)
    if crowd and structured:
        limbs = random_limbs(uniform(batch, _SLOTS, LIMBS))
        skin, legs = _SKIN.to(device)[integers(len(_SKIN), batch, _SLOTS)], rgb[integers(len(COLOURS), batch, _SLOTS)]
        legs = torch.where(alike[..., None], legs[:, :1], legs)
        surface = torch.cat([skin[:, :, None], surface, 0.85 * surface, 0.7 * legs[:, :, None]], dim=2)
    # How long a shadow is in radii of its object, and how dark.
    reach = uniform(batch, low=0.4, high=0.7) if structured else torch.full((batch,), 0.35 * 2**0.5, device=device)
    dark = uniform(batch, low=0.45, high=0.65) if structured else torch.full((batch,), 0.6, device=device)
    reflecting = 0.4 * (uniform(batch) < _REFLECTING) if structured else torch.zeros(batch, device=device)

    # Only objects that are there are drawn, N of them.
    row = present.nonzero()[:, 0]
    place, sides, turned = centre[present], radius[present], angle[present]
    look = kind[present], limbs[present]
    away = torch.stack([sun.cos(), sun.sin()], dim=-1)[row]

    def placed(drawn: Tensor) -> Tensor:
        layers = torch.zeros(batch, _SLOTS, size, size, device=device)
        layers[present] = drawn
        return layers

    near = distance(*along_axes(x, y, place, sides, turned), *look)
    alphas = (0.5 - near * size * sides[:, None, None]).clamp(0, 1)
    shifted = place - away * (reach[row] * sides)[:, None]
    far = distance(*along_axes(x, y, shifted, sides, turned), *look)
    shadows = dark[row][:, None, None] * torch.sigmoid(-8 * far)
    u, v = local(x, y, place, sides)
    lit = u * away[:, :1, None] + v * away[:, 1:, None]
    light = (1 + 0.35 * 2**0.5 * lit).clamp(0.55, 1.35)
    if structured:
        light = light * (1 - 0.35 * (1 + 5 * near).clamp(0, 1))  # a darker rim: no tile has one
    reflections, mirrored = torch.zeros_like(alphas), reflecting[row] > 0
    if mirrored.any():
        objects = (value[mirrored] for value in (place, sides, turned, *look))
        reflections[mirrored] = _reflections(x, y, *objects) * (reflecting[:, None, None] * ground.floor)[row[mirrored]]
    return Scenes(
        ground=ground,
        surface=surface,
        light=placed(light),
        alphas=placed(alphas),
        shadows=placed(shadows),
        reflections=placed(reflections),
        present=present,
        kind=kind,
        colour=colour,
        centre=centre,
        radius=radius,
        angle=angle,
        limbs=limbs,
    )


def _structured_ground(
    x: Tensor,
    y: Tensor,
    batch: int,
    difficulty: Difficulty,
    rgb: Tensor,
    sun: Tensor,
    uniform: Uniform,
    integers: Uniform,
) -> Ground:
    """Two sides of two colours; in `clutter` each is plain or textured."""
    textures = 1 + integers(len(TEXTURES) - 1, batch, 2)
    if difficulty == "clutter":
        textures = textures * (uniform(batch, 2) < 0.7)
    if difficulty == "smooth":
        textures = torch.zeros_like(textures)
    light_colours = len(COLOURS) - 1  # all but black, whose pattern could not be seen
    first = integers(light_colours, batch)
    colours = torch.stack([first, (first + 1 + integers(light_colours - 1, batch)) % light_colours], dim=1)
    return structured_ground(x, y, textures, colours, rgb, sun, uniform)


def _reflections(
    x: Tensor, y: Tensor, centre: Tensor, radius: Tensor, angle: Tensor, kind: Tensor, limbs: Tensor
) -> Tensor:
    """Coverage [N, H, W] of what a floor mirrors of objects, fading with the distance from where they stand."""
    bottom = (centre[:, 1] + 0.9 * radius)[:, None, None]
    below = (y - bottom) / radius[:, None, None]
    near = distance(*along_axes(x, 2 * bottom - y, centre, radius, angle), kind, limbs)
    return (0.5 - near * x.shape[-1] * radius[:, None, None]).clamp(0, 1) * (1 - below / 1.5).clamp(0, 1) * (below > 0)
