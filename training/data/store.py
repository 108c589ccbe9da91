"""`unclutter data store`: cluttered scenes in which one of many look-alikes is gone (LRNR's STORE data set).

Tile: a grid of one picture of a large object, one cell of which shows the clean picture, the seams blended by a
Laplacian pyramid. Scatter: cut-outs over a background by feathered alpha, at least one of them more than once, one
removed; objects darken what lies below them. Source and target are painted from the same layers in the same order.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

from ...kernels import seeds
from ..images.files import read_image
from .blend import Patch, contact_shadow, join_tiles, paint, tile_step, visible_parts, warp
from .generate import generate
from .loader import fit, fit_mask
from .settings import StoreConfig
from .sources import Pictures, find_pictures, large_frame, read_cutout

GRID = (2, 5)
OBJECTS = (3, 12)
SCALE = (0.08, 0.35)
"""Longest side of a cut-out, as a share of the scene's side."""
ROTATION = 30.0
VISIBLE = 0.5
"""Least share of the removed object that other objects leave to be seen."""
EDGE = 0.05
"""Least share of a pixel that the removed object covers for its mask to cover it too: no rim of it stays outside."""
CHANGE, NOISE = 2, 4
"""Two pictures differ where they do by more than this (of 255), and by more than this many times the camera's noise."""
KINDS = ("source", "mask", "target", "effect_mask", "instance_masks")


@dataclass(frozen=True)
class Scene:
    """source, target [3, H, W] in 0..1; mask [H, W] of 0 and 1; instances [H, W], the number of the object or 0; noise,
    by how much (in 0..1) source and target differ where nothing changed."""

    source: Tensor
    target: Tensor
    mask: Tensor
    instances: Tensor
    noise: float = 0.0


def store(config: StoreConfig) -> None:
    """Make a STORE set; what is there from a run that was stopped is kept.

    Raises:
        ValueError: a folder is empty, a picture cannot be used, or the output holds a set of other settings.
    """
    pictures = find_pictures(config.backgrounds, config.cutouts, config.frames)
    settings = {"command": "store", **asdict(config), "output": None, "workers": None, "count": None}
    draw = functools.partial(draw_scene, config, pictures)
    generate(config.output, draw, settings, KINDS, [None] * config.count, config.workers)


def draw_scene(config: StoreConfig, pictures: Pictures, index: int) -> dict[str, Tensor]:
    """Triplet `index`, by kind: [3, H, W] or [1, H, W] in 0..1."""
    generator = seeds.generator(config.seed, index)
    tile_share = 1.0 if not pictures.cutouts else config.tile_share if pictures.frames else 0.0
    tiled = torch.rand(1, generator=generator).item() < tile_share
    scene = tile(config, pictures, generator) if tiled else scatter(config, pictures, generator)
    return {
        "source": scene.source,
        "mask": scene.mask[None],
        "target": scene.target,
        "effect_mask": torch.maximum(changed(scene), scene.mask)[None],
        "instance_masks": scene.instances[None] / 255,
    }


def changed(scene: Scene) -> Tensor:
    """The pixels in which source and target differ, as they are written in 8 bits: [H, W] of 0 and 1."""
    difference = (scene.source * 255).round() - (scene.target * 255).round()
    found = difference.abs().amax(dim=0) > max(CHANGE, NOISE * 255 * scene.noise)
    if scene.noise:
        # A faint shadow is below the noise of a pixel, and above that of a mean over some; the object, which is neither,
        # must not reach into the mean beside it.
        rest = difference.masked_fill(found | (scene.mask > 0), 0.0)[None]
        found |= gaussian_blur2d(rest, (13, 13), (3.0, 3.0))[0].abs().amax(dim=0) > CHANGE
    return found.float()


