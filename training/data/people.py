"""`unclutter data people`: people cut out and put onto backgrounds, some in front of others (MILD's synthetic half).

The source shows all of them, the target the background alone; each person has a number in the instance masks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...kernels import seeds
from ...kernels.regions import grow
from ..images.files import read_image, read_labels, read_mask
from .blend import Patch, contact_shadow, paint, visible_parts, warp
from .generate import generate
from .loader import fit
from .sample import SUFFIXES
from .settings import PeopleConfig
from .sources import Pictures, find_pictures, read_cutout
from .store import CHANGE, EDGE, integer, uniform

LENGTH = (0.35, 0.95)
"""Longest side of a person, as a share of the picture's side."""
ROTATION = 8.0
CLOSE = 0.6
"""Chance of a person to stand so close to the one before that one hides a part of the other."""
VISIBLE = 0.2
"""Least share of a person that those in front leave to be seen; others are left out."""
ZOOM = (1.0, 1.6)
"""Backgrounds are enlarged by this much, and a part of them is cut out at random."""
GROWTH = (0.0, 15.0)
"""The mask grows by this many percent of a person's size: users' masks are no tighter."""
KINDS = ("source", "mask", "target", "effect_mask", "instance_masks")


@dataclass(frozen=True)
class Extras:
    """Pose and parsing pictures, by the stem of the person's picture."""

    pose: Mapping[str, Path]
    parsing: Mapping[str, Path]


def make_people(config: PeopleConfig) -> None:
    """Make a set of groups of people; what is there from a run that was stopped is kept.

    Raises:
        ValueError: a folder is empty, a picture cannot be used, or the output holds a set of other settings.
    """
    whole = (config.people / "image").is_dir() and not (config.people / "mask").is_dir()
    pictures = find_pictures(config.backgrounds, config.people / "image" if whole else config.people, None)
    extras = Extras(*(by_stem(config.people / kind) for kind in ("pose", "parsing")))
    kinds = KINDS + tuple(kind for kind in ("pose", "parsing") if getattr(extras, kind))
    settings = {"command": "people", **asdict(config), "output": None, "workers": None, "count": None}
    draw = functools.partial(draw_group, config, pictures, extras)
    generate(config.output, draw, settings, kinds, [None] * config.count, config.workers)


def draw_group(config: PeopleConfig, pictures: Pictures, extras: Extras, index: int) -> dict[str, Tensor]:
    """Picture `index`, by kind: [3, H, W] or [1, H, W] in 0..1."""
    size, generator = config.size, seeds.generator(config.seed, index)
    target = background(pictures.backgrounds, size, generator)
    light = torch.tensor([uniform(-1, 1, generator), uniform(0.2, 1, generator)])
    group, before = [], None
    for _ in range(integer(*config.persons, generator)):
        path, mask = pictures.cutouts[integer(0, len(pictures.cutouts) - 1, generator)]
        person = read_person(path, mask, extras.pose.get(path.stem), extras.parsing.get(path.stem), size)
        has_left_and_right = path.stem in extras.pose or path.stem in extras.parsing
        patch, before = stand(person, size, before, has_left_and_right, generator)
        group.append(patch)
    group = seen_well([group[i] for i in torch.randperm(len(group), generator=generator).tolist()], size)
    layers = [Patch(person.values[:4], person.top, person.left) for person in group]
    shadows = [contact_shadow(layer, light, size, size) for layer in layers] if config.shadows else []
    source = paint(target, layers, shadows)
    out = {"source": source, "target": target, **annotate(group, layers, size)}
    out["mask"] = grow(out["mask"], percent=uniform(*GROWTH, generator))
    # Compared as they are written, in 8 bits.
    change = ((source * 255).round() - (target * 255).round()).abs().amax(dim=0) > CHANGE
    out["effect_mask"] = torch.maximum(change.float()[None], out["mask"])
    absent = [kind for kind in ("pose", "parsing") if not getattr(extras, kind)]
    return {kind: picture for kind, picture in out.items() if kind not in absent}


def annotate(group: list[Patch], layers: list[Patch], size: int) -> dict[str, Tensor]:
    """mask, instance_masks, pose and parsing of people from back to front: values [7 + labels, h, w] each, as `read_person`."""
    mask, numbers, parsing = (torch.zeros(1, size, size) for _ in range(3))
    pose = torch.zeros(3, size, size)
    for number, (person, visible) in enumerate(zip(group, visible_parts(layers, size, size), strict=True), start=1):
        inside = visible.values > 0.5
        visible.of(mask).logical_or_(visible.values > EDGE)
        visible.of(numbers)[inside] = number
        # A pose is drawn whole, also where someone stands before it, as estimators guess it.
        torch.maximum(person.of(pose), person.values[4:7], out=person.of(pose))
        labels = person.values[7:].argmax(dim=0, keepdim=True).float()
        visible.of(parsing)[inside] = labels[inside]
    return {"mask": mask, "instance_masks": numbers / 255, "pose": pose, "parsing": parsing / 255}


