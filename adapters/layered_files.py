"""Layers of people as files for picture editors: OpenRaster (.ora) and Photoshop's own format (.psd)."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image, TiffImagePlugin

from ..kernels.layers import Layers
from .files import replacing

PSD_LARGEST_SIDE, PSD_LARGEST_FILE = 30_000, 2**31 - 2**10


def save_openraster(path: Path, layers: Layers) -> None:
    """The layers as OpenRaster 0.0.3 (openraster.org), all of the file or none of it."""
    height, width = layers.image.shape[-2:]
    sheets = sheets_of(layers)
    root = ElementTree.Element("image", version="0.0.3", w=str(width), h=str(height))
    stack = ElementTree.SubElement(root, "stack")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("mimetype", "image/openraster")
        for sheet in reversed(sheets):
            source = f"data/{sheet.name.replace(' ', '').lower()}.png"
            archive.writestr(source, _png(sheet.picture))
            ElementTree.SubElement(
                stack,
                "layer",
                {
                    "name": sheet.name,
                    "src": source,
                    "x": str(sheet.left),
                    "y": str(sheet.top),
                    "opacity": "1.0",
                    "visibility": "hidden" if sheet.hidden else "visible",
                    "composite-op": "svg:src-over",
                },
            )
        archive.writestr("stack.xml", ElementTree.tostring(root, "UTF-8", xml_declaration=True))
        picture = merged(sheets)
        archive.writestr("mergedimage.png", _png(picture))
        picture.thumbnail((256, 256))
        archive.writestr("Thumbnails/thumbnail.png", _png(picture))


def save_psd(path: Path, layers: Layers) -> None:
    """The layers in 8-bit RGB by the Adobe Photoshop File Formats Specification, all of the file or none of it.

    Raises:
        ValueError: the picture is larger than the format allows.
    """
    height, width = layers.image.shape[-2:]
    if max(height, width) > PSD_LARGEST_SIDE:
        raise ValueError(
            f"The picture is {width}x{height} and a PSD file holds at most {PSD_LARGEST_SIDE:,} pixels a side: "
            "set format to ora."
        )
    sheets = sheets_of(layers)
    records, pixels = [], []
    for sheet in sheets:
        red, green, blue, alpha = sheet.picture.split()
        channels = [_packed(channel) for channel in (alpha, red, green, blue)]
        records.append(_record(sheet, [len(channel) for channel in channels]))
        pixels += channels
    parts, flat = [struct.pack(">h", len(sheets)), *records, *pixels], _packed(*merged(sheets).convert("RGB").split())
    length = sum(map(len, parts))
    if length + len(flat) > PSD_LARGEST_FILE:
        raise ValueError("The layers take more than the 2 GB that a PSD file holds: set format to ora.")
    padding = -length % 4
    with replacing(path) as temporary, temporary.open("wb") as file:
        # Version 1; 3 channels of 8 bits, mode 3 (RGB); no palette and no resources.
        file.write(struct.pack(">4sH6xHIIHHII", b"8BPS", 1, 3, height, width, 8, 3, 0, 0))
        file.write(struct.pack(">II", padding + length + 8, padding + length))
        file.writelines(parts)
        file.write(bytes(padding + 4))  # the last four: no mask that is all layers'
        file.write(flat)


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A layer as editors know it, no larger than the box it fills.

    Attributes:
        name: how the editor lists it.
        picture: RGBA, not premultiplied.
        left, top: where on the canvas the picture begins.
        hidden: it is there, but switched off.
    """

    name: str
    picture: Image.Image
    left: int
    top: int
    hidden: bool


def sheets_of(layers: Layers) -> list[Sheet]:
    """The background, as large as the canvas, and each person, from back to front."""
    found = {}
    for index, (top, left, *_), tensor in layers.sheets():
        picture = _picture(tensor)
        del tensor  # before the next is made
        # The file stays small: only the box a person fills. Somebody wholly hidden keeps one clear pixel.
        box = picture.getchannel("A").getbbox() or (0, 0, 1, 1)
        name = f"Person {index}" if index else "Background"
        found[index] = Sheet(name, picture.crop(box), left + box[0], top + box[1], index - 1 in layers.removed)
    return [found[0], *(found[k + 1] for k in layers.back_to_front())]


def merged(sheets: list[Sheet]) -> Image.Image:
    """The picture that an editor shows of them, RGBA."""
    canvas = Image.new("RGBA", sheets[0].picture.size)
    for sheet in sheets:
        if not sheet.hidden:
            canvas.alpha_composite(sheet.picture, (sheet.left, sheet.top))
    return canvas


def _picture(sheet: torch.Tensor) -> Image.Image:
    return Image.fromarray((sheet.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy(), "RGBA")


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=4)  # as core saves pictures: half the time of 6
    return data.getvalue()


def _record(sheet: Sheet, lengths: list[int]) -> bytes:
    """A PSD file's entry for a layer whose alpha, red, green and blue take `lengths` bytes."""
    width, height = sheet.picture.size
    record = struct.pack(">4iH", sheet.top, sheet.left, sheet.top + height, sheet.left + width, len(lengths))
    for channel, length in enumerate(lengths, start=-1):
        record += struct.pack(">hI", channel, length)
    name = _padded(struct.pack(">B", len(sheet.name)) + sheet.name.encode("ascii"))
    unicode_name = _padded(struct.pack(">I", len(sheet.name)) + sheet.name.encode("utf-16-be"))
    # No layer mask and no blending ranges; then the name twice, as old and as newer programs read it.
    extra = bytes(8) + name + struct.pack(">4s4sI", b"8BIM", b"luni", len(unicode_name)) + unicode_name
    opacity, clipping, flags = 255, 0, 2 if sheet.hidden else 0
    return record + struct.pack(">4s4sBBBxI", b"8BIM", b"norm", opacity, clipping, flags, len(extra)) + extra


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _packed(*channels: Image.Image) -> bytes:
    """Pixels as a PSD file holds them: 1 for PackBits, the length of every row of every channel, all rows."""
    lengths, rows = [], []
    for channel in channels:
        # TIFF has the same PackBits, and Pillow's libtiff is fast at it: the rows of a TIFF file in strips of one.
        file = io.BytesIO()
        channel.save(file, "TIFF", compression="packbits", strip_size=channel.width)
        file.seek(0)
        tags, data = TiffImagePlugin.TiffImageFile(file).tag_v2, file.getvalue()
        starts, counts = tags[TiffImagePlugin.STRIPOFFSETS], tags[TiffImagePlugin.STRIPBYTECOUNTS]
        rows += [data[start : start + count] for start, count in zip(starts, counts, strict=True)]
        lengths += counts
    return struct.pack(f">H{sum(channel.height for channel in channels)}H", 1, *lengths) + b"".join(rows)
