"""OSOR's published pairs at half size: do metrics rank the published picture above paint above the one with the object?"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from unclutter.kernels.regions import fill_holes, grow
from unclutter.training.data.differences import heat_map
from unclutter.training.data.settings import Constants
from unclutter.training.evaluation.metrics.facts import WITHOUT_WEIGHTS
from unclutter.training.evaluation.metrics.opening import open_metrics
from unclutter.training.evaluation.metrics.result import Result
from unclutter.training.images.files import read_image
from unclutter.training.images.flat_fills import ring_fill

PHOTOS = Path(__file__).resolve().parents[5] / "shared" / "photos"
NAMES = ("anime", "book", "tablet", "teapot")


@pytest.fixture(scope="module")
def ranked():
    """The values of every metric without weights: metric -> name of the fill -> the four pictures."""
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    fills = {"after": [], "ring median": [], "before": []}
    for name in NAMES:
        files = [PHOTOS / f"pair_{name}_{kind}.jpg" for kind in ("before", "after")]
        before, after = (F.interpolate(read_image(file), scale_factor=0.5, mode="area") for file in files)
        # The object is tinted green in the picture with it.
        tinted = (((before[:, 1] - before[0, ::2]) - (after[:, 1] - after[0, ::2])) > 0.12).all(dim=0, keepdim=True)
        mask = fill_holes(grow(tinted.float(), pixels=3.0))
        changed = torch.from_numpy(heat_map(before, after, Constants()))[None] > Constants().heat_threshold
        effects = (changed & (mask == 0)).float()
        for fill, picture in {"after": after, "ring median": ring_fill(before, mask), "before": before}.items():
            fills[fill].append(Result(before[0], picture[0], mask[0], after[0], effects[0], name=name))
    opened, _ = open_metrics(WITHOUT_WEIGHTS)
    return {metric.name: {fill: metric.measure(results) for fill, results in fills.items()} for metric in opened}


@pytest.mark.parametrize("name", ["psnr", "hole"])
def test_the_published_picture_is_above_paint_above_the_object(ranked, name):
    for after, ring, before in zip(*(ranked[name][fill] for fill in ("after", "ring median", "before")), strict=True):
        assert after > ring > before


def test_ssim_prefers_a_person_on_the_stairs_to_smooth_paint_over_them(ranked):
    """Its known bias: paint has none of the steps' structure. At full size paint is ahead by a hair."""
    rows = zip(NAMES, *(ranked["ssim"][fill] for fill in ("after", "ring median", "before")), strict=True)
    for name, after, ring, before in rows:
        assert after > ring and after > before and (ring > before) == (name != "book")


def test_paint_leaves_the_shadow_and_the_effect_says_so(ranked):
    for after, ring, before in zip(
        *(ranked["effect"][fill] for fill in ("after", "ring median", "before")), strict=True
    ):
        assert after > ring == before


def test_outside_is_a_guard_against_damage_and_no_measure_of_removal(ranked):
    assert ranked["outside"]["ring median"] == ranked["outside"]["before"] == [100] * 4
    assert all(value < 60 for value in ranked["outside"]["after"])
