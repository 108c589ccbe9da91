"""Pictures of floors, walls and cloth that repeat without a seam: planks, tiles, bricks, cobbles and more.

Each is [SIDE, SIDE, 3] of sRGB colours in 0..1, and stands for a square of the side in metres that `Texture` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import KDTree

Array = NDArray[np.floating]
SIDE = 1024

WOODS = ((0.62, 0.44, 0.28), (0.48, 0.31, 0.19), (0.76, 0.60, 0.42), (0.33, 0.21, 0.14), (0.70, 0.66, 0.60))
STONES = ((0.78, 0.75, 0.70), (0.55, 0.54, 0.53), (0.42, 0.40, 0.39), (0.72, 0.62, 0.50), (0.86, 0.85, 0.83))
BRICKS = ((0.58, 0.27, 0.20), (0.66, 0.42, 0.30), (0.47, 0.24, 0.19), (0.75, 0.70, 0.64))
PAINTS = (
    (0.86, 0.84, 0.79), (0.74, 0.79, 0.80), (0.80, 0.74, 0.66), (0.62, 0.70, 0.62), (0.45, 0.55, 0.62), (0.79, 0.63, 0.53),
)  # fmt: skip
CLOTHS = ((0.72, 0.17, 0.18), (0.17, 0.30, 0.55), (0.20, 0.42, 0.30), (0.78, 0.58, 0.20), (0.35, 0.33, 0.36))


@dataclass(frozen=True)
class Texture:
    """pixels [SIDE, SIDE, 3], sRGB in 0..1; metres: the side of the square that they show; words: what it is."""

    pixels: Array
    metres: float
    words: str


def planks(rng: Generator) -> Texture:
    """Floorboards of one wood with dark joints."""
    rows = int(rng.choice([10, 12, 16]))
    row, across = _cells(rows)
    along = np.broadcast_to(np.arange(SIDE)[None] / SIDE, (SIDE, SIDE))
    shift, parts = rng.random(rows), 2
    place = (along * parts + shift[row]) % parts
    board = row * parts + place.astype(int)
    tone = rng.normal(1, 0.10, rows * parts)[board]
    seam = np.minimum(_edge(across, SIDE / rows, 1.5), _edge(place % 1, SIDE / parts, 1.5))
    # Every board shows another part of the grain.
    offsets = rng.integers(0, SIDE, rows * parts)[board]
    columns = (np.arange(SIDE)[None] + offsets) % SIDE
    lines = (np.arange(SIDE)[:, None] + offsets * 7) % SIDE
    grain = (noise(rng, 1.0, (14, 1)) * 0.07 + noise(rng, 0.4, (30, 1)) * 0.05)[lines, columns]
    rings = np.sin(26 * noise(rng, 1.7, (5, 1)))[lines, columns] * 0.035
    return Texture(_paint(WOODS[rng.integers(len(WOODS))], tone + grain + rings, seam, 0.35), 1.6, "floorboards")


def parquet(rng: Generator) -> Texture:
    """Squares of strips that lie along and across in turn."""
    squares, strips = 6, 5
    (row, y), (column, x) = _cells(squares), _cells(squares, 1)
    turned = (row + column) % 2 == 1
    across, along = np.where(turned, x, y), np.where(turned, y, x)
    strip = (across * strips).astype(int).clip(max=strips - 1)
    number = (row * squares + column) * strips + strip
    tone = rng.normal(1, 0.09, squares * squares * strips)[number]
    seam = np.minimum(_edge(across * strips % 1, SIDE / squares / strips, 1.2), _edge(along, SIDE / squares, 1.2))
    fine = noise(rng, 0.5, (20, 1)) * 0.06
    grain = np.where(turned, fine.T, fine)
    return Texture(_paint(WOODS[rng.integers(len(WOODS))], tone + grain, seam, 0.45), 1.5, "parquet")


def tiles(rng: Generator) -> Texture:
    """Square tiles with grout between them."""
    count = int(rng.choice([4, 6]))
    (row, y), (column, x) = _cells(count), _cells(count, 1)
    tone = rng.normal(1, 0.035, count * count)[row * count + column] + noise(rng, 1.3) * 0.05
    seam = np.minimum(_edge(x, SIDE / count, 3.0), _edge(y, SIDE / count, 3.0))
    return Texture(_paint(STONES[rng.integers(len(STONES))], tone, seam, 0.6), 1.8, "tiles")


def checks(rng: Generator) -> Texture:
    """Tiles of two colours in turn."""
    count = 6
    (row, y), (column, x) = _cells(count), _cells(count, 1)
    dark = np.array(((0.13, 0.13, 0.14), (0.35, 0.16, 0.12), (0.16, 0.27, 0.24), (0.24, 0.28, 0.36))[rng.integers(4)])
    light = np.array(STONES[rng.choice([0, 4])])
    colour = np.where(((row + column) % 2 == 1)[..., None], dark, light)
    veins = 1 - 0.10 * np.exp(-np.abs(noise(rng, 1.6)) * 14)
    tone = rng.normal(1, 0.03, count * count)[row * count + column] * veins + noise(rng, 0.8) * 0.02
    seam = np.minimum(_edge(x, SIDE / count, 1.2), _edge(y, SIDE / count, 1.2))
    return Texture(_paint(colour, tone, seam, 0.5), 1.8, "chequered tiles")


def ornament(rng: Generator) -> Texture:
    """Cement tiles, each with the same ornament of circles and diamonds."""
    count = 6
    (row, y), (column, x) = _cells(count), _cells(count, 1)
    first, second = (np.array(CLOTHS[number]) * 0.7 + 0.15 for number in rng.choice(len(CLOTHS), 2, replace=False))
    corner = np.hypot(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    diamond = np.abs(x - 0.5) + np.abs(y - 0.5)
    colour = np.broadcast_to(np.array((0.84, 0.81, 0.74)), (SIDE, SIDE, 3))
    colour = np.where(((corner > 0.30) & (corner < 0.40))[..., None], first, colour)
    colour = np.where((corner < 0.17)[..., None], second, colour)
    colour = np.where(((diamond < 0.24) & (diamond > 0.10))[..., None], first, colour)
    tone = rng.normal(1, 0.04, count * count)[row * count + column] + noise(rng, 1.0) * 0.05
    seam = np.minimum(_edge(x, SIDE / count, 1.2), _edge(y, SIDE / count, 1.2))
    return Texture(_paint(colour, tone, seam, 0.6), 1.5, "ornamented tiles")


def bricks(rng: Generator) -> Texture:
    """A wall of bricks, each row shifted by half a brick."""
    rows, columns = 16, 5
    row, y = _cells(rows)
    place = (np.arange(SIDE)[None] / SIDE * columns + (row % 2) / 2) % columns
    brick = row * columns + place.astype(int)
    tone = rng.normal(1, 0.13, rows * columns)[brick] + noise(rng, 0.7) * 0.09
    wobble = noise(rng, 1.2) * 0.9
    seam = np.minimum(_edge(y, SIDE / rows, 3.6 + wobble), _edge(place % 1, SIDE / columns, 3.6 + wobble))
    colour = np.array(BRICKS[rng.integers(len(BRICKS))])
    mortar = np.array((0.66, 0.64, 0.60)) * (1 + noise(rng, 0.4)[..., None] * 0.06)
    pixels = (seam[..., None] * colour * tone[..., None] + (1 - seam[..., None]) * mortar).clip(0, 1)
    return Texture(pixels, 1.2, "bricks")


def cobbles(rng: Generator) -> Texture:
    """Rounded stones of many shapes with earth between them."""
    count = 12
    grid = np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1).reshape(-1, 2)
    centres = ((grid + 0.5 + rng.uniform(-0.3, 0.3, grid.shape)) / count) % 1
    pixels = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1) / SIDE
    distances, nearest = map(np.asarray, KDTree(centres, boxsize=1).query(pixels, k=2))
    gap = (distances[..., 1] - distances[..., 0]) * count
    seam = ((gap - 0.08) / 0.10).clip(0, 1)
    rounding = 0.78 + 0.22 * (gap / 0.5).clip(0, 1)
    tone = rng.normal(1, 0.12, count * count)[nearest[..., 0]] * rounding + noise(rng, 0.6) * 0.10
    return Texture(_paint(STONES[rng.integers(1, 4)], tone, seam, 0.35), 1.6, "cobbles")


def terrazzo(rng: Generator) -> Texture:
    """Chips of stone in cement."""
    colour = np.broadcast_to(np.array((0.80, 0.78, 0.74)), (SIDE, SIDE, 3)) * (1 + noise(rng, 0.8)[..., None] * 0.02)
    for chip in ((0.45, 0.36, 0.30), (0.66, 0.62, 0.56), (0.24, 0.26, 0.27), (0.72, 0.50, 0.38)):
        colour = np.where((noise(rng, 0.9, (1, 1), low=14) > 1.55)[..., None], np.array(chip), colour)
    return Texture(colour.clip(0, 1), 1.2, "terrazzo")


def marble(rng: Generator) -> Texture:
    """Large polished slabs with veins."""
    count = 3
    (row, y), (column, x) = _cells(count), _cells(count, 1)
    field = noise(rng, 1.7)
    shift = rng.integers(0, SIDE, (2, count * count))[:, row * count + column]
    lines, columns = (np.arange(SIDE)[:, None] + shift[0]) % SIDE, (np.arange(SIDE)[None] + shift[1]) % SIDE
    veins = np.exp(-np.abs(field) * 16)[lines, columns] * 0.34 + np.exp(-np.abs(noise(rng, 1.5)) * 22) * 0.12
    tone = 1 - veins + noise(rng, 1.6) * 0.05
    seam = np.minimum(_edge(x, SIDE / count, 1.0), _edge(y, SIDE / count, 1.0))
    return Texture(_paint(STONES[rng.choice([0, 2, 4])], tone, seam, 0.6), 2.4, "marble slabs")


def gingham(rng: Generator) -> Texture:
    """A woven tablecloth of squares."""
    count = int(rng.choice([10, 14]))
    (row, _), (column, _) = _cells(count), _cells(count, 1)
    share = ((row % 2) + (column % 2)) / 2
    colour = np.array(CLOTHS[rng.integers(len(CLOTHS))])
    white = np.array((0.90, 0.88, 0.84))
    threads = 1 + 0.03 * np.sin(np.arange(SIDE) * 2 * np.pi * 256 / SIDE)
    pixels = (share[..., None] * colour + (1 - share[..., None]) * white) * (threads[:, None] * threads[None])[
        ..., None
    ]
    return Texture((pixels * (1 + noise(rng, 1.2)[..., None] * 0.02)).clip(0, 1), 0.6, "a chequered cloth")


def stripes(rng: Generator) -> Texture:
    """Wallpaper or cloth of stripes of several widths."""
    first, second = PAINTS[rng.integers(len(PAINTS))], PAINTS[rng.integers(len(PAINTS))]
    place = np.broadcast_to(np.arange(SIDE)[None] / SIDE, (SIDE, SIDE))
    wide, thin = (place * 6 % 1) < 0.5, np.abs((place * 6 % 1) - 0.25) < 0.02
    colour = np.where(wide[..., None], np.array(first), np.array(second) * 0.82)
    colour = np.where(thin[..., None], np.array(second) * 0.6, colour)
    return Texture((colour * (1 + noise(rng, 1.0)[..., None] * 0.02)).clip(0, 1), 0.9, "striped wallpaper")


def plaster(rng: Generator) -> Texture:
    """A painted wall with faint unevenness."""
    tone = 1 + noise(rng, 1.4) * 0.025 + noise(rng, 0.3) * 0.012
    return Texture(_paint(PAINTS[rng.integers(len(PAINTS))], tone, np.ones((SIDE, SIDE)), 1.0), 2.0, "a painted wall")


def concrete(rng: Generator) -> Texture:
    """Slabs of concrete with stains."""
    (_, y), (_, x) = _cells(2), _cells(2, 1)
    tone = 1 + noise(rng, 1.5) * 0.09 + noise(rng, 0.3) * 0.04 - 0.25 * (noise(rng, 0.5, low=30) > 2.7)
    seam = np.minimum(_edge(x, SIDE / 2, 3.0), _edge(y, SIDE / 2, 3.0))
    return Texture(_paint((0.60, 0.59, 0.57), tone, seam, 0.5), 2.4, "concrete slabs")


def wood(rng: Generator) -> Texture:
    """One piece of wood, for furniture."""
    tone = 1 + noise(rng, 0.5, (30, 1)) * 0.06 + np.sin(30 * noise(rng, 1.8, (6, 1))) * 0.06
    return Texture(_paint(WOODS[rng.integers(len(WOODS))], tone, np.ones((SIDE, SIDE)), 1.0), 0.8, "wood")


def rug(rng: Generator) -> Texture:
    """A woven rug of bands with zigzags, in two colours and white."""
    first, second = (np.array(CLOTHS[number]) for number in rng.choice(len(CLOTHS), 2, replace=False))
    (row, y), (_, x) = _cells(5), _cells(20, 1)
    zigzag = np.abs(y - 0.5) < 0.16 + 0.30 * np.abs(x - 0.5)
    colour = np.where((row % 2 == 0)[..., None], first, second)
    colour = np.where(zigzag[..., None], np.array((0.87, 0.84, 0.77)), colour)
    colour = np.where((np.abs(y - 0.5) > 0.46)[..., None], np.array((0.16, 0.15, 0.15)), colour)
    threads = 1 + 0.06 * np.sin(np.arange(SIDE) * 2 * np.pi * 200 / SIDE)[:, None]
    return Texture((colour * (threads + noise(rng, 0.3) * 0.05)[..., None]).clip(0, 1), 1.0, "a woven rug")


Maker = Callable[[Generator], Texture]
FLOORS: tuple[Maker, ...] = (planks, parquet, tiles, checks, ornament, terrazzo, marble, concrete)
TABLES: tuple[Maker, ...] = (planks, gingham, marble, parquet, ornament, wood)
WALLS: tuple[Maker, ...] = (plaster, stripes, bricks, tiles, plaster)
GROUNDS: tuple[Maker, ...] = (bricks, cobbles, concrete, tiles, planks)


def noise(rng: Generator, power: float, stretch: tuple[int, int] = (1, 1), low: float = 0.0) -> Array:
    """Periodic noise [SIDE, SIDE] of mean 0 and deviation 1.

    Args:
        power: how its amplitude falls with the frequency; the larger, the smoother.
        stretch: how many times finer it is down and across.
        low: frequencies below this many periods a side are left out.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    down = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None] / stretch[0]
    frequency = np.hypot(down, np.fft.rfftfreq(SIDE, 1 / SIDE)[None] / stretch[1])
    weight = np.where(frequency > max(low, 0), (frequency.clip(min=1 / max(stretch))) ** -power, 0)
    field = np.fft.irfft2(spectrum * weight, (SIDE, SIDE))
    return (field - field.mean()) / field.std()


def _cells(count: int, axis: int = 0) -> tuple[NDArray[np.integer], Array]:
    """The number of the strip that each pixel lies in, and where in it, in 0..1, down (0) or across (1)."""
    place = np.arange(SIDE) / SIDE * count
    shape = (SIDE, 1) if axis == 0 else (1, SIDE)
    place = np.broadcast_to(place.reshape(shape), (SIDE, SIDE))
    return place.astype(int), place % 1


def _edge(place: Array, pixels: float, width: float | Array) -> Array:
    """1 inside of a cell, 0 on its border of so many pixels, with a soft step of a pixel between."""
    return (np.minimum(place, 1 - place) * pixels - width / 2).clip(0, 1)


def _paint(colour: object, tone: Array, seam: Array, shade: float) -> Array:
    """A colour of varied brightness whose seams are darker, by the factor `shade`."""
    return (np.asarray(colour) * (tone * (shade + (1 - shade) * seam))[..., None]).clip(0, 1)
