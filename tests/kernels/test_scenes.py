from dataclasses import replace

import pytest
import torch

from unclutter.kernels.outlines import KINDS, skeleton
from unclutter.kernels.regions import grow
from unclutter.kernels.scenes import draw_scenes

STRUCTURED = ("smooth", "texture", "clutter")


def scenes(batch=16, size=64, seed=0, **more):
    return draw_scenes(batch, size, torch.Generator().manual_seed(seed), **more)


def test_the_same_seed_draws_the_same_scenes():
    assert torch.equal(scenes().picture(), scenes().picture())
    assert not torch.equal(scenes().picture(), scenes(seed=1).picture())


def test_removing_an_object_changes_just_its_effect():
    drawn = scenes()
    index = drawn.pick_object(torch.Generator().manual_seed(0))
    picture, without = drawn.picture(), drawn.without(index)
    effect = drawn.effect_mask(index)
    changed = (picture - without).abs().amax(dim=1)
    assert (changed * (1 - effect)).max() <= 2 / 255 < (changed * effect).flatten(1).amax(dim=1).min()
    visible = drawn.instance_masks()[torch.arange(16), index]
    assert (visible.sum(dim=(1, 2)) > 20).all()
    # The object lies in its effect mask, and its shadow makes that larger; white on white may hide a few pixels.
    assert (visible * effect).sum() > 0.95 * visible.sum() and effect.sum() > 1.1 * visible.sum()


def test_scenes_are_cluttered_and_mostly_with_look_alikes():
    drawn = scenes(200)
    count = drawn.present.sum(dim=1)
    assert count.min() == 3 and count.max() == 7
    alike = [len(set(kind[here].tolist())) == 1 for kind, here in zip(drawn.kind, drawn.present, strict=True)]
    assert 0.6 < sum(alike) / len(alike) < 0.85


def test_instance_masks_do_not_overlap():
    assert scenes().instance_masks().sum(dim=1).max() <= 1


def test_captions_name_what_is_drawn():
    drawn = scenes()
    alike = next(row for row in range(16) if "objects" not in drawn.caption(row))
    slot = int(drawn.present[alike].float().argmax())
    assert KINDS[int(drawn.kind[alike, slot])] in drawn.caption(alike) and "background" in drawn.caption(alike)


def test_a_pose_shows_hidden_limbs_and_a_parsing_only_what_is_seen():
    drawn = draw_scenes(8, 64, torch.Generator().manual_seed(0), crowd=True)
    limbs, labels = drawn.pose().amax(dim=1) > 0, drawn.parsing()
    bodies, seen = drawn.alphas > 0.5, drawn.instance_masks()
    assert not (limbs & ~bodies.any(dim=1)).any()
    assert torch.equal(labels > 0, seen.any(dim=1)) and labels.max() == 4
    # The first object is furthest back. Alone, its skeleton is that of the whole object, wherever others stand.
    alone = replace(drawn, present=drawn.present & (torch.arange(7) == 0))
    hidden = bodies[:, 0] & (seen[:, 0] == 0)
    assert ((alone.pose().amax(dim=1) > 0) & hidden & limbs).flatten(1).any(dim=1).float().mean() > 0.5
    for row in range(8):
        assert len(labels[row][seen[row, 2] > 0].unique()) == 4


def test_an_object_that_turns_turns_its_skeleton():
    drawn = draw_scenes(4, 64, torch.Generator().manual_seed(0), crowd=True)
    quarter = replace(drawn, angle=drawn.angle + torch.pi / 2)
    assert not torch.equal(quarter.pose(), drawn.pose())
    assert not torch.equal(quarter.parsing(), drawn.parsing())


def with_holes(difficulty, batch=100):
    generator = torch.Generator().manual_seed(0)
    drawn = draw_scenes(batch, 128, generator, difficulty=difficulty)
    index = drawn.pick_object(generator)
    hole = grow(drawn.instance_masks()[torch.arange(batch), index], pixels=2)
    return drawn, drawn.without(index), hole


