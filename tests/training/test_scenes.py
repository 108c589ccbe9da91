from dataclasses import replace

import torch

from unclutter.training.scenes import KINDS, draw_scenes, random_masks


def scenes(batch=16, size=64, seed=0):
    return draw_scenes(batch, size, torch.Generator().manual_seed(seed))


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


def test_random_masks_leave_something_and_take_something():
    share = random_masks(64, 64, torch.Generator().manual_seed(0)).mean(dim=(1, 2))
    assert (share > 0.001).float().mean() > 0.95 and share.max() < 0.9


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
