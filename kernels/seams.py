"""The way out of a large picture and back: crop at native scale, paste back without a seam.

Outside the feather band every pixel of the picture stays as it was, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .finite import check_finite
from .regions import Box, bounding_boxes, feather, resize_mask
from .registration import align


@dataclass(frozen=True)
class Crop:
    """The box in which each sample of a batch was cut, and the one size (height, width) all cuts were brought to."""

    boxes: tuple[Box, ...]
    size: tuple[int, int]


def plan_crop(
    mask: Tensor, context: float = 0.5, multiple: int = 8, minimum: int = 512, maximum: int | None = None
) -> Crop:
    """Boxes around the masks [B, H, W], all of one size that a network takes, at native scale where the picture is
    large enough for it.

    Args:
        context: surroundings on each side, as a share of the object's longer side.
        multiple: of both sides of the size.
        minimum, maximum: for the sides of the size; a picture smaller than `minimum` is enlarged. A box scaled down to
            `maximum` keeps its shape as far as the picture goes: its short side takes in more, up to `minimum`.
    """
    if multiple < 1 or minimum < 1 or context < 0:
        raise ValueError(
            f"multiple is {multiple}, minimum {minimum}, context {context}: sides must be at least 1, context 0."
        )
    if maximum is not None and maximum < max(minimum, multiple):
        least = (
            f"minimum {minimum}: lower minimum, or" if minimum >= multiple else f"sides are multiples of {multiple}:"
        )
        raise ValueError(f"maximum is {maximum} and {least} raise maximum to {max(minimum, multiple)} or more.")
    height, width = mask.shape[-2:]
    if (empty := ~mask.flatten(1).any(dim=1)).any() and not empty.all():
        # Of a picture with nothing to remove the middle is cut out, and nothing is pasted back.
        mask = mask.clone()
        mask[empty, height // 2, width // 2] = 1
    objects, wanted = bounding_boxes(mask), bounding_boxes(mask, context)
    scale = max(1.0, minimum / height, minimum / width)
    if maximum is not None:
        limit = maximum // multiple * multiple
        scale = min(scale, limit / max(max(box[2:]) for box in wanted))
        minimum = min(minimum, limit)

    def side(axis: int, whole: int) -> tuple[int, int]:
        return _side(
            max(box[axis] for box in wanted), max(box[axis] for box in objects), whole, scale, multiple, minimum
        )

    (box_height, size_height), (box_width, size_width) = side(2, height), side(3, width)
    if scale < 1:
        # Where the picture has no room to round the short side up it is scaled down further: the long one then, too.
        scale = min(scale, size_height / box_height, size_width / box_width)
        (box_height, size_height), (box_width, size_width) = side(2, height), side(3, width)
    boxes = tuple(
        Box(
            min(max(box.top + (box.height - box_height) // 2, 0), height - box_height),
            min(max(box.left + (box.width - box_width) // 2, 0), width - box_width),
            box_height,
            box_width,
        )
        for box in objects
    )
    return Crop(boxes, (size_height, size_width))


def extract(image: Tensor, crop: Crop, mode: str) -> Tensor:
    """The boxes of image [B or 1, C, H, W] at the crop's size, [B, C, h, w]; `mode` "image" or "mask" (0 and 1)."""
    image = image.expand(len(crop.boxes), -1, -1, -1)
    return torch.stack(
        [_resize(_cut(sample, box)[None], crop.size, mode)[0] for sample, box in zip(image, crop.boxes, strict=True)]
    )


def paste_back(
    image: Tensor,
    result: Tensor,
    crop: Crop,
    mask: Tensor,
    feather_pixels: int = 8,
    match_colors: bool = True,
    ring: int = 32,
    register: bool = False,
) -> Tensor:
    """Put results into the pictures they were cut from.

    Args:
        image: [B, 3, H, W], the pictures.
        result: [B, 3, h, w] for the crop's boxes, of any size; resized to the box.
        mask: [B, H, W] of 0 and 1, where the result replaces the picture. It does not reach beyond the box.
        feather_pixels: width of the soft border outside the mask. Where the box ends inside the picture before the
            border does, the border is as narrow as that.
        match_colors: take the colour shift measured on a ring of `ring` pixels around the mask off the result.
        register: move each result back onto its picture first, where it lies beside it (`registration.align`).

    Returns:
        [B, 3, H, W]; equal to `image` bit for bit outside the mask and its soft border.

    Raises:
        ValueError: NaN or infinity in a result.
    """
    check_finite(result, "The result")
    out = image.clone()
    for sample, (box, part, hole) in enumerate(zip(crop.boxes, result, mask, strict=True)):
        before, hole = _cut(image[sample], box)[None], _cut(hole, box)[None]
        part = _resize(part[None], (box.height, box.width), "image").to(before)
        weight = feather(hole, feather_pixels, _room(box, *image.shape[-2:]))[:, None].to(before)
        if register:
            part = align(part, before, (weight[:, 0] > 0).to(before))
        if match_colors:
            part = match_color(part, before, (weight[:, 0] > 0).to(before), ring)
        _cut(out[sample], box).copy_(torch.where(weight > 0, torch.lerp(before, part, weight), before)[0])
    return out


