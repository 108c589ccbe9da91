"""Pictures in and out: files as tensors."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from einops import rearrange
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...adapters.writing import replacing

LARGEST = 160_000_000
"""Pixels. The largest sensors of cameras give 151 million; a file that claims more is there to fill the memory."""


class Packed(Protocol):
    """A file that lies in another, such as a shard."""

    def open(self) -> BinaryIO: ...


def read_image(path: Path | Packed) -> Tensor:
    """[1, 3, H, W] in 0..1, turned as its EXIF orientation says."""
    with open_picture(path) as picture:
        pixels = np.array(to_eight_bits(picture, path).convert("RGB"), dtype=np.float32) / 255
    return rearrange(torch.from_numpy(pixels), "h w c -> 1 c h w")


def read_mask(path: Path | Packed) -> Tensor:
    """[1, H, W] in 0..1, white = 1; of a picture with transparency, where it is transparent, as in ComfyUI."""
    with open_picture(path) as picture:
        picture = to_eight_bits(picture, path)
        if picture.has_transparency_data:  # of a palette, too
            picture = picture.convert("RGBA")
        pixels = np.array(picture.convert("L"), dtype=np.float32)
        if "A" in picture.getbands() and (alpha := np.array(picture.getchannel("A"))).min() < 255:
            pixels = 255 - alpha.astype(np.float32)
    return torch.from_numpy(pixels / 255)[None]


def read_labels(path: Path | Packed) -> Tensor:
    """[1, H, W] of numbers: a picture's greys, or the places in its palette, which is how parsers write them."""
    with open_picture(path) as picture:
        picture = upright(picture, path)
        numbers = np.array(picture if picture.mode == "P" else picture.convert("L"), dtype=np.float32)
    return torch.from_numpy(numbers)[None]


def picture_size(path: Path | Packed) -> tuple[int, int]:
    """(height, width) as `read_image` gives them, from the file's header alone."""
    with open_picture(path) as picture:
        width, height = picture.size
        turned = read_exif(picture).get(ExifTags.Base.Orientation, 1) >= 5
    return (width, height) if turned else (height, width)


def write_image(path: Path, image: Tensor) -> None:
    """Write [1, 3, H, W] in 0..1, all of it or nothing."""
    pixels = (rearrange(image.clamp(0, 1), "1 c h w -> h w c") * 255).round().byte().cpu().numpy()
    save_picture(path, Image.fromarray(pixels))


def open_picture(path: Path | Packed) -> Image.Image:
    """A picture whose pixels are not read yet.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or one of more pixels than any camera gives.
    """
    if isinstance(path, Path) and not os.path.isfile(path):  # of a name that no file can have, too
        raise FileNotFoundError(f"There is no picture at {path}: give the path of a PNG or JPEG file.")
    try:
        picture = Image.open(path if isinstance(path, Path) else path.open())
        read_exif(picture)
    # Of broken EXIF data Pillow raises SyntaxError or struct.error.
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
    ) as error:
        name = str(getattr(path, "name", path))
        wanted = (
            "save a HEIC photo as JPEG or PNG first" if name.lower().endswith((".heic", ".heif")) else "get it again"
        )
        raise ValueError(
            f"{path} cannot be read as a picture ({error}), expected a PNG or JPEG file: {wanted}."
        ) from None
    width, height = picture.size
    if width * height > LARGEST:
        raise ValueError(
            f"{path} has {width}x{height} pixels, expected at most {LARGEST // 10**6} million: make it smaller, or cut out the "
            "part that matters."
        )
    return picture


def read_exif(picture: Image.Image) -> Image.Exif:
    """The EXIF data before the pixels, which Pillow keeps for all later questions. A PNG may have some behind them: these
    count nowhere, as the whole picture would have to be decoded to know of them, and `picture.getexif()` does."""
    return Image.Image.getexif(picture)


def upright(picture: Image.Image, path: Path | Packed) -> Image.Image:
    """The whole picture, turned as its EXIF orientation says."""
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError on a broken PNG
        raise ValueError(f"{path} is damaged ({error}): get it again, or leave it out.") from None
    return ImageOps.exif_transpose(picture)


def to_eight_bits(picture: Image.Image, path: Path | Packed) -> Image.Image:
    """The whole picture, upright, in a mode that Pillow converts without cutting off: 16-bit greys and floats of 0..1 are scaled."""
    picture = upright(picture, path)
    if picture.mode.startswith("I") or picture.mode == "F":
        scale = 255 if picture.mode == "F" else 1 / 257
        return Image.fromarray((np.asarray(picture, dtype=np.float32) * scale).round().clip(0, 255).astype(np.uint8))
    return picture


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture, all of it or nothing; a JPEG in high quality.

    Raises:
        OSError: it cannot be written, on a full disk for one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    with replacing(path) as temporary:
        picture.save(temporary, **kept)
