"""A low-rank branch for each row of a batch: rows with different LoRAs go through one call of one network (MILD, Eq. 1).

    y_b = W x_b + s_c · U_c D_c x_b    with c the branch of row b

No weight is patched or swapped: the branch of a row is two thin products beside the projection that all rows share.
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


def add_branches(projected: Tensor, x: Tensor, branches: LowRank, rows: Tensor) -> Tensor:
    """What the projection gives with the LoRA of each row merged into it.

    Args:
        projected: [B, N, out], the output of the projection that all rows share.
        x: [B, N, in], its input.
        rows: [B] long, the branch of each row.

    Returns:
        [B, N, out], in the dtype of `projected`.
    """
    down, up = (factor.index_select(0, rows).to(projected) for factor in branches)
    return torch.baddbmm(projected, torch.bmm(x.to(projected), down.mT), up.mT)
