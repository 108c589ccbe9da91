"""OSOR on FLUX.1 Fill: a tiny one with random weights, trained by the paper's presets and run in both hosts."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from unclutter.adapters import mini, one_step
from unclutter.adapters.families import FLUX, UNET
from unclutter.kernels.onestep import add_noise, noise_level
from unclutter.tests.nodes.running import run_node
from unclutter.training.base_models.checkpoints import load_checkpoint
from unclutter.training.base_models.mini import load_mini
from unclutter.training.images.files import read_image, read_mask
from unclutter.training.recipes.loop import train
from unclutter.training.recipes.lrnr import LRNR
from unclutter.training.recipes.lrnr_settings import LRNRRecipe
from unclutter.training.recipes.osor.objective import OSOR, last_layer
from unclutter.training.recipes.osor.settings import PRESETS, choose
from unclutter.training.sampling.methods import Plain
from unclutter.training.sampling.one_step import erase_once, run_once
from unclutter.training.sampling.sampler import remove


def save_flux(path, in_channels=384):
    """The parts of FLUX.1-Fill-dev, tiny, of the shape of tests/nodes/tiny.py's, as a diffusers folder."""
    from unclutter.tests.training.base_models.test_checkpoints import text_encoder

    torch.manual_seed(0)
    clip = CLIPTokenizer.from_pretrained(mini.FOLDER / "tokenizer")
    letters = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((letter, -2.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"),
    ]
    t5 = T5TokenizerFast(vocab=letters, extra_ids=0, model_max_length=512)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    transformer = FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    pipeline = FluxFillPipeline(
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        tokenizer=clip,
        text_encoder=text_encoder(clip, CLIPTextModel, width=16),
        tokenizer_2=t5,
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=len(t5), **sizes)),
    )
    pipeline.save_pretrained(path)
    return pipeline


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flux")
    save_flux(folder)
    return folder


def small(preset, pairs, base, output, **values):
    """A preset of the paper, for a training of a few seconds."""
    _, paper = PRESETS[preset]
    sizes = {"size": 64, "steps": 2, "batch": 2, "lora_rank": 2, "workers": 0, "sample_every": 0}
    networks = {"trunk": "test_convnext", "discriminator_width": 8, "discriminator_scale": 1.5, "lpips_network": "alex"}
    recipe = replace(paper, data=pairs, base=base, output=output, missing_weights="random", **sizes, **networks)
    return replace(recipe, **values)


@pytest.fixture(scope="module")
def phases(pairs, flux, tmp_path_factory):
    """The recipes of both phases, trained in fp32 with steps large enough to show."""
    learning = {"mixed_precision": "no", "learning_rate": 1e-2}
    one = small("flux-phase-1", pairs, flux, tmp_path_factory.mktemp("one"), **learning)
    two = small("flux-phase-2", pairs, flux, tmp_path_factory.mktemp("two"), start=one.output, **learning)
    for recipe in (one, two):
        train(recipe, OSOR)
    return one, two


def eraser_of(recipe):
    return one_step.load(recipe.output / "one_step.safetensors")


def weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["parameters"]


def scene(pairs):
    return read_image(pairs / "source/000000.png"), (read_mask(pairs / "mask/000000.png") > 0.5).float()


def test_sizes_on_flux_are_those_of_the_paper():
    """266 adapted modules and 149.6 M trained parameters at rank 64 (OSOR's release)."""
    from peft import LoraConfig

    with torch.device("meta"):
        network = FluxTransformer2DModel(in_channels=384, out_channels=64, guidance_embeds=True).requires_grad_(False)
        network.add_adapter(LoraConfig(r=64, lora_alpha=64, target_modules=list(FLUX.lora_targets)))
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    last = sum(p.numel() for p in network.proj_out.parameters())
    assert len(trained) == 2 * 266
    assert not any("context" in name or "add_" in name or "proj_out" in name for name, _ in trained)
    assert round((sum(p.numel() for _, p in trained) + last) / 1e6, 1) == 149.6


def test_the_last_layer_gets_a_row_for_each_packed_cell():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3072, 64)
    made = last_layer(layer, FLUX.alpha_rows)
    assert torch.equal(made.weight[:64], layer.weight) and torch.equal(made.bias[:64], layer.bias)
    assert not made.bias[64:].any() and made.weight[64:].std().item() == pytest.approx(0.02552, rel=0.05)
    assert sum(p.numel() for p in made.parameters()) - sum(p.numel() for p in layer.parameters()) == 12_292


