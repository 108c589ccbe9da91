"""Pairs as batches: one aspect ratio a batch, augmented, in an order that only the seed decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from ...kernels.regions import grow
from ..pictures import picture_size, read_image, read_mask
from .manifest import Sample, read_manifest
from .synthesize import synthesize

RATIOS = (0.5, 0.57, 0.67, 0.75, 0.8, 1.0, 1.25, 1.33, 1.5, 1.75, 2.0)
"""Width over height of the buckets: what cameras and phones make."""

Synthesis = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]


def buckets(size: int) -> list[tuple[int, int]]:
    """(height, width) of about size² pixels, one for each aspect ratio, sides multiples of 64 (of 8 below 256)."""
    multiple = 64 if size >= 256 else 8
    sides = []
    for ratio in RATIOS:
        width, height = (
            max(multiple, round(side / multiple) * multiple)
            for side in (size * math.sqrt(ratio), size / math.sqrt(ratio))
        )
        sides.append((height, width))
    return sorted(set(sides))


def bucket_of(height: int, width: int, size: int) -> tuple[int, int]:
    """The bucket whose aspect ratio is nearest."""
    return min(buckets(size), key=lambda sides: abs(math.log(sides[1] / sides[0]) - math.log(width / height)))


class RemovalDataset(Dataset):
    """Pairs of a manifest at the sizes of their buckets.

    Items are asked for by (index, epoch). Everything random comes from (seed, epoch, index), so that the same picture
    comes out whichever process loads it.

    Args:
        size: the square root of a bucket's area, in pixels.
        dilation: masks grow by a share of their object's size drawn from this range.
        flip: mirror half of the pairs.
        synthesis: makes the pair from the source and its mask instead (EraDiff's dynamic image synthesis).
    """

    def __init__(
        self,
        samples: list[Sample],
        size: int,
        *,
        dilation: tuple[float, float] = (0.0, 0.1),
        flip: bool = True,
        seed: int = 0,
        synthesis: Synthesis | None = None,
    ) -> None:
        if not samples:
            raise ValueError("The data set is empty, expected at least one pair: look at its manifest.")
        self.samples, self.size, self.dilation = samples, size, dilation
        self.flip, self.seed, self.synthesis = flip, seed, synthesis
        self.bucket = [bucket_of(*picture_size(sample.source), size) for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """source, target [3, H, W] in 0..1; mask, effect_mask [H, W] of 0 and 1; prompt, name."""
        index, epoch = key
        sample = self.samples[index]
        generator = seeded((self.seed * 1_000_003 + epoch) * 1_000_003 + index)
        source, target = read_image(sample.source), read_image(sample.target)
        mask = (read_mask(sample.mask) > 0.5).float()
        effect = mask if sample.effect_mask is None else (read_mask(sample.effect_mask) > 0.5).float()
        sizes = {tuple(picture.shape[-2:]) for picture in (source, target, mask, effect)}
        if len(sizes) > 1:
            raise ValueError(
                f"{sample.name} has pictures of {' and '.join(f'{w}x{h}' for h, w in sorted(sizes))}, expected one size: "
                "resize them, `unclutter data check` lists all such."
            )
        if self.synthesis is not None:
            made = self.synthesis(source[0], mask[0], generator)
            source, target, mask = (picture[None] for picture in made)
            effect = mask
        height, width = self.bucket[index]
        rows, columns = window(mask, height, width)
        source, target = (fit(picture[..., rows, columns], height, width) for picture in (source, target))
        mask, effect = (fit_mask(one[..., rows, columns], height, width) for one in (mask, effect))
        low, high = self.dilation
        share = low + (high - low) * torch.rand(1, generator=generator).item()
        if share > 0 and mask.any():
            mask = grow(mask, percent=100 * share)
        layers = [source[0], target[0], mask[0], torch.maximum(mask, effect)[0]]
        if self.flip and torch.rand(1, generator=generator) < 0.5:
            layers = [layer.flip(-1) for layer in layers]
        names = ("source", "target", "mask", "effect_mask")
        return {**dict(zip(names, layers, strict=True)), "prompt": sample.prompt or "", "name": sample.name}


class BucketBatches(Sampler[list[tuple[int, int]]]):
    """Endless batches of (index, epoch), one bucket a batch, each epoch in its own seeded order.

    What does not fill a batch at an epoch's end is filled up with samples of the same bucket again, so that none
    starves and a set smaller than a batch works.

    Args:
        start: number of the batch to begin with, to continue a training.
    """

    def __init__(self, dataset: RemovalDataset, batch: int, seed: int, start: int = 0) -> None:
        self.batch, self.seed, self.start = batch, seed, start
        self.groups: dict[tuple[int, int], list[int]] = {}
        for index, sides in enumerate(dataset.bucket):
            self.groups.setdefault(sides, []).append(index)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = sum(math.ceil(len(group) / self.batch) for group in self.groups.values())
        epoch, skip = divmod(self.start, per_epoch)
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0

    def epoch(self, epoch: int) -> list[list[tuple[int, int]]]:
        generator = seeded(self.seed * 1_000_003 + epoch)
        found = []
        for group in self.groups.values():
            order = torch.randperm(len(group), generator=generator).tolist()
            order += [order[i % len(order)] for i in range(-len(order) % self.batch)]
            keys = [(group[i], epoch) for i in order]
            found += [keys[i : i + self.batch] for i in range(0, len(keys), self.batch)]
        return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]


def batches(
    root: Path,
    *,
    batch: int,
    size: int,
    seed: int = 0,
    workers: int = 0,
    start: int = 0,
    dilation: tuple[float, float] = (0.0, 0.1),
    flip: bool = True,
    synthesis: bool = False,
) -> Iterator[dict[str, Any]]:
    """Endless batches of the pairs in a folder, from batch number `start` on: [B, 3, H, W], [B, H, W], lists of text."""
    dataset = RemovalDataset(
        read_manifest(root),
        size,
        dilation=dilation,
        flip=flip,
        seed=seed,
        synthesis=synthesize if synthesis else None,
    )
    loader = DataLoader(
        dataset, batch_sampler=BucketBatches(dataset, batch, seed, start), num_workers=workers, pin_memory=False
    )
    return iter(loader)


def window(mask: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a picture that make the shape height×width: those that hold most of the object in
    mask [1, H, W], and of these the nearest to the middle."""
    scale = max(height / mask.shape[-2], width / mask.shape[-1])
    found = []
    for axis, side in ((-2, height), (-1, width)):
        marked = (mask[0] > 0).sum(dim=-3 - axis)
        length = min(len(marked), math.ceil(side / scale))
        sums = F.pad(marked.cumsum(0), (1, 0))
        held = sums[length:] - sums[:-length]
        starts = (held == held.max()).nonzero()[:, 0]
        start = int(starts[(starts - (len(marked) - length) / 2).abs().argmin()])
        found.append(slice(start, start + length))
    return found[0], found[1]


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number % 2**63)


def fit(picture: Tensor, height: int, width: int) -> Tensor:
    """Scale [1, C, H, W] until it covers height×width, and cut the middle out."""
    scale = max(height / picture.shape[-2], width / picture.shape[-1])
    sides = [max(side, round(length * scale)) for side, length in zip((height, width), picture.shape[-2:], strict=True)]
    if sides != list(picture.shape[-2:]):
        picture = F.interpolate(picture, size=sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return picture[..., top : top + height, left : left + width]


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """The same for masks [1, H, W] of 0 and 1; a pixel that the object touches at all is of the object."""
    scale = max(height / mask.shape[-2], width / mask.shape[-1])
    sides = [max(side, round(length * scale)) for side, length in zip((height, width), mask.shape[-2:], strict=True)]
    # Growing, the nearest pixel; shrinking, the largest one, so that no thin part vanishes.
    pool = F.adaptive_max_pool2d if scale < 1 else lambda x, sides: F.interpolate(x, size=sides, mode="nearest-exact")
    mask = pool(mask[:, None], sides)[:, 0]
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return mask[..., top : top + height, left : left + width]
