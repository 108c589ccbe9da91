"""Metrics of all pictures of a method together, and of one picture over its seeds; what is known is not measured again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ...data.public.cases import PhotoCase
from ..metrics.metric import Metric
from .contestants import Contestant
from .ledger import Ledger
from .settings import PhotosConfig
from .stored import Stored


def good_lines(
    row: Contestant, cases: Sequence[PhotoCase], ledger: Ledger, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """The lines of a row that did not fail, by picture and seed."""
    found = (ledger.lines.get((case.name, row.name, seed)) for case in cases for seed in seeds)
    return [line for line in found if line is not None and line["error"] is None]


def measure_sets(
    rows: Sequence[Contestant],
    cases: Sequence[PhotoCase],
    metrics: Sequence[Metric],
    ledger: Ledger,
    known: Ledger,
    config: PhotosConfig,
) -> dict[tuple[str, str], float | None]:
    """The value of each metric of the kind "set", by method and metric; of the first seed."""
    values = {}
    by_name, weights = {case.name: case for case in cases}, config.weights_of()
    wanted = [(row, metric) for row in rows for metric in metrics if metric.kind == "set"]
    for row, metric in tqdm(wanted, desc="sets of pictures", disable=not wanted):
        lines = good_lines(row, cases, ledger, config.seeds[:1])
        stored = Stored(config.out, by_name, lines, config.size, config.square)
        about = {"outputs": stored.digest, "weights": weights.get(metric.name)}
        line = known.lines.get((metric.name, row.name, None))
        if line is None or line["settings"] != about:
            value = metric.measure_set(stored)
            known.add(picture=metric.name, method=row.name, seed=None, settings=about, value=value)
        values[row.name, metric.name] = known.lines[metric.name, row.name, None]["value"]
    return values


def measure_seeds(
    rows: Sequence[Contestant],
    cases: Sequence[PhotoCase],
    metrics: Sequence[Metric],
    ledger: Ledger,
    config: PhotosConfig,
) -> None:
    """Add a line without a seed for each picture that was filled by several, with the metrics of the kind "seeds"."""
    wanted = [metric for metric in metrics if metric.kind == "seeds"]
    if not wanted or len(config.seeds) < 2:
        return
    weights = config.weights_of()
    for row, case in tqdm([(row, case) for row in rows if row.seeded for case in cases], desc="over seeds"):
        lines = good_lines(row, [case], ledger, config.seeds)
        if len(lines) < len(config.seeds):
            continue
        stored = Stored(config.out, {case.name: case}, lines, config.size, config.square)
        about = {"outputs": stored.digest, "weights": {metric.name: weights.get(metric.name) for metric in wanted}}
        line = ledger.lines.get((case.name, row.name, None))
        if line is None or line["settings"] != about:
            values = {metric.name: metric.measure_seeds(stored) for metric in wanted}
            ledger.add(
                picture=case.name, method=row.name, seed=None, settings=about, inputs={}, metrics=values, error=None
            )