@torch.no_grad()
def test_the_prompt_is_encoded_as_diffusers_does_and_the_encoders_are_gone(flux):
    base, pipeline = load_checkpoint(flux, "cpu"), FluxFillPipeline.from_pretrained(flux)
    assert base.texts.encoders == ()
    context, pooled, _ = pipeline.encode_prompt(one_step.PROMPT, None)
    prompt = base.texts.encode([one_step.PROMPT] * 2, (64, 64))
    assert context.shape == (1, 512, 32)
    torch.testing.assert_close(prompt.context, context.repeat(2, 1, 1))
    torch.testing.assert_close(prompt.extra["text_embeds"], pooled.repeat(2, 1))
    image = torch.rand(1, 3, 64, 64)
    encoded = pipeline.vae.encode(2 * image - 1).latent_dist.mean
    torch.testing.assert_close(base.encode(2 * image - 1), (encoded - 0.1159) * 0.3611)
    torch.testing.assert_close(base.decode(base.encode(2 * image - 1)), pipeline.vae.decode(encoded).sample)
    # As elsewhere than on a CPU: fp16 has no room for it.
    assert load_checkpoint(flux, "meta").network.dtype == torch.bfloat16


def test_a_network_that_finds_the_velocity_gives_the_picture_back(flux, pairs):
    """z_shot at t = 0.4 with the full mask beside it, packed as diffusers' own pipeline packs."""
    base, (image, mask) = load_checkpoint(flux, "cpu"), scene(pairs)
    image, mask = image[..., :48], mask[..., :48]
    shot, seen = base.encode(2 * image - 1), {}
    noise = torch.randn(shot.shape, generator=torch.Generator().manual_seed(7))

    def pack(x):
        return FluxFillPipeline._pack_latents(x, *x.shape)

    class Oracle(torch.nn.Module):
        device, dtype, config = base.network.device, base.network.dtype, base.network.config

        def forward(self, hidden_states, **values):
            seen.update(values, x=hidden_states)
            alpha = torch.full_like(hidden_states[..., :4], 40.0)
            return type("Output", (), {"sample": torch.cat([pack(noise - shot), alpha], dim=-1)})

    made = run_once(replace(base, network=Oracle()), image, mask, seed=7)
    noisy, cells = add_noise(shot, noise, noise_level(400, "flow")), F.pixel_unshuffle(mask[:, None], 8)
    torch.testing.assert_close(noisy, 0.6 * shot + 0.4 * noise)
    torch.testing.assert_close(seen["x"], torch.cat([pack(noisy), pack(shot), pack(cells)], dim=-1))
    assert seen["timestep"].tolist() == pytest.approx([0.4]) and seen["guidance"].tolist() == [30.0]
    places = FluxFillPipeline._prepare_latent_image_ids(1, 4, 3, "cpu", torch.float32)
    assert torch.equal(seen["img_ids"], places) and not seen["txt_ids"].any()
    torch.testing.assert_close(made.latent, shot, atol=1e-4, rtol=1e-4)
    assert made.alpha.min() == 1 and made.alpha.shape == (1, 8, 6)


def test_the_two_phases(phases, flux):
    one, two = map(eraser_of, phases)
    assert (one.phase, two.phase) == (1, 2) and two.alpha_rows == 4
    assert len(one.terminal["weight"]) == 64 and len(two.terminal["weight"]) == 68
    assert len(one.lora) == 2 * 6 + 2 * 4 and all(pair.up.abs().sum() > 0 for pair in one.lora.values())
    assert one.metadata["unclutter.mask_pooling"] == "none" and one.metadata["unclutter.backbone"] == "flux"
    assert one.prompt["prompt_embeds"].shape == (1, 512, 32) and one.prompt["pooled_prompt_embeds"].shape == (1, 16)
    begun, first = OSOR(load_checkpoint(flux, "cpu"), phases[1]), weights(phases[0].output)
    for name, value in begun.state().items():
        rows = slice(0, 64) if name.startswith("unet.proj_out") else slice(None)
        assert torch.equal(value[rows] if value.ndim else value, first[name]), name


def test_all_but_lora_and_last_layer_stays_bit_for_bit(pairs, flux, phases, tmp_path):
    recipe = small("flux-refinement", pairs, flux, tmp_path, start=phases[1].output, steps=1, sample_every=1)
    assert recipe.mixed_precision == "bf16" and recipe.gradient_checkpointing
    recipe, kept = replace(recipe, learning_rate=1e-2), {}

    def build(base, recipe):
        kept["before"] = {name: value.clone() for name, value in base.network.state_dict().items()}
        kept["objective"] = OSOR(base, recipe)
        return kept["objective"]

    train(recipe, build)
    after = {name.replace(".base_layer.", "."): value for name, value in kept["objective"].unet.state_dict().items()}
    frozen = kept["before"].keys() - {"proj_out.weight", "proj_out.bias"}
    assert all(torch.equal(kept["before"][name], after[name]) for name in frozen)
    assert not torch.equal(after["proj_out.weight"][:64], kept["before"]["proj_out.weight"].float())
    assert after["proj_out.weight"].dtype == torch.float32 and after["x_embedder.weight"].dtype == torch.bfloat16
    assert (tmp_path / "samples/step_000001.png").is_file()


