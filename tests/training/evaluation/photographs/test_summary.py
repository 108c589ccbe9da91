"""Means, differences and what is noise, against values worked out by hand."""

import pytest

from unclutter.training.evaluation.metrics.facts import METRICS, MetricFacts
from unclutter.training.evaluation.metrics.metric import Metric
from unclutter.training.evaluation.photographs.advice import advice
from unclutter.training.evaluation.photographs.summary import Summary

HOLE = Metric(METRICS["hole"])
SUCCESS = Metric(MetricFacts("success", "success", "higher", "picture", "Gone.", "Judges err.", "none:None"))
SUCCESS.is_rate = True
NAMES = [f"p{index}" for index in range(20)]


def summary(metric, **values):
    rows = {name.replace("_", " "): each for name, each in values.items()}
    by_picture = {(row, metric.name): dict(zip(NAMES, each, strict=True)) for row, each in rows.items()}
    about = {name: {"marked": 0.01 if index < 10 else 0.2, "ground": 0.01} for index, name in enumerate(NAMES)}
    seconds = {row: place + 1.0 for place, row in enumerate(rows)}
    return Summary(list(rows), [metric], by_picture, seconds, dict.fromkeys(rows, 1), about, seeds=1)


def test_a_paired_difference_is_found_where_pictures_differ_far_more_than_methods():
    ground = [10.0 + 2 * index for index in range(20)]
    found = summary(
        HOLE, ring_median=ground, better=[value + 1 + 0.1 * (index % 2) for index, value in enumerate(ground)]
    )
    difference = found.difference("better", "ring median", HOLE)
    assert difference.value == pytest.approx(1.05) and 1 <= difference.low <= difference.high <= 1.1
    assert not difference.noise and found.beats("better", "ring median", HOLE)
    mean = found.mean("better", HOLE)
    assert mean.value == pytest.approx(30.05) and mean.low < 26 and mean.high > 34


def test_a_difference_to_both_sides_is_noise():
    found = summary(HOLE, ring_median=[20.0] * 20, other=[20 + (-1) ** index * 1.0 for index in range(20)])
    assert found.difference("other", "ring median", HOLE).noise and not found.beats("other", "ring median", HOLE)
    assert any("no methods here: other" in line for line in advice(found))


def test_of_five_pictures_every_difference_is_noise():
    found = summary(HOLE, ring_median=[20.0] * 20, other=[25.0] * 20)
    assert found.difference("other", "ring median", HOLE, NAMES[:5]).noise
    assert not found.difference("other", "ring median", HOLE, NAMES[:6]).noise


def test_rates_are_compared_by_mcnemar():
    # On ten pictures only the second succeeds, on two only the first: p = 2 (1 + 12 + 66) / 2^12 = 0.0386.
    first = [0.0] * 10 + [1.0] * 2 + [1.0] * 8
    second = [1.0] * 10 + [0.0] * 2 + [1.0] * 8
    difference = summary(SUCCESS, first=first, second=second).difference("second", "first", SUCCESS)
    assert difference.chance == pytest.approx(0.0386, abs=1e-4) and not difference.noise
    # On eight against two: p = 2 (1 + 10 + 45) / 2^10 = 0.109.
    second[0] = second[1] = 0.0
    difference = summary(SUCCESS, first=first, second=second).difference("second", "first", SUCCESS)
    assert difference.chance == pytest.approx(0.1094, abs=1e-4) and difference.noise


def test_the_advice_follows_from_the_numbers():
    """`near` leads on small holes, `far` on large ones; `slow` is as good as `near`, and takes longer."""
    near = [30.0 + index % 3 for index in range(10)] + [20.0 + index % 3 for index in range(10)]
    far = [20.0 + index % 3 for index in range(10)] + [30.0 + index % 3 for index in range(10)]
    slow = [value + (-1) ** index for index, value in enumerate(near)]
    told = {line.split("**")[1]: line for line in advice(summary(HOLE, near=near, far=far, slow=slow)) if "**" in line}
    small, large = told["Small holes (under 3 % of the picture)"], told["Large holes (10 % of the picture and more)"]
    assert "near leads in hole, dB with 30.9" in small and "noise does not tell it from slow" in small
    assert "the fastest of them is near (1 s a picture)" in small
    assert "far leads" in large and "by more than noise" in large
