"""A low-rank branch for each row of a batch: rows with different LoRAs go through one call of one network (MILD, Eq. 1).

    y_b = W x_b + s_c · U_c D_c x_b    with c the branch of row b

No weight is patched or swapped. All branches of all projections that share an input go down in one product, each row
keeps what its own branch gave, and each projection has one product up. So no row costs a copy of its factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PERSON, BACKGROUND = 0, 1
"""MILD's branches: one LoRA that all instances share, and the background's own."""


class LowRank(NamedTuple):
    """The branches of one projection.

    Attributes:
        down: [branches, r, in].
        up: [branches, out, r], the scale of each branch multiplied in.
    """

    down: Tensor
    up: Tensor


class Joined(NamedTuple):
    """Some branches of the projections of one input, side by side.

    Attributes:
        down: [projections · branches · r, in].
        ups: [branches · r, out] of each projection.
    """

    down: Tensor
    ups: tuple[Tensor, ...]

    def to(self, like: Tensor) -> Joined:
        return Joined(self.down.to(like), tuple(up.to(like) for up in self.ups))


def stack_branches(branches: Sequence[tuple[Tensor, Tensor, float | Tensor] | None]) -> LowRank:
    """The branches (down [r, in], up [out, r], scale) of one projection, differentiable in all three.

    Ranks may differ, the smaller ones are filled up with zeros; None is a branch that changes nothing here.

    Raises:
        ValueError: there is no branch at all, or they are of projections of different shapes.
    """
    found = [branch for branch in branches if branch is not None]
    shapes = {(up.shape[0], down.shape[1]) for down, up, _ in found}
    if len(shapes) != 1:
        raise ValueError(f"The branches are of projections of {len(shapes)} shapes {sorted(shapes)}, expected one.")
    rank = max(len(down) for down, _, _ in found)
    first_down, first_up, _ = found[0]
    absent = (first_down.new_zeros(0, first_down.shape[1]), first_up.new_zeros(len(first_up), 0), 1.0)
    filled = [absent if branch is None else branch for branch in branches]
    down = torch.stack([F.pad(down, (0, 0, 0, rank - len(down))) for down, _, _ in filled])
    up = torch.stack([F.pad(up * scale, (0, rank - up.shape[1])) for _, up, scale in filled])
    return LowRank(down, up)


def join(projections: Sequence[LowRank], branches: Sequence[int]) -> Joined:
    """These branches, in order, of projections that share an input."""
    chosen = slice(branches[0], branches[-1] + 1)
    rank = max(projection.down.shape[1] for projection in projections)
    down = [F.pad(pair.down[chosen], (0, 0, 0, rank - pair.down.shape[1])) for pair in projections]
    ups = [F.pad(pair.up[chosen], (0, rank - pair.up.shape[2])) for pair in projections]
    return Joined(torch.stack(down).flatten(0, 2), tuple(up.mT.flatten(0, 1) for up in ups))


def row_selection(rows: Tensor) -> tuple[tuple[int, ...], Tensor | None]:
    """The branches that rows [B] (long) take, for `join`, and which of them is each row's, for `add_branches`: [B,
    branches] of 0 and 1, or None where all take the same. Give them on the CPU: reading them from a device waits for it."""
    first, last = torch.stack(rows.aminmax()).tolist()
    branches = tuple(range(first, last + 1))
    return branches, None if first == last else F.one_hot(rows - first, len(branches))


def add_branches(projected: Sequence[Tensor], x: Tensor, joined: Joined, selection: Tensor | None) -> list[Tensor]:
    """The results of projections of one input with the LoRA of each row merged into them.

    Args:
        projected: [B, N, out] of each, the outputs that all rows share.
        x: [B, N, in], the input.
        selection: as `row_selection` gives it for the branches that were joined.

    Returns:
        [B, N, out] of each, in the dtype of `projected`.
    """
    low = F.linear(x.to(projected[0]), joined.down.to(projected[0]))
    if selection is not None:
        branches = low.unflatten(-1, (len(projected), selection.shape[1], -1))
        low = (branches * selection[:, None, None, :, None].to(low)).flatten(-3)
    parts = low.flatten(0, 1).chunk(len(projected), dim=-1)
    return [
        torch.addmm(shared.flatten(0, 1), part, up.to(shared)).view_as(shared)
        for shared, part, up in zip(projected, parts, joined.ups, strict=True)
    ]
