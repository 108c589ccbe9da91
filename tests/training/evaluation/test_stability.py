"""Spread over seeds: by hand, and of the starts of Attentive Eraser."""

import pytest
import torch

from unclutter.training.evaluation.settings import StabilityConfig
from unclutter.training.evaluation.stability import evaluate_stability, spread


def test_the_spread_by_hand():
    """Two seeds that differ by 0.2 in one of the hole's two pixels: variance 0.01 there, √(0.01 / 2) in the mean."""
    fills, hole = torch.zeros(2, 1, 3, 2, 2), torch.zeros(1, 2, 2)
    hole[0, 0] = 1
    fills[0, :, :, 0, 0] = 0.2
    fills[1, :, :, 1] = 1  # outside of the hole, where it does not count
    assert spread(fills, hole).item() == pytest.approx(0.005**0.5)


def test_only_the_inversion_knows_no_seed(capsys):
    results = evaluate_stability(StabilityConfig(scenes=2, seeds=2, steps=2))
    *others, inversion = results
    assert inversion.spread == inversion.high == 0 and all(other.low > 1 for other in others)
    assert "DIP" in capsys.readouterr().out
    with pytest.raises(ValueError, match="seeds 1"):
        StabilityConfig(seeds=1).check()
