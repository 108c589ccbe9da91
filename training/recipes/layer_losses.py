"""The losses of MILD's rows, and their weights in the course of a training."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def foreground_weight(step: int, start: int, end: int, weight: float = 1.0) -> float:
    """λ_t of training step t: 0 before `start`, then a straight rise to `weight` at `end` (MILD, Eq. 4)."""
    if step < start:
        return 0.0
    return weight if step >= end else weight * (step - start) / (end - start)


def region_loss(
    prediction: Tensor, target: Tensor, mask: Tensor, boundary: float = 0.0, gradient: float = 0.0
) -> Tensor:
    """The squared error in a region, divided by its area, so that small instances count as much as large ones (Eq. 2).

    Args:
        prediction, target: [B, C, h, w].
        mask: [B, h, w] of 0 and 1; a row without region has the loss 0.
        boundary: β; cells at the region's border count 1 + β (MILD, Appendix C).
        gradient: weight of the error of differences between neighbours, a penalty on seams and blur (Appendix C).

    Returns:
        [B].
    """
    mask = mask[:, None].to(prediction)
    weight = mask
    if boundary:
        inside = -F.max_pool2d(-F.pad(mask, (1, 1, 1, 1), value=1.0), 3, stride=1)
        weight = mask + boundary * (mask - inside)
    error = prediction - target
    loss = masked_mean(error.square(), weight)
    if gradient:
        for axis in (-1, -2):
            both = mask.narrow(axis, 1, mask.shape[axis] - 1) * mask.narrow(axis, 0, mask.shape[axis] - 1)
            loss = loss + gradient * masked_mean(error.diff(dim=axis).square(), both)
    return loss


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of values [B, C, h, w] with weights [B, 1, h, w], row by row: [B]."""
    return (values.mean(dim=1, keepdim=True) * weight).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1).clamp(min=1)