def test_the_file_erases_as_the_training_did(phases, flux, pairs):
    base, (image, mask) = load_checkpoint(flux, "cpu"), scene(pairs)
    for recipe in phases:
        objective = OSOR(load_checkpoint(flux, "cpu"), replace(recipe, start=recipe.output))
        made = erase_once(base, eraser_of(recipe), image, mask)
        torch.testing.assert_close(made.picture, objective.erase(image, mask), atol=1e-4, rtol=0)
        assert (made.picture - run_once(base, image, mask).picture).abs().max() > 0.01


def test_a_resumed_training_ends_with_the_same_weights(phases, tmp_path):
    for values in ({"steps": 1}, {"resume": True}):
        train(replace(phases[1], output=tmp_path, **values), OSOR)
    whole, resumed = weights(phases[1].output), weights(tmp_path)
    assert whole.keys() == resumed.keys() and all(torch.equal(value, resumed[name]) for name, value in whole.items())


def in_comfyui(flux):
    """The model and VAE of ComfyUI with the weights of this diffusers FLUX."""
    import comfy.diffusers_convert
    import comfy.model_detection

    from unclutter.tests.nodes import tiny

    pipeline = FluxFillPipeline.from_pretrained(flux)
    model, vae = tiny.flux(in_channels=96, mlp_ratio=4.0), tiny.vae(channels=16)
    network = comfy.model_detection.convert_diffusers_mmdit(pipeline.transformer.state_dict())
    model.model.diffusion_model.load_state_dict(network)
    vae.first_stage_model.load_state_dict(comfy.diffusers_convert.convert_vae_state_dict(pipeline.vae.state_dict()))
    return model, vae


@torch.inference_mode()
def test_both_hosts_make_the_same_picture(comfy, phases, flux, pairs):
    from unclutter.nodes import host
    from unclutter.nodes.onestep import OneStepErase

    image, mask = scene(pairs)
    model, vae = in_comfyui(flux)
    values = {"seed": 3, "timestep": 400, "alpha_strength": 1.0, "resolution": 0, "paste_back": False}
    for recipe in phases:
        file = eraser_of(recipe)
        made = erase_once(load_checkpoint(flux, "cpu"), file, image, mask, seed=3)
        eraser = host.with_one_step(model, file, None, "one_step.safetensors")
        result, alpha, _ = run_node(OneStepErase, eraser, vae, image.movedim(1, -1), mask, **values)
        assert -10 * (result.movedim(-1, 1) - made.picture).square().mean().log10() >= 40
        smooth = F.interpolate(made.alpha[:, None], (64, 64), mode="bilinear")[:, 0]
        torch.testing.assert_close(alpha, smooth, atol=1e-3, rtol=0)
        assert not torch.allclose(made.picture, image, atol=0.2)


def test_what_does_not_fit_is_one_sentence(pairs, flux, phases, tmp_path):
    one, _ = phases
    with pytest.raises(ValueError, match="backbone is flux and base is not given"):
        replace(one, base=None)
    with pytest.raises(ValueError, match="backbone is sdxl and the base has the shape of FLUX.1 Fill"):
        OSOR(load_checkpoint(flux, "cpu"), replace(one, backbone="sdxl"))
    with pytest.raises(ValueError, match="backbone is flux and the base has the shape of SDXL inpainting"):
        OSOR(load_mini(), one)
    with pytest.raises(ValueError, match="0 of the one-step eraser's 20 modules fit this network"):
        erase_once(load_mini(), eraser_of(one), *scene(pairs))
    with pytest.raises(ValueError, match="takes 64 channels, expected an inpainting one with 384"):
        save_flux(tmp_path / "plain", in_channels=64)
        load_checkpoint(tmp_path / "plain", "cpu")
    base = load_checkpoint(flux, "cpu")
    with pytest.raises(ValueError, match="The base predicts flow, expected epsilon"):
        LRNR(base, LRNRRecipe(pairs, tmp_path))
    with pytest.raises(ValueError, match="for one-step erasers alone"):
        remove(base, *scene(pairs), Plain())
    image, mask = scene(pairs)
    with pytest.raises(ValueError, match="pictures are 56x64 and FLUX takes multiples of 16"):
        run_once(base, image[..., :56], mask[..., :56])


def test_the_presets(tmp_path):
    folders = ["--data", str(tmp_path), "--output", str(tmp_path), "--base", "flux"]
    one = choose(["--backbone=flux", *folders], "osor")
    assert (one.backbone, one.phase, one.steps, one.lora_rank) == ("flux", 1, 15_000, 64)
    assert (one.reconstruction_weight, one.lpips_weight, one.adversarial_weight) == (0.5, 3.0, 0.3)
    two = choose(["--backbone", "flux", "--phase", "2", "--start", "one", *folders], "osor")
    assert (two.phase, two.steps, two.incomplete.growth, two.incomplete.distance) == (2, 5000, (11, 17, 21), 50)
    assert choose(["flux-refinement", "--start", "two", *folders], "osor").steps == 1000
    assert UNET.lora_targets != FLUX.lora_targets and UNET.last_layer == "conv_out" and FLUX.last_layer == "proj_out"
