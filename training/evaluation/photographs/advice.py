"""Sentences on which method suits when, which follow from a run's numbers alone."""

from __future__ import annotations

from collections.abc import Callable

from ..metrics.metric import Metric
from .contestants import PAINT, RING
from .summary import FEWEST, Summary, is_rate

KINDS: dict[str, Callable[[dict[str, float]], bool]] = {
    "small holes (under 3 % of the picture)": lambda about: about["marked"] < 0.03,
    "holes of 3 to 10 % of the picture": lambda about: 0.03 <= about["marked"] < 0.1,
    "large holes (10 % of the picture and more)": lambda about: about["marked"] >= 0.1,
    "plain surroundings": lambda about: about["ground"] < 0.06,
    "busy surroundings": lambda about: about["ground"] >= 0.06,
}
"""Kinds of pictures, by the facts that a line of results has: the share that is marked, and the standard deviation of the
brightness around the hole."""


def advice(summary: Summary) -> list[str]:
    """Sentences for the report, one a line."""
    metric = summary.main_metric()
    if metric is None or len(summary.rows) < 2:
        return ["Nothing can be said: no metric could be measured, or of one method only."]
    lines = [
        f"Ranked by {metric.label}, which rewards: {metric.rewards[0].lower()}{metric.rewards[1:]} "
        f"Its bias: {metric.bias[0].lower()}{metric.bias[1:]}"
    ]
    lines.append(told(summary, metric, "all pictures", list(summary.about)))
    for kind, belongs in KINDS.items():
        pictures = [name for name, about in summary.about.items() if belongs(about)]
        if FEWEST <= len(pictures) < len(summary.about):
            lines.append(told(summary, metric, kind, pictures))
    for other in summary.metrics:
        if other.name == "effect" and any(summary.values[row, other.name] for row in summary.rows):
            pictures = list({name for row in summary.rows for name in summary.values[row, other.name]})
            lines.append(told(summary, other, "shadow and reflection outside of the mask", pictures))
    lines.append(paint(summary, metric))
    return [line for line in lines if line]


def told(summary: Summary, metric: Metric, kind: str, pictures: list[str]) -> str:
    """Names the leader on pictures of a kind, the methods that cannot be told from it, and the fastest of these."""
    best = summary.best(metric, pictures)
    mean = None if best is None else summary.mean(best, metric, pictures)
    if best is None or mean is None:
        return ""
    level = []
    for row in summary.rows:
        found = summary.difference(row, best, metric, pictures)
        if row != best and found is not None and found.noise:
            level.append(row)
    value = f"{mean.value:.0%}" if is_rate(metric) else f"{mean.value:.4g}"
    line = f"**{kind[0].upper()}{kind[1:]}** ({mean.count}): {best} leads in {metric.label} with {value}"
    if len(pictures) < FEWEST:
        return f"{line}; so few pictures say nothing of others."
    if not level:
        return f"{line}, by more than noise."
    fastest = min([best, *level], key=lambda row: summary.seconds[row])
    quick = f"; the fastest of them is {fastest} ({summary.seconds[fastest]:.3g} s a picture)"
    return f"{line}; noise does not tell it from {listed(level)}{quick}."


def paint(summary: Summary, metric: Metric) -> str:
    """Names the methods that do not beat paint."""
    if RING not in summary.rows:
        return ""
    methods = [row for row in summary.rows if row not in PAINT]
    failed = [row for row in methods if not summary.beats(row, RING, metric)]
    if not methods:
        return "No method but fills without a model was run: give --base a checkpoint, or --results another program's pictures."
    if not failed:
        return f"All methods beat paint in the median colour around the hole ({RING})."
    return (
        f"Do not beat paint in the median colour around the hole ({RING}) by more than noise, and are no methods here: "
        f"{listed(failed)}."
    )


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
