"""Pairs as batches: one aspect ratio a batch, augmented, in an order that only the seed decides."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ...kernels import seeds
from ...kernels.regions import grow
from ..images.files import picture_size, read_image, read_labels, read_mask
from .manifest import read_manifest
from .sample import Sample
from .synthesize import synthesize

RATIOS = (0.5, 0.57, 0.67, 0.75, 0.8, 1.0, 1.25, 1.33, 1.5, 1.75, 2.0)
"""Width over height of the buckets: what cameras and phones make."""

Synthesis = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]


def buckets(size: int, short_side: bool = False) -> list[tuple[int, int]]:
    """(height, width) of about size² pixels, or with a short side of size; one for each aspect ratio, sides multiples of
    64 (of 8 below 256)."""
    multiple = 64 if size >= 256 else 8
    sides = []
    for ratio in RATIOS:
        stretch = math.sqrt(ratio)
        scale = size * max(stretch, 1 / stretch) if short_side else size
        width, height = (
            max(multiple, round(side / multiple) * multiple) for side in (scale * stretch, scale / stretch)
        )
        sides.append((height, width))
    return sorted(set(sides))


def bucket_of(height: int, width: int, size: int, short_side: bool = False) -> tuple[int, int]:
    """The bucket whose aspect ratio is nearest."""
    ratio = math.log(width / height)
    return min(buckets(size, short_side), key=lambda sides: abs(math.log(sides[1] / sides[0]) - ratio))


class RemovalDataset(Dataset):
    """Pairs of a manifest at the sizes of their buckets.

    Items are asked for by (index, epoch). Everything random comes from (seed, epoch, index), so that the same picture
    comes out whichever process loads it.

    Args:
        size: the square root of a bucket's area, in pixels; with `short_side`, a bucket's shorter side.
        dilation: masks grow by a share of their object's size drawn from this range.
        flip: mirror half of the pairs.
        synthesis: makes the pair from the source and its mask instead (EraDiff's dynamic image synthesis).
        people: load instances, pose and parsing too (MILD). Pairs that have pose or parsing are not mirrored: these tell
            left from right.
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
        people: bool = False,
        short_side: bool = False,
    ) -> None:
        if not samples:
            raise ValueError("The data set is empty, expected at least one pair: look at its manifest.")
        self.samples, self.size, self.dilation = samples, size, dilation
        self.flip, self.seed, self.synthesis, self.people = flip, seed, synthesis, people
        self.bucket = [bucket_of(*picture_size(sample.source), size, short_side) for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """source, target [3, H, W] in 0..1; mask, effect_mask [H, W] of 0 and 1; prompt, name.

        Of people also pose [3, H, W] in 0..1, and numbers [H, W]: instances (0 for none; without instance masks, the
        object is number 1) and parsing. Zeros stand for an absent pose or parsing.
        """
        index, epoch = key
        sample = self.samples[index]
        generator = seeds.generator(self.seed, epoch, index)
        source, target = read_image(sample.source), read_image(sample.target)
        mask = (read_mask(sample.mask) > 0.5).float()
        effect = mask if sample.effect_mask is None else (read_mask(sample.effect_mask) > 0.5).float()
        people = read_people(sample, mask) if self.people else {}
        sizes = {tuple(picture.shape[-2:]) for picture in (source, target, mask, effect, *people.values())}
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
        layers = {"source": source, "target": target, "mask": mask, "effect_mask": torch.maximum(mask, effect)}
        for name, picture in people.items():
            scale = fit if name == "pose" else fit_labels
            layers[name] = scale(picture[..., rows, columns], height, width)
        has_left_and_right = self.people and (sample.pose is not None or sample.parsing is not None)
        if self.flip and torch.rand(1, generator=generator) < 0.5 and not has_left_and_right:
            layers = {name: layer.flip(-1) for name, layer in layers.items()}
        pictures = {name: layer[0] for name, layer in layers.items()}
        return {**pictures, "prompt": sample.prompt or "", "name": sample.name}

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, Any]] | Exception:
        """The items of a batch, or what is wrong with one: raised in a worker, it would come out as a traceback's text."""
        try:
            return [self[key] for key in keys]
        except (ValueError, OSError) as fault:
            return fault


class BucketBatches(Sampler[list[tuple[int, int]]]):
    """Endless batches of (index, epoch), one bucket a batch, each epoch in its own seeded order.

    What does not fill a batch at an epoch's end is filled up with samples of the same bucket again, so that none
    starves and a set smaller than a batch works.

    Args:
        start: number of the batch to begin with, to continue a training.
        rows: the part of each batch to give, where several processes share it.
    """

    def __init__(
        self, dataset: RemovalDataset, batch: int, seed: int, start: int = 0, rows: slice = slice(None)
    ) -> None:
        self.batch, self.seed, self.start, self.rows = batch, seed, start, rows
        self.groups: dict[tuple[int, int], list[int]] = {}
        for index, sides in enumerate(dataset.bucket):
            self.groups.setdefault(sides, []).append(index)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = sum(math.ceil(len(group) / self.batch) for group in self.groups.values())
        epoch, skip = divmod(self.start, per_epoch)
        while True:
            yield from (batch[self.rows] for batch in self.epoch(epoch)[skip:])
            epoch, skip = epoch + 1, 0

    def epoch(self, epoch: int) -> list[list[tuple[int, int]]]:
        generator = seeds.generator(self.seed, epoch)
        found = []
        for group in self.groups.values():
            order = torch.randperm(len(group), generator=generator).tolist()
            order += [order[i % len(order)] for i in range(-len(order) % self.batch)]
            keys = [(group[i], epoch) for i in order]
            found += [keys[i : i + self.batch] for i in range(0, len(keys), self.batch)]
        return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]