def tile(config: StoreConfig, pictures: Pictures, generator: torch.Generator) -> Scene:
    """A grid of one occupied frame in which one cell is clean."""
    occupied, clean, mask = large_frame(pictures.frames, generator)
    count = integer(*GRID, generator)
    step = tile_step(-(-config.size // count))
    side = -(-config.size // (count * step)) * step
    gone = integer(0, count * count - 1, generator)
    tiles = torch.cat([fit(frame, side, side) for frame in (occupied, clean)])
    mask = fit_mask(mask, side, side)[0]
    cells = torch.arange(count * count).reshape(count, count)
    source, target = join_tiles(tiles, torch.stack([torch.zeros_like(cells), (cells == gone).long()]))
    numbers = cells + 1.0
    instances = rearrange(numbers[..., None, None] * mask, "rows columns h w -> (rows h) (columns w)")
    hole = (instances == gone + 1).float()
    size = config.size
    still = (tiles[0] - tiles[1]).abs().amax(dim=0)[mask < 0.5]
    noise = float(still.median()) if len(still) else 0.0
    return Scene(source[:, :size, :size], target[:, :size, :size], hole[:size, :size], instances[:size, :size], noise)


def scatter(config: StoreConfig, pictures: Pictures, generator: torch.Generator) -> Scene:
    """Cut-outs over a background, one instance of a repeated one removed."""
    size = config.size
    background = read_background(pictures.backgrounds[integer(0, len(pictures.backgrounds) - 1, generator)], size)
    count = integer(*OBJECTS, generator)
    kinds = torch.randint(len(pictures.cutouts), (count,), generator=generator)
    copies = integer(2, count, generator)
    kinds[:copies] = kinds[0]
    scale = uniform(*SCALE, generator)
    light = torch.tensor([uniform(-1, 1, generator), uniform(0.2, 1, generator)])
    layers = []
    for kind in kinds.tolist():
        # Copies of a cut-out are of about one size, as things of one kind are.
        own = scale * uniform(0.85, 1.15, generator) if kind == int(kinds[0]) else uniform(*SCALE, generator)
        layers.append(place(read_cutout(*pictures.cutouts[kind], size // 2), size, own * size, generator))
    order = torch.randperm(count, generator=generator).tolist()
    layers, repeated = [layers[i] for i in order], [place for place, i in enumerate(order) if i < copies]
    shares = visible_shares(layers, size)
    if not (open_ones := [i for i in repeated if shares[i] > VISIBLE]):
        # All copies are hidden: the one that is seen best comes to the front.
        layers.append(layers.pop(max(repeated, key=lambda i: shares[i])))
        open_ones = [count - 1]
    gone = open_ones[integer(0, len(open_ones) - 1, generator)]
    shadows = [contact_shadow(layer, light, size, size) for layer in layers] if config.shadows else []
    source = paint(background, layers, shadows)
    target = paint(background, *([part for i, part in enumerate(parts) if i != gone] for parts in (layers, shadows)))
    instances, mask = torch.zeros(size, size), torch.zeros(size, size)
    for number, part in enumerate(visible_parts(layers, size, size), start=1):
        part.of(instances).masked_fill_(part.values[0] > 0.5, number)
        if number == gone + 1:
            part.of(mask).copy_(part.values[0] > EDGE)
    return Scene(source, target, mask, instances)


def place(cutout: Tensor, size: int, longest: float, generator: torch.Generator) -> Patch:
    """A cut-out [4, h, w] (colours times alpha, alpha) scaled, turned and moved over a scene."""
    scale = longest / max(cutout.shape[-2:])
    height, width = (max(1, round(side * scale)) for side in cutout.shape[-2:])
    small = F.interpolate(cutout[None], (height, width), mode="bilinear", antialias=True)[0]
    angle = torch.tensor(uniform(-ROTATION, ROTATION, generator)).deg2rad()
    margin = longest / 2
    centre = torch.tensor([uniform(margin, size - margin, generator) for _ in range(2)])
    matrix = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    if torch.rand(1, generator=generator) < 0.5:
        matrix[:, 0] *= -1
    return warp(small, matrix, centre - matrix @ torch.tensor([width / 2, height / 2]), size, size)


def visible_shares(layers: list[Patch], size: int) -> list[float]:
    """The share of each object that those over it leave to be seen."""
    parts = visible_parts(layers, size, size)
    return [
        float(part.values.sum() / layer.values[3].sum().clamp(min=1)) for part, layer in zip(parts, layers, strict=True)
    ]


@functools.lru_cache(maxsize=8)
def read_background(path: Path, size: int) -> Tensor:
    return fit(read_image(path), size, size)[0]


def integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand(1, generator=generator).item()
