"""Shift maps: for each pixel of a hole one of a few shifts, at which distance it is copied from.

He and Sun, "Statistics of Patch Offsets for Image Completion" (ECCV 2012), for the shifts; Pritch, Kav-Venaki, Peleg,
"Shift-Map Image Editing" (ICCV 2009), for the energy; Boykov, Veksler, Zabih, "Fast Approximate Energy Minimization via
Graph Cuts" (PAMI 2001), for the expansion moves. A shift is (rows, columns); labels are places in a list of shifts.

The graph cuts run on the CPU, by scipy: they see a copy of the picture whose hole has a few thousand pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 8
"""Side of the patches whose likenesses give the shifts."""
QUERIES = 1200
"""Patches that are asked for their like."""
NEARNESS = 0.3
"""Cost of a like at the picture's other end, in squared differences of features: of equals the nearer counts."""
GRADIENT_WEIGHT = 2.0
"""Weight of the derivatives against the colours in the cost of a seam, so that edges meet edges."""
RING = 3
"""Reach in pixels at which the known pixels around the hole judge a shift."""
DISTANCE_WEIGHT = 0.5
"""Cost a pixel of a shift as long as the picture. Without it the brick from beside a shutter lands in the shutter."""
IMPOSSIBLE = 1e5
"""Cost of a pixel that a shift would copy from what is not known."""


@dataclass(frozen=True)
class Level:
    """A picture at one size.

    Attributes:
        image: [3, h, w] in 0..1; what it holds in the hole is never used.
        hole: bool [h, w], what is to be filled.
        known: bool [h, w], what may be copied.
    """

    image: Tensor
    hole: Tensor
    known: Tensor

    def halved(self) -> Level:
        """The picture at half the size: its sides are even. A pixel is in the hole if any of its four is, and known if all
        four are; its colour is the mean of those beyond the hole."""
        there = (~self.hole).float()
        weight = F.avg_pool2d(there[None], 2)[0]
        image = F.avg_pool2d(self.image * there, 2) / weight.clamp(min=0.25)
        return Level(image, weight < 1, F.avg_pool2d(self.known.float()[None], 2)[0] == 1)


