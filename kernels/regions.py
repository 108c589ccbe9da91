"""Masks: one way in, and from pixels to the tokens and cells of a network. 1 = remove, everywhere.

Connected components and Euclidean distances come from scipy, on the CPU: they are exact for any shape, where
kornia's need as many iterations as the longest path through a component.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAX_PARTS = 256
"""More parts than this are a mask full of specks."""
MAX_PIXELS = 2**30
"""Of all parts together, each of which is a mask as large as the picture: four gigabytes."""

STRIP = 512
"""Rows of a picture whose distances are measured at once."""


class Box(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def normalize_mask(
    mask: Tensor,
    batch: int,
    height: int,
    width: int,
    *,
    threshold: float = 0.5,
    allow_full: bool = False,
    allow_empty: bool = False,
    skip_empty: bool = False,
) -> Tensor:
    """Any mask a graph may hold, as the mask of `batch` pictures of height × width.

    Args:
        mask: [H, W], [B, H, W] or [B, 1, H, W], values in 0..1; a brush of 98 % opacity counts as 1.
        allow_full, allow_empty: masks of everything, or of nothing, are fine.
        skip_empty: so are empty ones among others, for frames of a film in which there is nothing to remove.

    Returns:
        [max(batch, masks), height, width] of 0 and 1, on the mask's device. Shrinking keeps every marked pixel: a mask
        a little too large costs nothing, one too small brings the object back.

    Raises:
        ValueError: NaN, an empty or full mask, one of other proportions, or as many masks as fit no picture.
    """
    shape = "×".join(str(side) for side in mask.shape)
    if mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or 0 in mask.shape:
        raise ValueError(f"The mask has the shape {shape}: expected [height, width] or [masks, height, width].")
    if not torch.isfinite(mask).all():
        raise ValueError("The mask has NaN or infinite values: expected 0 to 1, so check the node that made it.")
    count = len(mask)
    if count != batch and 1 not in (count, batch):
        raise ValueError(f"{count} masks came for {batch} pictures: give one mask for all, or one for each.")
    binary = resize_mask((mask >= threshold).float(), height, width)
    covered = binary.flatten(1).mean(dim=1)
    skips = skip_empty and bool((covered > 0).any())
    if not allow_empty and not skips and bool((covered == 0).any()):
        if tuple(mask.shape[-2:]) == (64, 64) and not mask.any():
            raise ValueError(
                "The mask is the blank 64×64 one that Load Image gives for a picture without transparency: "
                "paint a mask (right click, Open in MaskEditor) or connect one."
            )
        index = int((covered == 0).int().argmax())
        which = "The mask" if count == 1 else f"Mask {index + 1} of {count}"
        if 0 < (highest := float(mask[index].max())) < threshold:
            raise ValueError(
                f"{which} is too faint: its largest value is {highest:.3g}, and {threshold:g} and above counts, so paint it "
                "with full opacity."
            )
        raise ValueError(f"{which} is empty, so there is nothing to remove: mark the object with white (1.0).")
    tall, wide = mask.shape[-2:]
    # One pixel of a small mask is rounding; a picture whose sides a VAE or a preprocessor rounded is off by less than 2 %.
    if abs(wide * height - tall * width) > 0.02 * tall * width + max(height, width) and bool((covered > 0).any()):
        is_turned = abs(tall * height - wide * width) <= 0.02 * tall * height + max(height, width)
        turned = ", or it was drawn on the photo before its EXIF data turned it" if is_turned else ""
        raise ValueError(
            f"The mask is {wide}x{tall} and the picture {width}x{height}, another shape, so it belongs to another picture or to "
            f"another crop of this one{turned}: draw it on this very picture, at any scale."
        )
    if not allow_full and bool((covered == 1).any()):
        raise ValueError(
            "The mask covers the whole picture and leaves nothing to fill it from: mark only the object, "
            "or invert the mask if white marks what to keep."
        )
    return binary.expand(max(batch, count), -1, -1)


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask [B, H, W] of 0 and 1 at another size; shrinking keeps every marked pixel."""
    if tuple(mask.shape[-2:]) == (height, width):
        return mask
    small = F.adaptive_max_pool2d(mask[:, None], (min(height, mask.shape[-2]), min(width, mask.shape[-1])))
    if tuple(small.shape[-2:]) != (height, width):
        small = (F.interpolate(small, (height, width), mode="bilinear") >= 0.5).float()
    return small[:, 0]


