"""The pictures that a run of `unclutter evaluate photos` was made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...data.public.cases import PhotoCase, read_cases
from .ledger import RUN


@dataclass(frozen=True)
class Source:
    """Pictures by their name, and the size that a run brought them to."""

    cases: dict[str, PhotoCase]
    size: int | None
    square: bool


def write_source(run: Path, data: Path, layout: str | None, size: int | None, square: bool) -> None:
    """Say in a run's folder what it is made of, for `unclutter rate`."""
    told = {"data": str(data.resolve()), "layout": layout, "size": size, "square": square}
    (run / RUN).write_text(json.dumps(told), encoding="utf-8")


def read_source(run: Path) -> Source:
    """The pictures of a run's folder.

    Raises:
        FileNotFoundError, ValueError: the folder does not say, or they are no longer there.
    """
    path = run / RUN
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        data, layout, size, square = Path(told["data"]), told["layout"], told["size"], told["square"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} does not say where the pictures are: run `unclutter evaluate photos` with this folder once more."
        ) from None
    return Source({case.name: case for case in read_cases(data, layout)}, size, square)
