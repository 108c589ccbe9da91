"""How made scenes are put together: tiles by a Laplacian pyramid, cut-outs by feathered alpha, shadows below them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import pyrdown, pyrup, warp_affine
from torch import Tensor
from torch.nn import functional as F

LEVELS = 3
"""Of the pyramid: colours of tiles fade into each other over about 2**LEVELS pixels, details over one."""
SHADOW = 0.45


@dataclass(frozen=True)
class Patch:
    """A part of a scene: values [C, h, w] whose upper left corner lies at (top, left). Scenes of thousands of pixels
    hold objects of hundreds: all work is done on these."""

    values: Tensor
    top: int
    left: int

    def of(self, scene: Tensor) -> Tensor:
        """The same part of a scene [..., H, W], as a view."""
        height, width = self.values.shape[-2:]
        return scene[..., self.top : self.top + height, self.left : self.left + width]


def warp(values: Tensor, matrix: Tensor, shift: Tensor, height: int, width: int) -> Patch:
    """`values` [C, h, w] in a scene of height and width, where pixel (x, y) comes to matrix [2, 2] @ (x, y) + shift [2]."""
    corners = torch.tensor([[x, y] for x in (-1.0, values.shape[-1]) for y in (-1.0, values.shape[-2])])
    moved = corners @ matrix.T + shift
    low, high = moved.amin(dim=0).floor().int().tolist(), moved.amax(dim=0).ceil().int().tolist()
    left, top = (min(max(start, 0), side - 1) for start, side in zip(low, (width, height), strict=True))
    right, bottom = max(left + 1, min(high[0] + 1, width)), max(top + 1, min(high[1] + 1, height))
    affine = torch.cat([matrix, (shift - torch.tensor([left, top]))[:, None]], dim=1)
    return Patch(warp_affine(values[None], affine[None], (bottom - top, right - left))[0].clamp(0, 1), top, left)


def join_tiles(tiles: Tensor, layouts: Tensor) -> Tensor:
    """Tiles side by side without hard seams (Burt and Adelson 1983, A multiresolution spline).

    Each tile, mirrored over its edges, is split into bands of detail, the coarser of which fade out more softly; the sum
    of all tiles is what the paper makes of pyramids of the whole, and each tile's is made once.

    Args:
        tiles: [K, 3, S, S] in 0..1, S a multiple of `tile_step(S)`.
        layouts: [L, N, N], which of them lies where.

    Returns:
        [L, 3, N*S, N*S] in 0..1.
    """
    side, step = tiles.shape[-1], tile_step(tiles.shape[-1])
    # Wide enough for the coarsest band's fade, narrower than the tile that is mirrored.
    margin = min(4 * step, (side - 1) // step * step)
    faded = _fade(F.pad(tiles, (margin,) * 4, mode="reflect"), F.pad(torch.ones(1, 1, side, side), (margin,) * 4), step)
    return torch.stack([_lay(faded, layout, margin) for layout in layouts.tolist()]).clamp(0, 1)


def _lay(tiles: Tensor, layout: list[list[int]], margin: int) -> Tensor:
    """The sum of tiles [K, 3, s+2*margin, s+2*margin] in their places: [3, N*s, N*s]."""
    count, side = len(layout), tiles.shape[-1] - 2 * margin
    whole = torch.zeros(tiles.shape[1], count * side, count * side)
    for row in range(-1, count + 1):
        for column in range(-1, count + 1):
            # Beside the outermost tiles lie their mirror images, so that nothing fades out there.
            y, x = (min(max(place, 0), count - 1) for place in (row, column))
            outside = [axis for axis, place, inner in ((-2, row, y), (-1, column, x)) if place != inner]
            part = tiles[layout[y][x]].flip(outside)
            top, left = row * side - margin, column * side - margin
            part = part[:, max(0, -top) : max(0, count * side - top), max(0, -left) : max(0, count * side - left)]
            Patch(part, max(0, top), max(0, left)).of(whole).add_(part)
    return whole


def _fade(pictures: Tensor, weight: Tensor, step: int) -> Tensor:
    """Each band of the pictures times the weight at its scale, summed up again."""
    if step == 1:
        return pictures * weight
    small = pyrdown(pictures)
    return (pictures - pyrup(small)) * weight + pyrup(_fade(small, pyrdown(weight), step // 2))


def tile_step(side: int) -> int:
    """2**LEVELS, or the smaller power of two for which tiles of few pixels have room."""
    return 1 << max(0, min(LEVELS, (side // 8).bit_length() - 1))


def paint(background: Tensor, layers: list[Patch], shadows: list[Patch]) -> Tensor:
    """Cut-outs over a background by feathered alpha, each darkening what is below it.

    Args:
        background: [3, H, W] in 0..1.
        layers: [4, h, w] in 0..1 each, colours times alpha and alpha; later ones lie on earlier ones.
        shadows: of each layer, from `contact_shadow`; empty for none.
    """
    canvas = background.clone()
    for index, layer in enumerate(layers):
        if shadows:
            shadows[index].of(canvas).mul_(1 - shadows[index].values)
        layer.of(canvas).mul_(1 - layer.values[3]).add_(layer.values[:3])
    return canvas.clamp(0, 1)


def contact_shadow(layer: Patch, light: Tensor, height: int, width: int) -> Patch:
    """How much light an object [4, h, w] takes from the ground of a scene of height and width: [1, h, w] in 0..SHADOW.

    Args:
        light: where shadows fall, (across, down) in -1..1.
    """
    reach = float(layer.values[3].sum().sqrt())
    sigma = max(1.0, 0.06 * reach)
    margin = round(2.5 * sigma)
    # A blur that wide holds no detail: it is made from every few pixels.
    step = max(1, int(sigma / 2))
    alpha = F.pad(layer.values[None, 3:], (margin,) * 4)
    small = F.interpolate(alpha, [-(-side // step) for side in alpha.shape[-2:]], mode="area")
    kernel = 2 * round(2.5 * sigma / step) + 1
    small = gaussian_blur2d(small, (kernel, kernel), (sigma / step, sigma / step), "constant")
    shadow = SHADOW * F.interpolate(small, alpha.shape[-2:], mode="bilinear")[0]
    across, down = (round(float(part) * 0.1 * reach) for part in light)
    top, left = layer.top - margin + down, layer.left - margin + across
    inside = shadow[:, max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    return Patch(inside, max(0, top), max(0, left))


def visible_parts(layers: list[Patch], height: int, width: int) -> list[Patch]:
    """The part that later layers leave of the alpha of each, [1, h, w]."""
    covered = torch.zeros(height, width)
    parts = []
    for layer in reversed(layers):
        alpha, over = layer.values[3:], layer.of(covered)
        parts.append(Patch(alpha * (1 - over), layer.top, layer.left))
        torch.maximum(over, alpha[0], out=over)
    return parts[::-1]
