"""Chooses what is removed from a setting, and from where it is seen."""

from __future__ import annotations

from collections import Counter
from math import cos, radians, sin, tan

import numpy as np
from numpy.random import Generator

from .compose import compose
from .geometry import Array
from .render import Sight
from .scene import Camera, Scene, Setting
from .things import Thing

LOOKS, SETTINGS = 24, 8
"""Cameras that are tried in a setting, and settings that are tried for a scene."""
SIDE, RAYS = 64, 2
AREA = (0.025, 0.16)
"""Of the target, as a share of the picture."""
VISIBLE = 0.62
"""Least share of the target that nothing stands before."""
INSIDE = 0.93
"""Least share of the target that lies in the picture, by its visible part in a wider one."""
HIDING = 0.30
"""Largest share of the picture that another thing may cover."""
SEEN = 0.002
"""Least share of the picture for a thing to be named in the caption."""


def draw_scene(rng: Generator) -> Scene:
    """A scene whose target is well seen: between AREA of the picture, VISIBLE, and not cut off.

    Raises:
        RuntimeError: no camera of any of the settings shows a target so.
    """
    for _ in range(SETTINGS):
        setting = compose(rng)
        if setting.things and (scene := look(setting, rng)):
            return scene
    raise RuntimeError(f"No camera of {SETTINGS} settings shows a thing well.")


def look(setting: Setting, rng: Generator) -> Scene | None:
    """The setting with the first camera that shows one of its things well; None where there is none."""
    whole = Sight(setting)
    alone: dict[int, Sight] = {}
    order = sorted(range(len(setting.things)), key=lambda number: number > 2)
    for attempt in range(LOOKS):
        target = order[min(int(rng.exponential(1.2)), len(order) - 1)]
        camera = aim(setting, setting.things[target], rng)
        shares = whole.shares(camera, SIDE, RAYS, attempt).mean(axis=(1, 2))
        if not AREA[0] <= shares[target] <= AREA[1] or np.delete(shares, target).max(initial=0) > HIDING:
            continue
        if target not in alone:
            alone[target] = Sight(setting, target)
        unhidden = alone[target].shares(camera, SIDE, RAYS, attempt)[target]
        if shares[target] >= VISIBLE * unhidden.mean() and _inside(unhidden):
            return Scene(setting, camera, target, caption(setting, target, shares))
    return None


def aim(setting: Setting, thing: Thing, rng: Generator) -> Camera:
    """A camera that looks near a thing, from where the setting allows."""
    view = setting.view
    vertices = np.concatenate([mesh.vertices for mesh, _ in thing.parts])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle, extent = (low + high) / 2, float((high - low).max())
    angle = rng.uniform(*view.angle)
    wide = 2 * tan(radians(angle) / 2)
    distance = np.clip(extent / (rng.uniform(*view.extent) * wide), view.nearest, view.farthest)
    elevation, azimuth = radians(rng.uniform(*view.elevation)), radians(rng.uniform(-view.azimuth, view.azimuth))
    away = np.array([sin(azimuth) * cos(elevation), -cos(azimuth) * cos(elevation), sin(elevation)])
    # What is removed does not stand in the very middle.
    shift = rng.uniform(-0.16, 0.16, 2) * distance * wide
    towards = middle + np.array([shift[0], 0, max(shift[1], low[2] + 0.02 - middle[2])])
    position = towards + away * distance
    return Camera(_point(position), _point(towards), angle, rng.uniform(*view.aperture))


def caption(setting: Setting, target: int, shares: Array) -> str:
    """Describes what is seen without the target, such as "a room with parquet on the floor, with two chairs and a mug"."""
    names = [thing.name for number, thing in enumerate(setting.things) if number != target and shares[number] > SEEN]
    words = [
        f"{_article(name)} {name}" if count == 1 else f"{_COUNTS[min(count, 5)]} {_plural(name)}"
        for name, count in Counter(names).items()
    ]
    if not words:
        return setting.words
    return f"{setting.words}, with {words[0] if len(words) == 1 else ', '.join(words[:-1]) + ' and ' + words[-1]}"


_COUNTS = {2: "two", 3: "three", 4: "four", 5: "several"}


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _plural(name: str) -> str:
    special = {
        "toy blocks": "piles of toy blocks",
        "pile of books": "piles of books",
        "chest of drawers": "chests of drawers",
    }
    ending = "es" if name.endswith(("ch", "x")) else "s"
    return special.get(name, f"{name}{ending}")


def _inside(share: Array) -> bool:
    """Whether little of a thing touches the picture's border."""
    border = np.ones(share.shape, bool)
    border[1:-1, 1:-1] = False
    return share[border].sum() <= (1 - INSIDE) * share.sum() / 2


def _point(values: Array) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
