"""`unclutter evaluate reproduce`: a table of one of the papers, by the instrument, with what cannot be had told first."""

from __future__ import annotations

from rich.console import Console

from .instrument import evaluate_photos
from .report import markdown
from .reproduce_settings import ReproduceConfig, asked
from .tables.registry import TABLES
from .tables.table import Table


def reproduce(config: ReproduceConfig) -> None:
    """Tell what a table needs, run what can be run, and put the paper's numbers under those of the run.

    Raises:
        ValueError, OSError: as `evaluate_photos`.
    """
    config.check()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if config.table is None:
        width = max(map(len, TABLES))
        for name, table in TABLES.items():
            console.print(f"{name:{width}}  {table.title}")
        console.print("\n`unclutter evaluate reproduce TABLE --plan` tells what a table needs.")
        return
    table = TABLES[config.table]
    console.print("\n".join(plan(config, table)))
    if config.plan or table.elsewhere:
        return
    evaluate_photos(config.photos(table), published(table))


def plan(config: ReproduceConfig, table: Table) -> list[str]:
    """Tells what is run and what is not, and why, a line each."""
    bases, adapters, results = config.given(table)
    lines = [table.title, f"Data: {table.data}"]
    if table.elsewhere:
        lines.append(f"Made by: {table.elsewhere}")
    lines += asked(table.bases, bases, "base") + asked(table.adapters, adapters, "adapters")
    runs = config.runs(table)
    for row in table.rows:
        note = f" {row.note}" if row.note else ""
        if row in runs:
            lines.append(f"runs: {row.paper}.{note}")
        elif row.paper in results:
            lines.append(f"scored: {row.paper}, from {results[row.paper]}.")
        elif row.method is None:
            lines.append(
                f'left out: {row.paper}, another program; give its pictures as --results "{row.paper}=FOLDER".'
            )
        else:
            needs = [
                f"--{option} {name}"
                for option, name, given in (("base", row.base, bases), ("adapters", row.adapters, adapters))
                if name is not None and name not in given
            ]
            lines.append(f"left out: {row.paper}, which needs {' and '.join(needs)}.{note}")
    for head, metric in table.columns.items():
        if metric is None:
            lines.append(f"no metric here: {head}.")
    return [*lines, *(f"not as in the paper: {each}" for each in table.cannot)]


def published(table: Table) -> str:
    """The paper's numbers, and what stands between them and a repetition, as a section of the report."""
    heads = ["method", *(f"{head} ({metric})" if metric else head for head, metric in table.columns.items())]
    rows = [
        [row.paper, *("–" if value is None else f"{value:g}" for value in row.values)]
        for row in table.rows
        if len(row.values) == len(table.columns)
    ]
    parts = [
        f"## The paper's numbers\n\n{table.title}. {table.data}",
        markdown(heads, rows) if rows else "It gives none.",
    ]
    notes = [*(f"* {row.paper}: {row.note}" for row in table.rows if row.note), *(f"* {each}" for each in table.cannot)]
    return "\n\n".join([*parts, "Between them and the table above stand:\n\n" + "\n".join(notes)] if notes else parts)
