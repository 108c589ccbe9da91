"""A photo that is worked on in one place and left as it is elsewhere: its depth, transparency, greys and metadata too."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin
from torch import Tensor

from ...adapters.writing import replacing
from ..paths import WRITABLE
from .files import open_picture, read_exif, to_eight_bits

XMP = "XML:com.adobe.xmp"
"""The name of XMP metadata in a PNG."""
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""Quarter turns to the left, then a mirror from left to right, which set each EXIF orientation upright."""


@dataclass(frozen=True)
class Photo:
    """A photo, upright.

    Attributes:
        picture: [1, 3, H, W] in 0..1; a grey one three times.
        alpha: [H, W] of whole numbers in its depth; None where it is opaque.
        depth: bits of a channel, 8 or 16.
        grey: its three channels are one.
        turned: the EXIF orientation in which its file has it, 1 for upright.
        metadata: what else its file says, as Pillow calls it: icc_profile, exif, xmp, dpi.
        jpeg: the quantisation tables and the subsampling of a JPEG.
    """

    picture: Tensor
    alpha: np.ndarray | None = None
    depth: int = 8
    grey: bool = False
    turned: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)
    jpeg: dict[str, Any] = field(default_factory=dict)


def read_photo(path: Path) -> Photo:
    """Read a photo with all that is to be left as it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, a damaged one, or one of 16 bits that nothing here reads.
    """
    with open_picture(path) as file:
        exif = read_exif(file)
        turned = int(exif.get(ExifTags.Base.Orientation, 1))
        wide = _sixteen_bits(file, path)
        if wide is None:
            upright = to_eight_bits(file, path)
            mode = "LA" if upright.mode in ("1", "L", "LA") else "RGBA"
            transparent = upright.has_transparency_data
            pixels = np.array(upright.convert(mode if transparent else mode.removesuffix("A")))
            pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        else:
            pixels, transparent = upright_pixels(wide, turned), wide.shape[-1] in (2, 4)
        depth = 8 if pixels.dtype == np.uint8 else 16
        colours = pixels[..., :-1] if transparent else pixels
        grey = colours.shape[-1] == 1
        values = torch.from_numpy(colours.astype(np.float32) / (2**depth - 1)).expand(-1, -1, 3)
        return Photo(
            rearrange(values, "h w c -> 1 c h w").contiguous(),
            pixels[..., -1] if transparent and int(pixels[..., -1].min()) < 2**depth - 1 else None,
            depth,
            grey,
            turned if turned in TURNS else 1,
            _metadata(file, exif, grey),
            _tables(file),
        )


def write_photo(path: Path, photo: Photo, result: Tensor) -> None:
    """Write what was made of a photo, [1, 3, H, W] in 0..1, as the photo was; all of the file or nothing.

    A value that was not changed is written as it was read. A JPEG of a JPEG has its tables; WebP is written without loss.

    Raises:
        ValueError: the format has no transparency, or not 16 bits.
        OSError: it cannot be written.
    """
    check_format(path, photo)
    top = 2**photo.depth - 1
    values = (rearrange(result.clamp(0, 1).double(), "1 c h w -> h w c") * top).round().cpu().numpy()
    if photo.grey:
        values = values.mean(axis=-1, keepdims=True).round()
    pixels = values.astype(np.uint8 if photo.depth == 8 else np.uint16)
    if photo.alpha is not None:
        pixels = np.concatenate([pixels, photo.alpha[..., None].astype(pixels.dtype)], axis=-1)
    kind = WRITABLE[path.suffix.lower()]
    if kind != "PNG" and photo.depth == 16 and not (kind == "TIFF" and pixels.shape[-1] == 1):
        pixels = (pixels / 257).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if kind == "PNG" and photo.depth == 16:
            temporary.write_bytes(png16(pixels, photo.metadata))
        else:
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            picture.save(temporary, kind, **_options(kind, photo))


def check_format(path: Path, photo: Photo) -> None:
    """Raises a ValueError where the format of `path` cannot hold the photo: before hours of work, and not after."""
    kind = WRITABLE.get(path.suffix.lower())
    if kind == "JPEG" and photo.alpha is not None:
        raise ValueError(f"The photo has transparency and a JPEG has none: write {path.stem}.png.")
    if kind == "TIFF" and photo.depth == 16 and not (photo.grey and photo.alpha is None):
        raise ValueError(
            f"A TIFF of 16 bits in colour or with transparency is not written here: write {path.stem}.png."
        )


