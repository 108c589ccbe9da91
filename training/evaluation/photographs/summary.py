"""Statistics of the values of many pictures: means with their intervals, and differences that are, or are not, more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import torch

from ...data.public.cases import PhotoCase
from ..measures import NOISE, bootstrap_interval, mcnemar, rate_interval
from ..metrics.metric import Metric
from .contestants import Contestant
from .ledger import Ledger

Values = Mapping[str, float]
"""By picture, the mean over its seeds."""
PREFERRED = ("lpips", "hole", "remove", "clip-score", "psnr", "dino", "cfd")
"""Metrics by which methods are ranked where there is no success rate, the first that has values."""


FEWEST = 6
"""Pictures, below which every difference is called noise: of 5, all on one side are still chance in 6 % of cases."""


@dataclass(frozen=True)
class Mean:
    """The mean over `count` pictures with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """How much a method differs from another on the `count` pictures that both have, with its 95 % interval.

    Attributes:
        chance: of McNemar's test, for rates of one seed (of several verdicts the majority counts); None for other metrics.
        noise: whether chance may have made it: at 5 %, or where the interval holds 0, or of fewer than `FEWEST` pictures.
    """

    value: float
    low: float
    high: float
    count: int
    chance: float | None
    noise: bool


@dataclass
class Summary:
    """The values of a run, by method, metric and picture, and what is known of the pictures.

    Attributes:
        rows: names of the methods that have results.
        values: by (method, metric).
        seconds, memory: median of each method.
        about: of each picture its facts, as they are in the lines of results.
    """

    rows: list[str]
    metrics: list[Metric]
    values: dict[tuple[str, str], Values]
    seconds: dict[str, float]
    memory: dict[str, int]
    about: dict[str, dict[str, float]]
    seeds: int

    def mean(self, row: str, metric: Metric, pictures: Sequence[str] | None = None) -> Mean | None:
        """The mean of a method; None where nothing was measured."""
        values = [
            value for name, value in self.values[row, metric.name].items() if pictures is None or name in pictures
        ]
        if not values:
            return None
        if is_rate(metric) and set(values) <= {0.0, 1.0}:
            return Mean(mean(values), *rate_interval(round(sum(values)), len(values)), len(values))
        return Mean(mean(values), *bootstrap_interval(torch.tensor(values)), len(values))

    def difference(
        self, row: str, other: str, metric: Metric, pictures: Sequence[str] | None = None
    ) -> Difference | None:
        """A method less another on the same pictures; None where they have none in common."""
        own, theirs = self.values[row, metric.name], self.values[other, metric.name]
        names = [name for name in own if name in theirs and (pictures is None or name in pictures)]
        if not names:
            return None
        first, second = (torch.tensor([values[name] for name in names]) for values in (own, theirs))
        low, high = bootstrap_interval(first - second)
        chance = mcnemar(first > 0.5, second > 0.5) if is_rate(metric) and self.seeds == 1 else None
        noise = len(names) < FEWEST or (low <= 0 <= high if chance is None else chance >= NOISE)
        return Difference((first - second).mean().item(), low, high, len(names), chance, noise)

    def best(self, metric: Metric, pictures: Sequence[str] | None = None) -> str | None:
        """The method with the best mean; None where nothing was measured."""
        means = {row: found.value for row in self.rows if (found := self.mean(row, metric, pictures)) is not None}
        if not means:
            return None
        return (max if metric.better == "higher" else min)(means, key=lambda row: means[row])

    def main_metric(self) -> Metric | None:
        """The metric by which methods are ranked: a success rate, else the first of `PREFERRED` that has values."""
        measured = [metric for metric in self.metrics if any(self.values[row, metric.name] for row in self.rows)]
        rates = [metric for metric in measured if is_rate(metric)]
        known = {metric.name: metric for metric in measured}
        preferred = [known[name] for name in PREFERRED if name in known]
        return next(iter([*rates, *preferred, *measured]), None)

    def beats(self, row: str, other: str, metric: Metric) -> bool:
        """Whether a method is better than another by more than noise."""
        found = self.difference(row, other, metric)
        return found is not None and not found.noise and (found.value > 0) == (metric.better == "higher")


def is_rate(metric: Metric) -> bool:
    """Whether the metric's values are successes: 0 or 1, or the share of several verdicts."""
    return getattr(metric, "is_rate", metric.name == "success")


def summarise(
    rows: Sequence[Contestant],
    cases: Sequence[PhotoCase],
    metrics: Sequence[Metric],
    ledger: Ledger,
    seeds: Sequence[int],
) -> Summary:
    """Gather what the lines of results say of these rows, pictures and seeds."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    seconds, memory, about, with_results = {}, {}, {}, []
    single = [metric for metric in metrics if metric.kind != "set"]
    for row in rows:
        times, sizes = [], []
        for metric in single:
            values[row.name, metric.name] = {}
        for case in cases:
            found = (ledger.lines.get((case.name, row.name, seed)) for seed in (*seeds, None))
            lines = [line for line in found if line is not None and line["error"] is None]
            for metric in single:
                measured = [line["metrics"].get(metric.name) for line in lines]
                measured = [value for value in measured if value is not None]
                if measured:
                    values[row.name, metric.name][case.name] = mean(measured)
            filled = [line for line in lines if line["seed"] is not None]
            times += [line["seconds"] for line in filled]
            sizes += [line["memory_mb"] for line in filled]
            about |= {case.name: filled[0]["about"]} if filled else {}
        if times:
            with_results.append(row.name)
            seconds[row.name], memory[row.name] = median(times), max(sizes)
    return Summary(with_results, single, dict(values), seconds, memory, about, len(seeds))
