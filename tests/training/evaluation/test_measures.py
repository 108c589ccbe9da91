import pytest
import torch

from unclutter.training.evaluation.measures import bootstrap_interval, decibels, error, mcnemar, rate_interval
from unclutter.training.images.flat_fills import grey_fill, ring_fill


def test_psnr_by_hand():
    fill, truth = torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)
    region = torch.zeros(1, 4, 4)
    region[0, 0, 0] = 1
    assert decibels(error(fill, truth, region)).item() == pytest.approx(20.0, abs=1e-4)
    fill[0, :, 1, 1] = 9  # outside of the region
    assert decibels(error(fill, truth, region)).item() == pytest.approx(20.0, abs=1e-4)


def test_mcnemar_by_hand():
    """Five scenes that only the first removes, one that only the second does: 2 (C(6,0) + C(6,1)) / 2^6 = 14/64."""
    first = torch.tensor([1, 1, 1, 1, 1, 0, 1, 1, 0], dtype=torch.bool)
    second = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 0], dtype=torch.bool)
    assert mcnemar(first, second) == pytest.approx(14 / 64)
    assert mcnemar(first, first) == 1


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 2 + 1
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - half, abs=0.03)
    assert high == pytest.approx(values.mean().item() + half, abs=0.03)
    assert bootstrap_interval(values) == (low, high)


def test_wilsons_interval_by_hand():
    """Nothing of ten: from 0 to z² / (10 + z²)."""
    assert rate_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert rate_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_paint_takes_the_colour_around_the_hole_and_leaves_the_rest():
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    picture[0, :, 4:12, 4:12] = 0.25
    hole = torch.zeros(2, 16, 16)
    hole[:, 7:9, 7:9] = 1
    painted = ring_fill(picture, hole)
    torch.testing.assert_close(painted[0, :, 7:9, 7:9], torch.full((3, 2, 2), 0.25))
    outside = (hole == 0)[:, None].expand_as(picture)
    assert torch.equal(painted[outside], picture[outside])
    assert torch.equal(grey_fill(picture, hole)[~outside], torch.full((24,), 0.5))
