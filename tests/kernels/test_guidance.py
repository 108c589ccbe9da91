import math

import pytest
import torch

from unclutter.kernels.guidance import SCHEDULES, masg_map, masg_scale, sarg, schedule_position


def scale(t, schedule="cosine_step", steps=50, cutoff=0.5, mask_scale=12.5, background_scale=1.0):
    return masg_scale(t, steps, mask_scale, background_scale, cutoff, schedule)


def test_cosine_step_by_hand():
    # T = 50, t_c = 25, 12.5 -> 1, worked out from Eq. 3 and Eq. 4 of LRNR.
    values = {50: 12.5, 25: 12.5, 24: 12.45, 20: 11.31, 13: 6.75, 5: 1.77, 1: 1.0}
    assert {t: round(scale(t), 2) for t in values} == values


def test_other_schedules_by_hand():
    assert [scale(t, "constant") for t in (50, 25, 1)] == [12.5] * 3
    assert [scale(t, "one_step") for t in (50, 25, 24, 1)] == [12.5, 12.5, 1.0, 1.0]
    assert scale(25.5, "linear") == pytest.approx(1 + 11.5 / 2)
    assert scale(13, "linear_step") == pytest.approx(1 + 11.5 / 2)
    assert scale(25, "linear_step") == 12.5
    for t in (1, 7.5, 20, 50):
        assert scale(t, "cosine") == pytest.approx(scale(t, "cosine_step", cutoff=1.0))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps, cutoff", [(1, 0.5), (2, 0.5), (4, 0.0), (3, 0.25)])
def test_short_runs_stay_between_the_two_scales(schedule, steps, cutoff):
    values = [scale(t, schedule, steps, cutoff) for t in range(steps, 0, -1)]
    assert all(1 <= value <= 12.5 for value in values)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    "wrong",
    [{"schedule": "exponential"}, {"cutoff": -0.1}, {"cutoff": 2}, {"mask_scale": -1}, {"mask_scale": math.nan}],
)
def test_absurd_parameters_say_what_is_wrong(wrong):
    with pytest.raises(ValueError, match="(?i)schedule|cutoff|scales"):
        scale(10, **wrong)


def test_map_and_redirection():
    mask = torch.tensor([[[[0.0, 1.0]]]])
    assert masg_map(mask, 7.0, 2.0).flatten().tolist() == [2.0, 7.0]
    assert sarg(torch.tensor(1.0), torch.tensor(3.0), 9.0) == 19
    assert sarg(torch.tensor(1.0), torch.tensor(3.0), 1.0) == 3
    # On top of classifier-free guidance, which gave 5: 5 + 9 · (3 − 1).
    assert sarg(torch.tensor(1.0), torch.tensor(3.0), 9.0, torch.tensor(5.0)) == 23


def test_position_is_read_from_the_sigma():
    sigmas = [16.0, 4.0, 1.0, 0.0]
    assert [schedule_position(sigma, sigmas, 3) for sigma in (16.0, 4.0, 1.0)] == [3.0, 2.0, 1.0]
    assert schedule_position(8.0, sigmas, 3) == pytest.approx(2.5)  # halfway in log sigma, as Heun's midpoint
    assert schedule_position(99.0, sigmas, 3) == 3.0
    assert schedule_position(0.3, sigmas, 3) == 1.0
