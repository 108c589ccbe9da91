import math

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from unclutter.kernels.onestep import (
    NoiseLevel,
    add_noise,
    alpha_from_logits,
    blend,
    noise_level,
    noise_of_correction,
    predict_clean,
)


@pytest.fixture
def latents():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 8, 6, generator=generator) for _ in range(3)]


@pytest.mark.parametrize(
    ("timestep", "signal", "noise", "sigma"),
    [(400, 0.6515235, 0.7586285, 1.1643916), (600, 0.4009769, 0.9160882, 2.2846408)],
)
def test_sdxls_noise_by_hand(timestep, signal, noise, sigma):
    level = noise_level(timestep, "epsilon")
    assert level.signal == pytest.approx(signal, abs=1e-6)
    assert level.noise == pytest.approx(noise, abs=1e-6)
    assert level.sigma == pytest.approx(sigma, abs=1e-5)


def test_fluxs_noise_is_unshifted():
    level = noise_level(400, "flow")
    assert (level.signal, level.noise, level.sigma) == pytest.approx((0.6, 0.4, 0.4))


def test_one_step_by_hand():
    clean, noise, predicted = torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.5)
    epsilon, flow = NoiseLevel(0.8, 0.6, "epsilon"), NoiseLevel(0.6, 0.4, "flow")
    assert add_noise(clean, noise, epsilon) == pytest.approx(2.2)
    assert predict_clean(torch.tensor(2.2), predicted, epsilon) == pytest.approx(1.9 / 0.8)
    assert add_noise(clean, noise, flow) == pytest.approx(1.6)
    assert predict_clean(torch.tensor(1.6), predicted, flow) == pytest.approx(1.4)


@pytest.mark.parametrize("timestep", [1, 400, 600, 999])
def test_as_diffusers_ddpm_scheduler(latents, timestep):
    clean, noise, predicted = latents
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    scheduler = DDPMScheduler(1000, **schedule)
    level = noise_level(timestep, "epsilon")
    noisy = scheduler.add_noise(clean, noise, torch.tensor([timestep]))
    torch.testing.assert_close(add_noise(clean, noise, level), noisy)
    estimate = scheduler.step(predicted, timestep, noisy).pred_original_sample
    torch.testing.assert_close(predict_clean(noisy, predicted, level), estimate, atol=1e-4, rtol=1e-4)


def test_as_diffusers_flow_scheduler(latents):
    clean, noise, velocity = latents
    scheduler = FlowMatchEulerDiscreteScheduler(1000, shift=1.0)
    noisy = scheduler.scale_noise(clean, torch.tensor([400.0]), noise)
    level = noise_level(400, "flow")
    torch.testing.assert_close(add_noise(clean, noise, level), noisy)
    scheduler.set_timesteps(sigmas=[0.4])
    step = scheduler.step(velocity, scheduler.timesteps[0], noisy).prev_sample
    torch.testing.assert_close(predict_clean(noisy, velocity, level), step)


@pytest.mark.parametrize("prediction", ["epsilon", "flow"])
def test_a_perfect_prediction_gives_the_clean_picture_back(latents, prediction):
    clean, noise, _ = latents
    level = noise_level(400, prediction)
    predicted = noise if prediction == "epsilon" else noise - clean
    torch.testing.assert_close(
        predict_clean(add_noise(clean, noise, level), predicted, level), clean, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("timestep", "prediction"), [(0, "epsilon"), (1000, "flow"), (-1, "epsilon"), (400, "v")])
def test_noise_that_there_is_not(timestep, prediction):
    with pytest.raises(ValueError, match="timestep|prediction"):
        noise_level(timestep, prediction)


def test_blending(latents):
    erased, original, _ = latents
    mask = torch.zeros(1, 1, 8, 6)
    mask[..., :3] = 1
    hard = blend(erased, original, mask)
    assert torch.equal(hard[..., :3], erased[..., :3]) and torch.equal(hard[..., 3:], original[..., 3:])
    torch.testing.assert_close(blend(erased, original, torch.full((1, 1, 1, 1), 0.25)), 0.25 * erased + 0.75 * original)


def test_alpha_from_logits():
    logits = torch.tensor([0.0, math.log(3), 20.0], dtype=torch.bfloat16)
    torch.testing.assert_close(alpha_from_logits(logits), torch.tensor([0.5, 0.75, 1.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(alpha_from_logits(logits, 1.6), torch.tensor([0.8, 1.0, 1.0]), atol=2e-3, rtol=0)
    assert alpha_from_logits(logits, 0.0).tolist() == [0.0, 0.0, 0.0]


def test_a_correction_is_the_noise_that_leads_to_the_corrected_latent(latents):
    shown, noise, correction = latents
    level = noise_level(400, "epsilon")
    noisy = add_noise(shown, noise, level)
    predicted = noise_of_correction(noisy, shown, correction, level)
    torch.testing.assert_close(predict_clean(noisy, predicted, level), shown + correction, atol=1e-5, rtol=1e-5)
    # No correction: the noise is that which was added.
    torch.testing.assert_close(noise_of_correction(noisy, shown, 0 * shown, level), noise, atol=1e-5, rtol=1e-5)