def ring_psnr(difficulty):
    """Decibels in holes that are painted in the median colour of what is seen around them, mean over the scenes."""
    drawn, truth, hole = with_holes(difficulty)
    around, results = grow(hole, pixels=3) - hole, []
    for picture, wanted, inside, outside in zip(drawn.picture(), truth, hole, around, strict=True):
        colour = picture[:, outside > 0].median(dim=1).values[:, None]
        results.append(-10 * (wanted[:, inside > 0] - colour).square().mean().log10())
    return torch.stack(results).mean()


def test_a_flat_colour_fails_where_structure_crosses_the_hole():
    assert ring_psnr("objects") > 19
    for difficulty in STRUCTURED:
        assert 13 < ring_psnr(difficulty) < 17, difficulty


@pytest.mark.parametrize("difficulty", STRUCTURED)
def test_objects_of_structured_scenes_are_larger_and_have_effects_beyond_their_outline(difficulty):
    drawn, truth, hole = with_holes(difficulty)
    assert hole.mean() > 1.4 * with_holes("objects")[2].mean()
    changed = (drawn.picture() - truth).abs().amax(dim=1)
    assert ((changed > 0.05) & (grow(hole, pixels=2) == 0)).flatten(1).any(dim=1).float().mean() > 0.9
    assert drawn.picture().min() >= 0 and drawn.picture().max() <= 1


def test_the_texture_is_what_tells_smooth_scenes_from_textured_ones_and_clutter_is_all_look_alikes():
    drawn = {difficulty: with_holes(difficulty)[0] for difficulty in STRUCTURED}
    assert (drawn["smooth"].ground.texture == 0).all() and (drawn["texture"].ground.texture > 0).all()
    assert drawn["clutter"].look_alikes().all() and not drawn["texture"].look_alikes().all()
    assert drawn["clutter"].present.sum(dim=1).min() >= 5
    both = (drawn["clutter"].ground.texture > 0).float().mean()
    assert 0.5 < both < 0.9


def test_a_floor_reflects_and_what_is_removed_is_gone_from_it_too():
    drawn, _, _ = with_holes("smooth")
    rows = drawn.reflections.amax(dim=(1, 2, 3)) > 0.1
    assert 0.3 < rows.float().mean() < 0.7
    assert (drawn.reflections.amax(dim=1) * (drawn.ground.floor == 0)).max() == 0
    empty = drawn.picture(torch.zeros_like(drawn.present))
    assert torch.equal(empty, drawn.base)


def test_people_have_heads_above_their_legs_and_bones_within_their_bodies():
    drawn = scenes(16, 128, crowd=True, difficulty="texture")
    assert (drawn.present.sum(dim=1) == 3).all()
    labels, height = drawn.parsing(), torch.arange(128.0)[:, None]
    for row in labels:
        middle = [(height * (row == label)).sum() / (row == label).sum() for label in (1, 2, 4)]
        assert middle == sorted(middle)
    bodies = drawn.alphas.amax(dim=1) > 0
    assert not ((drawn.pose().amax(dim=1) > 0) & ~bodies).any()


def test_an_arm_that_is_raised_sideways_lies_level():
    ends = skeleton(torch.tensor([[torch.pi / 2, 0.0, 0.0, 0.0]]))[0]
    left_arm, right_arm = ends[2], ends[3]
    torch.testing.assert_close(left_arm[1] - left_arm[0], torch.tensor([-0.56, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(right_arm[1] - right_arm[0], torch.tensor([0.0, 0.56]), atol=1e-6, rtol=0)


def test_an_unknown_difficulty_is_refused():
    with pytest.raises(ValueError, match="difficulty is hard, expected one of objects, smooth, texture, clutter"):
        scenes(difficulty="hard")


def test_captions_of_structured_scenes_name_both_grounds():
    drawn = scenes(4, 32, difficulty="texture")
    words = drawn.ground_caption(0).split()
    assert words[2] == "over" and words[-1] == "background" and len(words) == 6
