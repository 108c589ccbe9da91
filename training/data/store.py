"""`unclutter data store`: cluttered scenes in which one of many look-alikes is gone (LRNR's STORE data set).

Tile: a grid of one picture of a large object, one cell of which shows the clean picture, the seams blended by a
Laplacian pyramid. Scatter: cut-outs over a background by feathered alpha, at least one of them more than once, one
removed; objects darken what lies below them. Source and target are painted from the same layers in the same order.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange
from kornia.geometry.transform import resize, warp_affine
from torch import Tensor
from tqdm import tqdm

from ..pictures import contact_sheet, read_image, write_image
from .blend import join_tiles, paint, visible_parts
from .loader import fit, fit_mask
from .manifest import Sample, write_manifest
from .sources import Pictures, find_pictures, large_frame, read_cutout

GRID = (2, 5)
OBJECTS = (3, 12)
SCALE = (0.08, 0.35)
"""Longest side of a cut-out, as a share of the scene's side."""
ROTATION = 30.0
VISIBLE = 0.5
"""Least share of the removed object that other objects leave to be seen."""
EDGE = 0.05
"""Where the removed object covers at least this share of a pixel, its mask does too: no rim of it stays outside."""
CHANGE = 2
"""Of 255: what cameras' noise makes of two frames of one view is no change."""
KINDS = ("source", "target", "mask", "effect_mask", "instance_masks")
SHOWN = 8


@dataclass(frozen=True)
class StoreConfig:
    """From your own pictures to triplets of source, target and mask."""

    output: Path
    """Folder that receives source/, target/, mask/, effect_mask/, instance_masks/, manifest.jsonl and sheet.png."""
    backgrounds: Path | None = None
    """Scatter: folder of pictures without a main object."""
    cutouts: Path | None = None
    """Scatter: folder of objects, PNG or WebP with transparency around them, or folders image/ and mask/ in it."""
    frames: Path | None = None
    """Tile: folder with occupied/ and clean/, the same view with and without an object, and mask/ (else the difference)."""
    count: int = 1000
    """Triplets in all."""
    size: int = 1024
    """Side of the pictures in pixels."""
    tile_share: float = 0.5
    """Share of Tile scenes, where the folder has what both need."""
    shadows: bool = True
    """Objects of Scatter darken the ground beside them."""
    seed: int = 0
    """The same seed and pictures make the same bytes, whatever the number of workers."""
    workers: int | None = None
    """Processes. None: one a core."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 64 or not 0 <= self.tile_share <= 1:
            raise ValueError(
                f"count is {self.count}, size {self.size}, tile_share {self.tile_share}: expected at least 1, at least 64, "
                "and 0 to 1."
            )
        if (self.backgrounds is None) != (self.cutouts is None) or not (self.frames or self.cutouts):
            raise ValueError("Give backgrounds and cutouts for Scatter, frames for Tile, or all three.")


@dataclass(frozen=True)
class Scene:
    """source, target [3, H, W] in 0..1; mask [H, W] of 0 and 1; instances [H, W], the number of the object or 0."""

    source: Tensor
    target: Tensor
    mask: Tensor
    instances: Tensor


def store(config: StoreConfig) -> None:
    """Make a STORE set; what is there from a run that was stopped is kept.

    Raises:
        ValueError: a folder is empty, a picture cannot be used, or the output holds a set of other settings.
    """
    pictures = find_pictures(config.backgrounds, config.cutouts, config.frames)
    settings = json.loads(json.dumps({**asdict(config), "output": None, "workers": None, "count": None}, default=str))
    config.output.mkdir(parents=True, exist_ok=True)
    note = config.output / "store.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        raise ValueError(f"{config.output} holds a set made with other settings (store.json): give another folder.")
    temporary = note.with_name(".store.json.part")
    temporary.write_text(json.dumps(settings, indent=2) + "\n")
    os.replace(temporary, note)
    missing = [
        index for index in range(config.count) if not all(path.exists() for path in files(config, index).values())
    ]
    workers = config.workers or os.cpu_count() or 1
    job = functools.partial(make, config, pictures)
    with tqdm(total=config.count, initial=config.count - len(missing), unit="picture", desc="STORE") as progress:
        for _ in run(job, missing, workers):
            progress.update()
    samples = [Sample(f"{index:06}", prompt=None, **files(config, index)) for index in range(config.count)]
    write_manifest(config.output, samples)
    shown = ("source", "mask", "target", "effect_mask")
    rows = [
        [(kind, read_image(files(config, index)[kind])) for kind in shown] for index in range(min(SHOWN, config.count))
    ]
    contact_sheet(config.output / "sheet.png", rows)
    rate = progress.format_dict["rate"] or len(missing) / max(progress.format_dict["elapsed"], 1e-9)
    print(f"{len(missing)} new of {config.count} triplets in {config.output}, {rate:.1f} a second. Look at sheet.png.")


def run(job: functools.partial, indices: list[int], workers: int) -> Iterator[None]:
    if workers == 1:
        threads = torch.get_num_threads()
        # Sums over several threads may round otherwise than those of the processes below.
        torch.set_num_threads(1)
        try:
            yield from map(job, indices)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(job, indices)


def make(config: StoreConfig, pictures: Pictures, index: int) -> None:
    """Draw and write triplet `index`."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
    tile_share = 1.0 if not pictures.cutouts else config.tile_share if pictures.frames else 0.0
    tiled = torch.rand(1, generator=generator).item() < tile_share
    scene = tile(config, pictures, generator) if tiled else scatter(config, pictures, generator)
    # Compared as they are written, in 8 bits.
    written = [(picture * 255).round() for picture in (scene.source, scene.target)]
    effect = ((written[0] - written[1]).abs().amax(dim=0) > CHANGE).float()
    layers = {
        "source": scene.source,
        "target": scene.target,
        "mask": scene.mask.expand(3, -1, -1),
        "effect_mask": torch.maximum(effect, scene.mask).expand(3, -1, -1),
        "instance_masks": (scene.instances / 255).expand(3, -1, -1),
    }
    for kind, path in files(config, index).items():
        write_image(path, layers[kind][None])


