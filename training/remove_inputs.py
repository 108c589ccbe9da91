"""The files of `unclutter remove` read: the photo, what is to go from it, and what may not be copied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import regions
from ..kernels.crowd import check_people
from ..kernels.layers import joined, visible_masks
from ..kernels.people import counted, parse_order, parse_people
from .images.drawn_mask import read_drawn_mask
from .images.files import read_mask
from .images.instances import read_instances
from .images.photo import Photo, read_photo
from .settings import RemoveConfig


@dataclass(frozen=True)
class Inputs:
    """A photo and what is to go from it.

    Attributes:
        hole: [1, H, W] of 0 and 1, what is filled.
        people: [N, H, W] of 0 and 1, everyone who is told apart, not grown; of a mask, all that it marks as one.
        gone: who of them goes, from 0.
        order: everyone from back to front, or None as they came.
        avoid: [1, H, W] of 0 and 1, what may not be copied, those who stay among it, or None.
        line: tells what share of the photo is marked, and by what.
    """

    photo: Photo
    hole: Tensor
    people: Tensor
    gone: list[int]
    order: tuple[int, ...] | None
    avoid: Tensor | None
    line: str

    @property
    def share(self) -> float:
        return float(self.hole.mean())


def read_inputs(config: RemoveConfig) -> Inputs:
    """Read the files that the command names.

    Raises:
        ValueError, OSError: a file is missing or damaged, or the mask is none, or is empty, or covers everything, or who is
            to go is not there.
    """
    photo = read_photo(config.image)
    size = (photo.picture.shape[-2], photo.picture.shape[-1])
    barred = (
        None if config.avoid is None else regions.normalize_mask(read_mask(config.avoid), 1, *size, allow_empty=True)
    )
    if config.instances is not None:
        return _of_instances(config, photo, barred)
    assert config.mask is not None
    drawn = read_drawn_mask(config.mask, photo, config.image)
    marked = 1 - drawn.marked if config.invert else drawn.marked
    marked = regions.normalize_mask(marked, 1, *size)
    share = float(marked.mean())
    kept = ", inverted" if config.invert else ""
    line = f"{config.mask.name} marks {share:.1%} of {config.image.name}{f' by {drawn.reading}' if drawn.reading else ''}{kept}."
    if share > 0.5:
        line += " That is more than half: give --invert if it marks what is to stay, and look with --preview first."
    marked = regions.fill_holes(marked)
    hole = regions.grow(marked, percent=config.grow)
    try:
        hole = regions.normalize_mask(hole, 1, *size)
    except ValueError as error:
        raise ValueError(f"{line} {error}") from None
    return Inputs(photo, hole, marked, [0], None, barred, line)


def _of_instances(config: RemoveConfig, photo: Photo, barred: Tensor | None) -> Inputs:
    assert config.instances is not None
    masks = read_instances(config.instances, photo, config.image)
    count = len(masks)
    gone = parse_people("all" if config.remove is None else config.remove, count, "remove")
    if not gone:
        raise ValueError(f"remove is {config.remove!r}, so nobody goes: name people from 1 to {count}, or all.")
    order = parse_order(config.order, count) if config.order else None
    masks, holes = check_people(photo.picture[0], masks, config.grow)
    stay = [index for index in range(count) if index not in gone]
    seen = joined(visible_masks(masks, order), stay, masks[0])
    hole = (joined(holes, gone) * (1 - seen))[None]
    # A draft may copy nobody who stays, or there would be two of them.
    others = joined(masks, stay, masks[0])[None]
    barred = others if barred is None else barred.maximum(others)
    names = ", ".join(str(index + 1) for index in gone)
    line = (
        f"{config.instances.name} marks {counted(count, 'person', 'people')} in {config.image.name}; {names} "
        f"{'goes' if len(gone) == 1 else 'go'}, {float(hole.mean()):.1%} of it."
    )
    return Inputs(photo, hole, masks, gone, order, barred, line)


def in_red(inputs: Inputs) -> Tensor:
    """The photo [1, 3, H, W] with its hole in red."""
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return torch.where(inputs.hole[:, None] > 0, torch.lerp(inputs.photo.picture, red, 0.6), inputs.photo.picture)
