"""The items to rate in a run, each rater's order of it, and the ratings on disk. Imports no PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from ..photographs.ledger import RESULTS, Ledger
from .settings import RateConfig

RATINGS = "ratings.jsonl"
Thing = tuple[str, str, int]
"""(picture, method, seed)."""


@dataclass(frozen=True)
class Item:
    """A result to rate.

    Attributes:
        file: its picture, below the run's folder.
        digest: of that file, so that a rating never counts for another picture that took its place.
    """

    picture: str
    method: str
    seed: int
    file: str
    digest: str

    @property
    def thing(self) -> Thing:
        return self.picture, self.method, self.seed


def items_of(config: RateConfig) -> list[Item]:
    """All results that are rated, in the order of their names.

    Raises:
        ValueError: there is no result of a method that is asked for, or none at all.
    """
    ledger = Ledger.open(config.run / RESULTS)
    found = [
        Item(line["picture"], line["method"], line["seed"], line["output"]["file"], line["output"]["digest"])
        for line in ledger.lines.values()
        if line["error"] is None and line["seed"] is not None
    ]
    methods = {item.method for item in found}
    if unknown := [name for name in config.methods if name not in methods]:
        raise ValueError(f"{config.run} has no results of {unknown[0]}: expected some of {', '.join(sorted(methods))}.")
    found = sorted(
        (item for item in found if not config.methods or item.method in config.methods), key=lambda item: item.thing
    )
    if not found:
        raise ValueError(f"{config.run} has no results to rate: run `unclutter evaluate photos` with it first.")
    if config.limit is not None:
        pictures = sorted({item.picture for item in found})
        kept = set(random.Random(config.seed).sample(pictures, min(config.limit, len(pictures))))
        found = [item for item in found if item.picture in kept]
    return found


def order_for(items: Sequence[Item], rater: str, seed: int) -> list[Item]:
    """The items in a rater's own order, the same whenever the rater comes back.

    A digest of each decides, so that results which come into the run later change nothing in the order of the others.
    """

    def place(item: Item) -> str:
        return hashlib.blake2b(repr((seed, rater, item.thing)).encode(), digest_size=16).hexdigest()

    return sorted(items, key=place)


class Ratings:
    """All ratings of a run's folder by a protocol: one line each in ratings.jsonl, of which a rater's last one counts.

    Several raters may rate at once.
    """

    def __init__(self, folder: Path, protocol: str, items: Sequence[Item]) -> None:
        """Read the ratings; those of pictures that have changed since do not count.

        Raises:
            ValueError: a line of the file is damaged.
        """
        self.path, self.protocol = folder / RATINGS, protocol
        self.lock = Lock()
        self.given: dict[tuple[str, Thing], dict[str, Any]] = {}
        digests = {item.thing: item.digest for item in items}
        for line in self.lines():
            thing = (line["picture"], line["method"], line["seed"])
            if line["protocol"] == protocol and digests.get(thing) == line["digest"]:
                self.given[line["rater"], thing] = line

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the file; the last one, where a stop tore it, is cut off."""
        if not self.path.is_file():
            return []
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.truncate(self.path, len(whole))
        found = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                found.append({key: entry[key] for key in (*KEYS, "success", "score")})
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{self.path}, line {number}, is no rating ({error!r}): take the line out.") from None
        return found

    def give(self, rater: str, item: Item, success: bool, score: int | None = None) -> None:
        """Keep a rating; the file has it when this returns."""
        about = (rater, self.protocol, item.picture, item.method, item.seed, item.digest)
        line = dict(zip(KEYS, about, strict=True)) | {"success": success, "score": score}
        with self.lock:
            self.given[rater, item.thing] = line
            with self.path.open("ab", buffering=0) as file:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def of(self, rater: str, item: Item) -> dict[str, Any] | None:
        return self.given.get((rater, item.thing))

    def first_left(self, rater: str, order: Sequence[Item]) -> int:
        """The place in a rater's order of the first item without a rating; its length where all are rated."""
        return next((place for place, item in enumerate(order) if self.of(rater, item) is None), len(order))


KEYS = ("rater", "protocol", "picture", "method", "seed", "digest")


def rater_of(name: str) -> str:
    """A rater's name as it is kept.

    Raises:
        ValueError: there is nothing in it, or too much.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= 40:
        raise ValueError("Give a name of 1 to 40 letters.")
    return name