def tile(config: StoreConfig, pictures: Pictures, generator: torch.Generator) -> Scene:
    """A grid of one occupied frame in which one cell is clean."""
    occupied, clean, mask = large_frame(pictures.frames, generator)
    count = integer(*GRID, generator)
    side = -(-config.size // count)
    row, column = divmod(integer(0, count * count - 1, generator), count)
    occupied, clean = fit(occupied, side, side)[0], fit(clean, side, side)[0]
    mask = fit_mask(mask, side, side)[0]
    cells = occupied.repeat(count, count, 1, 1, 1)
    source = join_tiles(cells)
    cells[row, column] = clean
    target = join_tiles(cells)
    numbers = torch.arange(1.0, count * count + 1).reshape(count, count)
    instances = rearrange(numbers[..., None, None] * mask, "rows columns h w -> (rows h) (columns w)")
    hole = (instances == numbers[row, column]).float()
    size = config.size
    return Scene(source[:, :size, :size], target[:, :size, :size], hole[:size, :size], instances[:size, :size])


def scatter(config: StoreConfig, pictures: Pictures, generator: torch.Generator) -> Scene:
    """Cut-outs over a background, one instance of a repeated one removed."""
    size = config.size
    background = read_image(pictures.backgrounds[integer(0, len(pictures.backgrounds) - 1, generator)])
    background = fit(background, size, size)[0]
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
    seen = visible_shares(layers)
    if not (open_ones := [i for i in repeated if seen[i] > VISIBLE]):
        # All copies are hidden: the one that is seen best comes to the front.
        layers.append(layers.pop(max(repeated, key=lambda i: seen[i])))
        open_ones = [count - 1]
    gone = open_ones[integer(0, len(open_ones) - 1, generator)]
    visible = visible_parts(torch.stack([layer[3] for layer in layers]))
    shadows = light if config.shadows else None
    source = paint(background, layers, shadows)
    target = paint(background, [layer for i, layer in enumerate(layers) if i != gone], shadows)
    instances = torch.zeros(size, size)
    for number, part in enumerate(visible, start=1):
        instances = torch.where(part > 0.5, float(number), instances)
    return Scene(source, target, (visible[gone] > EDGE).float(), instances)


def place(cutout: Tensor, size: int, longest: float, generator: torch.Generator) -> Tensor:
    """A cut-out [4, h, w] (colours times alpha, alpha) scaled, turned and moved over a scene: [4, size, size]."""
    scale = longest / max(cutout.shape[-2:])
    height, width = (max(1, round(side * scale)) for side in cutout.shape[-2:])
    small = resize(cutout[None], (height, width), antialias=True)
    angle = torch.tensor(uniform(-ROTATION, ROTATION, generator)).deg2rad()
    margin = longest / 2
    centre = torch.tensor([uniform(margin, size - margin, generator) for _ in range(2)])
    matrix = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    if torch.rand(1, generator=generator) < 0.5:
        matrix[:, 0] *= -1
    shift = centre - matrix @ torch.tensor([width / 2, height / 2])
    return warp_affine(small, torch.cat([matrix, shift[:, None]], dim=1)[None], (size, size))[0].clamp(0, 1)


def visible_shares(layers: list[Tensor]) -> list[float]:
    """The share of each object that those over it leave to be seen."""
    alphas = torch.stack([layer[3] for layer in layers])
    return (visible_parts(alphas).sum(dim=(1, 2)) / alphas.sum(dim=(1, 2)).clamp(min=1)).tolist()


def files(config: StoreConfig, index: int) -> dict[str, Path]:
    return {kind: config.output / kind / f"{index:06}.png" for kind in KINDS}


def integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand(1, generator=generator).item()
