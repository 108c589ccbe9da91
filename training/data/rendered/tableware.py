"""Small things, such as stand on tables and shelves. Each stands on z = 0 around the z axis, in metres."""

from __future__ import annotations

from math import cos, sin

import numpy as np
from numpy.random import Generator

from .geometry import joined, lathe, rounded_box, tube
from .textures import CLOTHS
from .things import BRASS, DARK, GLAZES, STEEL, Maker, Material, Thing, glaze, pick, sphere


def vase(rng: Generator) -> Thing:
    height, belly, neck = rng.uniform(0.18, 0.34), rng.uniform(0.06, 0.11), rng.uniform(0.022, 0.045)
    middle = rng.uniform(0.25, 0.55) * height
    outside = [
        (0, 0), (belly * 0.55, 0), (belly * 0.62, 0.008), (belly, middle), (belly * 0.75, middle + 0.22 * height),
        (neck, height * 0.86), (neck * 1.35, height),
    ]  # fmt: skip
    inside = [(neck * 1.15, height * 0.995), (neck * 0.8, height * 0.84), (neck * 0.6, height * 0.7)]
    return Thing("vase", ((lathe([*outside, *inside]), glaze(rng)),))


def bottle(rng: Generator) -> Thing:
    height, radius = rng.uniform(0.24, 0.32), rng.uniform(0.032, 0.042)
    shoulder = height * rng.uniform(0.55, 0.68)
    body = lathe([(0, 0), (radius * 0.9, 0), (radius, 0.01), (radius, shoulder * 0.5), (radius, shoulder),
                  (radius * 0.4, shoulder + 0.05), (radius * 0.36, height - 0.02), (radius * 0.36, height), (0, height)], smooth=6)  # fmt: skip
    label = lathe([(radius * 1.01, shoulder * 0.25), (radius * 1.01, shoulder * 0.8)], smooth=0)
    colour = pick(rng, ((0.08, 0.18, 0.10), (0.22, 0.10, 0.05), (0.10, 0.14, 0.26), (0.72, 0.70, 0.66)))
    return Thing("bottle", ((body, Material(colour, gloss=0.05)), (label, Material(pick(rng, GLAZES[:5])))))


def mug(rng: Generator) -> Thing:
    radius, height = rng.uniform(0.038, 0.048), rng.uniform(0.085, 0.11)
    body = lathe([(0, 0), (radius * 0.95, 0), (radius, 0.006), (radius, height), (radius * 0.9, height),
                  (radius * 0.88, 0.012), (0, 0.012)], smooth=0)  # fmt: skip
    bow = np.array([(radius * 0.97, 0, height * 0.82), (radius * 1.5, 0, height * 0.78), (radius * 1.72, 0, height * 0.5),
                    (radius * 1.45, 0, height * 0.24), (radius * 0.97, 0, height * 0.2)])  # fmt: skip
    return Thing("mug", ((joined([body, tube(bow, 0.006)]), glaze(rng)),))


def bowl(rng: Generator) -> Thing:
    radius, height = rng.uniform(0.09, 0.14), rng.uniform(0.05, 0.08)
    wall = [(0, 0), (radius * 0.4, 0), (radius * 0.42, 0.008), (radius * 0.8, height * 0.5), (radius, height)]
    inside = [(radius * 0.96, height), (radius * 0.74, height * 0.5), (radius * 0.35, 0.018), (0, 0.016)]
    parts = [(lathe([*wall, *inside]), glaze(rng))]
    colour = pick(rng, ((0.80, 0.36, 0.08), (0.62, 0.10, 0.08), (0.45, 0.60, 0.14)))
    if rng.random() < 0.6:
        fruit = [sphere(0.036).moved((cos(a) * 0.045, sin(a) * 0.045, 0.018)) for a in (0.3, 2.4, 4.5)]
        parts.append((joined([*fruit, sphere(0.036).moved((0, 0, 0.062))]), Material(colour, gloss=0.3)))
    return Thing("bowl", tuple(parts))