def background(paths: list[Path], size: int, generator: torch.Generator) -> Tensor:
    """A part of one of the backgrounds, perhaps mirrored: [3, size, size]."""
    side = round(size * uniform(*ZOOM, generator))
    whole = fit(read_image(paths[integer(0, len(paths) - 1, generator)]), side, side)[0]
    top, left = (integer(0, side - size, generator) for _ in range(2))
    part = whole[:, top : top + size, left : left + size]
    return part.flip(-1) if torch.rand(1, generator=generator) < 0.5 else part


def stand(
    person: Tensor, size: int, before: Tensor | None, has_left_and_right: bool, generator: torch.Generator
) -> tuple[Patch, Tensor]:
    """A person [C, h, w] in a picture, upright and perhaps cut off by its edge; and where: (across, down).

    Args:
        before: where the person before stands.
        has_left_and_right: whether it has pose or parsing, which tell left from right, so that it must not be mirrored.
    """
    longest = size * uniform(*LENGTH, generator)
    scale = longest / max(person.shape[-2:])
    height, width = (max(1, round(side * scale)) for side in person.shape[-2:])
    small = F.interpolate(person[None], (height, width), mode="bilinear", antialias=True)[0]
    place = size * torch.tensor([uniform(0.1, 0.9, generator), uniform(0.4, 0.8, generator)])
    if before is not None and torch.rand(1, generator=generator) < CLOSE:
        beside = uniform(0.3, 0.8, generator) * width * (1 if torch.rand(1, generator=generator) < 0.5 else -1)
        place = torch.stack([(before[0] + beside).clamp(0.1 * size, 0.9 * size), place[1]])
    angle = torch.tensor(uniform(-ROTATION, ROTATION, generator)).deg2rad()
    matrix = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    if torch.rand(1, generator=generator) < 0.5 and not has_left_and_right:
        matrix[:, 0] *= -1
    return warp(small, matrix, place - matrix @ torch.tensor([width / 2, height / 2]), size, size), place


def seen_well(group: list[Patch], size: int) -> list[Patch]:
    """Drop people of whom too little is seen, one after the other, as each lets more of those behind be seen."""
    while True:
        layers = [Patch(person.values[:4], person.top, person.left) for person in group]
        shares = [
            float(part.values.sum() / layer.values[3].sum().clamp(min=1))
            for part, layer in zip(visible_parts(layers, size, size), layers, strict=True)
        ]
        hidden = [index for index, share in enumerate(shares) if share < VISIBLE]
        if not hidden or len(group) == 1:
            return group
        group = [person for index, person in enumerate(group) if index != hidden[0]]


@functools.lru_cache(maxsize=8)
def read_person(path: Path, mask: Path | None, pose: Path | None, parsing: Path | None, longest: int) -> Tensor:
    """[7 + labels, h, w] in 0..1: colours times alpha, alpha, pose, and a plane for each label of the parsing.

    Raises:
        ValueError: pose or parsing is of another size than the picture.
    """
    cutout = read_cutout(path, mask, longest)
    alpha = 1 - read_mask(path) if mask is None else read_mask(mask)
    drawn = torch.zeros(1, 3, *alpha.shape[-2:]) if pose is None else read_image(pose)
    numbers = torch.zeros_like(alpha) if parsing is None else read_labels(parsing)
    planes = rearrange(F.one_hot(numbers.long()), "b h w c -> b c h w").float()
    for kind, picture in (("pose", drawn), ("parsing", planes)):
        if picture.shape[-2:] != alpha.shape[-2:]:
            raise ValueError(
                f"The {kind} of {path.name} is {picture.shape[-1]}x{picture.shape[-2]} and the picture "
                f"{alpha.shape[-1]}x{alpha.shape[-2]}, expected one size: make them equal."
            )
    # The box that `read_cutout` cut.
    ys, xs = (alpha[0] > 0.5).nonzero(as_tuple=True)
    extras = torch.cat([drawn, planes], dim=1)[
        ..., int(ys.min()) : int(ys.max()) + 1, int(xs.min()) : int(xs.max()) + 1
    ]
    extras = F.interpolate(F.pad(extras, (2, 2, 2, 2)), cutout.shape[-2:], mode="bilinear", antialias=True)[0]
    return torch.cat([cutout, extras])


def by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES}
