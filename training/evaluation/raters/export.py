"""Ratings counted: success rates with intervals, differences to the best method, and how far raters agree."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch

from ..measures import bootstrap_interval, rate_interval
from .agreement import cohen_kappa, fleiss_kappa
from .ballots import Item, Ratings, Thing
from .protocols import PROTOCOLS


def export(ratings: Ratings, items: Sequence[Item], folder: Path) -> Path:
    """Write ratings.csv, a line for each rating, and ratings.md, the tables; return the path of the latter.

    Raises:
        ValueError: nothing was rated yet.
    """
    given = [ratings.given[key] for key in sorted(ratings.given)]
    if not given:
        raise ValueError(f"Nothing in {folder} was rated by the protocol {ratings.protocol} yet: rate first.")
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["rater", "protocol", "picture", "method", "seed", "success", "score"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(given)
    path = folder / "ratings.md"
    path.write_text("\n".join([*table(ratings, items), "", *agreement(ratings), ""]), encoding="utf-8")
    return path


def table(ratings: Ratings, items: Sequence[Item]) -> list[str]:
    """The methods, best first.

    Raters of one picture see the same thing, so a picture counts once, with the mean of its ratings, and the interval is
    Wilson's for so many pictures.
    """
    verdicts, scores = by_method(ratings, "success"), by_method(ratings, "score")
    rates = {method: mean(pictures) for method, pictures in verdicts.items()}
    order = sorted(rates, key=lambda method: -rates[method])
    head = ["method", "success", "difference to the first", "pictures", "ratings", "of results"]
    if scores:
        head.insert(2, "score, 1 to 10")
    rows = []
    for method in order:
        pictures, count = verdicts[method], len(verdicts[method])
        low, high = rate_interval(rates[method] * count, count)
        given = sum(line["method"] == method for line in ratings.given.values())
        of_all = sum(item.method == method for item in items)
        row = [method, f"{rates[method]:.1%} [{low:.1%}, {high:.1%}]", difference(pictures, verdicts[order[0]]), count]
        row += [given, of_all]
        if scores:
            row.insert(2, f"{mean(scores[method]):.2f}{interval(scores[method])}" if method in scores else "–")
        rows.append(row)
    raters = sorted({rater for rater, _ in ratings.given})
    protocol = PROTOCOLS[ratings.protocol]
    return [
        f"# Ratings of {len(raters)} {'person' if len(raters) == 1 else 'people'}",
        "",
        f"Protocol: {ratings.protocol} ({protocol.source}). A picture counts once, with the mean of its ratings; the intervals "
        "are of 95 %, Wilson's of a rate, by bootstrap over pictures of a score and of a difference on the same pictures.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def by_method(ratings: Ratings, kind: str) -> dict[str, dict[str, float]]:
    """For each method the mean of its ratings ("success" or "score") of each picture."""
    said: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in ratings.given.values():
        if line[kind] is not None:
            said[line["method"]][line["picture"]].append(float(line[kind]))
    return {
        method: {name: mean(dict(enumerate(each))) for name, each in found.items()} for method, found in said.items()
    }


def mean(values: dict) -> float:
    return sum(values.values()) / len(values)


def interval(pictures: dict[str, float]) -> str:
    low, high = bootstrap_interval(torch.tensor(list(pictures.values())))
    return f" [{low:.2f}, {high:.2f}]"


def difference(pictures: dict[str, float], first: dict[str, float]) -> str:
    """The mean difference of two methods' rates, in points, on the pictures of both; noise where its interval holds 0."""
    both = sorted(pictures.keys() & first.keys())
    if pictures is first or not both:
        return "–"
    values = torch.tensor([pictures[name] - first[name] for name in both])
    low, high = bootstrap_interval(values)
    noise = ", noise" if low <= 0 <= high else ""
    return f"{100 * values.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{noise}"


def agreement(ratings: Ratings) -> list[str]:
    """Fleiss' kappa of all raters and Cohen's of every two, with the number of results that they both rated."""
    said: dict[Thing, dict[str, bool]] = defaultdict(dict)
    for (rater, thing), line in ratings.given.items():
        said[thing][rater] = line["success"]
    several = [list(each.values()) for each in said.values() if len(each) > 1]
    lines = ["## Agreement", ""]
    if not several:
        return [*lines, "No result was rated by two people, so their agreement is not known."]
    lines.append(
        f"Fleiss' kappa of all raters: {told(fleiss_kappa(several))}, on {len(several)} results that at least two rated (1 "
        "is full agreement, 0 that of chance)."
    )
    raters = sorted({rater for each in said.values() for rater in each})
    lines += ["", "| raters | Cohen's kappa | agree | results of both |", "|---|---|---|---|"]
    for first, second in combinations(raters, 2):
        pairs = [(each[first], each[second]) for each in said.values() if first in each and second in each]
        if pairs:
            same = sum(one == other for one, other in pairs) / len(pairs)
            lines.append(f"| {first}, {second} | {told(cohen_kappa(pairs))} | {same:.1%} | {len(pairs)} |")
    return lines


def told(kappa: float | None) -> str:
    return "not defined, as all say the same of everything" if kappa is None else f"{kappa:.2f}"
