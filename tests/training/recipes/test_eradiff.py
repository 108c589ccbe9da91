"""The ε form of EraDiff's loss against the paper's state-space loss."""

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from unclutter.adapters.mini import SCHEDULE
from unclutter.adapters.names import ldm_keys
from unclutter.training.base_models.single_file import KINDS
from unclutter.training.recipes.eradiff import faded_state, rectified_noise


@pytest.mark.parametrize("mixup", [True, False])
@pytest.mark.parametrize(("t", "stride"), [(999, 100), (500, 1), (500, 37), (37, 37), (1, 1)])
def test_equals_the_state_space_loss(t, stride, mixup):
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.double()
    generator = torch.Generator().manual_seed(t)
    clean, occupied, noise, prediction = (
        torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    alpha, earlier = alphas[t].repeat(2), alphas[t - stride].repeat(2)
    # DDIM without noise, written out: the clean picture that ε stands for, taken to the earlier level.
    state = faded_state(clean, occupied, noise, alpha, mixup)
    a, e = alphas[t], alphas[t - stride]
    predicted = e.sqrt() * (state - (1 - a).sqrt() * prediction) / a.sqrt() + (1 - e).sqrt() * prediction
    reached = faded_state(clean, occupied if mixup else clean, noise, earlier)
    expected = (reached - predicted).square().mean(dim=(1, 2, 3))
    target, weight = rectified_noise(clean, occupied, noise, alpha, earlier, mixup)
    torch.testing.assert_close(weight * (prediction - target).square().mean(dim=(1, 2, 3)), expected, rtol=1e-6, atol=0)


def test_the_path_starts_with_the_object_and_ends_without():
    clean, occupied, noise = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    # At ᾱ = 0.25 the state is √0.25 · 0.75 of the object.
    assert faded_state(clean, occupied, noise, torch.tensor([0.25])).item() == pytest.approx(0.375)
    assert faded_state(clean, occupied, noise, torch.tensor([1.0])).item() == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.title)
def test_comfyui_loads_the_full_network(comfy, kind):
    """Goes the way of Load Diffusion Model, in the real shapes and without weights; it knows no SD 2-inpainting in diffusers'
    keys."""
    import comfy.model_base
    from comfy import model_detection

    with torch.device("meta"):
        weights = UNet2DConditionModel(**{**kind.unet, "in_channels": 9}).state_dict()
    written = {key: weights[name] for name, key in ldm_keys(weights).items()}
    prefix = model_detection.unet_prefix_from_state_dict(written)
    named = {key.removeprefix(prefix): weight for key, weight in written.items()}
    config = model_detection.model_config_from_unet(named, "")
    config.set_inference_dtype(torch.float16, None)
    model = config.get_model(named, "", device=torch.device("meta"))
    model.diffusion_model.load_state_dict(named, assign=True)  # all of them, at these shapes, or it raises
    assert len(named) == len(weights) and config.unet_config["in_channels"] == 9
    assert model.model_type == comfy.model_base.ModelType.EPS
