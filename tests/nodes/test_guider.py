"""MASG Guider, on tiny models in this process: what it does to a run, and that it is a good neighbour to other nodes."""

from __future__ import annotations

import pytest
import torch

from unclutter.tests.nodes.running import run_node

STEPS = 4


@pytest.fixture
def tiny(comfy):
    from unclutter.tests.nodes import tiny

    return tiny


def masg(
    tiny, model, mask=None, mask_scale=12.5, background_scale=1.0, schedule="cosine_step", cutoff=0.5, sigmas=None
):
    from unclutter.nodes.guidance import MASGGuider

    prompts = tiny.conditioning(1), tiny.conditioning(2)
    mask = tiny.square_mask() if mask is None else mask
    return run_node(
        MASGGuider,
        model,
        *prompts,
        mask,
        sigmas,
        mask_scale=mask_scale,
        background_scale=background_scale,
        schedule=schedule,
        cutoff=cutoff,
    )


def guider(tiny, model, *parameters, **named):
    return masg(tiny, model, *parameters, **named)[0]


def spy(model, seen):
    """A clone of the model that notes every guidance: (sigma, scale)."""
    model = model.clone()

    def note(args):
        seen.append((float(args["sigma"].max()), args["cond_scale"]))
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(note)
    return model


def count_rows(model, rows):
    """A clone of the model that notes how many conditionings each of its calls holds."""
    model = model.clone()

    def note(apply_model, args):
        rows.append(len(args["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(note)
    return model


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sdxl inpainting", "flux"])
def test_one_scale_everywhere_is_plain_guidance(tiny, family):
    model = tiny.sdxl(9) if family == "sdxl inpainting" else getattr(tiny, family)()
    ours = guider(tiny, model, mask_scale=4.0, background_scale=4.0, schedule="constant")
    assert torch.equal(tiny.sample(ours), tiny.sample(tiny.guider(model, 4.0)))


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "dpmpp_sde", "euler_cfg_pp", "euler_ancestral"])
def test_one_scale_everywhere_is_plain_guidance_with_any_sampler(tiny, sampler):
    model = tiny.sdxl()
    ours = guider(tiny, model, mask_scale=4.0, background_scale=4.0, schedule="constant")
    assert torch.equal(tiny.sample(ours, sampler=sampler), tiny.sample(tiny.guider(model, 4.0), sampler=sampler))


def test_every_pixel_has_its_own_scale(tiny):
    model = tiny.sdxl()
    # No side of the box is on the grid of 8 pixels: a latent pixel with any of it counts.
    mask = tiny.square_mask(64, 104, (17, 39, 25, 47))
    latent = torch.zeros(1, 4, 8, 13)
    inside = torch.zeros(1, 1, 8, 13)
    inside[..., 2:5, 3:6] = 1
    conditioned, unconditioned = (tiny.sample(tiny.guider(model, cfg), 1, latent=latent) for cfg in (1.0, 0.0))
    ours = tiny.sample(guider(tiny, model, mask, 7.0, 2.0, "constant"), 1, latent=latent)
    expected = unconditioned + (2 + 5 * inside) * (conditioned - unconditioned)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-2)


def test_a_mask_of_another_size_is_the_same_region(tiny):
    model = tiny.sdxl()
    large = tiny.square_mask().repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert torch.equal(tiny.sample(guider(tiny, model, large)), tiny.sample(guider(tiny, model)))


@pytest.mark.parametrize(
    "sampler", ["euler", "heun", "dpm_2", "dpmpp_2m", "dpmpp_sde", "euler_cfg_pp", "euler_ancestral"]
)
def test_the_scale_goes_by_the_sigma_and_not_by_the_number_of_calls(tiny, sampler):
    seen = []
    model = spy(tiny.sdxl(), seen)
    assert tiny.sample(guider(tiny, model, schedule="linear", mask_scale=9.0), STEPS, sampler).isfinite().all()
    schedule = tiny.sigmas(model, STEPS).tolist()
    scales = {sigma: float(scale.max()) if isinstance(scale, torch.Tensor) else scale for sigma, scale in seen}
    by_sigma = [scales[sigma] for sigma in sorted(scales)]
    assert by_sigma == sorted(by_sigma)
    # 9 at the first of four steps down to 1 at the last.
    expected = [9.0, 1 + 16 / 3, 1 + 8 / 3, 1.0]
    assert [scales[sigma] for sigma in schedule[:-1]] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("sampler", "expected"), [("euler", [2, 2, 2, 1]), ("euler_cfg_pp", [2, 2, 2, 2])])
def test_steps_with_nothing_to_guide_cost_half(tiny, sampler, expected):
    rows = []
    tiny.sample(guider(tiny, count_rows(tiny.sdxl(), rows), schedule="one_step", cutoff=0.5), STEPS, sampler)
    assert rows == expected


def test_two_prompts_that_are_the_same_cost_one_pass_and_are_told(tiny, caplog):
    from unclutter.nodes.guidance import MASGGuider

    def sample(rows, positive, negative):
        mask, model = tiny.square_mask(), count_rows(tiny.sdxl(), rows)
        return tiny.sample(run_node(MASGGuider, model, positive, negative, mask, None, schedule="constant")[0])

    same, other = [], []
    out = sample(same, tiny.conditioning(1), tiny.conditioning(1))
    assert "positive and negative are the same" in caplog.text and caplog.text.count("MASG Guider") == 1
    assert same == [1] * STEPS and torch.equal(out, tiny.sample(tiny.guider(tiny.sdxl(), 1.0)))
    caplog.clear()
    ((text, more),) = tiny.conditioning(1)
    sample(other, [[text, more]], [[text, {**more, "strength": 0.5}]])
    assert other == [2] * STEPS and not caplog.text