def png16(pixels: np.ndarray, metadata: dict[str, Any]) -> bytes:
    """A PNG of uint16 pixels [H, W, 1 to 4] (PNG specification, third edition), of which Pillow writes greys alone."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    up = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))  # filter 2: the difference to the row above
    data = np.concatenate([np.full((height, 1), 2, np.uint8), up], axis=1).tobytes()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if "icc_profile" in metadata:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc_profile"])))
    if "dpi" in metadata:
        across, down = (round(float(value) / 0.0254) for value in metadata["dpi"])
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if "exif" in metadata:
        chunks.append((b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0")))
    if "xmp" in metadata:
        chunks.append((b"iTXt", f"{XMP}\0\0\0\0\0".encode() + metadata["xmp"]))
    chunks += [(b"IDAT", zlib.compress(data, 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def upright_pixels(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Pixels [H, W, ...] as their EXIF orientation says; 1 and what EXIF does not know leave them as they are."""
    quarters, mirrored = TURNS.get(turned, (0, False))
    pixels = np.rot90(pixels, quarters)
    return np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)


def _sixteen_bits(file: Image.Image, path: Path) -> np.ndarray | None:
    """The pixels [H, W, C] of a picture of 16 bits, as they lie in the file; None of any other."""
    if file.mode.startswith("I;16"):
        file.load()
        return np.asarray(file).astype(np.uint16)[..., None]
    bits = getattr(file, "tag_v2", {}).get(258, ())
    is_png = file.format == "PNG" and path.read_bytes()[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")
    if not (is_png or (file.format == "TIFF" and set(bits) == {16} and len(bits) > 1)):
        return None
    from kornia_rs import io  # of kornia's own dependencies; Pillow cuts such pictures down to 8 bits

    try:
        pixels = np.asarray(io.read_image(str(path)))
    except Exception as error:  # it raises what it likes
        pixels = np.empty(0)
        reason = str(error).splitlines()[0]
    else:
        reason = f"{pixels.dtype} {pixels.shape}"
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError(
            f"{path} has 16 bits a channel in a form that nothing here reads ({reason}): save it as a PNG of 16 bits in RGB "
            "or RGBA, or of 8 bits."
        )
    return pixels


def _metadata(file: Image.Image, exif: Image.Exif, grey: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    exif.pop(ExifTags.Base.Orientation, None)
    if exif and "exif" in file.info:  # of a TIFF they are its layout
        kept["exif"] = exif.tobytes()
    profile = file.info.get("icc_profile") or b""
    if profile[16:20] == (b"GRAY" if grey else b"RGB "):  # not that of a CMYK picture
        kept["icc_profile"] = profile
    xmp = file.info.get("xmp") or file.info.get(XMP)
    if xmp:
        xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
        kept["xmp"] = re.sub(rb"(tiff:Orientation(?:>|=[\"']))\d", rb"\g<1>1", xmp)
    dpi = file.info.get("dpi")
    if dpi and all(0 < float(value) < 1e6 for value in dpi):
        kept["dpi"] = tuple(float(value) for value in dpi)
    return kept


def _tables(file: Image.Image) -> dict[str, Any]:
    if not isinstance(file, JpegImagePlugin.JpegImageFile) or file.mode not in ("L", "RGB"):
        return {}
    sampling = JpegImagePlugin.get_sampling(file)
    return {"qtables": file.quantization, **({"subsampling": sampling} if sampling >= 0 else {})}


def _options(kind: str, photo: Photo) -> dict[str, Any]:
    """How Pillow is to save it."""
    kept = dict(photo.metadata)
    if kind == "PNG" and "xmp" in kept:
        text = PngImagePlugin.PngInfo()
        text.add_itxt(XMP, kept.pop("xmp").decode("utf-8", errors="replace"))
        kept["pnginfo"] = text
    if kind == "TIFF":
        kept.pop("exif", None)
        tags = {700: kept.pop("xmp")} if "xmp" in kept else {}
        kept |= {"compression": "tiff_adobe_deflate", "tiffinfo": tags}
    if kind == "JPEG":
        kept |= photo.jpeg or {"quality": 95, "subsampling": 0}
    if kind == "WEBP":
        kept |= {"lossless": True, "exact": True}
    return kept
