"""Exemplar fill: a hole filled with patches of the picture's own background, without any weights.

Wexler, Shechtman, Irani, "Space-Time Completion of Video" (PAMI 2007): the patches that touch the hole look for their
like among those of the background alone, and what they find votes for each pixel; from coarse to fine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 7
RADIUS = PATCH // 2


def exemplar_fill(
    image: Tensor,
    mask: Tensor,
    avoid: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Fills what `mask` marks with copies of the rest of each picture.

    Args:
        image: [B, 3, H, W] in 0..1.
        mask: [B, H, W], above 0.5 where the picture is to be filled.
        avoid: [B, H, W], above 0.5 where nothing may be copied from, such as the other objects.
        seed: of the random starts.
        progress: wraps the steps of the work, as tqdm does; it may raise to cancel.

    Returns:
        [B, 3, H, W], equal to `image` outside of the mask.

    Raises:
        ValueError: a picture without enough background to copy from.
    """
    hole = mask > 0.5
    barred = hole if avoid is None else hole | (avoid > 0.5)
    out = image.clone()
    for index in progress(range(len(image))):
        if hole[index].any():
            out[index] = _fill(image[index], hole[index].float(), barred[index].float())
    return out


def _fill(image: Tensor, mask: Tensor, barred: Tensor, work: int = 192) -> Tensor:
    _, height, width = image.shape
    rows, columns = mask.amax(1).nonzero()[:, 0], mask.amax(0).nonzero()[:, 0]
    reach = max(32, int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1))
    top, left = max(int(rows[0]) - reach, 0), max(int(columns[0]) - reach, 0)
    here = (slice(top, int(rows[-1]) + reach), slice(left, int(columns[-1]) + reach))
    crop, hole = image[:, here[0], here[1]], mask[here]
    known = 1 - barred[here]
    scale = min(1.0, work / min(hole.shape))
    sizes = [(round(hole.shape[0] * scale), round(hole.shape[1] * scale))]
    while min(sizes[-1]) > 40:
        sizes.append((round(sizes[-1][0] / 1.5), round(sizes[-1][1] / 1.5)))
    filled = None
    for size in reversed(sizes):
        weight = F.interpolate(known[None, None], size, mode="area")
        small = F.interpolate((crop * known)[None], size, mode="area") / weight.clamp(min=1e-4)
        gap = (weight[0, 0] < 0.999).float()
        start = small[0].mean((1, 2), keepdim=True) if filled is None else F.interpolate(filled[None], size)[0]
        filled = torch.where(gap > 0, start, small[0])
        for _ in range(6 if min(size) < 80 else 2):
            filled = _round(filled, gap)
    assert filled is not None
    large = F.interpolate(filled[None], hole.shape, mode="bicubic")[0].clamp(0, 1)
    out = image.clone()
    out[:, here[0], here[1]] = torch.where(hole > 0, large, crop)
    return out


def _round(image: Tensor, gap: Tensor) -> Tensor:
    height, width = gap.shape
    patches = F.unfold(F.pad(image[None], (RADIUS,) * 4, mode="reflect"), PATCH)[0].T
    touched = F.max_pool2d(gap[None, None], PATCH, 1, RADIUS).flatten() > 0
    sources = patches[~touched][:: max(1, int((~touched).sum()) // 8000)]
    if not len(sources):
        raise ValueError("The mask leaves no background to copy from: mark less, or give a larger picture.")
    queries = touched.nonzero()[:, 0]
    best = torch.cat([torch.cdist(part, sources).argmin(1) for part in patches[queries].split(4096)])
    votes = torch.zeros_like(patches).index_copy(0, queries, sources[best])
    counts = torch.zeros(height * width, PATCH * PATCH).to(image).index_fill(0, queries, 1.0)
    size = (height + 2 * RADIUS, width + 2 * RADIUS)
    inner = (..., slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))
    total, count = F.fold(votes.T[None], size, PATCH)[inner][0], F.fold(counts.T[None], size, PATCH)[inner][0]
    return torch.where(gap > 0, total / count.clamp(min=1), image)