def match_color(result: Tensor, original: Tensor, mask: Tensor, ring: int = 32) -> Tensor:
    """Take a smooth colour shift off a result.

    The difference to the original on a ring around the mask is split into a plane, which continues into the mask, and
    a rest that is spread inward with weights that fall with distance. Pixels that differ by more than 0.2 show other
    content, not a shift, and do not count.

    Args:
        result, original: [1, 3, H, W] in 0..1.
        mask: [1, H, W] of 0 and 1; outside of it result and original show the same.
        ring: width in pixels.

    Returns:
        [1, 3, H, W] in 0..1; the result itself where there is no ring to measure on.
    """
    around = (feather(mask, ring) > 0) & (mask == 0)
    difference = original - result
    # Not even 0 times NaN is a number, so pixels that are none are taken out before anything is weighed.
    difference = torch.where(difference.isfinite().all(dim=1, keepdim=True), difference, torch.inf)
    trusted = around[:, None] & (difference.abs().amax(dim=1, keepdim=True) < 0.2)
    difference, trusted = torch.where(trusted, difference, 0), trusted.to(result)
    if not trusted.any() or not difference.any():
        return result
    height, width = mask.shape[-2:]
    reduce = max(1.0, max(height, width) / 96)  # the correction is smooth: measure it coarsely
    small = (math.ceil(height / reduce), math.ceil(width / reduce))
    share = F.adaptive_avg_pool2d(trusted, small)
    mean = F.adaptive_avg_pool2d(difference, small) / share.clamp(min=1e-6)
    plane = _fit_plane(mean, share)
    rest = _spread((mean - plane) * share, share)
    correction = F.interpolate(plane + rest, (height, width), mode="bilinear")
    return (result + correction).clamp(0, 1)


def _side(wanted: int, covered: int, whole: int, scale: float, multiple: int, minimum: int) -> tuple[int, int]:
    """One side of the box in the picture, and of the size it is brought to."""
    size = math.ceil(round(max(wanted * scale, minimum) / multiple, 6)) * multiple
    if round(size / scale) <= whole:
        return round(size / scale), size
    # No room for the next multiple: the one below keeps native scale if the object still fits with a margin.
    size = math.floor(round(whole * scale / multiple, 6)) * multiple
    if size >= minimum and round(size / scale) >= min(covered + multiple, whole):
        return round(size / scale), size
    return whole, max(multiple, size if scale < 1 else round(whole * scale / multiple) * multiple)


def _room(box: Box, height: int, width: int) -> np.ndarray:
    """How far each pixel of a box is from the nearest outside of it, where the picture goes on."""

    def along(start: int, side: int, whole: int) -> np.ndarray:
        place = np.arange(side)
        before, after = (place + 1 if start else np.inf), (side - place if start + side < whole else np.inf)
        return np.minimum(before, after) * np.ones(side)

    return np.minimum(along(box.top, box.height, height)[:, None], along(box.left, box.width, width))


def _cut(image: Tensor, box: Box) -> Tensor:
    return image[..., box.top : box.top + box.height, box.left : box.left + box.width]


def _resize(part: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if tuple(part.shape[-2:]) == tuple(size):
        return part
    if mode == "mask":
        return resize_mask(part[:, 0], *size)[:, None]
    # In fp32: the antialiasing filter knows no half precision on a CPU.
    return F.interpolate(part.float(), size, mode="bicubic", antialias=True).clamp(0, 1).to(part)


def _fit_plane(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted least-squares plane a + b·x + c·y of values [1, 3, h, w], as [1, 3, h, w]."""
    height, width = values.shape[-2:]
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=values.device),
        torch.linspace(-1, 1, width, device=values.device),
        indexing="ij",
    )
    basis = torch.stack([torch.ones_like(x), x, y], dim=-1).reshape(-1, 3).double()
    weight = weights.reshape(-1, 1).double()
    normal = basis.T @ (weight * basis) + 1e-3 * weight.sum() * torch.diag(basis.new_tensor([0.0, 1.0, 1.0]))
    solution = torch.linalg.solve(normal, basis.T @ (weight * values.flatten(2)[0].T.double()))
    return (basis @ solution).T.reshape(1, -1, height, width).to(values)


def _spread(weighted: Tensor, weights: Tensor) -> Tensor:
    """Normalised convolution with Gaussians of growing width, the narrow ones weighing most: near the ring its own
    values, further in their average."""
    from kornia.filters import gaussian_blur2d

    total, norm = torch.zeros_like(weighted), torch.zeros_like(weights)
    longest = max(weights.shape[-2:])
    sigma, importance = 1.0, 1.0
    while sigma < 2 * longest:
        size = (_odd(sigma, weights.shape[-2]), _odd(sigma, weights.shape[-1]))
        total = total + importance * gaussian_blur2d(weighted, size, (sigma, sigma), "constant")
        norm = norm + importance * gaussian_blur2d(weights, size, (sigma, sigma), "constant")
        sigma, importance = 2 * sigma, importance / 8
    return total / norm.clamp(min=1e-12)


def _odd(sigma: float, side: int) -> int:
    return 2 * min(math.ceil(3 * sigma), side) + 1
