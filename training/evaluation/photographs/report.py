"""report.md: the command, the table, the differences that are more than noise, which method when, and all that is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ....adapters.writing import write_text
from ...data.public.cases import PhotoCase
from ..metrics.metric import Metric
from .advice import advice
from .contestants import RING, Contestant
from .ledger import Ledger
from .settings import PhotosConfig
from .summary import FEWEST, Difference, Mean, Summary, is_rate

SHOWN_FAILURES = 40


def write_report(
    config: PhotosConfig,
    summary: Summary,
    rows: Sequence[Contestant],
    cases: Sequence[PhotoCase],
    metrics: Sequence[Metric],
    ledger: Ledger,
    sets: Mapping[tuple[str, str], float | None],
    gaps: Mapping[str, str],
    device: str,
    appendix: str,
) -> Path:
    """Write report.md, and say where."""
    failures = failed(rows, cases, ledger, config.seeds)
    seeds = f"seed {config.seeds[0]}" if len(config.seeds) == 1 else f"{len(config.seeds)} seeds"
    size = (
        "at their own size" if config.size is None else f"at {config.size} pixels{' square' if config.square else ''}"
    )
    parts = [
        "# Removing from pictures: which method does it",
        f"{len(cases)} pictures of {config.source()}, {size}, {seeds}, on {device}. Made by",
        f"```bash\n{config.command()}\n```",
        "## The table",
        table(summary, metrics, sets),
        legend(summary, config),
        "## Which method when",
        "\n".join(f"* {line}" for line in advice(summary)),
        f"## Against paint ({RING})",
        differences(summary, {metric.name: RING for metric in summary.metrics}),
        "## Against the best of each column",
        differences(summary, {metric.name: best for metric in summary.metrics if (best := summary.best(metric))}),
        comparisons(summary),
        appendix,
        "## What is missing",
        missing(summary, metrics, gaps, failures),
        "## What the metrics reward",
        "\n".join(
            f"* **{metric.label}** ({metric.better} is better): {metric.rewards} *{metric.bias}*" for metric in metrics
        ),
    ]
    path = config.out / "report.md"
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def table(summary: Summary, metrics: Sequence[Metric], sets: Mapping[tuple[str, str], float | None]) -> str:
    """A line for each method, the best value of each column in bold."""
    heads = ["method", *(f"{metric.label} {'↑' if metric.better == 'higher' else '↓'}" for metric in metrics)]
    lines = []
    best = {metric.name: summary.best(metric) for metric in summary.metrics}
    for metric in metrics:
        if metric.kind == "set":
            known = {row: value for row in summary.rows if (value := sets.get((row, metric.name))) is not None}
            choose = max if metric.better == "higher" else min
            best[metric.name] = choose(known, key=lambda row: known[row]) if known else None
    for row in summary.rows:
        cells = [row]
        for metric in metrics:
            if metric.kind == "set":
                value = sets.get((row, metric.name))
                text = "–" if value is None else f"{value:.4g}"
            else:
                text = told(summary.mean(row, metric), metric, len(summary.about))
            cells.append(f"**{text}**" if row == best[metric.name] else text)
        count = len({name for metric in summary.metrics for name in summary.values[row, metric.name]})
        lines.append([*cells, f"{summary.seconds[row]:.3g}", str(summary.memory[row]), str(count)])
    return markdown([*heads, "seconds", "memory, MB", "pictures"], lines)


def told(mean: Mean | None, metric: Metric, pictures: int) -> str:
    """A mean and its interval, with the count where it is not of all pictures."""
    if mean is None:
        return "–"
    form = ".1%" if is_rate(metric) else ".4g"
    count = "" if mean.count == pictures else f" of {mean.count}"
    return f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]{count}"


def differences(summary: Summary, others: Mapping[str, str]) -> str:
    """A line for each method, with its paired differences to one other method in each column."""
    shown = [metric for metric in summary.metrics if others.get(metric.name) in summary.rows]
    if not shown:
        return ""
    lines = []
    for row in summary.rows:
        cells = [
            "–" if row == others[metric.name] else change(summary.difference(row, others[metric.name], metric))
            for metric in shown
        ]
        if set(cells) != {"–"}:
            lines.append([row, *cells])
    same = len(set(others.values())) == 1
    heads = [metric.label if same else f"{metric.label} − {others[metric.name]}" for metric in shown]
    return markdown(["method", *heads], lines)


def change(found: Difference | None) -> str:
    if found is None:
        return "–"
    chance = "" if found.chance is None else f", p {'< 0.001' if found.chance < 0.001 else f'{found.chance:.3f}'}"
    text = f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]{chance}"
    return f"{text}, noise" if found.noise else text


def legend(summary: Summary, config: PhotosConfig) -> str:
    lines = [
        "Means over pictures with their 95 % intervals: by drawing pictures with repetition (bootstrap), for success rates "
        "Wilson's. – was not measured, and is no zero. Metrics of a set of pictures have no interval.",
        "Seconds are the median of a picture; memory is the highest, of the GPU, or on a CPU of the whole process.",
    ]
    if len(config.seeds) > 1:
        lines.append(
            f"A picture counts once, with the mean of its {len(config.seeds)} seeds; metrics of a set take the first."
        )
    if 0 < len(summary.about) < 20:
        lines.append(
            f"{len(summary.about)} pictures are few: intervals are wide, and other pictures may rank otherwise."
        )
    return "\n".join(lines)


def comparisons(summary: Summary) -> str:
    count = 2 * (len(summary.rows) - 1) * len(summary.metrics)
    return (
        "Differences are paired, on the pictures that both have, with their 95 % bootstrap interval; for success rates of one "
        f"seed p is McNemar's exact test. *Noise*: chance alone makes one as large in more than 5 % of cases, or the pictures are fewer than {FEWEST}. These are about "
        f"{count} comparisons, of which chance makes some {max(1, round(0.05 * count))} look real."
    )


def failed(
    rows: Sequence[Contestant], cases: Sequence[PhotoCase], ledger: Ledger, seeds: Sequence[int]
) -> list[tuple[str, str, str]]:
    """(picture, method, error) of all that failed."""
    found = (ledger.lines.get((case.name, row.name, seed)) for case in cases for row in rows for seed in seeds)
    return [(line["picture"], line["method"], line["error"]) for line in found if line is not None and line["error"]]


def missing(
    summary: Summary,
    metrics: Sequence[Metric],
    gaps: Mapping[str, str],
    failures: Sequence[tuple[str, str, str]],
) -> str:
    """Everything that a reader could take for measured, and was not."""
    lines = [f"* {gap}" for gap in gaps.values()]
    for metric in summary.metrics:
        if not any(summary.values[row, metric.name] for row in summary.rows):
            seeds = " It needs several --seeds." if metric.kind == "seeds" and summary.seeds < 2 else ""
            lines.append(f"* {metric.label} has no value: none of the pictures has what it needs.{seeds}")
    by_error: dict[tuple[str, str], list[str]] = {}
    for picture, method, error in failures:
        by_error.setdefault((picture, error), []).append(method)
    for (picture, error), methods in list(by_error.items())[:SHOWN_FAILURES]:
        lines.append(f"* {picture} ({', '.join(dict.fromkeys(methods))}): {error}")
    if len(by_error) > SHOWN_FAILURES:
        lines.append(f"* {len(by_error) - SHOWN_FAILURES} more failures are in results.jsonl.")
    return "\n".join(lines) or "Nothing: every method has every picture, and every metric its values."


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
