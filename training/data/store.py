"""`unclutter data store`: cluttered scenes in which one of many look-alikes is gone (LRNR's STORE data set).

Tile: a grid of one picture of a large object, one cell of which shows the clean picture. Scatter: cut-outs over a
background, at least one of them more than once, one removed. Layers are blended by alpha with a soft edge, and objects
darken what lies below them; source and target are painted from the same layers in the same order.
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

import numpy as np
import torch
from einops import rearrange
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import resize, warp_affine
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..pictures import contact_sheet, read_image, read_mask, write_image
from .loader import fit, fit_mask
from .manifest import SUFFIXES, Sample, write_manifest

GRID = (2, 5)
SEAM = (3, 8)
"""Width of the cross-fade between tiles, in pixels."""
LARGE = 0.1
"""Least share of a frame that its object covers to be tiled, where there are such frames."""
OBJECTS = (3, 12)
SCALE = (0.08, 0.35)
"""Longest side of a cut-out, as a share of the scene's side."""
ROTATION = 30.0
VISIBLE = 0.5
"""Least share of the removed object that other objects leave to be seen."""
CHANGE = 2 / 255
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
    """Scatter: folder of objects, PNG or WebP with transparency around them."""
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


@dataclass(frozen=True)
class Pictures:
    """The folder's files, sorted by name: the order is part of what the seed decides."""

    backgrounds: list[Path]
    cutouts: list[Path]
    frames: list[tuple[Path, Path, Path | None]]