def batches(
    pairs: Path | list[Sample],
    *,
    batch: int,
    size: int,
    seed: int = 0,
    workers: int = 0,
    start: int = 0,
    rows: slice = slice(None),
    dilation: tuple[float, float] = (0.0, 0.1),
    flip: bool = True,
    synthesis: bool = False,
    people: bool = False,
    short_side: bool = False,
) -> Iterator[dict[str, Any]]:
    """Endless batches of pairs, from batch number `start` on: [B, 3, H, W], [B, H, W], lists of text.

    Args:
        pairs: a folder of them, or what `read_manifest` made of it.
        rows: the part of each batch that is loaded.

    Returns:
        Batches, in which `number` [B] is the batch's number, the same in each row.

    Raises:
        ValueError, OSError: the first fault of a picture, in the process that asks for the batch; it names the file. Or a
            process that loads pictures has died.
    """
    dataset = RemovalDataset(
        read_manifest(pairs, targets=not synthesis) if isinstance(pairs, Path) else pairs,
        size,
        dilation=dilation,
        flip=flip,
        seed=seed,
        synthesis=synthesize if synthesis else None,
        people=people,
        short_side=short_side,
    )
    order = BucketBatches(dataset, batch, seed, start, rows)
    loader = DataLoader(
        dataset, batch_sampler=order, num_workers=workers, collate_fn=collate, worker_init_fn=ignore_stops
    )
    for number, items in enumerate(told_in_turn(loader), start):
        if isinstance(items, Exception):
            raise items
        yield {**items, "number": torch.full((len(items["name"]),), number)}


def told_in_turn(loader: DataLoader) -> Iterator[Any]:
    """Passes a loader's batches on; the death of one of its processes is told where its next batch is asked for.

    PyTorch would raise it from a signal's handler, in the middle of whatever is going on: of a step, for one.

    Raises:
        ChildProcessError: a process that loads pictures has died.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handled = signal.getsignal(signal.SIGCHLD) if is_main and hasattr(signal, "SIGCHLD") else None
    loaded = iter(loader)
    if handled is not None:
        signal.signal(signal.SIGCHLD, handled)
    while True:
        try:
            items = next(loaded)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ChildProcessError(
                "A process that loads pictures was killed, most often because memory ran out: give fewer --workers."
            ) from error
        yield items


def ignore_stops(_worker: int) -> None:
    """In a worker: Ctrl-C and `timeout` tell the whole process group, of which the training alone is to stop, once the step
    in hand is saved. A worker ends when its training does, however that ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def collate(items: list[dict[str, Any]] | Exception) -> dict[str, Any] | Exception:
    return items if isinstance(items, Exception) else default_collate(items)


def read_people(sample: Sample, mask: Tensor) -> dict[str, Tensor]:
    """instances, parsing [1, H, W] and pose [1, 3, H, W] of a sample; mask [1, H, W] is its object."""
    return {
        "instances": mask if sample.instance_masks is None else read_labels(sample.instance_masks),
        "pose": torch.zeros(1, 3, *mask.shape[-2:]) if sample.pose is None else read_image(sample.pose),
        "parsing": torch.zeros_like(mask) if sample.parsing is None else read_labels(sample.parsing),
    }


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


def fit(picture: Tensor, height: int, width: int) -> Tensor:
    """Scale [1, C, H, W] until it covers height×width, and cut the middle out."""
    scale = max(height / picture.shape[-2], width / picture.shape[-1])
    sides = [max(side, round(length * scale)) for side, length in zip((height, width), picture.shape[-2:], strict=True)]
    if sides != list(picture.shape[-2:]):
        picture = F.interpolate(picture, size=sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return picture[..., top : top + height, left : left + width]


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Scale a mask [1, H, W] of 0 and 1 until it covers height×width, and cut the middle out. A pixel that the object touches
    at all is of the object."""
    # Growing, the nearest pixel; shrinking, the largest one, so that no thin part vanishes.
    shrinks = max(height / mask.shape[-2], width / mask.shape[-1]) < 1
    return _cover(mask, height, width, F.adaptive_max_pool2d if shrinks else _nearest)


def fit_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Scale object numbers [1, H, W] until they cover height×width, and cut the middle out. No two numbers are mixed."""
    return _cover(labels, height, width, _nearest)


def _cover(labels: Tensor, height: int, width: int, resize: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
    scale = max(height / labels.shape[-2], width / labels.shape[-1])
    sides = [max(side, round(length * scale)) for side, length in zip((height, width), labels.shape[-2:], strict=True)]
    labels = resize(labels[:, None], sides)[:, 0]
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return labels[..., top : top + height, left : left + width]


def _nearest(labels: Tensor, sides: list[int]) -> Tensor:
    return F.interpolate(labels, size=sides, mode="nearest-exact")
