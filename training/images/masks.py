"""Masks made smaller, larger, convex, or moved."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, find_objects, label
from scipy.spatial import ConvexHull
from torch import Tensor


def shrink(mask: Tensor, share: float) -> Tensor:
    """The `share` of a mask [H, W] that lies farthest from its border."""
    marked = mask.cpu().numpy() > 0
    # The picture's edge is no border of the mask.
    depth = distance_transform_edt(np.pad(marked, 1, mode="edge"))[1:-1, 1:-1]
    places = np.flatnonzero(marked)
    dropped = len(places) - max(1, round(share * len(places)))
    outermost = places[np.argsort(depth.ravel()[places], kind="stable")[:dropped]]
    left = marked.copy()
    left.ravel()[outermost] = False
    return torch.from_numpy(left).to(mask)


def convex_hulls(mask: Tensor) -> Tensor:
    """Each connected part of a mask [H, W] filled up to its convex hull."""
    labels, _ = label(mask.cpu().numpy() > 0, structure=np.ones((3, 3)))
    filled = np.zeros(labels.shape, bool)
    for number, extent in enumerate(find_objects(labels), start=1):
        rows, columns = np.nonzero(labels[extent] == number)
        # Middles of the pixels' sides, so that the hull of a single pixel or of a line has an area too.
        sides = [(rows + y, columns + x) for y, x in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]
        hull = ConvexHull(np.concatenate([np.stack(side, axis=1) for side in sides]))
        height, width = (side.stop - side.start for side in extent)
        centres = np.indices((height, width)).transpose(1, 2, 0)
        inside = (centres @ hull.equations[:, :2].T + hull.equations[:, 2] <= 1e-9).all(axis=-1)
        filled[extent] |= inside
    return torch.from_numpy(filled).to(mask)


def dilate(mask: Tensor, side: int) -> Tensor:
    """A mask [H, W] dilated by a square of an odd side."""
    return F.max_pool2d(mask[None, None], side, stride=1, padding=side // 2)[0, 0]


def move(mask: Tensor, down: int, across: int) -> Tensor:
    """A mask [H, W] moved; what comes in from outside the picture is 0."""
    height, width = mask.shape
    moved = F.pad(mask, (max(across, 0), max(-across, 0), max(down, 0), max(-down, 0)))
    return moved[max(-down, 0) :, max(-across, 0) :][:height, :width]
