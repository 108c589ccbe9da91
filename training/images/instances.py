"""Masks of the people in a photo: a folder with one picture for each of them, or one picture that numbers them."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ...kernels import regions
from ..paths import SUFFIXES
from .drawn_mask import read_drawn_mask
from .files import read_labels
from .photo import Photo

MOST = 64
"""A picture with more numbers than this numbers nobody: it is a photo, or was saved as JPEG."""


def read_instances(path: Path, photo: Photo, photo_path: Path) -> Tensor:
    """The masks of the people in a photo, [N, H, W] of 0 and 1.

    Args:
        path: a folder of masks, of which each marks one person and which count by their names (2.png before 10.png); or a
            picture whose grey levels, or places in the palette, are the people's numbers, 0 for nobody, as in the sets that
            `unclutter data people` makes.

    Raises:
        ValueError: there is nobody, a mask is empty or of another shape, or the picture has too many numbers.
    """
    size = (photo.picture.shape[-2], photo.picture.shape[-1])
    if path.is_dir():
        files = instance_files(path)
        if not files:
            raise ValueError(f"{path} holds no pictures: expected a mask for each person, such as 1.png and 2.png.")
        return torch.cat([_read_one(file, photo, photo_path, size) for file in files])
    labels = read_labels(path)[0]
    numbers = labels[labels > 0].unique().tolist()
    if not numbers or len(numbers) > MOST:
        raise ValueError(
            f"{path} has {len(numbers)} numbers above 0, expected one for each person, 1 to {MOST} of them: give a PNG in which "
            "each person has one grey level, or a folder with a mask for each."
        )
    try:
        return torch.cat([regions.normalize_mask((labels == number).float(), 1, *size) for number in numbers])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def instance_files(folder: Path) -> list[Path]:
    """The masks in a folder, counted as people count: 2.png before 10.png."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted((path for path in found if path.is_file()), key=_as_counted)


def _as_counted(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _read_one(path: Path, photo: Photo, photo_path: Path, size: tuple[int, int]) -> Tensor:
    try:
        return regions.normalize_mask(read_drawn_mask(path, photo, photo_path).marked, 1, *size)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
