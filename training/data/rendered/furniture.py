"""Things that stand on floors, indoors and outdoors. Each stands on z = 0 around the z axis, in metres."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sin

import numpy as np
from numpy.random import Generator

from .geometry import joined, lathe, plane, rounded_box, tube
from .textures import CLOTHS, rug
from .things import BRASS, DARK, GLAZES, STEEL, Maker, Material, Thing, glaze, leaf, pick, sphere, timber


def carton(rng: Generator) -> Thing:
    w, d, h = rng.uniform(0.28, 0.5), rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.42)
    tape = joined([rounded_box(0.05, d + 0.002, 0.002, 0.0005).moved((0, 0, h)), *(
        rounded_box(0.05, 0.002, 0.07, 0.0005).moved((0, side * (d / 2 + 0.001), h - 0.07)) for side in (-1, 1))])  # fmt: skip
    return Thing(
        "cardboard box",
        ((rounded_box(w, d, h, 0.004), Material((0.62, 0.47, 0.31))), (tape, Material((0.70, 0.60, 0.42), gloss=0.15))),
    )


def crate(rng: Generator) -> Thing:
    w, d, h, slat = rng.uniform(0.4, 0.5), rng.uniform(0.28, 0.36), rng.uniform(0.24, 0.32), 0.012
    count, parts = 3, []
    for row in range(count):
        z = row * h / count + 0.01
        tall = h / count - 0.025
        parts += [rounded_box(w, slat, tall, 0.002).moved((0, side * d / 2, z)) for side in (-1, 1)]
        parts += [rounded_box(slat, d, tall, 0.002).moved((side * w / 2, 0, z)) for side in (-1, 1)]
    parts += [
        rounded_box(0.035, 0.035, h, 0.002).moved((x * (w / 2 - 0.02), y * (d / 2 - 0.02), 0))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    parts.append(rounded_box(w, d, slat, 0.002).moved((0, 0, 0.01)))
    return Thing("wooden crate", ((joined(parts), timber(rng)),))


def stool(rng: Generator) -> Thing:
    height, radius = rng.uniform(0.42, 0.62), rng.uniform(0.15, 0.18)
    seat = lathe(
        [
            (0, height - 0.035),
            (radius - 0.008, height - 0.035),
            (radius, height - 0.02),
            (radius - 0.004, height - 0.004),
            (0, height),
        ],
        smooth=4,
    )
    legs = [tube(np.array([(cos(a) * radius * 0.6, sin(a) * radius * 0.6, height - 0.03), (cos(a) * radius, sin(a) * radius, 0)]), 0.014, smooth=0)
            for a in np.arange(4) * pi / 2 + 0.4]  # fmt: skip
    angle = np.linspace(0, 2 * pi, 25)
    ring = tube(
        np.stack([np.cos(angle) * radius * 0.86, np.sin(angle) * radius * 0.86, np.full(25, height * 0.32)], 1),
        0.008,
        smooth=0,
    )
    frame = Material(DARK, gloss=0.2) if rng.random() < 0.5 else timber(rng)
    top = timber(rng) if rng.random() < 0.6 else Material(pick(rng, GLAZES), gloss=0.15)
    return Thing("stool", ((seat, top), (joined([*legs, ring]), frame)))


def chair(rng: Generator) -> Thing:
    w, d, seat, back, leg = 0.42, 0.42, 0.45, rng.uniform(0.82, 0.95), 0.034
    front = [rounded_box(leg, leg, seat, 0.004).moved((x * (w - leg) / 2, -(d - leg) / 2, 0)) for x in (-1, 1)]
    rear = [rounded_box(leg, leg, back, 0.004).moved((x * (w - leg) / 2, (d - leg) / 2, 0)) for x in (-1, 1)]
    rails = [rounded_box(w - leg, 0.02, 0.04, 0.004).moved((0, y * (d - leg) / 2, seat - 0.06)) for y in (-1, 1)]
    if rng.random() < 0.5:
        slats = [
            rounded_box(w - leg, 0.018, 0.055, 0.005).moved((0, (d - leg) / 2, z))
            for z in (seat + 0.14, seat + 0.24, back - 0.07)
        ]
    else:
        slats = [
            rounded_box(0.028, 0.016, back - seat - 0.05, 0.004).moved((x, (d - leg) / 2, seat))
            for x in (-0.12, -0.04, 0.04, 0.12)
        ]
        slats.append(rounded_box(w - leg, 0.02, 0.06, 0.005).moved((0, (d - leg) / 2, back - 0.065)))
    frame = timber(rng) if rng.random() < 0.6 else Material(pick(rng, GLAZES), gloss=0.25)
    cushion = Material(pick(rng, CLOTHS)) if rng.random() < 0.5 else frame
    return Thing(
        "chair",
        (
            (joined([*front, *rear, *rails, *slats]), frame),
            (rounded_box(w, d, 0.035, 0.012).moved((0, 0, seat - 0.02)), cushion),
        ),
    )


def table(rng: Generator) -> Thing:
    w, d, height = rng.uniform(0.55, 0.8), rng.uniform(0.4, 0.55), rng.uniform(0.42, 0.6)
    legs = [
        rounded_box(0.04, 0.04, height - 0.03, 0.004).moved((x * (w / 2 - 0.05), y * (d / 2 - 0.05), 0))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    apron = [rounded_box(w - 0.12, 0.018, 0.06, 0.002).moved((0, y * (d / 2 - 0.05), height - 0.09)) for y in (-1, 1)]
    top = rounded_box(w, d, 0.03, 0.006).moved((0, 0, height - 0.03))
    frame = timber(rng)
    return Thing("side table", ((top, timber(rng) if rng.random() < 0.3 else frame), (joined([*legs, *apron]), frame)))


def cabinet(rng: Generator) -> Thing:
    w, d, h = rng.uniform(0.5, 0.8), 0.36, rng.uniform(0.55, 0.85)
    rows = rng.integers(2, 4)
    tall = (h - 0.1) / rows
    fronts = [
        rounded_box(w - 0.04, 0.018, tall - 0.012, 0.004).moved((0, -d / 2 - 0.006, 0.07 + row * tall))
        for row in range(rows)
    ]
    knobs = [
        sphere(0.016).moved((x, -d / 2 - 0.028, 0.07 + (row + 0.5) * tall - 0.022))
        for row in range(rows)
        for x in (-w / 4, w / 4)
    ]
    body = joined(
        [rounded_box(w, d, h - 0.05, 0.006).moved((0, 0, 0.05)), rounded_box(w - 0.08, d - 0.06, 0.06, 0.002)]
    )
    coat = timber(rng) if rng.random() < 0.5 else Material(pick(rng, GLAZES), gloss=0.3)
    front = (
        coat
        if coat.texture is not None
        else replace(coat, colour=(coat.colour[0] * 0.92, coat.colour[1] * 0.92, coat.colour[2] * 0.92))
    )
    return Thing(
        "chest of drawers",
        ((body, coat), (joined(fronts), front), (joined(knobs), Material(BRASS, gloss=0.2, metal=True))),
    )


def lamp(rng: Generator) -> Thing:
    height, shade = rng.uniform(1.1, 1.5), rng.uniform(0.15, 0.2)
    stand = joined(
        [
            lathe([(0, 0), (0.13, 0), (0.132, 0.012), (0.02, 0.022), (0, 0.025)], smooth=0),
            tube(np.array([(0, 0, 0.02), (0, 0, height - 0.1)]), 0.011, smooth=0),
        ]
    )
    cone = lathe(
        [(shade, height - 0.26), (shade * 0.62, height), (shade * 0.6, height), (shade * 0.98, height - 0.258)],
        smooth=0,
    )
    return Thing("floor lamp", ((cone, Material((0.85, 0.80, 0.68))), (stand, Material(DARK, gloss=0.2))))


def plant(rng: Generator) -> Thing:
    r, h = rng.uniform(0.11, 0.15), rng.uniform(0.2, 0.26)
    pot = lathe(
        [
            (0, 0),
            (r * 0.7, 0),
            (r, h * 0.86),
            (r * 1.08, h * 0.86),
            (r * 1.08, h),
            (r * 0.98, h),
            (r * 0.9, h * 0.88),
            (0, h * 0.88),
        ],
        smooth=0,
    )
    leaves = []
    for number in range(int(rng.integers(16, 26))):
        turn, lean, length = number * 2.4, rng.uniform(0.25, 1.0), rng.uniform(0.3, 0.55)
        leaves.append(leaf(length, rng.uniform(0.022, 0.036), lean).moved((0, 0, h * 0.85), turn))
    green = pick(rng, ((0.16, 0.34, 0.12), (0.24, 0.40, 0.16), (0.13, 0.28, 0.16)))
    return Thing("potted plant", ((pot, glaze(rng)), (joined(leaves), Material(green, gloss=0.3))))


def ball(rng: Generator) -> Thing:
    r = rng.uniform(0.09, 0.14)
    return Thing("ball", ((sphere(r), Material(pick(rng, CLOTHS + GLAZES), gloss=(0.12, 0.3)[rng.integers(2)])),))


def bucket(rng: Generator) -> Thing:
    r, h = rng.uniform(0.12, 0.15), rng.uniform(0.24, 0.3)
    body = lathe(
        [
            (0, 0.0),
            (r * 0.72, 0),
            (r, h),
            (r * 1.05, h),
            (r * 1.05, h - 0.012),
            (r * 0.97, h - 0.01),
            (r * 0.70, 0.01),
            (0, 0.01),
        ],
        smooth=0,
    )
    t = np.linspace(0, pi, 9)
    bow = tube(
        np.stack([np.cos(t) * r * 1.02, np.sin(t) * r * 0.75 - r * 0.02, h - 0.02 + np.sin(t) * r * 0.55], 1), 0.005
    )
    metal = rng.random() < 0.5
    return Thing(
        "bucket",
        (
            (body, Material(STEEL if metal else pick(rng, CLOTHS), gloss=0.2, metal=metal)),
            (bow, Material(STEEL, gloss=0.2, metal=True)),
        ),
    )


def flowerpot(rng: Generator) -> Thing:
    r, h = rng.uniform(0.14, 0.19), rng.uniform(0.22, 0.32)
    pot = lathe(
        [
            (0, 0),
            (r * 0.72, 0),
            (r * 0.95, h * 0.8),
            (r * 1.05, h * 0.8),
            (r * 1.05, h),
            (r * 0.92, h),
            (r * 0.9, h * 0.9),
            (0, h * 0.9),
        ],
        smooth=0,
    )
    bushy = [
        sphere(rng.uniform(0.05, 0.08)).moved((x, y, h * 0.82 + z))
        for x, y, z in rng.uniform((-r * 0.6, -r * 0.6, 0.0), (r * 0.6, r * 0.6, 0.13), (14, 3))
    ]
    blades = [
        leaf(rng.uniform(0.16, 0.28), 0.018, rng.uniform(0.2, 1.1)).moved((0, 0, h * 0.9), rng.uniform(0, 6.3))
        for _ in range(30)
    ]
    green = pick(rng, ((0.18, 0.32, 0.13), (0.27, 0.38, 0.18)))
    return Thing(
        "flowerpot",
        (
            (pot, Material((0.62, 0.33, 0.22))),
            (joined(bushy if rng.random() < 0.3 else blades), Material(green, gloss=0.35)),
        ),
    )


def cone(rng: Generator) -> Thing:
    foot = rounded_box(0.28, 0.28, 0.025, 0.006)
    body = lathe([(0.11, 0.025), (0.025, 0.48), (0, 0.485)], smooth=0)
    band = lathe([(0.0865, 0.16), (0.0605, 0.30)], smooth=0)
    return Thing(
        "traffic cone",
        ((joined([foot, body]), Material((0.82, 0.27, 0.08), gloss=0.3)), (band, Material((0.86, 0.86, 0.84)))),
    )


def bench(rng: Generator) -> Thing:
    w, d, h = rng.uniform(0.9, 1.2), 0.38, 0.44
    boards = [rounded_box(w, 0.085, 0.03, 0.005).moved((0, y, h - 0.03)) for y in (-0.14, -0.046, 0.048, 0.142)]
    legs = [rounded_box(0.05, d - 0.04, h - 0.03, 0.004).moved((x * (w / 2 - 0.12), 0, 0)) for x in (-1, 1)]
    return Thing("bench", ((joined(boards), timber(rng)), (joined(legs), Material((0.17, 0.18, 0.18), gloss=0.3))))


def suitcase(rng: Generator) -> Thing:
    w, d, h = rng.uniform(0.34, 0.42), 0.2, rng.uniform(0.5, 0.6)
    ribs = [
        rounded_box(0.012, d + 0.012, h * 0.86, 0.005).moved((x, 0, 0.05 + h * 0.07))
        for x in np.linspace(-w * 0.36, w * 0.36, 6)
    ]
    shell = joined([rounded_box(w, d, h, 0.045, 4).moved((0, 0, 0.05)), *ribs])
    grip = tube(
        np.array([(-0.07, 0, h + 0.05), (-0.07, 0, h + 0.11), (0.07, 0, h + 0.11), (0.07, 0, h + 0.05)]),
        0.009,
        smooth=0,
    )
    wheels = [sphere(0.028).moved((x * w * 0.4, y * d * 0.35, 0)) for x in (-1, 1) for y in (-1, 1)]
    return Thing(
        "suitcase",
        (
            (shell, Material(pick(rng, CLOTHS + GLAZES), gloss=0.25)),
            (joined([grip, *wheels]), Material(DARK, gloss=0.3)),
        ),
    )


def carpet(rng: Generator, width: float, depth: float) -> Thing:
    """A thin rug, which lies under other things."""
    return Thing(
        "rug",
        (
            (plane(width, depth).moved((0, 0, 0.006)), Material(texture=rug(rng))),
            (rounded_box(width, depth, 0.005, 0.002), Material((0.3, 0.27, 0.25))),
        ),
    )


FURNITURE: tuple[Maker, ...] = (chair, stool, table, cabinet, lamp, plant, carton, crate, suitcase, ball, bucket)
OUTDOORS: tuple[Maker, ...] = (flowerpot, bench, bucket, crate, cone, ball, stool, carton)
