"""Draws settings: rooms, halls, tables, shelves and courtyards, in which one of several things will be removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import cos, pi, sin

import numpy as np
from numpy.random import Generator

from .furniture import FURNITURE, OUTDOORS, carpet
from .geometry import plane, rounded_box
from .scene import Setting, View
from .surroundings import Parts, column, door, mirror, side_of, small_mirror, square_lamp, sun, wall, walls, window
from .tableware import SMALL
from .textures import FLOORS, GROUNDS, TABLES, WALLS, bricks, checks, cobbles, marble, plaster, terrazzo, tiles
from .things import GLAZES, Maker, Material, Thing, pick, timber

LOOK_ALIKES = 0.7
"""Share of settings in which some things are of one kind."""
TURNS = (0.0, 0.0, pi / 2, pi / 4)
"""Of the ground's texture."""
TRIES = 200
"""Places that are tried for each thing."""


def compose(rng: Generator) -> Setting:
    """A setting of one of the kinds. Its first things stand near the middle, and are often of one kind."""
    return SETTINGS[rng.choice(len(SETTINGS), p=SHARES)](rng)


def room(rng: Generator) -> Setting:
    """A room with furniture, a lamp above, and sometimes a window, a mirror or a rug."""
    floor = FLOORS[rng.integers(len(FLOORS))](rng)
    gloss = (None, 0.05, 0.12, 0.25)[rng.integers(4)]
    back = rng.uniform(1.6, 2.4)
    parts, words = walls(rng, back), [f"{floor.words} on the floor"]
    parts.append((plane(9, 9), Material(texture=floor, gloss=gloss, turn=TURNS[rng.integers(4)])))
    if rng.random() < 0.55:
        parts += mirror(rng, back)
        words.append("a mirror")
    if rng.random() < 0.4:
        parts += window(rng, back)
        words.append("a window")
    parts.append(square_lamp(rng, (side_of(rng) * 1.45, -1.2, 2.5), (0, 0.3, 0.3), rng.uniform(0.7, 1.3), 11))
    if rng.random() < 0.35:
        rug = carpet(rng, rng.uniform(1.3, 1.9), rng.uniform(1.0, 1.4)).moved((0, 0.1, 0), rng.uniform(-0.3, 0.3))
        parts += rug.parts
        words.append("a rug")
    things = _arrange(rng, FURNITURE, int(rng.integers(5, 9)), (1.1, -0.6, back - 0.3))
    return Setting(things, tuple(parts), (0.36, 0.38, 0.42), View(), f"a room with {_list(words)}")


def hall(rng: Generator) -> Setting:
    """A hall with columns on a polished floor that mirrors what stands on it."""
    floor = (checks, marble, terrazzo, tiles)[rng.integers(4)](rng)
    parts = walls(rng, 2.9)
    polish = (0.02, 0.04, 0.08)[rng.integers(3)]
    parts.append((plane(12, 12), Material(texture=floor, gloss=polish, turn=TURNS[rng.integers(4)])))
    shaft = column(rng)
    parts += [(mesh.moved((x, 2.2, 0)), material) for x in (-2.1, -0.7, 0.7, 2.1) for mesh, material in shaft]
    parts.append(square_lamp(rng, (side_of(rng) * 1.45, -0.6, 3.2), (0, 0.5, 0), rng.uniform(0.9, 1.8), 9))
    things = _arrange(rng, FURNITURE, int(rng.integers(4, 8)), (1.1, -0.6, 1.6))
    words = f"a hall with columns and a polished floor of {floor.words}"
    return Setting(things, tuple(parts), (0.42, 0.42, 0.42), View(elevation=(7, 26)), words)


def tabletop(rng: Generator) -> Setting:
    """Things on a table before a wall."""
    top = TABLES[rng.integers(len(TABLES))](rng)
    top = replace(top, metres=top.metres * (0.6 if top.metres > 1 else 1))
    gloss = (None, 0.06, 0.15, 0.25)[rng.integers(4)]
    board = Material(texture=top, gloss=gloss, turn=TURNS[rng.integers(3)])
    paper = WALLS[rng.integers(len(WALLS))](rng)
    parts: Parts = [
        (rounded_box(2.6, 1.1, 0.04, 0.008).moved((0, 0, -0.04)), board),
        (wall(6, 4).moved((0, rng.uniform(0.6, 1.1), -1.5)), Material(texture=paper)),
    ]
    words = f"a table with {top.words} before {paper.words}"
    if rng.random() < 0.35:
        parts += small_mirror(rng)
        words += " and a mirror"
    parts.append(square_lamp(rng, (side_of(rng) * 0.9, -0.25, 0.95), (0, 0, 0.05), rng.uniform(0.25, 0.55), 1.6))
    things = _arrange(rng, SMALL, int(rng.integers(5, 9)), (0.30, -0.22, 0.24), gap=0.006)
    view = View(
        angle=(30, 42), elevation=(10, 38), extent=(0.24, 0.44), nearest=0.5, farthest=1.1, aperture=(0.001, 0.006)
    )
    return Setting(things, tuple(parts), (0.40, 0.40, 0.42), view, words)


