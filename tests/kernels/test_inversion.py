"""DDIM inversion against diffusers' own, and by hand."""

import pytest
import torch
from diffusers import DDIMInverseScheduler

from unclutter.kernels.inversion import invert


def test_each_step_is_that_of_diffusers():
    """A network in two notations: variance preserving for diffusers, clean latent plus σ times noise for ours."""
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    ddim = DDIMInverseScheduler(**betas, clip_sample=False, timestep_spacing="leading")
    ddim.set_timesteps(10)
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    def network(x, t):
        return torch.einsum("oc, bchw -> bohw", weight, x).tanh() * (0.5 + t / 1000)

    clean = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    sigmas = [float(((1 - ddim.alphas_cumprod[t]) / ddim.alphas_cumprod[t]) ** 0.5) for t in ddim.timesteps][::-1] + [
        0.0
    ]
    times = [int(t) for t in ddim.timesteps][::-1]

    def denoise(x, index):
        sigma = sigmas[index]
        return x - sigma * network(x / (sigma**2 + 1) ** 0.5, times[index])

    path = invert(denoise, clean, sigmas)
    x = clean
    for place, t in enumerate(ddim.timesteps, start=2):
        x = ddim.step(network(x, int(t)), int(t), x).prev_sample
        sigma = sigmas[-place]
        torch.testing.assert_close(path[-place] / (sigma**2 + 1) ** 0.5, x, atol=2e-5, rtol=1e-4)
    assert len(path) == 11 and torch.equal(path[-1], clean) and not torch.allclose(path[0], clean, atol=0.5)


def test_two_steps_by_hand():
    """ε is 2 at the level σ = 1 and 3 at σ = 3: 5 + (1 − 0) · 2 = 7, and 7 + (3 − 1) · 3 = 13."""
    epsilon = {1.0: 2.0, 3.0: 3.0}
    sigmas = [3.0, 1.0, 0.0]
    path = invert(lambda x, index: x - sigmas[index] * epsilon[sigmas[index]], torch.tensor([5.0]), sigmas)
    assert [float(x) for x in path] == pytest.approx([13.0, 7.0, 5.0], abs=1e-5)
