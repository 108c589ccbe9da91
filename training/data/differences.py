"""The pixels that an edit changed, and whether it may train a removal: the pixel side of SAVP.

OSOR, arXiv 2606.28094, §3.1 and supplement A; where the text leaves a choice open, as the authors' code makes it.
Boxes are (left, top, right, bottom) in pixels, right and bottom outside; masks are bool [H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from kornia.color import rgb_to_grayscale
from kornia.filters import sobel
from kornia.morphology import closing, opening
from scipy.ndimage import binary_fill_holes, distance_transform_edt, find_objects, label
from torch import Tensor

from .lab import lab_in_bytes
from .settings import Constants

Corners = tuple[float, float, float, float]
EIGHT = np.ones((3, 3))
"""Pixels that touch at a corner are connected."""


class Rejection(Exception):
    """A pair must not train a removal.

    Attributes:
        reason: one of `REASONS`.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


REASONS = (
    "input",
    "no_change",
    "too_many_regions",
    "noise",
    "nothing_named",
    "overflow",
    "background_collapse",
    "no_match",
)
"""Why pairs are rejected: files or instruction at fault; nothing changed; the change is in too many places, or
scattered; the instruction's object is not found; the change is much larger than it, on it, or beside it; or elsewhere."""


class Region(NamedTuple):
    """A connected part of a mask."""

    box: tuple[int, int, int, int]
    area: int
    label: int


def heat_map(shot: Tensor, background: Tensor, constants: Constants) -> np.ndarray:
    """How much each pixel differs: weighted log-luminance, colour and gradient, each relative to its own 99th percentile.

    Args:
        shot: [1, 3, H, W] in 0..1, with the object.
        background: as shot, without.

    Returns:
        float32 [H, W] in 0..1.
    """
    (light, colour, edges), (other_light, other_colour, other_edges) = _features(shot), _features(background)
    heat = (
        constants.luminance_weight * _relative(light - other_light)
        + constants.chromaticity_weight * _relative(torch.linalg.vector_norm(colour - other_colour, dim=0))
        + constants.gradient_weight * _relative(edges - other_edges)
    )
    return heat.clip(0, 1)


def changed_mask(heat: np.ndarray, constants: Constants) -> np.ndarray:
    """The pixels whose heat is above its threshold, cleaned of specks and pinholes: bool [H, W]."""
    return clean(heat > constants.heat_threshold, constants)


def clean(mask: np.ndarray, constants: Constants) -> np.ndarray:
    """Open, close, drop small regions, fill small holes: bool [H, W]."""
    offsets = torch.arange(-constants.disk_radius, constants.disk_radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= constants.disk_radius**2).float()
    smooth = closing(opening(torch.from_numpy(mask)[None, None].float(), disk), disk)[0, 0].numpy() > 0.5
    large = _select(smooth, lambda area: area >= constants.min_area)
    return large | _select(binary_fill_holes(large) & ~large, lambda area: area <= constants.max_hole_area)


def regions(mask: np.ndarray) -> tuple[list[Region], np.ndarray]:
    """The connected regions of a mask, the largest first, and the pixels' labels, [H, W]."""
    labels, _ = label(mask, structure=EIGHT)
    areas = np.bincount(labels.ravel())
    found = [
        Region((across.start, down.start, across.stop, down.stop), int(areas[index]), index)
        for index, (down, across) in enumerate(find_objects(labels), start=1)
    ]
    return sorted(found, key=lambda region: -region.area), labels


def main_regions(mask: np.ndarray, constants: Constants) -> list[Region]:
    """The regions that an edit of one thing may have left, the largest first.

    Raises:
        Rejection: nothing changed, or too much in too many places.
    """
    found, _ = regions(mask)
    if not found:
        raise Rejection("no_change", f"no region of {constants.min_area} pixels or more changed")
    main = [region for region in found if region.area >= constants.main_share * found[0].area]
    if len(main) > constants.max_regions:
        raise Rejection(
            "too_many_regions", f"{len(main)} main regions changed, expected at most {constants.max_regions}"
        )
    noise = 1 - sum(region.area for region in main) / mask.sum()
    if noise > constants.max_noise:
        raise Rejection(
            "noise",
            f"{noise:.0%} of the change is outside of its main regions, expected at most {constants.max_noise:.0%}",
        )
    return main