def store(config: StoreConfig) -> None:
    """Make a STORE set; what is there from a run that was stopped is kept.

    Raises:
        ValueError: a folder is empty, a picture cannot be used, or the output holds a set of other settings.
    """
    pictures = find_pictures(config)
    settings = json.loads(json.dumps({**asdict(config), "output": None, "workers": None, "count": None}, default=str))
    config.output.mkdir(parents=True, exist_ok=True)
    note = config.output / "store.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        raise ValueError(f"{config.output} holds a set made with other settings (store.json): give another folder.")
    note.write_text(json.dumps(settings, indent=2) + "\n")
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
        yield from map(job, indices)
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
    effect = ((scene.source - scene.target).abs().amax(dim=0) > CHANGE).float()
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
    frames = large_frames(tuple(pictures.frames))
    occupied, clean, mask = read_frame(*frames[integer(0, len(frames) - 1, generator)])
    cells = integer(*GRID, generator)
    seam = min(integer(*SEAM, generator), config.size // cells // 4)
    gone = integer(0, cells * cells - 1, generator)
    side = -(-config.size // cells) + seam
    occupied, clean = fit(occupied, side, side)[0], fit(clean, side, side)[0]
    mask = fit_mask(mask, side, side)[0]
    # Cells overlap by a seam, across which one fades into the next.
    ramp = torch.ones(side)
    ramp[:seam] = torch.arange(1, seam + 1) / (seam + 1)
    ramp = ramp * ramp.flip(0)
    weight = ramp[:, None] * ramp[None, :]
    whole = side * cells
    sums = torch.zeros(2, 3, whole, whole)
    weights, instances, hole = torch.zeros(whole, whole), torch.zeros(whole, whole), torch.zeros(whole, whole)
    for cell in range(cells * cells):
        rows, columns = (slice(at * (side - seam), at * (side - seam) + side) for at in divmod(cell, cells))
        for layer, picture in enumerate((occupied, clean if cell == gone else occupied)):
            sums[layer, :, rows, columns] += picture * weight
        weights[rows, columns] += weight
        instances[rows, columns] = torch.where(mask > 0, cell + 1.0, instances[rows, columns])
        if cell == gone:
            hole[rows, columns] = mask
    size = config.size
    source, target = (sums / weights.clamp(min=1e-6))[..., :size, :size]
    return Scene(source, target, hole[:size, :size], instances[:size, :size])


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
        layers.append(place(read_cutout(pictures.cutouts[kind]), size, own * size, generator))
    order = torch.randperm(count, generator=generator).tolist()
    layers, repeated = [layers[i] for i in order], [place for place, i in enumerate(order) if i < copies]
    visible = visible_parts(torch.stack([layer[3] for layer in layers]))
    area = torch.stack([layer[3].sum() for layer in layers]).clamp(min=1)
    seen = visible.sum(dim=(1, 2)) / area
    open_ones = [i for i in repeated if seen[i] > VISIBLE] or [max(repeated, key=lambda i: float(seen[i]))]
    gone = open_ones[integer(0, len(open_ones) - 1, generator)]
    shadows = light if config.shadows else None
    source = paint(background, layers, shadows)
    target = paint(background, [layer for i, layer in enumerate(layers) if i != gone], shadows)
    instances = torch.zeros(size, size)
    for number, part in enumerate(visible, start=1):
        instances = torch.where(part > 0.5, float(number), instances)
    return Scene(source, target, (visible[gone] > 0.5).float(), instances)


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


def paint(background: Tensor, layers: list[Tensor], light: Tensor | None) -> Tensor:
    """Layers [4, H, W] over a background [3, H, W], each darkening what is below it on the side away from the light."""
    canvas = background
    for layer in layers:
        if light is not None:
            canvas = canvas * (1 - contact_shadow(layer[3], light))
        canvas = canvas * (1 - layer[3]) + layer[:3]
    return canvas.clamp(0, 1)


def contact_shadow(alpha: Tensor, light: Tensor) -> Tensor:
    """How much light an object of coverage `alpha` [H, W] takes from the ground, 0..0.45."""
    reach = float(alpha.sum().sqrt())
    sigma = max(1.0, 0.06 * reach)
    kernel = 2 * round(2.5 * sigma) + 1
    across, down = (round(float(part) * 0.1 * reach) for part in light)
    moved = torch.roll(alpha, (down, across), dims=(0, 1))
    return 0.45 * gaussian_blur2d(moved[None, None], (kernel, kernel), (sigma, sigma), border_type="constant")[0, 0]


def visible_parts(alphas: Tensor) -> Tensor:
    """What later layers leave of each: [K, H, W]."""
    covered = torch.zeros_like(alphas[0])
    parts = []
    for alpha in alphas.flip(0):
        parts.append(alpha * (1 - covered))
        covered = torch.maximum(covered, alpha)
    return torch.stack(parts[::-1])


def find_pictures(config: StoreConfig) -> Pictures:
    def listed(folder: Path | None, what: str) -> list[Path]:
        if folder is None:
            return []
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        if not found:
            raise ValueError(f"{folder} holds no pictures, expected {what}: give another folder.")
        return found

    frames = []
    if config.frames:
        occupied = listed(config.frames / "occupied", "frames with an object")
        clean = {path.stem: path for path in listed(config.frames / "clean", "the same frames without it")}
        masks = {path.stem: path for path in sorted((config.frames / "mask").glob("*"))}
        if alone := [path.name for path in occupied if path.stem not in clean]:
            raise ValueError(
                f"{config.frames / 'clean'} lacks {alone[0]} ({len(alone)} such): expected one for each frame."
            )
        frames = [(path, clean[path.stem], masks.get(path.stem)) for path in occupied]
    backgrounds = listed(config.backgrounds, "backgrounds")
    return Pictures(backgrounds, listed(config.cutouts, "cut-outs with transparency"), frames)


@functools.lru_cache(maxsize=1)
def large_frames(frames: tuple[tuple[Path, Path, Path | None], ...]) -> list[tuple[Path, Path, Path | None]]:
    """Those whose object is large; all where none is."""
    return [frame for frame in frames if read_frame(*frame)[2].mean() >= LARGE] or list(frames)


@functools.lru_cache(maxsize=16)
def read_frame(occupied: Path, clean: Path, mask: Path | None) -> tuple[Tensor, Tensor, Tensor]:
    """[1, 3, H, W] twice, and the object's mask [1, H, W]."""
    with_object, without = read_image(occupied), read_image(clean)
    if with_object.shape != without.shape:
        raise ValueError(
            f"{occupied.name} is {with_object.shape[-1]}x{with_object.shape[-2]} and its clean frame "
            f"{without.shape[-1]}x{without.shape[-2]}, expected one size: make them equal."
        )
    if mask is not None:
        hole = (read_mask(mask) > 0.5).float()
    else:
        change = gaussian_blur2d((with_object - without).abs().amax(dim=1, keepdim=True), (9, 9), (2.0, 2.0))
        hole = (change[:, 0] > 0.08).float()
    if hole.shape[-2:] != with_object.shape[-2:] or not hole.any():
        raise ValueError(
            f"The mask of {occupied.name} is empty or of another size: expected white where the object is."
        )
    return with_object, without, hole


@functools.lru_cache(maxsize=64)
def read_cutout(path: Path) -> Tensor:
    """[4, h, w]: colours times alpha, and alpha, cropped to the object, its edge softened by a pixel."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGBA"), dtype=np.float32) / 255)
    colours, alpha = pixels[..., :3], pixels[..., 3]
    if alpha.min() == 1:
        raise ValueError(f"{path.name} has no transparency, expected a cut-out: remove its background first.")
    ys, xs = (alpha > 0.5).nonzero(as_tuple=True)
    if not len(ys):
        raise ValueError(f"{path.name} is transparent all over, expected an object: leave it out.")
    box = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
    alpha = torch.nn.functional.pad(alpha[box], (2, 2, 2, 2))
    colours = torch.nn.functional.pad(rearrange(colours[box], "h w c -> c h w"), (2, 2, 2, 2))
    # Never above the drawn alpha: what lies behind it in the file is no colour of the object.
    alpha = torch.minimum(alpha, gaussian_blur2d(alpha[None, None], (3, 3), (0.8, 0.8))[0, 0])
    return torch.cat([colours * alpha, alpha[None]])


def files(config: StoreConfig, index: int) -> dict[str, Path]:
    return {kind: config.output / kind / f"{index:06}.png" for kind in KINDS}


def integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand(1, generator=generator).item()
