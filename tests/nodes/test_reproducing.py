"""The authors' settings, as `docs/reproducing.md` names them for ComfyUI, and Attentive Eraser's whole pipeline written out
from the paper. `pytest -rP -k written_out` shows the figure."""

import pytest
import torch
from einops import rearrange

from unclutter.kernels.attention import AAS, aas_at

STEPS, SCALE, FACTOR, SUPPRESSED = 40, 9.0, 0.3, 10


def schedule(model, steps, sampler="euler"):
    import comfy.samplers

    return comfy.samplers.KSampler(model, steps, model.load_device, sampler, "ddim_uniform", denoise=0.8).sigmas


def timesteps(model, steps):
    sampling = model.get_model_object("model_sampling")
    return [round(float(sampling.timestep(sigma))) for sigma in schedule(model, steps)[:-1]]


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


class WrittenOut:
    """Attentive Eraser's stochastic pipeline as a sampler, in the paper's own notation: z = √ᾱ z₀ + √(1 − ᾱ) ε, DDIM steps, the
    attention with all of its N × N logits, and the picture's own noised latent around the hole after each step.

    Args:
        mask: [1, H, W] of 0 and 1, at the size of the picture.
    """

    def __init__(self, mask):
        self.mask = mask

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar=False):
        hole = torch.nn.functional.max_pool2d(self.mask[:, None], 8)
        alphas = [1 / (1 + float(sigma) ** 2) for sigma in sigmas]
        z = alphas[0] ** 0.5 * latent_image + (1 - alphas[0]) ** 0.5 * noise
        for step in range(len(alphas) - 1):
            here, after = alphas[step], alphas[step + 1]
            without, erased = (
                self.epsilon(model_wrap, z, here, extra_args, factor) for factor in (None, self.at(step))
            )
            epsilon = without + SCALE * (erased - without)
            clean = (z - (1 - here) ** 0.5 * epsilon) / here**0.5
            z = after**0.5 * clean + (1 - after) ** 0.5 * epsilon
            z = (1 - hole) * (after**0.5 * latent_image + (1 - after) ** 0.5 * noise) + hole * z
        return z

    def at(self, step):
        return FACTOR if step < SUPPRESSED else 1.0

    def epsilon(self, model_wrap, z, alpha, extra_args, factor):
        options = dict(extra_args["model_options"])
        if factor is not None:
            blocks = {("output", number, index): self.attention(factor) for number in range(12) for index in range(2)}
            options["transformer_options"] = {
                **options["transformer_options"],
                "patches_replace": {"attn1": blocks},
            }
        sigma, x = ((1 - alpha) / alpha) ** 0.5, z / alpha**0.5
        clean = model_wrap(x, torch.full((1,), sigma), **{**extra_args, "model_options": options})
        return (x - clean) / sigma

    def attention(self, factor):
        def run(q, k, v, extra):
            q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=extra["n_heads"]) for x in (q, k, v))
            height, width = extra["activations_shape"][-2:]
            objects = torch.nn.functional.max_pool2d(self.mask[:, None], self.mask.shape[-1] // width).flatten()
            assert len(objects) == height * width and 0 < objects.sum() < len(objects)
            logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            hidden = objects * torch.finfo(torch.float32).min
            of_objects, of_background = ((scale * logits + hidden).softmax(dim=-1) @ v for scale in (factor, 1.0))
            out = torch.where(objects[:, None] > 0, of_objects, of_background)
            return rearrange(out, "b h n d -> b n (h d)")

        return run


def test_the_whole_pipeline_equals_the_paper_written_out(model):
    from unclutter.nodes.attention import AttentiveEraser
    from unclutter.tests.nodes import tiny

    mask = tiny.square_mask(128, 128, (32, 80, 48, 96))
    generator = torch.Generator().manual_seed(3)
    latent, noise = (torch.randn(1, 4, 16, 16, generator=generator) for _ in range(2))
    cells = torch.nn.functional.max_pool2d(mask[:, None], 8)
    erased = AttentiveEraser.execute(model, mask, SCALE, FACTOR, 0.25, "decoder", 0.0, 1.0).args[0]
    sigmas = schedule(model, STEPS)

    def sampled(patched, sampler):
        return tiny.guider(patched).sample(
            noise, latent, sampler, sigmas, denoise_mask=cells, disable_pbar=True, seed=5
        )

    import comfy.samplers

    expected = sampled(model, WrittenOut(mask))
    inside = cells.expand_as(latent) > 0
    found = {}
    for name in ("euler", "ddim"):
        made = sampled(erased, comfy.samplers.sampler_object(name))
        error = (made - expected)[inside].square().mean() / expected[inside].square().mean()
        found[name] = float(-10 * error.log10())
        assert (made - latent)[~inside].abs().max() < 1e-5
    print(
        f"Signal to difference in the hole, of all {STEPS} steps: {found['euler']:.1f} dB by euler, {found['ddim']:.1f} by ddim."
    )
    # ComfyUI's ddim holds what lies around the hole by another noise than it begins with; the authors have one noise.
    assert found["euler"] > 80 and found["ddim"] < 60
