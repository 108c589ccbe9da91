"""A thing: meshes with the materials of their surfaces, and what several kinds of things are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np
from numpy.random import Generator

from .geometry import Mesh, lathe, tube
from .textures import Texture, wood

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        colour: sRGB in 0..1, of a surface without a texture.
        texture: repeated over the surface by its size in metres.
        gloss: None is matte; else the roughness of the clear layer over the colour, 0.02 (polished) to 0.4.
        metal: the colour is that of a metal of this gloss.
        light: radiance of a surface that shines by itself.
        turn: of the texture on the surface, in radians.
    """

    colour: Colour = (0.8, 0.8, 0.8)
    texture: Texture | None = None
    gloss: float | None = None
    metal: bool = False
    light: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True)
class Thing:
    """Meshes with their materials; width is the diameter of its footprint, height how tall it is."""

    name: str
    parts: tuple[tuple[Mesh, Material], ...]

    @property
    def radius(self) -> float:
        return max(float(np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1]).max()) for mesh, _ in self.parts)

    @property
    def height(self) -> float:
        return max(float(mesh.vertices[:, 2].max()) for mesh, _ in self.parts)

    def moved(self, offset: tuple[float, float, float], turn: float = 0.0) -> Thing:
        """The thing turned about its own axis, and then shifted."""
        return replace(self, parts=tuple((mesh.moved(offset, turn), material) for mesh, material in self.parts))

    def recoloured(self, colour: Colour) -> Thing:
        """The thing with its first material in another colour."""
        first = self.parts[0][1]
        parts = tuple(
            (mesh, replace(material, colour=colour, texture=None) if material is first else material)
            for mesh, material in self.parts
        )
        return replace(self, parts=parts)


GLAZES: tuple[Colour, ...] = (
    (0.82, 0.80, 0.74), (0.16, 0.28, 0.42), (0.66, 0.24, 0.16), (0.23, 0.40, 0.34), (0.84, 0.62, 0.22), (0.18, 0.17, 0.18),
    (0.60, 0.70, 0.72), (0.76, 0.52, 0.46),
)  # fmt: skip
STEEL, BRASS, DARK = (0.75, 0.75, 0.77), (0.80, 0.62, 0.32), (0.10, 0.10, 0.11)


def glaze(rng: Generator) -> Material:
    """Glazed or bare pottery, lacquer or plastic."""
    return Material(pick(rng, GLAZES), gloss=(None, 0.08, 0.2, 0.3)[rng.integers(4)])


def timber(rng: Generator) -> Material:
    """Bare or varnished wood."""
    return Material(texture=wood(rng), gloss=(None, 0.25)[rng.integers(2)])


Maker = Callable[[Generator], Thing]


def pick(rng: Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[rng.integers(len(colours))]


def sphere(radius: float) -> Mesh:
    angle = np.linspace(-pi / 2, pi / 2, 17)
    return lathe([(radius * cos(a), radius * (1 + sin(a))) for a in angle], smooth=2)


def leaf(length: float, width: float, lean: float) -> Mesh:
    """A blade that rises and bends outwards."""
    t = np.linspace(0, 1, 7)
    angle = lean * t * 1.6
    step = length / 6
    x = np.concatenate([[0], np.cumsum(np.sin(angle[1:]) * step)])
    z = np.concatenate([[0], np.cumsum(np.cos(angle[1:]) * step)])
    broad = width * np.sin(pi * (0.12 + 0.88 * t)) ** 0.8
    blade = tube(np.stack([x, np.zeros(7), z], 1), np.maximum(broad, 0.001), 8, smooth=2)
    # A leaf is flat: the tube is pressed together across its width.
    flat = blade.vertices.copy()
    centre = np.interp(flat[:, 2], z, x) if np.all(np.diff(z) > 0) else flat[:, 0]
    flat[:, 0] = centre + (flat[:, 0] - centre) * 0.15
    return replace(blade, vertices=flat)
