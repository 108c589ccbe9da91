"""Expansion moves on shift maps: Boykov, Veksler, Zabih, "Fast Approximate Energy Minimization via Graph Cuts" (PAMI 2001).

The graph cuts run on the CPU, by scipy: each sees a few thousand pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .regions import around
from .shift_map import IMPOSSIBLE, Level, neighbours

GRADIENT_WEIGHT = 2.0
"""Weight of the derivatives against the colours in the cost of a seam, so that edges meet edges."""


def expand(
    level: Level, shifts: Tensor, costs: Tensor, labels: Tensor, tried: Sequence[int], reach: int | None = None
) -> Tensor:
    """Expansion moves: for each of the labels `tried`, the pixels of the hole that lower the energy most by taking it,
    all at once, take it.

    The energy is that of the pixels (`costs`) and of the seams: where neighbours a and b take the shifts s and t, how much
    the picture differs between a + s and a + t, and between b + s and b + t, in colour and in its derivatives.

    Args:
        costs: [K, pixels of the hole], see `unary_costs`.
        labels: int [h, w]; what it holds beyond the hole does not count.
        reach: only pixels that are at most so far from one that has the label may take it: seams move, no new pieces
            come. None for all.

    Returns:
        int [h, w], the labels after the moves; their energy is never higher than before.
    """
    pixels = level.hole.nonzero().cpu()
    number = torch.full(level.hole.shape, -1)
    number[tuple(pixels.T)] = torch.arange(len(pixels))
    pairs = torch.stack(neighbours(number))
    features, unary, offsets = _features(level).cpu(), costs.cpu(), shifts.cpu()
    current, everything = labels[level.hole].cpu(), torch.arange(len(pixels))
    hole = level.hole[around(level.hole.float(), 0)].cpu()
    piece = torch.zeros(hole.shape)
    for label in tried:
        free = (unary[label] < IMPOSSIBLE) & (current != label)
        if reach is not None:
            piece[hole] = (current == label).float()
            free &= F.max_pool2d(piece[None], 2 * reach + 1, 1, reach)[0][hole] > 0
        if not free.any():
            continue
        first, second = pairs[:, free[pairs].any(0)]
        a, b, new = current[first], current[second], current.new_tensor(label)
        both_stay = second_takes = first_takes = torch.zeros(len(first))
        for end in (first, second):
            by_a, by_b, by_new = (_at_rows(features, pixels[end] + offsets[shift]) for shift in (a, b, new))
            both_stay = both_stay + _distance(by_a, by_b)
            second_takes = second_takes + _distance(by_a, by_new)
            first_takes = first_takes + _distance(by_new, by_b)
        both = free[first] & free[second]
        change = unary[label] - unary[current, everything]
        taking = change.index_add(0, first, first_takes - both_stay)
        taking = taking.index_add(0, second, torch.where(both, -first_takes, second_takes - both_stay))
        parting = (second_takes + first_takes - both_stay)[both].clamp(min=0)
        place = free.cumsum(0) - 1
        takes = torch.zeros_like(free)
        takes[free] = _minimum_cut(taking[free], place[first[both]], place[second[both]], parting)
        seams = torch.where(takes[first], torch.where(takes[second], 0.0, first_takes), both_stay)
        seams = torch.where(takes[second] & ~takes[first], second_takes, seams)
        if change[takes].double().sum() + (seams - both_stay).double().sum() < 0:
            current = torch.where(takes, label, current)
    out = labels.clone()
    out[level.hole] = current.to(labels.device)
    return out


def _minimum_cut(taking: Tensor, first: Tensor, second: Tensor, parting: Tensor) -> Tensor:
    """The pixels that take the label, bool [n]: the minimum of Σ taking over those that do, and of `parting` over the pairs
    of which the second does and the first does not."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    count = len(taking)
    gain = (taking.double() * 1000).round().clamp(-1e8, 1e8).numpy().astype(np.int32)
    weight = (parting.double() * 1000).round().clamp(max=1e8).numpy().astype(np.int32)
    pixels, source, sink = np.arange(count), np.full(count, count), np.full(count, count + 1)
    ends = (np.concatenate([first, source, pixels]), np.concatenate([second, pixels, sink]))
    edges = tuple(end.astype(np.int32) for end in ends)  # scipy 1.11 takes no others
    graph = csr_array(
        (np.concatenate([weight, gain.clip(min=0), (-gain).clip(min=0)]), edges), shape=(count + 2, count + 2)
    )
    graph.eliminate_zeros()
    left = graph - maximum_flow(graph, count, count + 1).flow
    left.data = left.data.clip(min=0)
    left.eliminate_zeros()
    takes = torch.ones(count + 2, dtype=torch.bool)
    takes[torch.from_numpy(breadth_first_order(left, count, return_predecessors=False).astype(np.int64))] = False
    return takes[:count]


def _features(level: Level) -> Tensor:
    """Colours and derivatives, [h, w, 9]; a derivative into the hole is zero, as it is not known."""
    right = (level.image[:, :, 1:] - level.image[:, :, :-1]) * ~(level.hole[:, 1:] | level.hole[:, :-1])
    down = (level.image[:, 1:] - level.image[:, :-1]) * ~(level.hole[1:] | level.hole[:-1])
    right, down = GRADIENT_WEIGHT * F.pad(right, (0, 1)), GRADIENT_WEIGHT * F.pad(down, (0, 0, 0, 1))
    return torch.cat([level.image, right, down]).permute(1, 2, 0).contiguous()


def _at_rows(image: Tensor, places: Tensor) -> Tensor:
    """image [h, w, C] at places [N, 2], those beyond its sides at the nearest pixel: [N, C]."""
    height, width = image.shape[:2]
    place = places[:, 0].clamp(0, height - 1) * width + places[:, 1].clamp(0, width - 1)
    return image.view(height * width, -1)[place]


def _distance(some: Tensor, others: Tensor) -> Tensor:
    """Between rows, [N]; faster than a norm where rows are short."""
    return ((some - others).square() @ some.new_ones(some.shape[1])).sqrt()
