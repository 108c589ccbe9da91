"""Every subset of a crowd removed, measured against what is known of it."""

import pytest
import torch

from unclutter.adapters import layered
from unclutter.kernels.scenes import draw_scenes
from unclutter.training.base_models.mini import load_mini
from unclutter.training.evaluation.crowds import CROWD, SUBSETS, evaluate_crowds, in_layers, in_turn, kept_of, measure
from unclutter.training.evaluation.settings import CrowdsConfig
from unclutter.training.sampling.layered import fresh_adapter


def crowd(count=2):
    drawn = draw_scenes(count, 64, torch.Generator().manual_seed(1), crowd=True)
    return drawn, drawn.picture(), (drawn.alphas[:, :CROWD] > 0.5).float()


def test_crowds_overlap_and_hide_nobody():
    drawn, _, masks = crowd(16)
    visible = drawn.instance_masks()[:, :CROWD].sum(dim=(2, 3)) / masks.sum(dim=(2, 3))
    assert visible.min() > 0.3 and (visible < 0.95).float().mean() > 0.3
    assert int(drawn.present.sum()) == 16 * CROWD


def test_the_measure_knows_truth_redrawing_and_a_smeared_neighbour():
    drawn, picture, masks = crowd()
    truth = {gone: drawn.picture(kept_of(drawn, gone)) for gone in SUBSETS}
    alike = torch.tensor([True, False])
    perfect = measure("truth", truth, truth, picture, masks, alike, 1.0)
    nothing = measure("nothing", dict.fromkeys(SUBSETS, picture), truth, picture, masks, alike, 1.0)
    grey = measure("grey", dict.fromkeys(SUBSETS, picture * 0 + 0.5), truth, picture, masks, alike, 1.0)
    assert perfect.psnr > 60 and perfect.completed > 60 and nothing.psnr < 20
    # A removed object's shadow leaves the kept ones: a change, but a small one.
    second = (picture[1:], masks[1:], alike[1:], 1.0)
    alone = measure("grey", dict.fromkeys(SUBSETS, second[0] * 0 + 0.5), {k: v[1:] for k, v in truth.items()}, *second)
    assert grey.unlike == pytest.approx(alone.completed) and grey.unlike != grey.completed
    assert nothing.leakage == 0 and perfect.leakage < 0.1 < grey.leakage


def test_one_after_the_other_starts_in_front_and_keeps_those_who_stay():
    _, picture, masks = crowd()
    calls = []

    def paint(picture, mask):
        calls.append(mask.sum())
        return torch.where(mask[:, None] > 0, 0.0, picture)

    fills = in_turn(paint)(picture, masks)
    assert len(calls) == len(SUBSETS)
    front = masks[:, None, CROWD - 1] > 0
    for gone in SUBSETS:
        if CROWD - 1 not in gone:
            assert torch.equal(fills[gone][front.expand_as(picture)], picture[front.expand_as(picture)])


def test_layers_change_nothing_of_those_who_are_kept(tmp_path):
    drawn, picture, masks = crowd(1)
    adapter = fresh_adapter(load_mini().network, 4, True, True, 20)
    fills = in_layers(adapter, 1.0, 2, 0)(picture, masks)
    seen = drawn.instance_masks()[:, :CROWD]
    for gone in SUBSETS:
        kept = seen[:, [index for index in range(CROWD) if index not in gone]].sum(dim=1, keepdim=True) > 0
        assert torch.equal(fills[gone][kept.expand_as(picture)], picture[kept.expand_as(picture)])
    assert not torch.equal(fills[frozenset({0})], picture)
    layered.save(tmp_path / "layered.safetensors", adapter)
    (tmp_path / "recipe.json").write_text('{"recipe": "mild"}')
    plain, ours, given = evaluate_crowds(CrowdsConfig((tmp_path,), scenes=1, steps=2, sheet=tmp_path / "sheet.png"))
    assert ours.leakage == 0 and "one sampling" in ours.name and plain.time == 1
    assert "with pose and parsing" in given.name and given.psnr == pytest.approx(ours.psnr)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_each_scene_gets_its_own_pose_and_parsing():
    drawn, picture, masks = crowd()
    fresh = fresh_adapter(load_mini().network, 2)
    state = {key: torch.randn_like(value) for key, value in fresh.morphology.items()}
    adapter = layered.Layered(fresh.foreground, fresh.background, {}, state)
    pose, parsing = drawn.pose(), drawn.parsing()
    one = frozenset({CROWD - 1})
    both = in_layers(adapter, 1.0, 2, 0, pose, parsing)(picture, masks)[one]
    second = in_layers(adapter, 1.0, 2, 0, pose[1:], parsing[1:])(picture[1:], masks[1:])[one]
    blind = in_layers(adapter, 1.0, 2, 0)(picture, masks)[one]
    torch.testing.assert_close(both[1:], second)
    assert not torch.allclose(both[1], blind[1], atol=1e-3)
