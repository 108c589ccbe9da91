"""The pictures of a run: read from their files, brought to one size where that is asked for, and told apart by digests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ....kernels.regions import fill_holes, grow, normalize_mask, resize_mask
from ...data.public.cases import PhotoCase
from ...images.files import Packed, read_image, read_mask
from .contestants import MaskGiven

NEAR = 0.02
"""Share of a side by which a truth, or a picture that another program made, may differ in shape and still be scaled."""


@dataclass(frozen=True)
class Picture:
    """A picture to remove something from; every tensor has one row.

    Attributes:
        before: [1, 3, H, W] in 0..1, with the object.
        mask: [1, H, W] of 0 and 1, what is to go.
        truth: [1, 3, H, W], the picture without the object.
        effects: [1, H, W] of 0 and 1, shadow and reflection outside of the mask.
    """

    case: PhotoCase
    before: Tensor
    mask: Tensor
    truth: Tensor | None
    effects: Tensor | None

    def given(self, kind: MaskGiven, percent: float) -> Tensor:
        """The mask [1, H, W] that a method is given: the object, or the object and its effects, grown or shrunk.

        Raises:
            ValueError: the effects are not known, or nothing is left of the mask, or nothing of the picture.
        """
        mask = self.mask
        if kind == "effect":
            if self.effects is None:
                raise ValueError("It has no mask of shadow and reflection, which mask=effect needs.")
            mask = mask.maximum(self.effects)
        grown = grow(fill_holes(mask), percent=percent)
        try:
            return normalize_mask(grown, 1, *grown.shape[-2:])
        except ValueError as error:
            raise ValueError(f"Its mask, changed by {percent:g} %: {error}") from None


def read_picture(case: PhotoCase, size: int | None, square: bool) -> Picture:
    """Read a case, scaled to `size` on its longer side or, where `square`, to size × size.

    Raises:
        ValueError, OSError: a file is missing or damaged, or the mask or the truth does not suit the picture.
    """
    before = read_image(case.picture)
    shape = before.shape[-2], before.shape[-1]
    mask = normalize_mask(read_mask(case.mask), 1, *shape)
    truth = None if case.truth is None else fitted(read_image(case.truth), shape, "The picture without the object")
    effects = None
    if case.effects is not None:
        effects = normalize_mask(read_mask(case.effects), 1, *shape, allow_empty=True, allow_full=True) * (1 - mask)
    target = shape
    if size is not None and square:
        target = size, size
    elif size is not None and max(shape) > size:
        target = round(shape[0] * size / max(shape)), round(shape[1] * size / max(shape))
    if target != shape:
        mask = resize_mask(mask, *target)
        effects = None if effects is None else resize_mask(effects, *target) * (1 - mask)
        before, truth = scaled(before, target), None if truth is None else scaled(truth, target)
    return Picture(case, before, mask, truth, effects)


def fitted(picture: Tensor, shape: tuple[int, int], what: str) -> Tensor:
    """A picture [1, 3, h, w] at a size (height, width) that it is nearly in the shape of.

    Raises:
        ValueError: it has another shape.
    """
    height, width = picture.shape[-2:]
    if abs(height * shape[1] / (width * shape[0]) - 1) > NEAR:
        raise ValueError(f"{what} is {width}×{height} for a picture of {shape[1]}×{shape[0]}: expected the same shape.")
    return scaled(picture, shape)


def scaled(picture: Tensor, shape: tuple[int, int]) -> Tensor:
    """A picture [1, 3, h, w] at another size (height, width); bicubic."""
    if tuple(picture.shape[-2:]) == shape:
        return picture
    return F.interpolate(picture, shape, mode="bicubic", antialias=True).clamp(0, 1)


def digests(case: PhotoCase) -> dict[str, str]:
    """A digest of each file of a case, by what it is.

    Raises:
        OSError: a file is missing.
    """
    files = {"picture": case.picture, "mask": case.mask, "truth": case.truth, "effects": case.effects}
    return {kind: digest(file) for kind, file in files.items() if file is not None}


def digest(file: Path | Packed) -> str:
    """A digest of the bytes of a file."""
    if isinstance(file, Path):
        return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
    with file.open() as opened:
        return hashlib.blake2b(opened.read(), digest_size=8).hexdigest()


def written(picture: Tensor) -> Tensor:
    """A picture as it is in a file of 8 bits."""
    return torch.round(picture.clamp(0, 1) * 255) / 255


def facts(picture: Picture) -> dict[str, float]:
    """Facts that decide which method suits a picture: the share that is marked, and how busy the surroundings of the hole are (the
    standard deviation of their brightness, in 0..1)."""
    side = max(2.0, 0.05 * min(picture.mask.shape[-2:]))
    ring = (grow(picture.mask, pixels=side) - picture.mask)[0] > 0
    grey = picture.before[0].mean(dim=0)
    busy = grey[ring].std().item() if ring.sum() > 1 else 0.0
    return {"marked": round(picture.mask.mean().item(), 5), "ground": round(busy, 5)}
