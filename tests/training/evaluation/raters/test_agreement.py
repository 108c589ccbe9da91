"""Kappas against values worked out by hand and published examples."""

import pytest

from unclutter.training.evaluation.raters.agreement import cohen_kappa, fleiss_kappa


def test_cohen_by_hand():
    """Of 50, both say yes 20 times and no 15 times: 0.7 agree, where chance has 0.5 · 0.6 + 0.5 · 0.4 = 0.5."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


def test_full_and_opposite_agreement():
    assert cohen_kappa([(True, True), (False, False)]) == 1
    assert cohen_kappa([(True, False), (False, True)]) == -1
    assert fleiss_kappa([[True, True, True], [False, False, False]]) == 1


def test_fleiss_of_the_published_example():
    """Ten subjects, 14 raters, five categories: kappa 0.210."""
    counts = [
        (0, 0, 0, 0, 14),
        (0, 2, 6, 4, 2),
        (0, 0, 3, 5, 6),
        (0, 3, 9, 2, 0),
        (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0),
        (3, 2, 6, 3, 0),
        (2, 5, 3, 2, 2),
        (6, 5, 2, 1, 0),
        (0, 2, 2, 3, 7),
    ]
    ratings = [[category for category, times in enumerate(row) for _ in range(times)] for row in counts]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_by_hand_where_numbers_of_raters_differ():
    """Pairs agree 1/3 of the time on the first and always on the second; yes is said 4 times of 5: chance 0.68."""
    ratings = [[True, True, False], [True, True], [False]]
    assert fleiss_kappa(ratings) == pytest.approx(((1 / 3 + 1) / 2 - 0.68) / 0.32)


def test_where_no_kappa_is_defined():
    assert cohen_kappa([]) is fleiss_kappa([]) is fleiss_kappa([[True], [False]]) is None
    assert cohen_kappa([(True, True)] * 3) is fleiss_kappa([[True, True]] * 3) is None
