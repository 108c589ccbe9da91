"""How the scenes of `data store` are put together: tiles by a Laplacian pyramid, cut-outs by feathered alpha."""

from __future__ import annotations

import torch
from einops import rearrange
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import pyrdown, pyrup
from torch import Tensor
from torch.nn import functional as F

LEVELS = 3
"""Of the pyramid: colours of tiles fade into each other over about 2**LEVELS pixels, details over one."""
SHADOW = 0.45


def join_tiles(cells: Tensor) -> Tensor:
    """Tiles side by side without hard seams (Burt and Adelson 1983, A multiresolution spline).

    Args:
        cells: [N, N, 3, S, S] in 0..1, rows and columns of tiles, N at least 2.

    Returns:
        [3, N*S, N*S] in 0..1.
    """
    count, side = cells.shape[0], cells.shape[-1]
    whole = count * side
    # Four pictures, each of every second tile in both directions, mirrored over the tiles that it lacks.
    pictures, weights = [], []
    for down in (0, 1):
        for across in (0, 1):
            (rows, y), (columns, x) = (_mirrored(count, side, parity) for parity in (down, across))
            picture = cells[rows[:, None], columns[None, :], :, y[:, None], x[None, :]]
            pictures.append(rearrange(picture, "h w c -> c h w"))
            own = torch.arange(whole) // side % 2
            weights.append(((own == down)[:, None] & (own == across)[None, :]).float()[None])
    margin = -whole % 2**LEVELS
    padded, shares = (
        F.pad(torch.stack(part), (0, margin, 0, margin), mode="replicate") for part in (pictures, weights)
    )
    return _multiband(padded, shares, LEVELS)[:, :whole, :whole].clamp(0, 1)


def paint(background: Tensor, layers: list[Tensor], light: Tensor | None) -> Tensor:
    """Cut-outs over a background by feathered alpha, each darkening what is below it on the side away from the light.

    Args:
        background: [3, H, W] in 0..1.
        layers: [4, H, W] in 0..1 each, colours times alpha and alpha; later ones lie on earlier ones.
        light: where shadows fall, (across, down) in -1..1; None for no shadows.
    """
    canvas = background
    for layer in layers:
        if light is not None:
            canvas = canvas * (1 - contact_shadow(layer[3], light))
        canvas = canvas * (1 - layer[3]) + layer[:3]
    return canvas.clamp(0, 1)


def contact_shadow(alpha: Tensor, light: Tensor) -> Tensor:
    """How much light an object of coverage `alpha` [H, W] takes from the ground: [H, W] in 0..SHADOW."""
    if not alpha.any():
        return alpha
    reach = float(alpha.sum().sqrt())
    sigma = max(1.0, 0.06 * reach)
    kernel = 2 * round(2.5 * sigma) + 1
    across, down = (round(float(part) * 0.1 * reach) for part in light)
    # Only where it can fall: a blur of the whole scene for each object would cost most of the time.
    margin = kernel // 2 + max(abs(across), abs(down))
    rows, columns = (
        slice(max(0, int(found.min()) - margin), int(found.max()) + margin + 1)
        for found in alpha.nonzero(as_tuple=True)
    )
    moved = F.pad(alpha[rows, columns], (across, -across, down, -down))[None, None]
    shadow = torch.zeros_like(alpha)
    shadow[rows, columns] = SHADOW * gaussian_blur2d(moved, (kernel, kernel), (sigma, sigma), "constant")[0, 0]
    return shadow


def visible_parts(alphas: Tensor) -> Tensor:
    """What later layers leave of each: [K, H, W] to [K, H, W]."""
    covered = torch.zeros_like(alphas[0])
    parts = []
    for alpha in alphas.flip(0):
        parts.append(alpha * (1 - covered))
        covered = torch.maximum(covered, alpha)
    return torch.stack(parts[::-1])


def _mirrored(count: int, side: int, parity: int) -> tuple[Tensor, Tensor]:
    """Along one axis, for each pixel: the nearest tile of this parity, and the pixel in it, mirrored at its edge."""
    pixel = torch.arange(count * side)
    cell, inside = pixel // side, pixel % side
    beside = torch.where(inside < side / 2, cell - 1, cell + 1)
    beside = torch.where(beside < 0, 1, torch.where(beside >= count, count - 2, beside))
    own = cell % 2 == parity
    return torch.where(own, cell, beside), torch.where(own, inside, side - 1 - inside)


def _multiband(pictures: Tensor, weights: Tensor, levels: int) -> Tensor:
    if levels == 0:
        return (pictures * weights).sum(dim=0)
    small = pyrdown(pictures)
    detail = ((pictures - pyrup(small)) * weights).sum(dim=0)
    return detail + pyrup(_multiband(small, pyrdown(weights), levels - 1)[None])[0]
