"""Settings of `unclutter evaluate reproduce`, checked before PyTorch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..raters.settings import JudgeOptions
from .settings import MetricName, PhotosConfig
from .tables.registry import TABLES
from .tables.table import Base, Row, Table

if TYPE_CHECKING:
    TableName = str
else:
    TableName = Literal[(*TABLES,)]


@dataclass(frozen=True)
class ReproduceConfig:
    """Repeat a table of one of the five papers: its methods, its settings and its metrics, on your pictures.

    Tells first what runs and what does not, and why: weights and data that are not released, checkpoints that were not
    given. The paper's numbers stand under those measured here. Without a table's name, all tables are listed.

    Attributes:
        table: The table.
        data: The pictures, as for `evaluate photos`; the rendered scenes that come with the pack by default.
        out: The folder to write.
        base: Checkpoints, as NAME=CHECKPOINT with the names that the table tells; without names, in the table's order.
        adapters: Trainings and erasers, likewise.
        results: Pictures that other programs made, as NAME=FOLDER with the names of the table's rows.
        plan: Tell what would run and what is missing, and stop.
        metrics: Metrics in place of the table's.
        weights: Weights that metrics look through, as NETWORK=PATH or NETWORK=download.
        judge: The vision-language model that the metrics success and quality ask.
        limit: Take the first so many pictures.
        seeds: Seeds in place of the table's.
        size: Side or longer side of the pictures in place of the table's, such as 64 for a try with the mini model.
        steps: Sampling steps of all methods, for a try; by default the paper's.
        batch: Pictures that are sampled side by side.
        device: Device to run on; by default the GPU where there is one.
    """

    table: tyro.conf.Positional[TableName | None] = None
    data: Path | None = None
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    base: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    plan: bool = False
    metrics: tuple[MetricName, ...] = ()
    weights: tuple[str, ...] = ()
    judge: JudgeOptions = JudgeOptions()  # noqa: RUF009 (it is frozen)
    limit: int | None = None
    seeds: tuple[int, ...] = ()
    size: int | None = None
    steps: int | None = None
    batch: int = 1
    device: str | None = None

    def check(self) -> None:
        """Look at everything that can be known without a model.

        Raises:
            ValueError, FileNotFoundError: values that do not go together, or a file that is not there.
        """
        if self.table is None:
            return
        table = TABLES[self.table]
        self.given(table)
        if not (self.plan or table.elsewhere):
            if self.out is None:
                raise ValueError("Nothing says where to write: give a folder as -o, or --plan to see what would run.")
            self.photos(table).check()

    def given(self, table: Table) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """The bases, the adapters and the results that were given, by the table's names for them.

        Raises:
            ValueError: the table has none of a name, or more are given than it takes.
        """
        outside = [row.paper for row in table.rows]
        return (
            by_name(self.base, [each.name for each in table.bases], "base", table),
            by_name(self.adapters, [each.name for each in table.adapters], "adapters", table),
            by_name(self.results, outside, "results", table),
        )

    def runs(self, table: Table) -> list[Row]:
        """The rows whose bases and adapters were given, and that nobody else's pictures stand for."""
        bases, adapters, results = self.given(table)
        return [
            row
            for row in table.rows
            if row.method is not None
            and row.base in bases
            and (row.adapters is None or row.adapters in adapters)
            and row.paper not in results
        ]

    def photos(self, table: Table) -> PhotosConfig:
        """The run of the instrument that this table is."""
        bases, adapters, results = self.given(table)
        rows = self.runs(table)
        settings: dict[str, Any] = {
            "metrics": (*table.metrics, *(() if table.metrics else ("outside",))),
            **table.settings,
        }
        given = {
            "metrics": self.metrics,
            "seeds": self.seeds,
            "size": self.size,
            "limit": self.limit,
            "steps": self.steps,
        }
        settings |= {name: value for name, value in given.items() if value}
        assert self.out is not None
        methods = [row.spec() for row in rows]
        if self.steps:
            methods = [without_steps(spec) for spec in methods]
        used_bases = {row.base for row in rows}
        used_adapters = {row.adapters for row in rows}
        return PhotosConfig(
            self.out,
            self.data,
            base=tuple(f"{name}={path}" for name, path in bases.items() if name in used_bases),
            adapters=tuple(f"{name}={path}" for name, path in adapters.items() if name in used_adapters),
            methods=tuple(methods) or ("draft",),
            results=tuple(f"{name}={folder}" for name, folder in results.items()),
            weights=self.weights,
            judge=self.judge,
            batch=self.batch,
            device=self.device,
            **settings,
        )


def by_name(given: tuple[str, ...], names: list[str], option: str, table: Table) -> dict[str, str]:
    """Sorts what was given as NAME=PATH by its name; what has no name takes the table's names in their order."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if equals and name not in names:
            raise ValueError(f"{table.name} has no {option} called {name}: expected {', '.join(names) or 'none'}.")
        if not equals:
            free = [name for name in names if name not in found]
            if not free:
                raise ValueError(f"{table.name} takes {len(names)} {option}, and {len(given)} were given.")
            name, path = free[0], each
        found[name] = path
    return found


def without_steps(spec: str) -> str:
    """A method without steps of its own."""
    method, _, options = spec.partition(":")
    kept = [option for option in options.split(",") if not option.startswith("steps=")]
    return f"{method}:{','.join(kept)}"


def asked(bases: tuple[Base, ...], given: dict[str, str], option: str) -> list[str]:
    """A line for each checkpoint or training that a table takes: what was given, or how to get it."""
    return [
        f"  --{option} {base.name}={given[base.name]}"
        if base.name in given
        else f"  --{option} {base.name}=…  not given: {base.title}"
        for base in bases
    ]
