"""The ε form of EraDiff's loss against the paper's state-space loss."""

import pytest
import torch
from diffusers import DDIMScheduler

from unclutter.adapters.mini import SCHEDULE
from unclutter.training.eradiff import EraDiffRecipe, faded_state, rectified_noise


@pytest.mark.parametrize(("t", "stride"), [(999, 100), (500, 1), (500, 37), (37, 37), (1, 1)])
def test_equals_the_state_space_loss(t, stride):
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.double()
    generator = torch.Generator().manual_seed(t)
    clean, occupied, noise, prediction = (
        torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    alpha, earlier = alphas[t].repeat(2), alphas[t - stride].repeat(2)
    # DDIM without noise, written out: the clean picture that ε stands for, taken to the earlier level.
    state = faded_state(clean, occupied, noise, alpha)
    a, e = alphas[t], alphas[t - stride]
    predicted = e.sqrt() * (state - (1 - a).sqrt() * prediction) / a.sqrt() + (1 - e).sqrt() * prediction
    expected = (faded_state(clean, occupied, noise, earlier) - predicted).square().mean(dim=(1, 2, 3))
    target, weight = rectified_noise(clean, occupied, noise, alpha, earlier)
    torch.testing.assert_close(weight * (prediction - target).square().mean(dim=(1, 2, 3)), expected, rtol=1e-6, atol=0)


def test_the_path_starts_with_the_object_and_ends_without():
    clean, occupied, noise = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    # At ᾱ = 0.25 the state is √0.25 · 0.75 of the object.
    assert faded_state(clean, occupied, noise, torch.tensor([0.25])).item() == pytest.approx(0.375)
    assert faded_state(clean, occupied, noise, torch.tensor([1.0])).item() == 0


def test_absurd_settings_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="gamma_max is 0, expected 1 to 999"):
        EraDiffRecipe(tmp_path, tmp_path, gamma_max=0)
    with pytest.raises(ValueError, match="batch is 8, expected a multiple of micro_batch, which is 3"):
        EraDiffRecipe(tmp_path, tmp_path, micro_batch=3)