def apple(rng: Generator) -> Thing:
    r = rng.uniform(0.034, 0.042)
    body = lathe(
        [
            (0, r * 0.12),
            (r * 0.45, 0),
            (r * 0.92, r * 0.55),
            (r, r * 1.1),
            (r * 0.72, r * 1.68),
            (r * 0.3, r * 1.76),
            (0, r * 1.5),
        ]
    )
    colour = pick(rng, ((0.62, 0.10, 0.09), (0.50, 0.62, 0.16), (0.78, 0.58, 0.14)))
    stem = tube(np.array([(0, 0, r * 1.5), (0.002, 0, r * 1.9), (0.006, 0.001, r * 2.15)]), 0.0022, 8)
    return Thing("apple", ((body, Material(colour, gloss=0.2)), (stem, Material((0.25, 0.17, 0.10)))))


def books(rng: Generator) -> Thing:
    parts, top = [], 0.0
    for _ in range(rng.integers(2, 5)):
        width, depth, height = rng.uniform(0.18, 0.24), rng.uniform(0.13, 0.16), rng.uniform(0.018, 0.042)
        turn = rng.uniform(-0.25, 0.25)
        pages = rounded_box(width - 0.008, depth - 0.006, height - 0.006, 0.001).moved((0.003, 0, top + 0.003), turn)
        covers = [
            rounded_box(width, depth, 0.003, 0.001).moved((0, 0, top + level), turn) for level in (0, height - 0.003)
        ]
        spine = rounded_box(0.003, depth, height, 0.001).moved(
            (-width / 2 * cos(turn), -width / 2 * sin(turn), top), turn
        )
        parts += [
            (joined([*covers, spine]), Material(pick(rng, CLOTHS + GLAZES), gloss=0.3)),
            (pages, Material((0.84, 0.80, 0.70))),
        ]
        top += height
    return Thing("pile of books", tuple(parts))


def candle(rng: Generator) -> Thing:
    height = rng.uniform(0.10, 0.22)
    foot = lathe(
        [(0, 0), (0.045, 0), (0.046, 0.006), (0.012, 0.016), (0.010, 0.05), (0.018, 0.062), (0.015, 0.064), (0, 0.06)]
    )
    wax = lathe(
        [(0, 0.06), (0.0105, 0.06), (0.0105, 0.06 + height), (0.008, 0.063 + height), (0, 0.061 + height)], smooth=0
    )
    return Thing(
        "candlestick",
        (
            (foot, Material(BRASS, gloss=0.15, metal=True)),
            (wax, Material(pick(rng, ((0.88, 0.84, 0.74), (0.55, 0.09, 0.08))))),
        ),
    )


def kettle(rng: Generator) -> Thing:
    r = rng.uniform(0.075, 0.09)
    body = lathe([(0, 0), (r * 0.95, 0), (r, 0.02), (r * 0.92, r), (r * 0.45, r * 1.45), (0, r * 1.5)])
    knob = lathe([(0.004, r * 1.48), (0.006, r * 1.55), (0.014, r * 1.65), (0, r * 1.74)])
    spout = tube(
        np.array([(r * 0.85, 0, r * 0.5), (r * 1.3, 0, r * 0.85), (r * 1.55, 0, r * 1.35)]),
        np.array([0.022, 0.014, 0.010]),
    )
    bow = tube(
        np.array(
            [
                (-r * 0.75, 0, r * 1.1),
                (-r * 0.7, 0, r * 2),
                (0, 0, r * 2.35),
                (r * 0.7, 0, r * 2),
                (r * 0.75, 0, r * 1.1),
            ]
        ),
        0.007,
    )
    metal = rng.random() < 0.5
    coat = Material(STEEL if metal else pick(rng, GLAZES), gloss=0.12, metal=metal)
    return Thing("kettle", ((joined([body, spout]), coat), (joined([bow, knob]), Material(DARK, gloss=0.25))))


def blocks(rng: Generator) -> Thing:
    side = 0.05
    parts = [
        (
            rounded_box(side, side, side, 0.003).moved((x, y, z), rng.uniform(-0.3, 0.3)),
            Material(pick(rng, CLOTHS[:4]), gloss=0.25),
        )
        for x, y, z in ((-0.032, 0, 0), (0.034, 0.006, 0), (0.003, 0, side), (0, 0, 2 * side))[: rng.integers(3, 5)]
    ]
    return Thing("toy blocks", tuple(parts))


SMALL: tuple[Maker, ...] = (vase, bottle, mug, bowl, apple, books, candle, kettle, blocks)
