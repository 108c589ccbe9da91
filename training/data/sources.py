"""The user's pictures that `data store` draws from: frames of one view, and cut-outs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ..images.files import read_image, read_mask
from .sample import SUFFIXES

LARGE = 0.1
"""Least share of a frame that its object covers to be tiled, where there are such frames."""
TRIES = 16


@dataclass(frozen=True)
class Pictures:
    """The folder's files, sorted by name: the order is part of what the seed decides."""

    backgrounds: list[Path]
    cutouts: list[tuple[Path, Path | None]]
    frames: list[tuple[Path, Path, Path | None]]


def find_pictures(backgrounds: Path | None, cutouts: Path | None, frames: Path | None) -> Pictures:
    """List the folders that are given.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a folder is empty, or a picture lacks its partner.
    """
    if missing := [str(folder) for folder in (backgrounds, cutouts, frames) if folder and not folder.is_dir()]:
        raise FileNotFoundError(f"There is no folder {' and no folder '.join(missing)}: give folders of pictures.")

    def listed(folder: Path, what: str) -> list[Path]:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        if not found:
            raise ValueError(f"{folder} holds no pictures, expected {what}: give another folder.")
        return found

    def paired(paths: list[Path], folder: Path, what: str) -> list[Path]:
        others = {path.stem: path for path in listed(folder, what)}
        if alone := [path.name for path in paths if path.stem not in others]:
            raise ValueError(f"{folder} lacks {alone[0]} ({len(alone)} such): expected one for each picture.")
        return [others[path.stem] for path in paths]

    pairs: list[tuple[Path, Path, Path | None]] = []
    objects: list[tuple[Path, Path | None]] = []
    if frames:
        occupied = listed(frames / "occupied", "frames with an object")
        clean = paired(occupied, frames / "clean", "the same frames without it")
        masks = {path.stem: path for path in sorted((frames / "mask").glob("*"))}
        pairs = [(path, other, masks.get(path.stem)) for path, other in zip(occupied, clean, strict=True)]
    if cutouts and (cutouts / "mask").is_dir():
        opaque = listed(cutouts / "image", "pictures of objects")
        objects = [*zip(opaque, paired(opaque, cutouts / "mask", "their masks"), strict=True)]
    elif cutouts:
        objects = [(path, None) for path in listed(cutouts, "cut-outs with transparency")]
    return Pictures(listed(backgrounds, "backgrounds") if backgrounds else [], objects, pairs)


def large_frame(frames: list[tuple[Path, Path, Path | None]], generator: torch.Generator) -> tuple[Tensor, ...]:
    """One of the frames whose object is large, else the largest of TRIES: as `read_frame`."""
    # A set may hold thousands: only as many are read as it takes.
    drawn = torch.randperm(len(frames), generator=generator)[:TRIES].tolist()
    best = read_frame(*frames[drawn[0]])
    for index in drawn[1:]:
        if best[2].mean() >= LARGE:
            break
        best = max(best, read_frame(*frames[index]), key=lambda frame: float(frame[2].mean()))
    return best


@functools.lru_cache(maxsize=4)
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
def read_cutout(path: Path, mask: Path | None, longest: int) -> Tensor:
    """An object cropped to its box, its edge softened by a pixel: [4, h, w], colours times alpha, and alpha.

    Args:
        mask: white where the object is; None where the picture's own transparency says it.
        longest: larger ones are made this many pixels long.
    """
    colours = read_image(path)[0]
    if mask is None:
        with Image.open(path) as picture:
            alpha = np.array(ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A"), dtype=np.float32)
        alpha = torch.from_numpy(alpha / 255)
        if alpha.min() == 1:
            raise ValueError(f"{path.name} has no transparency, expected a cut-out: remove its background first.")
    else:
        alpha = read_mask(mask)[0]
        if alpha.shape != colours.shape[-2:]:
            raise ValueError(f"The mask of {path.name} is of another size: expected white where the object is.")
    ys, xs = (alpha > 0.5).nonzero(as_tuple=True)
    if not len(ys):
        raise ValueError(f"{path.name} is transparent all over, expected an object: leave it out.")
    box = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
    alpha, colours = F.pad(alpha[box], (2, 2, 2, 2)), F.pad(colours[:, box[0], box[1]], (2, 2, 2, 2))
    # Never above the drawn alpha: what lies behind it in the file is no colour of the object.
    alpha = torch.minimum(alpha, gaussian_blur2d(alpha[None, None], (3, 3), (0.8, 0.8))[0, 0])
    cutout = torch.cat([colours * alpha, alpha[None]])
    if (scale := longest / max(alpha.shape)) < 1:
        sides = [max(1, round(side * scale)) for side in alpha.shape]
        cutout = F.interpolate(cutout[None], size=sides, mode="bilinear", antialias=True)[0]
    return cutout
