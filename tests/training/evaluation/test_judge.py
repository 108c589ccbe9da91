"""The judge that comes with the pack: right on scenes whose truth is known, whatever stands or was painted there."""

import pytest
import torch

from unclutter.adapters import mini as mini_files
from unclutter.kernels.regions import grow
from unclutter.kernels.scenes import draw_scenes
from unclutter.training.evaluation.judge import (
    KINDS,
    Judge,
    JudgeConfig,
    load_judge,
    own_errors,
    own_ground,
    stands,
    train_judge,
)
from unclutter.training.images.flat_fills import grey_fill, ring_fill

COUNT = 60


@pytest.fixture(scope="module")
def judge():
    return load_judge()


def holes(difficulty, size, seed=46_000):
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_scenes(COUNT, size, generator, difficulty=difficulty)
    index = drawn.pick_object(generator)
    place = grow(drawn.instance_masks()[torch.arange(COUNT), index], pixels=size / 64)
    return drawn, index, place, own_ground(drawn, index)


@pytest.mark.parametrize(("difficulty", "size"), KINDS)
def test_it_is_seldom_wrong_where_the_truth_is_known(judge, difficulty, size):
    missed, alarms = own_errors(judge, COUNT, difficulty, size, seed=46_000)
    assert missed <= 0.1 and alarms <= 0.1


@pytest.mark.parametrize(("difficulty", "size"), KINDS)
def test_an_object_of_another_colour_is_an_object_and_paint_is_none(judge, difficulty, size):
    drawn, _, place, ground = holes(difficulty, size)
    picture = drawn.picture()
    recoloured = torch.where(place[:, None] > 0, picture[:, [1, 2, 0]], picture)
    seen = stands(judge, recoloured, ground).float().mean()
    painted = stands(judge, ring_fill(picture, place), ground).float().mean()
    grey = stands(judge, grey_fill(picture, place), ground).float().mean()
    assert seen > 0.75 and painted < 0.25 and grey < 0.35


def test_an_object_behind_which_another_comes_to_light_is_judged_by_its_own_ground():
    drawn, index, _, ground = holes("clutter", 128)
    rows = torch.arange(COUNT)
    own = drawn.instance_masks()[rows, index]
    assert (ground <= own).all() and (ground.sum(dim=(1, 2)) > 0).all()
    others = drawn.alphas.clone()
    others[rows, index] = 0
    free = ground.sum(dim=(1, 2)) < own.sum(dim=(1, 2))
    assert free.any()
    assert ((ground * (others.amax(dim=1) > 0.5)).sum(dim=(1, 2))[free] == 0).all()


def test_a_training_writes_a_judge_that_loads(tmp_path, capsys):
    train_judge(JudgeConfig(output=tmp_path, steps=4, batch=2, width=16))
    judge = load_judge(tmp_path)
    assert judge(torch.rand(1, 3, 64, 64)).shape == (1, 1, 16, 16)
    assert "texture: misses" in capsys.readouterr().out
    assert isinstance(judge, Judge) and judge.width == 16


def test_a_missing_judge_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it with `unclutter train judge`"):
        load_judge(tmp_path)
    assert (mini_files.FOLDER / "judge.safetensors").stat().st_size < 2e6
