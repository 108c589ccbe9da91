"""The outlines of drawn objects, as signed distances: five shapes, and people-like figures with limbs that move."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

KINDS = ("disc", "square", "triangle", "ring", "cross", "figure")
SHAPES = len(KINDS) - 1
"""The first of `KINDS`, all but the figure."""
FIGURE = KINDS.index("figure")
PARTS = ("head", "body", "arms", "legs")
"""The parts of a figure; a parsing labels them 1 to 4."""

_HEAD, _HEAD_RADIUS = (0.0, -0.76), 0.2
_NECK, _HIP, _BODY_RADIUS = (0.0, -0.38), (0.0, 0.08), 0.24
_SHOULDERS, _ARM, _ARM_RADIUS = ((-0.22, -0.46), (0.22, -0.46)), 0.56, 0.085
_HIPS, _LEG, _LEG_RADIUS = ((-0.11, 0.18), (0.11, 0.18)), 0.7, 0.115
LIMBS = 4
"""The limbs of a figure: left arm, right arm, left leg, right leg."""


def distance(u: Tensor, v: Tensor, kind: Tensor, limbs: Tensor) -> Tensor:
    """Signed distances to the outlines of N objects, in units of their radius, negative inside.

    Args:
        u, v: [N, H, W], coordinates along each object's own axes, in units of its radius, to the right and down.
        kind: [N] indices into `KINDS`.
        limbs: [N, 4], the angles in radians of a figure's limbs; shapes have none.

    Returns:
        [N, H, W].
    """
    result = torch.empty_like(u)
    for index, outline in enumerate((_disc, _square, _triangle, _ring, _cross)):
        chosen = kind == index
        result[chosen] = outline(u[chosen], v[chosen])
    figures = kind == FIGURE
    if figures.any():
        result[figures] = part_distances(u[figures], v[figures], limbs[figures]).amin(dim=1)
    return result


def part_distances(u: Tensor, v: Tensor, limbs: Tensor) -> Tensor:
    """Signed distances [N, 4, H, W] to the `PARTS` of N figures; coordinates and limbs as for `distance`."""
    head = ((u - _HEAD[0]).square() + (v - _HEAD[1]).square()).sqrt() - _HEAD_RADIUS
    body = _capsule(u, v, torch.tensor(_NECK), torch.tensor(_HIP), _BODY_RADIUS)
    ends = skeleton(limbs)
    radii = (_ARM_RADIUS, _ARM_RADIUS, _LEG_RADIUS, _LEG_RADIUS)
    each = [_capsule(u, v, ends[:, 2 + limb, 0], ends[:, 2 + limb, 1], radius) for limb, radius in enumerate(radii)]
    return torch.stack([head, body, torch.minimum(each[0], each[1]), torch.minimum(each[2], each[3])], dim=1)


def parts(u: Tensor, v: Tensor, limbs: Tensor) -> Tensor:
    """The number of the nearest of `PARTS` at each pixel of N figures: [N, H, W] long."""
    return part_distances(u, v, limbs).argmin(dim=1)


def skeleton(limbs: Tensor) -> Tensor:
    """The bones of figures: both ends [N, 6, 2, 2] (bone, end, u and v) of neck, spine, arms and legs.

    Args:
        limbs: [N, 4], the angle of each limb from straight down, in radians, away from the body.
    """
    outwards = torch.tensor([-1.0, 1.0, -1.0, 1.0], device=limbs.device)
    length = torch.tensor([_ARM, _ARM, _LEG, _LEG], device=limbs.device)
    start = torch.tensor([*_SHOULDERS, *_HIPS], device=limbs.device).expand(len(limbs), -1, -1)
    along = torch.stack([outwards * limbs.sin(), limbs.cos()], dim=-1) * length[:, None]
    trunk = torch.tensor([[_HEAD, _NECK], [_NECK, _HIP]], device=limbs.device).expand(len(limbs), -1, -1, -1)
    return torch.cat([trunk, torch.stack([start, start + along], dim=2)], dim=1)


def random_limbs(numbers: Tensor) -> Tensor:
    """Angles of limbs from numbers [..., 4] in 0..1: arms hang or are raised, legs stand."""
    arms, legs = numbers[..., :2], numbers[..., 2:]
    return torch.cat([0.15 + arms.square() * 0.75 * pi, 0.05 + 0.25 * legs], dim=-1)


def segment_distance(u: Tensor, v: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distances [N, H, W] to the segments between `start` and `end`, [N, 2] or [2] each."""
    du, dv = (end - start).to(u)[..., None, None].unbind(dim=-3)
    pu, pv = (u - start.to(u)[..., 0, None, None]), (v - start.to(u)[..., 1, None, None])
    share = ((pu * du + pv * dv) / (du.square() + dv.square())).clamp(0, 1)
    return ((pu - share * du).square() + (pv - share * dv).square()).sqrt()


def _capsule(u: Tensor, v: Tensor, start: Tensor, end: Tensor, radius: float) -> Tensor:
    return segment_distance(u, v, start, end) - radius


def _disc(u: Tensor, v: Tensor) -> Tensor:
    return (u.square() + v.square()).sqrt() - 1


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.85


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs() * 0.866 + v * 0.5, -v) - 0.55


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return ((u.square() + v.square()).sqrt() - 0.7).abs() - 0.3


def _cross(u: Tensor, v: Tensor) -> Tensor:
    bar = torch.maximum(u.abs() - 1, v.abs() - 0.35)
    return torch.minimum(bar, torch.maximum(v.abs() - 1, u.abs() - 0.35))
