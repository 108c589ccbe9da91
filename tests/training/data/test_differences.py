"""SAVP's pixel side: heat, cleaning, rejection, matching, growing and the effect ratio, each against what a hand finds."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from unclutter.training.data.differences import (
    Rejection,
    bounding_box,
    changed_mask,
    clean,
    grow_area,
    heat_map,
    main_regions,
    match_boxes,
    regions,
    regions_in,
    split_effect,
)
from unclutter.training.data.lab import lab_in_bytes
from unclutter.training.data.settings import Constants

SMALL = Constants(min_area=40, max_hole_area=20, disk_radius=1)


def flat(grey, size=64):
    return torch.full((1, 3, size, size), grey / 255)


def mask_of(*boxes, size=64):
    mask = np.zeros((size, size), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def rejection(function, *arguments):
    with pytest.raises(Rejection) as caught:
        function(*arguments)
    return caught.value.reason


def test_the_defaults_are_the_papers_table():
    assert tuple(vars(Constants()).values()) == (
        *(0.6, 0.3, 0.1, 0.07, 3, 2000, 500, 0.3, 4),
        *(0.3, 0.3, 3, 0.3, 2.0, 0.5, 1.2, 0.25),
    )
    with pytest.raises(ValueError, match=r"dilation is 0\.9, expected at least 1"):
        Constants(dilation=0.9)


def test_heat_of_a_grey_patch_is_its_weight():
    background, shot = flat(128), flat(128)
    shot[..., 20:40, 20:40] = 64 / 255
    heat = heat_map(shot, background, Constants())
    # All pixels of the patch differ alike in luminance, next to nothing in colour, and in gradient at its rim alone.
    luminance = [cie_lightness(math.floor((grey / 255) ** 2.2 * 255)) for grey in (128, 64)]
    difference = math.log(luminance[0] + 1e-3) - math.log(luminance[1] + 1e-3)
    assert heat[30, 30] == pytest.approx(0.6 * difference / (difference + 1e-3), abs=1e-4)
    assert heat[:18].max() == heat[42:].max() == 0
    assert heat[20, 30] > heat[30, 30]


def cie_lightness(grey):
    """L* of an 8-bit grey of sRGB, in steps of 100/255."""
    linear = (grey / 255 / 12.92) if grey / 255 <= 0.04045 else ((grey / 255 + 0.055) / 1.055) ** 2.4
    lightness = 116 * linear ** (1 / 3) - 16 if linear > 0.008856 else 903.3 * linear
    return round(lightness * 2.55) / 2.55


def test_a_shift_of_colour_alone_is_seen():
    background, shot = flat(128), flat(128)
    shot[0, :, 20:40, 20:40] = torch.tensor([150.0, 118, 128])[:, None, None] / 255
    only_colour = replace(Constants(), luminance_weight=0, gradient_weight=0)
    heat = heat_map(shot, background, only_colour)
    assert heat[30, 30] == pytest.approx(0.3, abs=1e-2) and heat[50, 50] == 0


def test_equal_pictures_have_no_heat_and_are_rejected():
    heat = heat_map(flat(90), flat(90), SMALL)
    assert heat.max() == 0
    assert rejection(main_regions, changed_mask(heat, SMALL), SMALL) == "no_change"


def test_cleaning_drops_specks_and_lines_and_fills_small_holes():
    mask = mask_of((5, 5, 30, 30), (40, 40, 45, 45), (50, 0, 51, 64))
    mask[10:14, 10:14] = False
    mask[18:26, 18:26] = False
    cleaned = clean(mask, SMALL)
    assert cleaned[10:14, 10:14].all() and not cleaned[20:24, 20:24].any()
    assert not cleaned[:, 35:].any() and cleaned[6:29, 6:29].mean() > 0.85


def test_too_many_regions_and_scattered_changes_are_rejected():
    squares = [(x, y, x + 8, y + 8) for x in (2, 22, 42) for y in (2, 22)]
    assert len(main_regions(mask_of(*squares[:4]), SMALL)) == 4
    assert rejection(main_regions, mask_of(*squares[:5]), SMALL) == "too_many_regions"
    # Six regions of 16 pixels beside one of 144: none is a main one, and together they are 40 % of the change.
    crumbs = [(x, y, x + 4, y + 4) for x in (2, 22, 42) for y in (2, 22)]
    mask = mask_of((40, 40, 52, 52), *crumbs)
    assert rejection(main_regions, mask, SMALL) == "noise"
    assert [region.area for region in main_regions(mask, replace(SMALL, max_noise=0.5))] == [144]


def test_the_largest_region_comes_first_and_corners_connect():
    found, _ = regions(mask_of((0, 0, 4, 4), (4, 4, 8, 8), (20, 20, 30, 30)))
    assert [(region.box, region.area) for region in found] == [((20, 20, 30, 30), 100), ((0, 0, 8, 8), 32)]


@pytest.mark.parametrize(
    ("semantic", "outcome"),
    [
        ([(0, 0, 20, 20)], "kept"),
        ([(0, 0, 20, 14)], "kept"),
        ([(0, 0, 16, 12)], "overflow"),
        ([(0, 0, 10, 10)], "background_collapse"),
        ([(18, 18, 38, 38)], "no_match"),
        ([(40, 40, 60, 60)], "no_match"),
        ([], "nothing_named"),
    ],
)
def test_a_change_is_held_against_what_the_instruction_names(semantic, outcome):
    changed = (0, 0, 20, 20)
    if outcome == "kept":
        assert match_boxes([changed], semantic, Constants()) == [changed]
    else:
        assert rejection(match_boxes, [changed], semantic, Constants()) == outcome


def test_changes_elsewhere_are_left_out_of_a_pair_that_passes():
    here, there, inside = (0, 0, 20, 20), (40, 40, 60, 60), (8, 30, 12, 34)
    assert match_boxes([here, there], [(2, 2, 20, 20)], Constants()) == [here]
    kept = regions_in(mask_of(here, there, inside), [(0, 0, 20, 36)], Constants())
    assert np.array_equal(kept, mask_of(here, inside))


def test_growing_adds_the_share_asked_for_on_all_sides():
    mask = mask_of((20, 20, 40, 40))
    grown = grow_area(mask, 1.2)
    # A ring of one pixel adds 80 of the 80 pixels wanted.
    assert grown.sum() == 480 and bounding_box(grown) == (19, 19, 41, 41) and grown[mask].all()
    assert np.array_equal(grow_area(mask, 1.0), mask)
    assert grow_area(mask, 100.0).all() and not grow_area(mask_of(), 1.2).any()


def test_the_effect_ratio_is_that_of_areas():
    core, shadow = (10, 10, 30, 30), (35, 10, 55, 30)
    mask = mask_of(core, shadow)
    effect, ratio = split_effect(mask, mask_of(core), SMALL)
    # The core grows from 400 to 480 pixels.
    assert np.array_equal(effect, clean(mask_of(shadow), SMALL))
    assert ratio == effect.sum() / 480 and ratio == pytest.approx(400 / 480, abs=0.01)
    assert split_effect(mask_of(core), mask_of(core), SMALL)[1] == 0
    assert split_effect(mask, mask_of(), SMALL)[1] == 0


def test_through_the_noise_of_jpeg_the_object_and_its_shadow_are_found():
    random = np.random.default_rng(0)
    ramp = np.linspace(90, 190, 256)[:, None, None] + random.normal(0, 3, (256, 256, 1))
    background = np.broadcast_to(ramp, (256, 256, 3)).copy()
    shot = background.copy()
    shot[150:166, 70:190] *= 0.7
    shot[60:150, 80:150] = (200, 60, 40)

    def photograph(pixels, quality):
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "jpeg", quality=quality)
        return torch.from_numpy(np.asarray(Image.open(file), np.float32) / 255).permute(2, 0, 1)[None]

    constants = Constants(min_area=500)
    mask = changed_mask(heat_map(photograph(shot, 90), photograph(background, 80), constants), constants)
    truth = mask_of((80, 60, 150, 150), (70, 150, 190, 166), size=256)
    assert mask[truth].mean() > 0.95 and (mask & ~truth).sum() < 0.15 * truth.sum()


def test_lab_is_opencvs_to_the_last_bit():
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(0)
    colours = [generator.integers(0, top, (300, 1000, 3)).astype(np.uint8) for top in (256, 40)]
    picture = np.concatenate(colours)
    expected = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(int)
    light, red, yellow = lab_in_bytes(torch.from_numpy(picture).movedim(-1, 0).float()).numpy()
    assert np.array_equal(np.stack([light, red + 128, yellow + 128], axis=-1), expected)
