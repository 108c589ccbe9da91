"""Pictures in and out: files as tensors."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from einops import rearrange
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...adapters.writing import replacing


class Packed(Protocol):
    """A file that lies in another, such as a shard."""

    def open(self) -> BinaryIO: ...


def read_image(path: Path | Packed) -> Tensor:
    """[1, 3, H, W] in 0..1, turned as its EXIF orientation says."""
    with _open(path) as picture:
        pixels = np.array(_eight_bits(picture, path).convert("RGB"), dtype=np.float32) / 255
    return rearrange(torch.from_numpy(pixels), "h w c -> 1 c h w")


def read_mask(path: Path | Packed) -> Tensor:
    """[1, H, W] in 0..1, white = 1; of a picture with transparency, where it is transparent, as in ComfyUI."""
    with _open(path) as picture:
        picture = _eight_bits(picture, path)
        if picture.has_transparency_data:  # of a palette, too
            picture = picture.convert("RGBA")
        pixels = np.array(picture.convert("L"), dtype=np.float32)
        if "A" in picture.getbands() and (alpha := np.array(picture.getchannel("A"))).min() < 255:
            pixels = 255 - alpha.astype(np.float32)
    return torch.from_numpy(pixels / 255)[None]


def read_labels(path: Path | Packed) -> Tensor:
    """[1, H, W] of numbers: a picture's greys, or the places in its palette, which is how parsers write them."""
    with _open(path) as picture:
        picture = _upright(picture, path)
        numbers = np.array(picture if picture.mode == "P" else picture.convert("L"), dtype=np.float32)
    return torch.from_numpy(numbers)[None]


def picture_size(path: Path | Packed) -> tuple[int, int]:
    """(height, width) as `read_image` gives them, from the file's header alone."""
    with _open(path) as picture:
        width, height = picture.size
        turned = _exif(picture).get(ExifTags.Base.Orientation, 1) >= 5
    return (width, height) if turned else (height, width)


def read_metadata(path: Path) -> dict[str, bytes]:
    """The colour profile and the EXIF data of a picture, as they hold for what `read_image` makes of it."""
    with _open(path) as picture:
        exif, kept = _exif(picture), {}
        exif.pop(ExifTags.Base.Orientation, None)
        if exif and "exif" in picture.info:  # of a TIFF they are its layout
            kept["exif"] = exif.tobytes()
        profile = picture.info.get("icc_profile") or b""
        if profile[16:20] == b"RGB ":  # not that of a grey or CMYK picture
            kept["icc_profile"] = profile
    return kept


def write_image(path: Path, image: Tensor, metadata: dict[str, bytes] | None = None) -> None:
    """Write [1, 3, H, W] in 0..1, all of it or nothing."""
    pixels = (rearrange(image.clamp(0, 1), "1 c h w -> h w c") * 255).round().byte().cpu().numpy()
    save_picture(path, Image.fromarray(pixels), **(metadata or {}))


def _open(path: Path | Packed) -> Image.Image:
    try:
        picture = Image.open(path if isinstance(path, Path) else path.open())
        _exif(picture)
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"There is no picture at {path}: give the path of a PNG or JPEG file.") from None
    # Of broken EXIF data Pillow raises SyntaxError or struct.error.
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, struct.error) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}): expected a PNG or JPEG file.") from None
    return picture


def _exif(picture: Image.Image) -> Image.Exif:
    """The EXIF data before the pixels, which Pillow keeps for all later questions. A PNG may have some behind them: these
    count nowhere, as the whole picture would have to be decoded to know of them, and `picture.getexif()` does."""
    return Image.Image.getexif(picture)


def _upright(picture: Image.Image, path: Path | Packed) -> Image.Image:
    """The whole picture, turned as its EXIF orientation says."""
    try:
        picture.load()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a broken PNG
        raise ValueError(f"{path} is damaged ({error}): get it again, or leave it out.") from None
    return ImageOps.exif_transpose(picture)


def _eight_bits(picture: Image.Image, path: Path | Packed) -> Image.Image:
    """The whole picture, upright, in a mode that Pillow converts without cutting off: 16-bit greys and floats of 0..1 are scaled."""
    picture = _upright(picture, path)
    if picture.mode.startswith("I") or picture.mode == "F":
        scale = 255 if picture.mode == "F" else 1 / 257
        return Image.fromarray((np.asarray(picture, dtype=np.float32) * scale).round().clip(0, 255).astype(np.uint8))
    return picture


def save_picture(path: Path, picture: Image.Image, **kept: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        kept |= {"quality": 95, "subsampling": 0}
    with replacing(path) as temporary:
        picture.save(temporary, **kept)