def shelf(rng: Generator) -> Setting:
    """Things on the boards of a shelf."""
    paper, wood = WALLS[rng.integers(len(WALLS))](rng), timber(rng)
    levels = (0.0, 0.40)
    parts: Parts = [(rounded_box(1.5, 0.26, 0.028, 0.004).moved((0, 0, z - 0.028)), wood) for z in (*levels, 0.8)]
    if rng.random() < 0.5:
        parts += [(rounded_box(0.025, 0.26, 0.86, 0.003).moved((x, 0, -0.03)), wood) for x in (-0.62, 0.62)]
    parts.append((wall(5, 4).moved((0, 0.135, -1.4)), Material(texture=paper)))
    parts.append(square_lamp(rng, (side_of(rng) * 1.0, -1.6, 1.2), (0, 0, 0.3), rng.uniform(0.4, 0.8), 4.5))
    kinds = _kinds(rng, SMALL, 14)
    things = [*_row(rng, kinds[:7], levels[0]), *_row(rng, kinds[7:], levels[1])]
    view = View(angle=(34, 44), elevation=(-4, 16), azimuth=20, nearest=0.8, farthest=1.5, aperture=(0.001, 0.003))
    return Setting(tuple(things), tuple(parts), (0.36, 0.36, 0.38), view, f"shelves on {paper.words}")


def courtyard(rng: Generator) -> Setting:
    """A yard in the sun before a wall."""
    ground = GROUNDS[rng.integers(len(GROUNDS))](rng)
    stones = (bricks, plaster, cobbles, bricks)[rng.integers(4)](rng)
    back = rng.uniform(1.7, 3.0)
    turn = rng.uniform(0, pi)
    parts: Parts = [
        (plane(16, 16), Material(texture=ground, turn=TURNS[rng.integers(4)])),
        (wall(16, 5).moved((0, back, 0)), Material(texture=stones)),
        (rounded_box(16, 0.08, 0.18, 0.01).moved((0, back - 0.04, 0)), Material((0.55, 0.54, 0.51))),
    ]
    if rng.random() < 0.5:
        parts += door(rng, back)
    parts.append(sun((cos(turn) * 0.75, -abs(sin(turn)) * 0.9 - 0.15, rng.uniform(0.75, 1.3))))
    things = _arrange(rng, OUTDOORS, int(rng.integers(5, 9)), (1.1, -0.6, back - 0.4))
    words = f"a sunny yard with a ground of {ground.words} before {stones.words}"
    return Setting(things, tuple(parts), (0.50, 0.66, 0.95), View(), words)


SETTINGS: tuple[Callable[[Generator], Setting], ...] = (room, hall, tabletop, shelf, courtyard)
SHARES = (0.34, 0.14, 0.26, 0.08, 0.18)


def _arrange(
    rng: Generator, makers: tuple[Maker, ...], count: int, area: tuple[float, float, float], gap: float = 0.03
) -> tuple[Thing, ...]:
    """Things that do not stand in one another, within ±area[0] across and from area[1] to area[2] in depth; the first ones,
    of one kind, near the middle."""
    placed: list[tuple[Thing, float, float, float]] = []
    middle = (area[1] + area[2]) / 2 - 0.15 * (area[2] - area[1])
    for number, thing in enumerate(_kinds(rng, makers, int(count))):
        for _ in range(TRIES):
            spread = 0.45 if number == 0 else 1.0
            x = rng.uniform(-area[0], area[0]) * spread
            y = middle + (rng.uniform(area[1], area[2]) - middle) * spread
            radius = thing.radius * 0.85
            if all(np.hypot(x - other_x, y - other_y) > radius + other + gap for _, other_x, other_y, other in placed):
                turned = thing.moved((x, y, 0), rng.normal(0, 0.5))
                placed.append((turned, x, y, radius))
                break
    return tuple(thing for thing, *_ in placed)


def _kinds(rng: Generator, makers: tuple[Maker, ...], count: int) -> list[Thing]:
    """So many things: some of one kind first, often alike to the colour, and others after them."""
    first = makers[rng.integers(len(makers))](rng)
    alike = int(rng.integers(2, 4)) if rng.random() < LOOK_ALIKES else 1
    same = rng.random() < 0.6
    copies = [first if same or number == 0 else first.recoloured(pick(rng, GLAZES)) for number in range(alike)]
    others = [makers[rng.integers(len(makers))](rng) for _ in range(max(0, count - alike))]
    return [*copies, *others]


def _row(rng: Generator, kinds: list[Thing], level: float) -> list[Thing]:
    """Things side by side on a board, as many as it holds."""
    placed, x = [], -0.52 + rng.uniform(0, 0.06)
    for thing in kinds:
        x += thing.radius
        if x + thing.radius > 0.56 or thing.height > 0.36:
            x -= thing.radius
            continue
        placed.append(thing.moved((x, rng.uniform(-0.03, 0.02), level), rng.uniform(-0.6, 0.6)))
        x += thing.radius + (0.005, 0.02, 0.08)[rng.integers(3)]
    return placed


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
