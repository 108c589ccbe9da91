"""The authors' settings, as `docs/reproducing.md` names them for ComfyUI."""

import pytest

from unclutter.kernels.attention import AAS, aas_at


def timesteps(model, steps):
    import comfy.samplers

    sampler = comfy.samplers.KSampler(model, steps, model.load_device, "ddim", "ddim_uniform", denoise=0.8)
    sampling = model.get_model_object("model_sampling")
    return [round(float(sampling.timestep(sigma))) for sigma in sampler.sigmas[:-1]]


@pytest.fixture
def model(comfy):
    from unclutter.tests.nodes import tiny

    return tiny.sdxl()


def test_attentive_erasers_forty_steps_are_those_of_the_authors(model):
    """Fifty of diffusers' steps, "leading" from 980, at a strength of 0.8 begin at 780; ComfyUI counts from 1."""
    assert timesteps(model, 40) == [t + 1 for t in range(780, -1, -20)]
    assert len(timesteps(model, 50)) == 50


def test_a_quarter_of_them_is_suppressed():
    assert [aas_at(step, 40, 0.3, 0.25) != AAS for step in range(40)] == [True] * 10 + [False] * 30
