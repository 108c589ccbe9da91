"""Scenes from layers."""

import itertools
import resource
from pathlib import Path

import pytest
import torch

from unclutter.kernels.layers import (
    Layers,
    compose,
    context_masks,
    depth_order,
    recompose,
    visible_masks,
)
from unclutter.kernels.regions import feather


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


@pytest.mark.parametrize("pixels", [0, 2])
def test_who_was_seen_keeps_their_pixels_and_who_was_hidden_comes_from_the_layer(scene, pixels):
    layers, masks, background = scene
    image = torch.rand(3, 12, 12)
    out, area = recompose(image, background, masks, masks, layers, [1], feather_pixels=pixels)
    hidden, first, gone = masks[0] * masks[1] > 0, masks[0] > 0, masks[1] > 0
    assert torch.equal(out[:, hidden], layers[0][:, hidden])
    assert torch.equal(out[:, first & ~hidden], image[:, first & ~hidden])
    assert torch.equal(out[:, gone & ~hidden], background[:, gone & ~hidden])
    assert torch.equal(area > 0, gone)
    around = (out != image).any(dim=0) & ~gone
    assert around.any() == bool(pixels) and not around[:2].any() and not (around & first).any()
    assert torch.equal(recompose(image, background, masks, masks, layers, [])[0], image)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2]])
def test_a_hole_wider_than_the_mask_takes_nothing_of_those_who_stay(scene, order):
    layers, masks, background = scene
    holes, image = masks.clone(), torch.rand(3, 12, 12)
    holes[1, 2:11, 2:11] = 1
    out, area = recompose(image, background, masks, holes, layers, [1], order, feather_pixels=2)
    seen = visible_masks(masks, order)[[0, 2]].sum(dim=0)
    assert (seen * holes[1]).any() and torch.equal(area, holes[1] * (1 - seen))
    assert torch.equal(out[:, seen > 0], image[:, seen > 0])
    ground = (area > 0) & (masks[0] == 0)
    assert torch.equal(out[:, ground], background[:, ground])
    far = feather(area[None], 2)[0] == 0
    assert torch.equal(out[:, far], image[:, far])


def test_who_goes_from_under_another_leaves_no_border_on_the_far_side():
    image, background = torch.rand(3, 32, 32), torch.rand(3, 32, 32)
    masks = torch.zeros(2, 32, 32)
    masks[0, 8:24, 4:24] = 1  # ends a pixel before the one in front does
    masks[1, 4:28, 14:25] = 1
    out, area = recompose(image, background, masks, masks, torch.rand(2, 3, 32, 32), [0], feather_pixels=4)
    assert torch.equal(area, masks[0] * (1 - masks[1]))
    far = feather(area[None], 4)[0] == 0
    assert torch.equal(out[:, far], image[:, far]) and not torch.equal(out[:, :, :4], image[:, :, :4])


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


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for the memory of this process")
def test_layers_of_a_large_picture_take_memory_for_their_boxes_alone():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    height, width, people = 1500, 2000, 20
    masks = torch.zeros(people, height, width)
    for index, mask in enumerate(masks):
        mask[700:900, 90 * index : 90 * index + 80] = 1
    image = torch.rand(3, height, width)
    taken_apart = Layers(image, 1 - image, masks, masks, {})
    before = resident()
    rgba = taken_apart.rgba()
    assert rgba.shape == (people + 1, height, width, 4) and rgba[1, 800, 40].tolist() == [*image[:, 800, 40], 1.0]
    assert resident() - before < 0.3 * rgba.numel() * rgba.itemsize