def object_tokens(mask: Tensor, height: int, width: int) -> Tensor:
    """The tokens of a height × width layer that hold any of the object: mask [B, H, W] -> bool [B, height*width]."""
    return F.adaptive_max_pool2d(mask[:, None].float(), (height, width)).flatten(1) >= 0.5


def latent_mask(mask: Tensor, height: int, width: int, pooling: str) -> Tensor:
    """mask [B, H, W] -> [B, 1, height, width]; "max": any pixel of a cell counts, "nearest": its first one does."""
    if pooling == "max":
        return F.adaptive_max_pool2d(mask[:, None], (height, width))
    if pooling == "nearest":
        return F.interpolate(mask[:, None], (height, width), mode="nearest")
    raise ValueError(f"pooling is {pooling!r}: choose max or nearest.")


def grow(mask: Tensor, pixels: float = 0.0, percent: float = 0.0) -> Tensor:
    """Grow each object of mask [B, H, W] by `pixels` plus `percent` % of its own size (the root of its area).

    The radius is Euclidean; a negative one shrinks.
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    def radius_of(area: int) -> float:
        return pixels + percent / 100 * math.sqrt(area)

    def grow_one(sample: np.ndarray) -> np.ndarray:
        out = np.zeros_like(sample)
        labels, count = _label(sample)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        for index, extent in enumerate(find_objects(labels), start=1):
            radius = radius_of(areas[index])
            margin = math.ceil(max(radius, 0)) + 1
            window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in extent)
            inside = labels[window] == index
            if radius >= 0:
                grown = distance_transform_edt(~inside) <= radius
            else:
                padded = np.pad(inside, 1, mode="edge")  # the picture's border is no border of the object
                grown = (distance_transform_edt(padded) > -radius)[1:-1, 1:-1]
            out[window] |= grown
        return out

    largest = int((mask >= 0.5).flatten(1).sum(dim=1).max())
    return _by_sample(grow_one, mask, math.ceil(max(pixels, radius_of(largest), 0)) + 1)


def fill_holes(mask: Tensor) -> Tensor:
    """Mark what mask [B, H, W] encloses."""
    from scipy.ndimage import binary_fill_holes

    return _by_sample(binary_fill_holes, mask, 0)


def feather(mask: Tensor, pixels: int, room: np.ndarray | None = None) -> Tensor:
    """Blend weights for mask [B, H, W]: 1 inside, falling as a cosine to 0 over `pixels` outside, exactly 0 beyond.

    Args:
        room: [H, W], at least 1: how far each pixel is from where the weight must have fallen to 0. Where that is nearer
            to the mask than `pixels` the weight falls faster, and begins to fall up to 8 pixels inside of the mask.
    """
    from scipy.ndimage import distance_transform_edt

    def soften_strips(sample: np.ndarray) -> np.ndarray:
        # Strip by strip, each with as much around it as matters: distances in all of a large picture take gigabytes.
        weight = sample.astype(np.float32)
        for top in range(0, len(sample), STRIP):
            start, bottom = max(top - pixels, 0), top + STRIP + pixels
            if sample[start:bottom].any():
                outside = distance_transform_edt(~sample[start:bottom])[top - start :][:STRIP]
                border = (outside > 0) & (outside <= pixels)
                weight[top : top + STRIP][border] = 0.5 * (1 + np.cos(np.pi * outside[border] / (pixels + 1)))
        return weight

    def soften(sample: np.ndarray) -> np.ndarray:
        if room is None:
            return soften_strips(sample)
        outside = distance_transform_edt(~sample)
        distance = np.maximum(outside, min(pixels, 8) + 1 - room)
        reach = np.minimum(pixels + 1, distance + room)
        weight = 0.5 * (1 + np.cos(np.pi * np.minimum(distance / reach, 1)))
        return np.where(outside <= pixels, weight, 0)

    return _by_sample(soften, mask, pixels if room is None else None)


def drop_small(mask: Tensor, min_area: int) -> Tensor:
    """Mask [B, H, W] without its connected parts of fewer than `min_area` pixels."""

    def drop(sample: np.ndarray) -> np.ndarray:
        labels, _ = _label(sample)
        return sample & (np.bincount(labels.ravel()) >= min_area)[labels]

    return _by_sample(drop, mask, 0)


def split_instances(mask: Tensor, min_area: int = 0) -> Tensor:
    """The connected parts of a mask [H, W] or [1, H, W] with at least `min_area` pixels: [parts, H, W] of 0 and 1,
    from left to right, then from top to bottom. Pixels that touch at a corner are connected.

    Raises:
        ValueError: more parts than `MAX_PARTS`, or than memory should hold (`MAX_PIXELS`).
    """
    from scipy.ndimage import find_objects

    labels, count = _label(mask.reshape(mask.shape[-2:]).cpu().numpy() >= 0.5)
    areas, extents = np.bincount(labels.ravel(), minlength=count + 1), find_objects(labels)
    kept = [index for index in range(1, count + 1) if areas[index] >= min_area]
    most = max(1, min(MAX_PARTS, MAX_PIXELS // labels.size))
    if len(kept) > most:
        height, width = labels.shape
        raise ValueError(
            f"The mask has {len(kept)} parts of at least {min_area} pixels, and at most {most} of {width}x{height} are given "
            "apart: raise min_area, so that specks do not count, or make the picture smaller."
        )
    kept.sort(key=lambda index: (extents[index - 1][1].start, extents[index - 1][0].start))
    return torch.from_numpy(labels == np.array(kept, labels.dtype)[:, None, None]).to(mask)


def bounding_boxes(mask: Tensor, context: float = 0.0) -> list[Box]:
    """The box around each of the masks [B, H, W], with `context` times its longer side added on each side, clipped to
    the picture; infinity takes all of it."""
    height, width = mask.shape[-2:]
    boxes = []
    for sample in mask:
        rows, columns = sample.amax(dim=1).nonzero()[:, 0], sample.amax(dim=0).nonzero()[:, 0]
        if len(rows) == 0:
            raise ValueError("The mask is empty, so there is no box around it: mark the object with white (1.0).")
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        margin = round(min(context, max(height, width)) * max(bottom - top, right - left))
        top, left = max(top - margin, 0), max(left - margin, 0)
        boxes.append(Box(top, left, min(bottom + margin, height) - top, min(right + margin, width) - left))
    return boxes


def around(mask: Tensor, reach: int) -> tuple[slice, slice]:
    """The rows and columns of mask [H, W] up to `reach` pixels from what it marks."""
    (box,) = bounding_boxes(mask[None])
    rows = slice(max(box.top - reach, 0), box.top + box.height + reach)
    return rows, slice(max(box.left - reach, 0), box.left + box.width + reach)


def _by_sample(function: Callable[[np.ndarray], np.ndarray], mask: Tensor, reach: int | None) -> Tensor:
    """`function` of each mask [H, W], which is 0 further than `reach` from what is marked: a large picture with a small
    mask costs little. None: of the whole of it."""
    out = torch.zeros_like(mask)
    for row, sample in zip(out, (mask >= 0.5).cpu(), strict=True):
        if sample.any():
            here = ... if reach is None else around(sample, reach)
            row[here] = torch.from_numpy(function(sample[here].numpy())).to(mask)
    return out


def _label(sample: np.ndarray) -> tuple[np.ndarray, int]:
    from scipy.ndimage import label

    return label(sample, structure=np.ones((3, 3)))
