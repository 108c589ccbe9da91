"""MILD's losses against values worked out by hand."""

import pytest
import torch

from unclutter.training.recipes.layer_losses import foreground_weight, region_loss


def test_the_ramp_of_equation_4():
    steps = (0, 7999, 8000, 10000, 12000, 20000)
    assert [foreground_weight(step, 8000, 12000) for step in steps] == [0, 0, 0, 0.5, 1, 1]
    assert foreground_weight(3, 3, 3, 2.0) == 2 and foreground_weight(2, 3, 3, 2.0) == 0


def test_small_regions_count_as_much_as_large_ones():
    target = torch.zeros(3, 4, 8, 8)
    mask = torch.zeros(3, 8, 8)
    mask[0, :1, :1] = mask[1, :6, :6] = 1
    loss = region_loss(target + 2, target, mask)
    torch.testing.assert_close(loss, torch.tensor([4.0, 4.0, 0.0]))
    assert region_loss(target + 2 * (1 - mask)[:, None], target, mask).sum() == 0


def test_the_border_and_differences_weigh_more_when_asked():
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 2:6] = 1
    at_border, inside = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    at_border[..., 2, 2], inside[..., 3, 3] = 1, 1
    target = torch.zeros(1, 1, 8, 8)
    plain = [float(region_loss(error, target, mask)) for error in (at_border, inside)]
    weighted = [float(region_loss(error, target, mask, boundary=1.0)) for error in (at_border, inside)]
    # 16 cells, 12 of them at the border.
    assert plain == pytest.approx([1 / 16, 1 / 16]) and weighted == pytest.approx([2 / 28, 1 / 28])
    flat = torch.ones(1, 1, 8, 8)
    assert float(region_loss(flat, target, mask, gradient=1.0)) == pytest.approx(1.0)
    assert float(region_loss(inside, target, mask, gradient=1.0)) == pytest.approx(1 / 16 + 2 / 12 + 2 / 12)
