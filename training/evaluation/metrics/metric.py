"""A metric, as the instrument calls it."""

from __future__ import annotations

from collections.abc import Sequence

from .facts import Better, Kind, MetricFacts
from .result import Result


class Metric:
    """A metric that has been opened, with the facts of its entry in `facts.METRICS`.

    One of its three methods is there, by its kind: `measure` of each picture, `measure_set` of all pictures of a method,
    or `measure_seeds` of one picture filled from several seeds. None stands for a value that cannot be measured.

    Each goes through the results once, in their order, and holds no more than a few pictures: a sequence that reads its
    pictures when they are asked for never has more of them in memory.
    """

    def __init__(self, facts: MetricFacts) -> None:
        self.facts = facts
        self.name: str = facts.name
        self.label: str = facts.label
        self.better: Better = facts.better
        self.kind: Kind = facts.kind
        self.rewards: str = facts.rewards
        self.bias: str = facts.bias

    def measure(self, results: Sequence[Result]) -> list[float | None]:
        """The value of each result."""
        raise NotImplementedError(f"{self.name} is a metric of the kind {self.kind}, not of each picture.")

    def measure_set(self, results: Sequence[Result]) -> float | None:
        """The value of one method on all pictures."""
        raise NotImplementedError(f"{self.name} is a metric of the kind {self.kind}, not of a set of pictures.")

    def measure_seeds(self, results: Sequence[Result]) -> float | None:
        """The value of one method on one picture, filled from several seeds."""
        raise NotImplementedError(f"{self.name} is a metric of the kind {self.kind}, not of several seeds.")
