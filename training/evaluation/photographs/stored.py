"""Results as they lie on disk, read one at a time: memory stays flat however many there are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from ...data.public.cases import PhotoCase
from ...images.files import read_image
from ..metrics.result import Result
from .pictures import Picture, read_picture


def place_of(out: Path, method: str, picture: str, seed: int) -> Path:
    """The file of a result."""
    return out / "pictures" / folder_of(method) / f"{picture}_{seed}.png"


def folder_of(method: str) -> str:
    """The folder of a row's pictures: its name as far as a folder can have it, and a digest where it cannot."""
    safe = re.sub(r"[^\w.+-]+", "-", method).strip("-.")[:80]
    return safe if safe == method else f"{safe}-{hashlib.blake2b(method.encode(), digest_size=3).hexdigest()}"


def in_metrics(picture: Picture, after: Tensor, seed: int) -> Result:
    """A filled picture [1, 3, H, W] as metrics are given it."""
    return Result(
        picture.before[0],
        after[0],
        picture.mask[0],
        None if picture.truth is None else picture.truth[0],
        None if picture.effects is None else picture.effects[0],
        picture.case.caption,
        picture.case.name,
        seed,
    )


class Stored(Sequence[Result]):
    """The results of some lines of results.jsonl, each read when it is asked for."""

    def __init__(
        self, out: Path, cases: dict[str, PhotoCase], lines: Sequence[dict[str, Any]], size: int | None, square: bool
    ) -> None:
        self.out, self.cases, self.lines, self.size, self.square = out, cases, lines, size, square

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Stored: ...
    def __getitem__(self, index: int | slice) -> Result | Stored:
        if isinstance(index, slice):
            return Stored(self.out, self.cases, self.lines[index], self.size, self.square)
        line = self.lines[index]
        picture = read_picture(self.cases[line["picture"]], self.size, self.square)
        return in_metrics(picture, read_image(self.out / line["output"]["file"]), line["seed"])

    def __iter__(self) -> Iterator[Result]:
        return (self[index] for index in range(len(self)))

    @property
    def digest(self) -> str:
        """Of all that a metric sees: the files given and made."""
        told = [(line["inputs"], line["output"]["digest"], self.size, self.square) for line in self.lines]
        return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()
