"""Scenes from layers, and what their training weighs."""

import itertools

import pytest
import torch

from unclutter.kernels.layers import (
    compose,
    context_masks,
    depth_order,
    foreground_weight,
    region_loss,
    removed_area,
    visible_masks,
    with_original_pixels,
)


@pytest.fixture
def scene():
    """Three instances; the second lies over a part of the first, the third touches nobody."""
    torch.manual_seed(0)
    masks = torch.zeros(3, 12, 12)
    masks[0, 1:6, 1:6] = 1
    masks[1, 4:9, 4:9] = 1
    masks[2, 10:12, 10:12] = 1
    return torch.rand(3, 3, 12, 12), masks, torch.rand(3, 12, 12)


@pytest.mark.parametrize("remove", [s for n in range(4) for s in itertools.combinations(range(3), n)])
def test_equals_equation_6_where_masks_do_not_overlap(scene, remove):
    layers, masks, background = scene
    masks[1] *= 1 - masks[0]
    kept = [k for k in range(3) if k not in remove]
    expected = sum(masks[k] * layers[k] for k in kept) + (1 - sum(masks[k] for k in kept)) * background
    torch.testing.assert_close(compose(layers, masks, background, remove), torch.as_tensor(expected))


def test_the_one_in_front_hides_the_one_behind(scene):
    layers, masks, background = scene
    both = masks[0] * masks[1] > 0
    assert torch.equal(compose(layers, masks, background, [2])[:, both], layers[1][:, both])
    assert torch.equal(compose(layers, masks, background, [2], order=[1, 0, 2])[:, both], layers[0][:, both])
    assert torch.equal(compose(layers, masks, background, [1])[:, both], layers[0][:, both])


def test_soft_borders_reach_no_further_than_asked_and_never_between_kept_instances(scene):
    layers, masks, background = scene
    hard, soft = (compose(layers, masks, background, [1], feather_pixels=pixels) for pixels in (0, 2))
    changed = (hard != soft).any(dim=0)
    hole = removed_area(masks, [1]) > 0
    assert changed.any() and not changed[hole].any()
    assert not changed[:3].any() and not changed[:, :3].any()
    far, soft = (compose(layers, masks, background, [2], feather_pixels=pixels)[:, 1:8, 1:8] for pixels in (0, 2))
    assert torch.equal(far, soft)
    assert torch.equal(compose(layers, masks, background, [], feather_pixels=2), compose(layers, masks, background, []))


def test_who_was_seen_keeps_their_pixels(scene):
    layers, masks, _ = scene
    image = torch.rand(3, 12, 12)
    kept = with_original_pixels(layers, image, masks)
    hidden = (masks[0] * masks[1]) > 0
    assert torch.equal(kept[0][:, hidden], layers[0][:, hidden])
    assert torch.equal(kept[0][:, (masks[0] > 0) & ~hidden], image[:, (masks[0] > 0) & ~hidden])
    assert torch.equal(kept[1][:, masks[1] > 0], image[:, masks[1] > 0])
    everyone = compose(kept, masks, image, [])
    assert torch.equal(everyone, image)


def test_context_is_everyone_else(scene):
    _, masks, _ = scene
    assert torch.equal(context_masks(masks)[0], torch.maximum(masks[1], masks[2]))
    assert not context_masks(masks[:1]).any()
    assert context_masks(masks[:1].repeat(3, 1, 1)).max() == 1


def test_depth_puts_the_nearer_in_front(scene):
    _, masks, _ = scene
    depth = torch.full((12, 12), 0.5)
    depth[10:, 10:] = 0.1
    depth[1:4, 1:4] = 0.9
    depth[masks[0] > 0] = 0.9
    assert depth_order(masks, depth) == [2, 1, 0]
    assert torch.equal(visible_masks(masks, [2, 1, 0])[0], masks[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: compose(*s, [3]), "names layer 3 .* give 0 to 2"),
        (lambda s: compose(*s, [-1]), "names layer -1"),
        (lambda s: compose(*s, [], order=[0, 1]), "each of 0 to 2 once"),
        (lambda s: compose(s[0][:2], s[1], s[2], []), "do not fit"),
    ],
)
def test_what_cannot_be_is_said(scene, call, words):
    with pytest.raises(ValueError, match=words):
        call(scene)


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
