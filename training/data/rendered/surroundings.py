"""Stays where it is: walls, mirrors, windows, doors, columns and lamps."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.random import Generator

from .geometry import Mesh, joined, lathe, plane, rounded_box
from .textures import PAINTS, WALLS, marble
from .things import BRASS, GLAZES, Material, pick, timber

Parts = list[tuple[Mesh, Material]]


def walls(rng: Generator, back: float) -> Parts:
    """A back wall with a skirting board, and often a wall at one side."""
    paper = WALLS[rng.integers(len(WALLS))](rng)
    board = Material(pick(rng, ((0.86, 0.85, 0.82), (0.30, 0.22, 0.16), (0.62, 0.60, 0.56))), gloss=0.3)
    parts: Parts = [(wall(12, 3.4).moved((0, back, 0)), Material(texture=paper))]
    parts.append((rounded_box(12, 0.025, 0.11, 0.006).moved((0, back - 0.012, 0)), board))
    if rng.random() < 0.6:
        side = side_of(rng) * rng.uniform(1.7, 2.2)
        turn = -pi / 2 if side > 0 else pi / 2
        parts.append((wall(12, 3.4).moved((side, 0, 0), turn), Material(texture=paper)))
        parts.append((rounded_box(12, 0.025, 0.11, 0.006).moved((side, 0, 0), turn), board))
    return parts


def wall(width: float, height: float) -> Mesh:
    """An upright rectangle that stands on z = 0 and faces -y."""
    return plane(width, height).moved((0, 0, height / 2), tilt=pi / 2)


def mirror(rng: Generator, back: float) -> Parts:
    width, height, low = rng.uniform(1.0, 1.9), rng.uniform(1.1, 1.6), rng.uniform(0.06, 0.22)
    x = rng.uniform(-0.7, 0.7)
    frame = timber(rng) if rng.random() < 0.5 else Material(BRASS, gloss=0.2, metal=True)
    return _framed(width, height, (x, back - 0.04, low), Material((0.90, 0.91, 0.91), metal=True), frame, 0.05)


def small_mirror(rng: Generator) -> Parts:
    frame = Material(pick(rng, GLAZES), gloss=0.2)
    parts = _framed(0.42, 0.34, (0, 0, 0), Material((0.90, 0.91, 0.91), metal=True), frame, 0.02)
    return [(mesh.moved((0, 0.32, 0.0), rng.uniform(-0.25, 0.25)), material) for mesh, material in parts]


def window(rng: Generator, back: float) -> Parts:
    width, height, low = rng.uniform(0.8, 1.2), rng.uniform(1.0, 1.4), rng.uniform(0.85, 1.1)
    x = side_of(rng) * rng.uniform(0.7, 1.3)
    frame = Material((0.88, 0.87, 0.85), gloss=0.3)
    parts = _framed(width, height, (x, back - 0.01, low), Material((0.90, 0.95, 1.0), light=3.0), frame, 0.06)
    bars = [rounded_box(0.035, 0.03, height, 0.005).moved((x, back - 0.03, low))]
    bars.append(rounded_box(width, 0.03, 0.035, 0.005).moved((x, back - 0.03, low + height * 0.55)))
    sill = rounded_box(width + 0.24, 0.16, 0.035, 0.008).moved((x, back - 0.08, low - 0.09))
    return [*parts, (joined([*bars, sill]), frame)]


def _framed(
    width: float, height: float, place: tuple[float, float, float], pane: Material, frame: Material, broad: float
) -> Parts:
    """A pane that faces -y in a frame; `place` is the middle of its lower edge."""
    x, y, z = place
    bars = [
        rounded_box(broad, 0.045, height + 2 * broad, 0.008).moved(
            (x + side * (width + broad) / 2, y - 0.01, z - broad)
        )
        for side in (-1, 1)
    ]
    bars += [rounded_box(width, 0.045, broad, 0.008).moved((x, y - 0.01, level)) for level in (z - broad, z + height)]
    return [(wall(width, height).moved((x, y, z)), pane), (joined(bars), frame)]


def door(rng: Generator, back: float) -> Parts:
    x, paint = rng.uniform(-1.4, 1.4), Material(pick(rng, (*GLAZES[1:5], PAINTS[4])), gloss=0.3)
    leaf = rounded_box(0.95, 0.06, 2.05, 0.006).moved((x, back - 0.07, 0.0))
    panels = [
        rounded_box(0.34, 0.02, tall, 0.006).moved((x + side * 0.21, back - 0.105, low))
        for side in (-1, 1)
        for low, tall in ((0.2, 0.7), (1.05, 0.8))
    ]
    knob = lathe([(0.012, 0), (0.03, 0.02), (0.024, 0.05), (0, 0.056)]).moved((x + 0.4, back - 0.1, 1.0), tilt=pi / 2)
    return [(joined([leaf, *panels]), paint), (knob, Material(BRASS, gloss=0.2, metal=True))]


def column(rng: Generator) -> Parts:
    radius = rng.uniform(0.14, 0.2)
    shaft = lathe(
        [
            (radius * 1.35, 0),
            (radius * 1.35, 0.12),
            (radius * 1.1, 0.14),
            (radius * 1.15, 0.2),
            (radius, 0.24),
            (radius * 0.9, 3.4),
        ],
        smooth=0,
    )
    stone = Material(texture=marble(rng), gloss=0.2) if rng.random() < 0.5 else Material(pick(rng, PAINTS[:3]))
    return [(shaft, stone)]


def square_lamp(
    rng: Generator, place: tuple[float, float, float], towards: tuple[float, float, float], side: float, strength: float
) -> tuple[Mesh, Material]:
    """A square lamp out of the picture; its irradiance is that of one square metre of radiance `strength`, whatever its size."""
    x, y, z = (value * rng.uniform(0.9, 1.1) for value in place)
    warmth = pick(rng, ((1.0, 0.95, 0.88), (1.0, 0.88, 0.72), (0.93, 0.96, 1.0)))
    return _facing(plane(side, side), (x, y, z), towards), Material(warmth, light=strength / side**2)


def _facing(mesh: Mesh, place: tuple[float, ...], towards: tuple[float, float, float]) -> Mesh:
    """A mesh in z = 0 that faces up, put at a place and turned to face a point."""
    normal = np.subtract(towards, place)
    normal = normal / np.linalg.norm(normal)
    side = np.cross((0.0, 1.0, 0.02), normal)
    side /= np.linalg.norm(side)
    matrix = np.stack([side, np.cross(normal, side), normal], axis=1)
    return Mesh(mesh.vertices @ matrix.T + np.asarray(place), mesh.normals @ matrix.T, mesh.uv, mesh.faces)


def sun(direction: tuple[float, float, float], strength: float = 5.0) -> tuple[Mesh, Material]:
    """A disc of light far away in a direction, which casts shadows with an edge a little soft.

    Args:
        strength: irradiance of a surface that faces it.
    """
    towards = np.asarray(direction) / np.linalg.norm(direction)
    away, radius = 60.0, 0.9
    disc = lathe([(radius, 0), (0, 0)], segments=24, smooth=0)
    radiance = strength / (pi * (radius / away) ** 2)
    return _facing(disc, tuple(towards * away), (0, 0, 0)), Material((1.0, 0.95, 0.86), light=radiance)


def side_of(rng: Generator) -> int:
    return int(rng.choice([-1, 1]))
