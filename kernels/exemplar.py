"""Exemplar fill: a hole filled with copies of the picture's own background, without any weights.

Each pixel of the hole is copied from a place a shift away, and few shifts do: those by which the picture resembles
itself (He and Sun, "Statistics of Patch Offsets for Image Completion", ECCV 2012). Expansion moves
choose one for each pixel of a small copy of the picture, so that the copies meet without a seam; this file brings that
choice up to full size, moves each piece and then each seam to where it fits best, and evens out the colours where pieces
meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .continuation import continuation_costs
from .expansion import expand
from .patch_offsets import dominant_shifts
from .regions import around
from .seamless import blend_seams, pull_push
from .shift_map import DISTANCE_WEIGHT, Level, align, compose, cover_all, unary_costs

COARSE_PIXELS, LEVEL_PIXELS = 6400, 90_000
"""Pixels of the hole and of its surroundings, at most, at the size at which shifts are chosen."""
LEAST_SIDE = 36
"""Shortest side to which a picture is reduced: below it there are too few patches to learn shifts from."""
UNIFORM, NEAR = 60, 40
"""Shifts taken from patches all over the picture, and from those beside the hole."""
REACH = 3
"""How far seams may move at each finer size, in its pixels."""
SWEEPS, PARTS = 2, 8
STAGES = 1 + SWEEPS * PARTS + 2
"""Steps of the work on one picture, between which `progress` is told and may cancel."""


def exemplar_fill(
    image: Tensor,
    mask: Tensor,
    avoid: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Fills what a mask marks with copies of the rest of each picture.

    The time follows the hole and not the picture. The same input and seed give the same picture.

    Args:
        image: [B, 3, H, W] in 0..1.
        mask: [B, H, W], above 0.5 where the picture is to be filled.
        avoid: [B, H, W], above 0.5 where nothing may be copied from, such as the other objects.
        seed: of the order in which shifts are tried: another one gives another draft.
        progress: wraps the steps of the work, as tqdm does; it may raise to cancel.

    Returns:
        [B, 3, H, W], equal to `image` outside of the mask.

    Raises:
        ValueError: a picture without background to copy from.
    """
    hole = mask > 0.5
    barred = hole if avoid is None else hole | (avoid > 0.5)
    filled = image.clone()
    wanted = [index for index in range(len(image)) if hole[index].any()]
    work = (step for index in wanted for step in _fill(filled[index], hole[index], ~barred[index], seed))
    for _ in progress(range(STAGES * len(wanted))):
        next(work, None)
    return filled


def _fill(image: Tensor, hole: Tensor, known: Tensor, seed: int) -> Iterator[None]:
    """Fills a picture [3, H, W] in place, in `STAGES` steps."""
    rows, columns = (side.nonzero()[:, 0] for side in (hole.any(1), hole.any(0)))
    longest = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
    here = around(hole.float(), max(longest, 48))
    if not known[here].any():
        here = (slice(None), slice(None))
    # A piece is judged a little beyond its own pixels too, and there the object must not be seen.
    guess = pull_push(image[(slice(None), *here)].float(), ~hole[here])
    levels = _pyramid(Level(guess, hole[here], known[here]))
    level = levels[-1]
    shifts = cover_all(level, dominant_shifts(level, UNIFORM, NEAR), seed)
    costs = unary_costs(level, shifts) + continuation_costs(level, shifts)
    labels = torch.zeros_like(level.hole, dtype=torch.long)
    labels[level.hole] = costs.argmin(0)
    yield
    generator = torch.Generator().manual_seed(seed)
    tried = torch.randperm(len(shifts), generator=generator)
    for _ in range(SWEEPS):
        for part in tried.tensor_split(PARTS):
            labels = expand(level, shifts, costs, labels, part.tolist())
            yield
        tried = labels[level.hole].unique().cpu()  # once more those alone that anything took
    for halvings, level in reversed(list(enumerate(levels[:-1]))):
        labels = labels.repeat_interleave(2, 0).repeat_interleave(2, 1)
        used, places = labels[level.hole].unique(return_inverse=True)
        labels = torch.zeros_like(labels).masked_scatter(level.hole, places)
        shifts = align(level, 2 * shifts[used], labels)
        # With each doubling the pixels become four times as many, and those along a seam twice as many.
        costs = unary_costs(level, shifts, DISTANCE_WEIGHT / 2 ** (len(levels) - 1 - halvings))
        labels = expand(level, shifts, costs, labels, range(len(shifts)), REACH)
    yield
    level = levels[0]
    copied = blend_seams(compose(level, shifts, labels), level, shifts, labels)
    size = hole[here].shape
    image[(slice(None), *here)] = torch.where(
        hole[here], copied[:, : size[0], : size[1]].clamp(0, 1).to(image), image[(slice(None), *here)]
    )
    yield


def _pyramid(level: Level) -> list[Level]:
    """The picture at full size, a half, a quarter, ... until the hole is small. The sides are padded to even numbers of
    cells, with pixels that belong to nothing."""
    excess = max(int(level.hole.sum()) / COARSE_PIXELS, level.hole.numel() / LEVEL_PIXELS, 1)
    halvings = math.ceil(math.log(excess, 4))
    while halvings and min(level.hole.shape) / 2**halvings < LEAST_SIDE:
        halvings -= 1
    height, width = level.hole.shape
    pad = (0, -width % 2**halvings, 0, -height % 2**halvings)
    levels = [Level(F.pad(level.image, pad), F.pad(level.hole, pad), F.pad(level.known, pad))]
    for _ in range(halvings):
        levels.append(levels[-1].halved())
    return levels
