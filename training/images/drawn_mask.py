"""A mask as people save it: white on black, a hole in the photo, strokes on a clear layer, or paint over the photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import open_picture, to_eight_bits
from .photo import Photo, upright_pixels

MIDDLE = 0.25
"""A share of pixels that are neither dark nor bright from which on a picture is no mask: soft borders take less."""
FLAT = 12
"""Levels of 255 by which the strokes of one colour may differ."""
PAINTED = 40
"""Levels of 255 by which paint differs from the photo; a JPEG of the photo differs by less."""
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")


@dataclass(frozen=True)
class DrawnMask:
    """`marked` [1, H, W] of 0 and 1 at the size of its file, and `reading`, how that was understood where it is not white on
    black: words for "marked is ..."."""

    marked: Tensor
    reading: str


def read_drawn_mask(path: Path, photo: Photo, photo_path: Path) -> DrawnMask:
    """Read the mask of a photo.

    A picture of two colours marks its white, or its colour where one is black or white; a clear layer with strokes of one
    colour marks these; a photo with clear parts marks the clear parts, as ComfyUI saves it; the photo itself, painted over,
    marks the paint. A mask that was drawn before EXIF data turned the photo is turned with it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no mask; the message says what it looks like.
    """
    with open_picture(path) as file:
        upright = to_eight_bits(file, path)
        rgba = np.array(upright.convert("RGBA"))
    colours, alpha = rgba[..., :3].astype(np.int16), rgba[..., 3]
    said = []
    if _fits_turned(colours.shape, photo):
        colours, alpha = upright_pixels(colours, photo.turned), upright_pixels(alpha, photo.turned)
        said.append("turned as the photo's EXIF data turns it")
    if alpha.min() < 255:
        marked, what = _of_layers(colours, alpha, path)
    else:
        marked, what = _of_colours(colours, photo, path, photo_path)
    return DrawnMask(torch.from_numpy(marked)[None].float(), " and ".join([*([what] if what else []), *said]))


def _fits_turned(shape: tuple[int, ...], photo: Photo) -> bool:
    """Whether a mask [h, w, ...] has the shape of the photo's file, and not that of the photo as its EXIF data turns it."""
    if photo.turned < 5:
        return False
    (height, width), (tall, wide) = photo.picture.shape[-2:], shape[:2]

    def fits(height: int, width: int) -> bool:
        return abs(wide * height - tall * width) <= 0.02 * tall * width + max(height, width)

    return fits(width, height) and not fits(height, width)


def _of_layers(colours: np.ndarray, alpha: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    opaque = colours[alpha >= 128]
    if len(opaque) == 0:
        raise ValueError(f"{path} is clear all over and marks nothing: paint what is to go, or save it with its layer.")
    spread = np.percentile(opaque, 95, axis=0) - np.percentile(opaque, 5, axis=0)
    if spread.max() <= FLAT:
        return alpha >= 128, f"its {_name(np.median(opaque, axis=0))} strokes on a clear layer"
    bright = colours.min(axis=-1)
    if _is_two_toned(opaque.min(axis=-1)) and (opaque.max(axis=-1) - opaque.min(axis=-1) <= FLAT).all():
        return (bright >= 128) & (alpha >= 128), "its white"
    return alpha < 128, "its clear part, as ComfyUI saves a mask"


def _of_colours(colours: np.ndarray, photo: Photo, path: Path, photo_path: Path) -> tuple[np.ndarray, str]:
    brightest, darkest = colours.max(axis=-1), colours.min(axis=-1)
    is_grey = (brightest - darkest) <= FLAT
    if is_grey.mean() > 0.999 and _is_two_toned(brightest):
        return brightest >= 128, ""
    if is_grey.mean() <= 0.999:
        plain = is_grey & ((brightest < 64) | (darkest > 192))
        coloured = ~is_grey
        if (plain | coloured).mean() > 1 - MIDDLE and coloured.any():
            found = colours[coloured & (brightest - darkest > 128)]
            if (
                len(found) >= 0.5 * coloured.sum()
                and (np.percentile(found, 90, 0) - np.percentile(found, 10, 0)).max() <= 64
            ):
                return coloured & (brightest - darkest > 64), f"its {_name(np.median(found, axis=0))} paint"
    original = (photo.picture[0] * 255).round().numpy().transpose(1, 2, 0).astype(np.int16)
    if original.shape == colours.shape:
        difference = np.abs(original - colours).max(axis=-1)
        marked = difference > PAINTED
        if np.median(difference) <= 8 and 0 < marked.mean() < 0.5:
            return marked, f"its {_name(np.median(colours[marked], axis=0))} paint over the photo"
    if _is_two_toned((photo.picture[0].amax(dim=0) * 255).numpy()):
        raise ValueError(
            f"{path} looks like a photo and {photo_path} like a mask: give the photo first, and then the mask."
        )
    raise ValueError(
        f"{path} looks like a photo and marks nothing that is understood: give a mask that is white where something is to go "
        "and black elsewhere, as large as the photo or in its shape."
    )


def _is_two_toned(values: np.ndarray) -> bool:
    return bool(((values > 48) & (values < 207)).mean() < MIDDLE)


def _name(colour: np.ndarray) -> str:
    """A colour of three levels of 255, as people call it, and its levels where it is none of the greys."""
    red, green, blue = (int(level) for level in colour)
    low, high = min(red, green, blue), max(red, green, blue)
    if high - low <= 2 * FLAT:
        return "black" if high < 64 else "white" if low > 192 else "grey"
    import colorsys

    hue = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[0]
    return f"{HUES[round(hue * 6) % 6]} ({red}, {green}, {blue})"
