"""The masks that OSOR's second phase is shown."""

from dataclasses import replace

import pytest
import torch
from skimage.morphology import convex_hull_object

from unclutter.training.images.masks import convex_hulls, dilate, move, shrink
from unclutter.training.recipes.osor.incomplete_masks import incomplete_mask, incomplete_masks
from unclutter.training.recipes.osor.settings import IncompleteMasks

MODES = ("shrink", "core", "expand", "holes", "shift")
SMALL = IncompleteMasks(growth=(3,), growth_times=1, hole_density=0.01, hole_sides=(3,), distance=3)


def square(side=32, first=8, last=24):
    mask = torch.zeros(side, side)
    mask[first:last, first:last] = 1
    return mask


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def test_shrinking_keeps_what_lies_deepest():
    kept = shrink(square(), 64 / 256)
    assert torch.equal(kept, square(32, 12, 20))
    corner = torch.zeros(16, 16)
    corner[:8, :8] = 1  # the picture's edge is no border: its two inner sides are
    assert torch.equal(shrink(corner, 0.25).nonzero().amax(dim=0), torch.tensor([3, 3]))


def test_each_part_gets_its_own_hull():
    mask = torch.zeros(40, 40)
    mask[3:15, 3:6] = mask[12:15, 3:15] = 1
    mask[30, 20:35] = mask[25:36, 27] = 1
    mask[38, 2] = 1
    expected = torch.from_numpy(convex_hull_object(mask.numpy() > 0)).float()
    assert torch.equal(convex_hulls(mask), expected) and expected.sum() > mask.sum()


def test_dilating_and_moving():
    point = torch.zeros(8, 8)
    point[4, 4] = 1
    expected = torch.zeros(8, 8)
    expected[3:6, 3:6] = 1
    assert torch.equal(dilate(point, 3), expected)
    assert move(point, -2, 3).nonzero().tolist() == [[2, 7]]
    assert not move(point, 0, 4).any()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_does_what_it_says(mode):
    target, core = square(), square(32, 10, 14)
    made = incomplete_mask(target, core, mode, SMALL, seeded())
    share = (made.sum() / target.sum()).item()
    assert torch.equal(made, made.round()) and made.shape == target.shape
    if mode == "shrink":
        assert 0.49 <= share <= 0.71 and (made <= target).all()
    elif mode == "core":
        assert torch.equal(made, core)
    elif mode == "expand":
        assert torch.equal(made, square(32, 7, 25))
    elif mode == "holes":
        assert 0.4 <= share < 1 and (made <= target).all()
    else:
        assert share == 1 and not torch.equal(made, target)


def test_without_a_core_the_mask_shrinks():
    target = square()
    for core in (target, torch.zeros_like(target)):
        made = incomplete_mask(target, core, "core", SMALL, seeded())
        assert made.sum() < 0.71 * target.sum()


def test_the_mask_stays_where_too_little_would_be_left():
    target, empty = square(), torch.zeros(32, 32)
    settings = replace(SMALL, hole_density=1.0)
    assert torch.equal(incomplete_mask(target, target, "holes", settings, seeded()), target)
    for mode in MODES:
        assert torch.equal(incomplete_mask(empty, empty, mode, SMALL, seeded()), empty)


def test_modes_come_as_often_as_their_chances_say():
    target, core = square(), square(32, 10, 14)
    # Every second row, so that each is a draw of its own.
    both = target.expand(1200, -1, -1), core.expand(1200, -1, -1), SMALL
    made = list(incomplete_masks(*both, [seeded(number) for number in range(1200)])[::2])
    areas = torch.stack([mask.sum() for mask in made]) / target.sum()
    cores = sum(torch.equal(mask, core) for mask in made) / 600
    assert abs(cores - 0.3) < 0.06
    assert abs((areas > 1).float().mean() - 0.2) < 0.05
    assert abs(((areas > 0.45) & (areas < 0.75)).float().mean() - 0.35) < 0.08
    assert torch.equal(made[3], incomplete_masks(*(rows[:1] for rows in both[:2]), SMALL, [seeded(6)])[0])


def test_two_pictures_suffer_the_same_and_each_in_its_own_way():
    target, core = square().expand(400, -1, -1), square(32, 10, 14).expand(400, -1, -1)
    made = incomplete_masks(target, core, SMALL, [seeded(number) for number in range(400)])
    areas = made.sum(dim=(1, 2)).reshape(200, 2) / target[0].sum()
    grown, cores = areas > 1, areas == 16 / 256
    assert torch.equal(grown[:, 0], grown[:, 1]) and torch.equal(cores[:, 0], cores[:, 1])
    assert 0 < grown[:, 0].sum() < 200 and not torch.equal(grown[:-1, 0], grown[1:, 0])
    assert (areas[:, 0] != areas[:, 1]).sum() > 50


def test_absurd_settings_say_what_is_wrong():
    with pytest.raises(ValueError, match="expected them to sum to 1"):
        IncompleteMasks(shrink=0.5)
    with pytest.raises(ValueError, match="side is 4 pixels, expected odd"):
        IncompleteMasks(growth=(4,))