def match_boxes(candidates: list[Corners], semantic: list[Corners], constants: Constants) -> list[Corners]:
    """The candidates that lie on something the instruction names.

    Args:
        candidates: boxes of the main regions, the largest first.
        semantic: boxes of what the instruction names.

    Raises:
        Rejection: there are no semantic boxes, a candidate is far larger than its own, or none has one.
    """
    if not semantic:
        raise Rejection("nothing_named", "nothing in the picture is found that the instruction names")
    kept = []
    for candidate in candidates:
        best = max(semantic, key=lambda box: _iou(candidate, box))
        iou, scale = _iou(candidate, best), _area(candidate) / max(_area(best), 1)
        if iou > 0 and scale > constants.max_scale:
            reason, where = ("overflow", "on") if iou >= constants.min_iou else ("background_collapse", "around")
            raise Rejection(
                reason,
                f"a region {scale:.1f} times as large as the named object changed {where} it, expected at most "
                f"{constants.max_scale:g} times",
            )
        if iou >= constants.min_iou:
            kept.append(candidate)
    if not kept:
        raise Rejection("no_match", "what changed is not where the named object is")
    return kept


def regions_in(mask: np.ndarray, kept: list[Corners], constants: Constants) -> np.ndarray:
    """The regions of a mask that the kept boxes cover: bool [H, W]. Small ones inside of a box stay, too."""
    found, labels = regions(mask)
    # The authors divide the overlap of the boxes by the region's pixels, not by its box.
    inside = [
        region.label
        for region in found
        if any(_overlap(region.box, box) > constants.keep_overlap * region.area for box in kept)
    ]
    return np.isin(labels, inside)


def grow_area(mask: np.ndarray, ratio: float) -> np.ndarray:
    """A mask grown by equal distance on all sides until its area is at least `ratio` times what it was: bool [H, W]."""
    add = int(mask.sum() * ratio) - int(mask.sum())
    distances = distance_transform_edt(~mask)[~mask] if mask.any() else np.empty(0)
    if add <= 0 or not distances.size:
        return mask
    if add >= distances.size:
        return np.ones_like(mask)
    grown = mask.copy()
    grown[~mask] = distances <= np.partition(distances, add - 1)[add - 1]
    return grown


def split_effect(mask: np.ndarray, core: np.ndarray, constants: Constants) -> tuple[np.ndarray, float]:
    """The part of an effect-aware mask beyond the object, and its area over the object's.

    The authors' code measures both against the core grown by `dilation`, so that its soft edge is no effect; Eq. 2 of the
    paper does not grow it. A pair whose core is empty has no effect ratio: it is 0.
    """
    grown = grow_area(core, constants.dilation)
    effect = clean(mask & ~grown, constants)
    return effect, float(effect.sum() / grown.sum()) if grown.any() else 0.0


def bounding_box(mask: np.ndarray) -> Corners:
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _features(picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # In 8 bits at each step, as OpenCV does it: the weights and the threshold were chosen on these.
    lab = lab_in_bytes((picture[0] ** 2.2 * 255).floor())
    return (lab[0] / 2.55 + 1e-3).log(), lab[1:], sobel(rgb_to_grayscale(picture) * 255, normalized=False)[0, 0]


def _relative(difference: Tensor) -> np.ndarray:
    values = difference.abs().numpy()
    positive = values[values > 0]
    return (values / (np.percentile(positive, 99) + 1e-3)).clip(0, 1) if positive.size else values


def _select(mask: np.ndarray, wanted: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The connected regions whose areas are wanted."""
    labels, _ = label(mask, structure=EIGHT)
    chosen = wanted(np.bincount(labels.ravel()))
    chosen[0] = False
    return chosen[labels]


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(one: Corners, other: Corners) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _iou(one: Corners, other: Corners) -> float:
    shared = _overlap(one, other)
    return shared / max(_area(one) + _area(other) - shared, 1e-9)