def dominant_shifts(level: Level, count: int, beside_hole: bool = False) -> Tensor:
    """The shifts by which most patches find their like in the picture, farther away than a fifteenth of it, and again
    farther than half of the hole.

    Args:
        level: the picture; patches lie in its known part.
        count: how many shifts at most.
        beside_hole: asks only the patches that lie within four pixels of the hole.

    Returns:
        int [up to count, 2]; a shift that no pixel of the hole can use is left out.
    """
    height, width = level.hole.shape
    whole = _window_max(~level.known, PATCH) == 0
    places = whole.nonzero()
    if len(places) < 2:
        return places.new_zeros(0, 2)
    patches = F.unfold(level.image[None], PATCH)[0].T[whole.flatten()]
    patches = patches - patches.mean(0)
    features = patches @ torch.linalg.eigh(patches.T @ patches)[1][:, -24:]  # the principal components
    asked = torch.arange(len(places), device=places.device)
    if beside_hole:
        asked = asked[_window_max(F.pad(level.hole, (4,) * 4), PATCH + 8)[whole] > 0]
    asked = asked[:: max(1, len(asked) // QUERIES)]
    rows, columns = level.hole.any(1).sum(), level.hole.any(0).sum()
    votes = torch.zeros(2 * height + 1, 2 * width + 1, device=places.device)
    norms = features.square().sum(1)
    for some in asked.split(1024):
        difference = norms - 2 * features[some] @ features.T
        apart = (places[some, None] - places).square().sum(-1)
        difference += NEARNESS * apart / (height**2 + width**2)
        for least in (max(3.0, max(height, width) / 15), float(min(rows, columns)) / 2):
            difference.masked_fill_(apart < least**2, math.inf)
            value, best = difference.min(1)
            shift = (places[best] - places[some])[value < math.inf]
            for way in (shift, -shift):
                at = (way + way.new_tensor([height, width])).T
                votes.index_put_((at[0], at[1]), votes.new_ones(()), accumulate=True)
    votes = F.avg_pool2d(votes[None], 3, 1, 1)[0] + 0.01 * votes  # of a plateau, its middle
    peaks = (F.max_pool2d(votes[None], 5, 1, 2)[0] == votes) & (votes > 0)
    found = peaks.nonzero()
    strength = votes[peaks].sort(descending=True, stable=True)
    found = found[strength.indices[: 4 * count]] - found.new_tensor([height, width])
    score = strength.values[: 4 * count] * usable(level, found).float().mean(1)
    order = score.sort(descending=True, stable=True).indices[:count]
    return found[order[score[order] > 0]]


def usable(level: Level, shifts: Tensor) -> Tensor:
    """Tells for each shift [K, 2] and each pixel of the hole whether the pixel is copied from a known one: bool [K, pixels]."""
    return (
        torch.stack([_known_at(level, level.hole.nonzero() + shift) for shift in shifts])
        if len(shifts)
        else (level.hole.new_zeros(0, int(level.hole.sum())))
    )


def cover_all(level: Level, shifts: Tensor, seed: int) -> Tensor:
    """Adds shifts until each pixel of the hole has one that it can use.

    Raises:
        ValueError: nothing is known.
    """
    known = level.known.nonzero()
    if not len(known):
        raise ValueError(
            "The mask leaves no background to copy from: mark less, avoid less, or give more of the picture around it."
        )
    pixels = level.hole.nonzero()
    generator = torch.Generator().manual_seed(seed)
    bare = ~usable(level, shifts).any(0)
    while bare.any():
        pixel = pixels[bare][int(bare.sum()) // 2]
        some = known[torch.randint(len(known), (64,), generator=generator).to(known.device)] - pixel
        covered = usable(level, some)
        best = int((covered & bare).sum(1).argmax())
        shifts, bare = torch.cat([shifts, some[best : best + 1]]), bare & ~covered[best]
    return shifts


def unary_costs(level: Level, shifts: Tensor) -> Tensor:
    """What it costs each pixel to take each shift: how badly the known pixels around it agree with theirs under the same
    shift, and the length of the shift: [K, h, w]; `IMPOSSIBLE` where the source is not known or beyond the hole."""
    height, width = level.hole.shape
    costs = torch.full((len(shifts), height, width), IMPOSSIBLE, device=level.image.device)
    side = 2 * RING + 1
    for cost, (down, right) in zip(costs, shifts.tolist(), strict=True):
        here, there = _overlap(height, down), _overlap(width, right)
        target, source = (here[0], there[0]), (here[1], there[1])
        known = level.known[source]
        differences = (level.image[:, target[0], target[1]] - level.image[:, source[0], source[1]]).norm(dim=0)
        differences = differences * (known & ~level.hole[target])
        ring = F.avg_pool2d(differences[None], side, 1, RING)[0] * side
        length = DISTANCE_WEIGHT * math.hypot(down, right) / max(height, width)
        cost[target] = torch.where(known & level.hole[target], ring + length, IMPOSSIBLE)
    return costs


def expand(level: Level, shifts: Tensor, costs: Tensor, labels: Tensor, tried: list[int]) -> Tensor:
    """Expansion moves: for each of the labels `tried`, the pixels of the hole that lower the energy most by taking it,
    all at once, take it.

    The energy is that of the pixels (`costs`) and of the seams: where neighbours a and b take the shifts s and t, how much
    the picture differs between a + s and a + t, and between b + s and b + t, in colour and in its derivatives.

    Args:
        costs: [K, h, w], see `unary_costs`.
        labels: int [h, w]; what it holds beyond the hole does not count.

    Returns:
        int [h, w], the labels after the moves; their energy is never higher than before.
    """
    pixels = level.hole.nonzero().cpu()
    number = torch.full(level.hole.shape, -1)
    number[tuple(pixels.T)] = torch.arange(len(pixels))
    first, second = _neighbours(number)
    features, unary, offsets = _features(level).cpu(), costs[:, level.hole].cpu(), shifts.cpu()
    current = labels[level.hole].cpu()

    def seam(a: Tensor, b: Tensor) -> Tensor:
        """Of the pairs of neighbours, of which the first takes the labels `a` and the second `b`."""
        cost = sum(
            (_at(features, pixels[end] + offsets[a]) - _at(features, pixels[end] + offsets[b])).norm(dim=0)
            for end in (first, second)
        )
        return torch.where(a == b, 0.0, cost)

    energy = _energy(unary, seam, current, first, second)
    for label in tried:
        free = (unary[label] < IMPOSSIBLE) & (current != label)
        if not free.any():
            continue
        a, b, new = current[first], current[second], current.new_tensor(label).expand(len(first))
        both_stay, second_takes, first_takes = seam(a, b), seam(a, new), seam(new, b)
        taking = unary[label] - unary[current, torch.arange(len(current))]
        taking = taking.index_add(0, first, first_takes - both_stay).index_add(0, second, -first_takes)
        takes = _minimum_cut(taking, first, second, (second_takes + first_takes - both_stay).clamp(min=0))
        if (takes & free).any():
            moved = torch.where(takes & free, label, current)
            after = _energy(unary, seam, moved, first, second)
            if after < energy:
                current, energy = moved, after
    out = labels.clone()
    out[level.hole] = current.to(labels.device)
    return out


def align(level: Level, shifts: Tensor, labels: Tensor) -> Tensor:
    """Moves each piece as a whole by up to one pixel, to where it fits the pieces and the known pixels around it best.

    A shift that was chosen at half the size is known to within a pixel; this finds the pixel.

    Returns:
        int [K, 2], the shifts.
    """
    height, width = level.hole.shape
    own = torch.tensor(len(shifts))  # the label of the known pixels, whose shift is zero
    shifts = torch.cat([shifts, shifts.new_zeros(1, 2)])
    flat = torch.where(level.hole, labels, own.to(labels)).flatten()
    number = torch.arange(height * width, device=flat.device).view(height, width)
    first, second = _neighbours(number)
    differ = flat[first] != flat[second]
    first, second = first[differ], second[differ]
    inner, outer = torch.cat([first, second]), torch.cat([second, first])
    steps = torch.tensor([[0, 0], *([i, j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)], device=flat.device)
    for label in flat[level.hole.flatten()].unique().tolist():
        members = _place((flat == label).nonzero()[:, 0], width)
        beside = flat[inner] == label
        a, b, others = _place(inner[beside], width), _place(outer[beside], width), flat[outer[beside]]
        candidates = shifts[label] + steps
        possible = torch.stack([_known_at(level, members + shift).all() for shift in candidates])
        other = shifts[others]
        at_a = (_at(level.image, a + candidates[:, None]) - _at(level.image, a + other)[:, None]).norm(dim=0)
        at_b = (_at(level.image, b + candidates[:, None]) - _at(level.image, b + other)[:, None]).norm(dim=0)
        edge = others == own.to(others)  # there the colour of a is not known
        cost = torch.where(edge, 2 * at_b, at_a + at_b).sum(1)
        shifts[label] = candidates[int(torch.where(possible, cost, math.inf).argmin())]
    return shifts[:-1]


def compose(level: Level, shifts: Tensor, labels: Tensor) -> Tensor:
    """The picture with its hole filled by copies: [3, h, w]."""
    filled = level.image.clone()
    pixels = level.hole.nonzero()
    filled[:, level.hole] = _at(level.image, pixels + shifts[labels[level.hole]])
    return filled


def _features(level: Level) -> Tensor:
    """Colours and derivatives, [9, h, w]; a derivative into the hole is zero, as it is not known."""
    right = (level.image[:, :, 1:] - level.image[:, :, :-1]) * ~(level.hole[:, 1:] | level.hole[:, :-1])
    down = (level.image[:, 1:] - level.image[:, :-1]) * ~(level.hole[1:] | level.hole[:-1])
    return torch.cat([level.image, GRADIENT_WEIGHT * F.pad(right, (0, 1)), GRADIENT_WEIGHT * F.pad(down, (0, 0, 0, 1))])


def _energy(unary: Tensor, seam, labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return unary[labels, torch.arange(len(labels))].double().sum() + seam(labels[first], labels[second]).double().sum()


def _minimum_cut(taking: Tensor, first: Tensor, second: Tensor, parting: Tensor) -> Tensor:
    """The pixels that take the label, bool [n]: the minimum of Σ taking over those that do, and of `parting` over the pairs
    of which the second does and the first does not."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    count = len(taking)
    gain = (taking.double() * 1000).round().clamp(-1e8, 1e8).numpy().astype(np.int32)
    weight = (parting.double() * 1000).round().clamp(max=1e8).numpy().astype(np.int32)
    pixels, source, sink = np.arange(count), np.full(count, count), np.full(count, count + 1)
    edges = (np.concatenate([first, source, pixels]), np.concatenate([second, pixels, sink]))
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


def _neighbours(number: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of neighbours, below and to the right, of the numbered pixels [h, w]; -1 has none."""
    pairs = ((number[:-1], number[1:]), (number[:, :-1], number[:, 1:]))
    both = [(a >= 0) & (b >= 0) for a, b in pairs]
    first = torch.cat([a[inside] for (a, _), inside in zip(pairs, both, strict=True)])
    return first, torch.cat([b[inside] for (_, b), inside in zip(pairs, both, strict=True)])


def _at(image: Tensor, places: Tensor) -> Tensor:
    """image [C, h, w] at places [..., 2], those beyond its sides at the nearest pixel: [C, ...]."""
    height, width = image.shape[-2:]
    return image[:, places[..., 0].clamp(0, height - 1), places[..., 1].clamp(0, width - 1)]


def _known_at(level: Level, places: Tensor) -> Tensor:
    height, width = level.hole.shape
    inside = (places >= 0).all(-1) & (places[..., 0] < height) & (places[..., 1] < width)
    return inside & _at(level.known[None], places)[0]


def _place(number: Tensor, width: int) -> Tensor:
    return torch.stack([number // width, number % width], -1)


def _overlap(side: int, shift: int) -> tuple[slice, slice]:
    """Where a row of pixels has its shifted copy within the picture, and that copy."""
    return slice(max(0, -shift), side - max(0, shift)), slice(max(0, shift), side + min(0, shift))


def _window_max(marked: Tensor, side: int) -> Tensor:
    return F.max_pool2d(marked.float()[None], side, 1)[0]