def test_a_mask_of_another_shape_than_the_latent(tiny):
    with pytest.raises(ValueError, match="mask is 128x64 and the latent 8x8"):
        tiny.sample(guider(tiny, tiny.sdxl(), tiny.square_mask(64, 128)))


def test_hooks_of_other_nodes_run_as_in_plain_guidance(tiny):
    import comfy.samplers

    calls = []

    def predict(args):
        calls.append("predict")
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )

    def soften(args):
        calls.append("soften")
        conditioned, unconditioned = args["conds_out"]
        return [conditioned, 0.5 * (conditioned + unconditioned)]

    model = tiny.sdxl()
    model.set_model_sampler_calc_cond_batch_function(predict)
    model.set_model_sampler_pre_cfg_function(soften)
    ours = tiny.sample(guider(tiny, model, mask_scale=4.0, background_scale=4.0, schedule="constant"), 1)
    assert calls == ["predict", "soften"]
    assert torch.equal(ours, tiny.sample(tiny.guider(model, 4.0), 1))


def test_perturbed_attention_guidance_adds_up(tiny):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    model = tiny.sdxl()
    (perturbed,) = PerturbedAttentionGuidance.execute(model, 3.0).args
    added = tiny.sample(guider(tiny, perturbed), 1) - tiny.sample(guider(tiny, model), 1)
    expected = tiny.sample(tiny.guider(perturbed, 4.0), 1) - tiny.sample(tiny.guider(model, 4.0), 1)
    assert expected.abs().max() > 1
    torch.testing.assert_close(added, expected, rtol=1e-3, atol=1e-2)


def test_each_picture_of_a_batch_has_its_own_mask(tiny):
    model = tiny.sdxl()
    masks = torch.cat([tiny.square_mask(), tiny.square_mask(box=(0, 8, 0, 64))])
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros_like(noise)
    together = tiny.sample(guider(tiny, model, masks), latent=zeros, noise=noise)
    alone = [
        tiny.sample(guider(tiny, model, masks[i : i + 1]), latent=zeros[:1], noise=noise[i : i + 1]) for i in range(2)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-2)


def test_two_masks_for_three_pictures(tiny):
    masks = tiny.square_mask().repeat(2, 1, 1)
    with pytest.raises(ValueError, match="2 masks came for 3"):
        tiny.sample(guider(tiny, tiny.sdxl(), masks), latent=torch.zeros(3, 4, 8, 8))


def test_latents_that_are_no_pictures(tiny):
    with pytest.raises(ValueError, match="guides pictures"):
        guider(tiny, tiny.sdxl()).scale_map(torch.zeros(1, 4, 3, 8, 8), 7.0)


def test_masks_that_remove_nothing_or_everything(tiny):
    model = tiny.sdxl()
    with pytest.raises(ValueError, match="64"):
        guider(tiny, model, torch.zeros(1, 64, 64))
    with pytest.raises(ValueError, match="(?i)fill"):
        guider(tiny, model, torch.ones(1, 64, 64))


@pytest.mark.parametrize("bad", [{"mask_scale": -1.0}, {"background_scale": float("nan")}, {"cutoff": 2.0}])
def test_absurd_numbers_through_a_link(tiny, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        guider(tiny, tiny.sdxl(), **bad)


def test_nothing_stays_behind(tiny):
    model = tiny.sdxl()
    before = tiny.sample(tiny.guider(model, 4.0))
    one, other = guider(tiny, model), guider(tiny, model, tiny.square_mask(box=(40, 64, 0, 24)))
    first = tiny.sample(one)
    assert not torch.equal(first, tiny.sample(other))
    assert torch.equal(first, tiny.sample(one))
    assert torch.equal(before, tiny.sample(tiny.guider(model, 4.0)))


def test_the_plot_shows_the_schedule_over_the_given_steps(tiny):
    model = tiny.sdxl()

    def highest_red(sigmas, schedule):
        plot = masg(tiny, model, schedule=schedule, sigmas=sigmas)[1]
        assert plot.shape == (1, 384, 768, 3)
        assert plot.min() >= 0 and plot.max() <= 1
        red = (plot[0, 100:, :, 0] > 0.6) & (plot[0, 100:, :, 1] < 0.5)
        columns = torch.arange(76, 740)
        return red[:, columns].float().argmax(dim=0)

    falling = highest_red(None, "linear")
    assert (falling.diff() >= 0).all() and falling[-1] > falling[0] + 120
    assert highest_red(None, "constant").unique().numel() == 1
    _, widths = highest_red(tiny.sigmas(model, 5), "linear").unique(return_counts=True)
    assert (widths > 50).sum() == 5


def test_latents_of_a_family_that_also_makes_videos(comfy):
    """[B, C, 1, h, w]: with one scale everywhere it is core's guidance; with two, each applies on its side of the mask."""
    from unclutter.nodes.guidance import MASGGuider
    from unclutter.tests.nodes import tiny, tiny_families

    name = "Qwen-Image"
    model, mask = tiny_families.build(name), tiny_families.object_mask(name)
    noise = tiny_families.latent(name, model)
    prompts = [tiny_families.conditioning(name, seed) for seed in (1, 2)]

    def run(inside, outside):
        guider, _ = run_node(
            MASGGuider, model, *prompts, mask, mask_scale=inside, background_scale=outside, schedule="constant"
        )
        return tiny.sample(guider, 1, latent=torch.zeros_like(noise), noise=noise)

    three, five, both = run(3.0, 3.0), run(5.0, 5.0), run(5.0, 3.0)
    inside = mask[0] > 0.5
    assert torch.equal(both[..., inside], five[..., inside]) and torch.equal(both[..., ~inside], three[..., ~inside])
    assert not torch.equal(three, five)
