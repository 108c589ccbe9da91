"""People in a picture on their way through a network: whose layer is needed, what each row makes and is shown, and its
result back in the picture (MILD)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import regions, seams
from .finite import PICTURE, check_finite
from .layers import context_masks
from .people import parse_people

GREY = 0.5
"""The grey that a row sees in place of what is hidden from it."""
SAME = 0.95
"""Two masks with this share of their area in common are of one person."""


def check_people(picture: Tensor, masks: Tensor, grow_percent: float) -> tuple[Tensor, Tensor]:
    """The masks of the people in a picture, and what is filled where each of them goes.

    Args:
        picture: [3, H, W] in 0..1.
        masks: [N, h, w] or [h, w] in 0..1, of the picture's shape at any scale.
        grow_percent: by how much of its own size each mask is grown to its hole.

    Returns:
        Masks and holes, both [N, H, W] of 0 and 1.

    Raises:
        ValueError: NaN, no mask, an empty one, one of everything, two of one person, or holes that leave nothing.
    """
    check_finite(picture, "The picture", PICTURE)
    if masks.ndim == 3 and len(masks) == 0:
        raise ValueError("No masks came: the detector found nobody, so connect one mask per person.")
    count = 1 if masks.ndim == 2 else len(masks)
    height, width = picture.shape[-2:]
    masks = regions.normalize_mask(masks.to(picture.device), count, height, width, allow_full=True)
    if full := masks.flatten(1).all(dim=1).nonzero().flatten().tolist():
        raise ValueError(
            f"{f'Mask {full[0] + 1} of {count}' if count > 1 else 'The mask'} covers the whole picture and leaves nothing to "
            "fill it from: mark only the person, or invert it if white marks what to keep."
        )
    flat = masks.flatten(1)
    common = flat @ flat.T
    areas = common.diagonal()
    overlap = (common / (areas[:, None] + areas - common)).triu(1)
    if bool((overlap > SAME).any()):
        first, second = (overlap > SAME).nonzero()[0].tolist()
        raise ValueError(
            f"Masks {first + 1} and {second + 1} mark the same person ({overlap[first, second]:.0%} of their area in common): "
            "remove one of them."
        )
    holes = regions.grow(masks, percent=grow_percent)
    if holes.amax(dim=0).all():
        raise ValueError(
            "Together the masks cover the whole picture and leave nothing to fill it from: lower grow_percent, or give "
            "masks that mark only the people."
        )
    return masks, holes


def chosen_layers(keep: str, masks: Tensor) -> tuple[set[int], list[int]]:
    """The people whom `keep` names, nobody for "any", and those whose layer is needed: somebody who may go can hide a part
    of them.

    Who lies in front is not known yet, so whose masks [N, H, W] overlap counts. Where everyone is named, anyone may go.
    """
    everyone = set(range(len(masks)))
    undecided = keep.strip().lower() == "any"
    kept = everyone if undecided else set(parse_people(keep, len(masks), "keep"))
    chosen = layers_needed(kept, masks)
    return set() if undecided else kept, chosen


def layers_needed(kept: set[int], masks: Tensor) -> list[int]:
    """The people among the `kept` of whom a mask [N, H, W] of others covers a part: of all others where everyone is kept, as
    anyone may go then."""
    everyone = set(range(len(masks)))
    others = context_masks(masks) if kept == everyone else masks[sorted(everyone - kept)].sum(dim=0).expand_as(masks)
    return [k for k in sorted(kept) if bool((masks[k] * others[k]).any())]


def row_regions(masks: Tensor, holes: Tensor, chosen: list[int]) -> tuple[Tensor, Tensor]:
    """Masks of what each row makes, and of what it is not shown: masks and holes [N, H, W] -> twice [len(chosen) + 1, H, W] of 0 and 1.

    A person makes themselves and is not shown the others; the background, which comes last, makes what is behind all of
    them and is shown nobody.
    """
    union = holes.amax(dim=0, keepdim=True)
    return torch.cat([masks[chosen], union]), torch.cat([context_masks(holes)[chosen], union])


def cut(pictures: Tensor, crop: seams.Crop, mode: str) -> Tensor:
    """The one box of a crop out of masks [N, H, W] ("mask") or pictures [N, C, H, W] ("image")."""
    several = seams.Crop(crop.boxes * len(pictures), crop.size)
    if mode == "image":
        return seams.extract(pictures, several, mode)
    if len(pictures) == 0:
        return pictures.new_zeros(0, *crop.size)
    return seams.extract(pictures[:, None], several, mode)[:, 0]


def into_picture(picture: Tensor, result: Tensor, crop: seams.Crop, row: list[Tensor] | None) -> Tensor:
    """A result [3, h, w] of the crop in the picture [3, H, W]; with what of it was generated and what was greyed out, both
    [H, W], in the colours that lie around it."""
    (box,) = crop.boxes
    window = (..., slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
    inside = torch.zeros_like(picture[:1])
    inside[window] = 1
    whole = seams.paste_back(picture[None], result[None].to(picture), crop, inside, 0, match_colors=False)[0]
    if row is not None:
        area, hidden = (mask[window][None] for mask in row)
        shown = torch.where(hidden > 0, GREY, picture[window])
        whole[window] = seams.match_color(whole[window][None], shown[None], area)[0]
    return whole.clamp(0, 1)
