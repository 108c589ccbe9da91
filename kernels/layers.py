"""One picture from layers: an instance each, and the background behind all of them (MILD)."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .regions import Box, around, feather


class Sheet(NamedTuple):
    """A layer as editors know it: `index` 0 is the background, 1 the first person; `picture` [4,h,w] is RGBA in 0..1, not
    premultiplied, and fills `box`."""

    index: int
    box: Box
    picture: Tensor


@dataclass(frozen=True, eq=False)
class Layers:
    """A picture taken apart into people and the background behind all of them. Values in 0..1.

    Attributes:
        image: [3,H,W], the picture.
        background: [3,H,W], generated in every hole; elsewhere a VAE's idea of the picture.
        masks: [N,H,W] of 0 and 1, where each person is.
        holes: [N,H,W] of 0 and 1, what is filled when a person goes, but for where others are seen: the mask, grown.
        generated: [3,H,W] by person, without the others, for those whose layer was asked for.
        removed: people who are gone, from 0.
        order: people from back to front.
        feather: width of soft borders in pixels.
    """

    image: Tensor
    background: Tensor
    masks: Tensor
    holes: Tensor
    generated: dict[int, Tensor]
    removed: frozenset[int] = frozenset()
    order: tuple[int, ...] | None = None
    feather: int = 4

    def composed(self) -> tuple[Tensor, Tensor]:
        """The picture [3,H,W] without those who are removed, and the mask [H,W] of what took their place.

        A pixel further than `feather` from that mask is the picture's, bit for bit.

        Raises:
            ValueError: somebody is kept whom a removed person hides in part, and has no layer.
        """
        gone = sorted(self.removed)
        if lacking := [k for k in revealed(self.masks, gone, self.order) if k not in self.generated]:
            raise ValueError(
                f"A removed person hides a part of person {lacking[0] + 1}, who has no layer: "
                "name whom you keep in keep (who may stay) of Layered Sampler, or write any there, or list that person last "
                "in order."
            )
        layers = [self.generated.get(k, self.image) for k in range(len(self.masks))]
        return recompose(self.image, self.background, self.masks, self.holes, layers, gone, self.order, self.feather)

    def sheets(self) -> Iterator[Sheet]:
        """The background, then each person, as RGBA cut to the box that it fills; together they show the whole picture.

        The background is filled in every hole, so people bring along what the picture shows around them in theirs. One is
        made at a time: of a large picture all of them do not fit into memory.
        """
        covered = joined(self.holes, range(len(self.holes)))
        whole = self.image.new_ones(4, *covered.shape)
        weight = feather(covered[None], self.feather)[0].to(whole)
        for channel, ours, other in zip(whole, self.image, self.background.to(whole), strict=False):
            torch.lerp(ours, other, weight, out=channel)
        del weight, channel
        yield Sheet(0, Box(0, 0, *covered.shape), whole)
        del whole
        around_all = covered * (1 - joined(self.masks, range(len(self.masks))))
        order = self.back_to_front()
        # What lies around two of them goes with the one who is removed, or else with the one in front.
        for k in sorted(reversed(order), key=lambda k: k not in self.removed):
            marked = [layer for layer in (self.masks[k], self.holes[k]) if layer.any()]
            if not marked:
                yield Sheet(k + 1, Box(0, 0, 1, 1), self.image.new_zeros(4, 1, 1))
                continue
            rows, columns = here = tuple(
                slice(min(part.start for part in side), max(part.stop for part in side))
                for side in zip(*(around(layer, self.feather) for layer in marked), strict=True)
            )
            mask, image = self.masks[k][here], self.image[:, rows, columns]
            own = torch.maximum(mask, self.holes[k][here] * around_all[here])
            around_all[here] *= 1 - own
            # The soft border shows surroundings of the picture, and never another person.
            alpha = feather(own[None], self.feather)[0] * (1 - covered[here] * (1 - own))
            hidden = mask * joined([other[here] for other in self.masks], order[order.index(k) + 1 :], mask)
            if k in self.generated:
                image = torch.where(hidden > 0, self.generated[k][:, rows, columns], image)
            else:
                alpha = alpha * (1 - hidden)
            box = Box(rows.start, columns.start, *mask.shape)
            yield Sheet(k + 1, box, torch.cat([image, alpha[None].to(image)]))

    def rgba(self) -> Tensor:
        """The background and each person in the order of the masks, [N+1,H,W,4], transparent outside of their boxes.

        On the CPU, memory is taken only for what is not transparent.
        """
        shape = (len(self.masks) + 1, *self.image.shape[1:], 4)
        batch = untouched_zeros(shape, self.image)
        for index, (top, left, height, width), picture in self.sheets():
            batch[index, top : top + height, left : left + width] = picture.movedim(0, -1)
            del picture  # before the next is made
        return batch

    def back_to_front(self) -> list[int]:
        return back_to_front(self.order, len(self.masks))


def recompose(
    image: Tensor,
    background: Tensor,
    masks: Tensor,
    holes: Tensor,
    layers: Tensor | Sequence[Tensor],
    remove: Iterable[int],
    order: Sequence[int] | None = None,
    feather_pixels: int = 0,
) -> tuple[Tensor, Tensor]:
    """A picture without some of its instances. What stays keeps its pixels wherever they are seen: no face is redrawn.
    Seen is what its own mask claims and no mask in front hides; how far holes reach does not matter to it.

    Args:
        image: [3, H, W] in 0..1.
        background: [3, H, W] in 0..1, what is behind all of them.
        masks: [N, H, W] of 0 and 1, where each instance is.
        holes: [N, H, W] of 0 and 1, what is filled when it goes, its mask or more than that.
        layers: [N, 3, H, W] or N times [3, H, W] in 0..1, each instance where another in front hides it.
        remove: indices in 0..N-1.
        order: all indices from back to front; by default the first mask lies furthest back.
        feather_pixels: width of the soft border that what was removed has outwards, over the ground.

    Returns:
        The picture [3, H, W], and the mask [H, W] of what took the place of those removed. Further than
        `feather_pixels` from it the picture is the same bit for bit.
    """
    gone = sorted(check_indices(remove, len(masks), "remove"))
    if not gone:
        return image.clone(), torch.zeros_like(masks[0])
    kept = [index for index in range(len(masks)) if index not in gone]
    covered, seen = torch.zeros_like(masks[0]), torch.zeros_like(masks[0])
    for index in reversed(back_to_front(order, len(masks))):
        if index in kept:
            seen += masks[index] * (1 - covered)
        covered = torch.maximum(covered, masks[index])
    # Without what lies under those who stay: its border would come out behind them.
    area = joined(holes, gone) * (1 - seen)
    out = compose(layers, masks, softly(image, background, area, feather_pixels), gone, order)
    return torch.where(seen > 0, image, out), area


def softly(image: Tensor, other: Tensor, mask: Tensor, pixels: int) -> Tensor:
    """`other` [3, H, W] in the mask [H, W] and, fading out over `pixels`, around it; `image` [3, H, W] elsewhere."""
    return torch.lerp(image, other, feather(mask[None], pixels).to(image))


def compose(
    layers: Tensor | Sequence[Tensor],
    masks: Tensor,
    background: Tensor,
    remove: Iterable[int],
    order: Sequence[int] | None = None,
) -> Tensor:
    """The scene without some of its instances: the others over the background, from back to front.

    For masks that do not overlap this is MILD's Eq. 6. Where they do, Eq. 6 would count the background negatively.

    Args:
        layers: [N, 3, H, W] or N times [3, H, W] in 0..1, the picture of each instance.
        masks: [N, H, W] in 0..1, where it counts.
        background: [3, H, W] in 0..1.
        remove: indices in 0..N-1.
        order: all indices from back to front; by default the first mask lies furthest back.

    Returns:
        [3, H, W] in 0..1.

    Raises:
        ValueError: shapes do not fit, or an index does not exist.
    """
    gone = check_indices(remove, len(masks), "remove")
    shapes = {layer.shape for layer in layers}
    if len(layers) != len(masks) or shapes != {background.shape} or background.shape[-2:] != masks.shape[-2:]:
        raise ValueError(
            f"{len(layers)} layers {sorted(map(list, shapes))}, masks {list(masks.shape)} and background "
            f"{list(background.shape)} do not fit: expected N times [3, H, W], [N, H, W] and [3, H, W]."
        )
    out = background.clone()
    for index in (i for i in back_to_front(order, len(masks)) if i not in gone and masks[i].any()):
        here = (slice(None), *around(masks[index], 0))
        out[here] = torch.lerp(out[here], layers[index][here], masks[index][here[1:]].to(out))
    return out


def visible_masks(masks: Tensor, order: Sequence[int] | None = None) -> Tensor:
    """The part of each instance that no other in front of it covers: [N, H, W] -> [N, H, W]."""
    covered, visible = torch.zeros_like(masks[0]), torch.empty_like(masks)
    for index in reversed(back_to_front(order, len(masks))):
        visible[index] = masks[index] * (1 - covered)
        covered = torch.maximum(covered, masks[index])
    return visible


def untouched_zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros in the dtype and on the device of a tensor. On the CPU they take memory only where something is written."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    buffer = mmap.mmap(-1, math.prod(shape) * like.itemsize, **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        buffer.madvise(mmap.MADV_NOHUGEPAGE)  # large pages would hold the rows between those that are written, too
    return torch.frombuffer(buffer, dtype=like.dtype).view(shape)


def joined(masks: Tensor | Sequence[Tensor], indices: Iterable[int], like: Tensor | None = None) -> Tensor:
    """The union [H, W] of the masks with these indices; `like` gives the shape where there may be no mask."""
    marked = torch.zeros_like(masks[0] if like is None else like)
    for index in indices:
        marked = torch.maximum(marked, masks[index])
    return marked


def revealed(masks: Tensor, remove: Iterable[int], order: Sequence[int] | None = None) -> list[int]:
    """The instances of masks [N, H, W] who stay, and of whom more is seen once others are removed."""
    before, after, found = torch.zeros_like(masks[0]), torch.zeros_like(masks[0]), []
    gone = set(remove)
    for index in reversed(back_to_front(order, len(masks))):
        if index not in gone and bool((masks[index] * (before - after)).any()):
            found.append(index)
        before = torch.maximum(before, masks[index])
        after = after if index in gone else torch.maximum(after, masks[index])
    return sorted(found)


def depth_order(masks: Tensor, depth: Tensor) -> list[int]:
    """Instances from back to front, by the median over each mask [N, H, W] of a depth map [H, W], larger = nearer."""
    nearness = [float(depth[mask >= 0.5].median()) if (mask >= 0.5).any() else 0.0 for mask in masks]
    return sorted(range(len(masks)), key=nearness.__getitem__)


def context_masks(masks: Tensor) -> Tensor:
    """All instances but one, for each: [N, H, W] -> [N, H, W] (MILD, Eq. 7)."""
    return (masks.sum(dim=0) - masks).clamp(0, 1)


def back_to_front(order: Sequence[int] | None, count: int) -> list[int]:
    """An order that names each of `count` instances once."""
    found = list(range(count)) if order is None else list(order)
    if sorted(found) != list(range(count)):
        raise ValueError(
            f"The order is {found}, expected each of 0 to {count - 1} once: give all layers, back to front."
        )
    return found


def check_indices(indices: Iterable[int], count: int, what: str) -> set[int]:
    found = set(indices)
    if wrong := sorted(index for index in found if not 0 <= index < count):
        raise ValueError(f"{what} names layer {wrong[0]} (from 0), but there are {count}: give 0 to {count - 1}.")
    return found
