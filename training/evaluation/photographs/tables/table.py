"""A table of a paper: what its rows are here, what they need, and what nobody can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Base:
    """A checkpoint, or a training, that rows of a table need.

    Attributes:
        name: as in --base NAME=PATH or --adapters NAME=PATH.
        title: for people, with the way to get it.
    """

    name: str
    title: str


@dataclass(frozen=True)
class Row:
    """One row of a paper's table.

    Attributes:
        paper: as the paper calls it.
        method: as in --methods, but for its base, adapters and name; None for another program, whose pictures are given as
            --results PAPER=FOLDER.
        base, adapters: names of what it needs.
        values: the paper's numbers, in the order of the table's columns; None where it gives none.
        note: what differs from the paper.
    """

    paper: str
    method: str | None = None
    base: str | None = None
    adapters: str | None = None
    values: tuple[float | None, ...] = ()
    note: str = ""

    def spec(self) -> str:
        """The row as --methods has it."""
        assert self.method is not None
        options = [f"base={self.base}", f"adapters={self.adapters or 'none'}", f"name={self.paper}"]
        return f"{self.method}{',' if ':' in self.method else ':'}{','.join(options)}"


@dataclass(frozen=True)
class Table:
    """A preset of the instrument.

    Attributes:
        name: on the command line, such as lrnr-1.
        title: the paper, the table, and what it shows.
        data: the pictures that the paper took, and how to get them.
        columns: by the paper's heads, the metric that it is here; None where there is none.
        settings: of `PhotosConfig`, as in the paper.
        cannot: what nobody can do today, and why, a sentence each.
        elsewhere: the command that makes the table where it is no table of methods on pictures.
    """

    name: str
    title: str
    data: str
    columns: Mapping[str, str | None]
    rows: tuple[Row, ...]
    bases: tuple[Base, ...] = ()
    adapters: tuple[Base, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    cannot: tuple[str, ...] = ()
    elsewhere: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(metric for metric in self.columns.values() if metric))


SDXL_INPAINTING = Base("sdxl-inpainting", "SDXL inpainting 0.1 (diffusers/stable-diffusion-xl-1.0-inpainting-0.1)")
SD2_INPAINTING = Base("sd2-inpainting", "SD 2 inpainting, 512 pixels, as a diffusers folder")
POWERPAINT = Base(
    "powerpaint", "PowerPaint v1 with its words in the tokenizer (Sanster/PowerPaint-V1-stable-diffusion-inpainting)"
)
ROREM = Base("rorem", "RORem (LetsThink/RORem, a diffusers folder)")


def powerpaint(strength: float = 12.0, more: str = "", method: str = "plain") -> str:
    """PowerPaint's removal prompts, as its code has them: the context token for, the object token against."""
    words = {kind: " ".join(f"P_{kind}_{index}" for index in range(10)) for kind in ("ctxt", "obj")}
    return (
        f"{method}:strength={strength:g},prompt=empty scene blur {words['ctxt']},negative={words['obj']},steps=45{more}"
    )
