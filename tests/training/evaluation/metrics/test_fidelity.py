"""PSNR, SSIM and their regions, against values worked out by hand and the formula written out."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from unclutter.training.evaluation.metrics.facts import METRICS, WITHOUT_WEIGHTS, describe
from unclutter.training.evaluation.metrics.opening import open_metrics
from unclutter.training.evaluation.metrics.result import Result


def value(name, result):
    (metric,), gaps = open_metrics([name])
    assert not gaps and metric.kind == "picture"
    (found,) = metric.measure([result])
    return found


def case(**changes):
    """A grey picture of 16 pixels whose left half is the hole, and whose last two columns are its shadow."""
    mask, effects = torch.zeros(16, 16), torch.zeros(16, 16)
    mask[:, :8], effects[:, 14:] = 1, 1
    grey = torch.full((3, 16, 16), 0.5)
    return Result(**{"before": grey, "after": grey, "mask": mask, "truth": grey, "effects": effects, **changes})


def test_psnr_by_hand():
    after = case().after.clone()
    after[:, :, :8] += 0.1
    # Half of the pixels are 0.1 off: a mean squared error of 0.005 in the picture, of 0.01 in the hole.
    assert value("psnr", case(after=after)) == pytest.approx(-10 * math.log10(0.005), abs=1e-4)
    assert value("hole", case(after=after)) == pytest.approx(20, abs=1e-4)
    assert value("outside", case(after=after)) == value("effect", case(after=after)) == 100


def test_a_shadow_that_stays_shows_in_the_effect_alone():
    before = case().before.clone()
    before[:, :, 14:] -= 0.2
    left = case(before=before, after=before)
    assert value("effect", left) == pytest.approx(-10 * math.log10(0.04), abs=1e-4)
    assert value("hole", left) == value("outside", left) == 100
    taken = case(before=before)
    assert value("effect", taken) == value("outside", taken) == 100
    # Nobody says where the shadow is, so that taking it away is taken for damage: the bias that the metric tells of.
    unknown = case(before=before, effects=None)
    assert value("outside", unknown) == pytest.approx(-10 * math.log10(0.04 * 2 / 8), abs=1e-4)


def test_outside_leaves_a_soft_border_out():
    mask, after = case().mask.clone(), case().after.clone()
    mask[:, 8], after[:, :, :9] = 0.3, 0.0
    assert value("outside", case(mask=mask, after=after, effects=None)) == 100


def test_ssim_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 40, 30, generator=generator)
    after = (truth + 0.2 * torch.randn(3, 40, 30, generator=generator)).clamp(0, 1)

    def blurred(picture):
        # Wang et al.'s window: sigma 1.5, 11 pixels.
        return torch.stack(
            [torch.from_numpy(gaussian_filter(each.numpy(), 1.5, truncate=3.5, mode="mirror")) for each in picture]
        )

    x, y = truth.double(), after.double()
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    both = blurred(x * y) - mean_x * mean_y
    formula = (2 * mean_x * mean_y + 1e-4) * (2 * both + 9e-4)
    formula = (formula / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4))).mean()
    zeros = torch.zeros(40, 30)
    assert value("ssim", Result(truth, after, zeros, truth)) == pytest.approx(formula.item(), abs=1e-5)
    assert value("ssim", Result(truth, truth, zeros, truth)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("psnr", {"truth": None}),
        ("ssim", {"truth": None}),
        ("hole", {"truth": None}),
        ("hole", {"mask": torch.zeros(16, 16)}),
        ("effect", {"effects": None}),
        ("effect", {"effects": torch.zeros(16, 16)}),
        ("effect", {"truth": None}),
        ("outside", {"mask": torch.ones(16, 16)}),
    ],
)
def test_what_cannot_be_measured_is_a_gap_and_no_zero(name, changes):
    assert value(name, case(**changes)) is None


def test_ssim_of_a_picture_smaller_than_its_window_is_a_gap():
    small = torch.rand(3, 8, 40)
    assert value("ssim", Result(small, small, torch.zeros(8, 40), small)) is None


def test_sizes_that_differ_are_told():
    with pytest.raises(ValueError, match=r"truth of vase is \[3, 16, 8\].*expected \[3, 16, 16\]"):
        case(truth=torch.zeros(3, 16, 8), name="vase")
    with pytest.raises(ValueError, match=r"effects of a picture is \[8, 16\]"):
        case(effects=torch.zeros(8, 16))


def test_a_metric_that_does_not_exist_is_told():
    with pytest.raises(ValueError, match="There is no metric psrn: expected psnr, ssim"):
        open_metrics(["psrn"])


def test_every_metric_says_what_it_rewards_and_its_bias():
    assert WITHOUT_WEIGHTS == ("psnr", "ssim", "hole", "effect", "outside")
    for row in describe():
        assert row["label"] and row["rewards"].endswith(".") and row["bias"].endswith(".")
        assert {row["kind"], row["better"]} <= {"picture", "set", "seeds", "higher", "lower"}
    assert [row["name"] for row in describe()] == list(METRICS)
