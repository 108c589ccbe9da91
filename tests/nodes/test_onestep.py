"""One-step erasing: the formulas of OSOR through ComfyUI's own loading, patching and sampling, on tiny models."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from unclutter.adapters import mini, one_step
from unclutter.adapters.families import FAMILIES
from unclutter.adapters.lora import LoraPair
from unclutter.kernels.onestep import add_noise, blend, noise_level, predict_clean
from unclutter.kernels.scenes import draw_scenes
from unclutter.tests.nodes.running import run_node
from unclutter.training.base_models.mini import load_mini
from unclutter.training.comfyui_server import PACK
from unclutter.training.sampling.one_step import erase_once

SDXL_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
SDXL_TARGETS += ("conv1", "conv2", "conv_shortcut", "conv")
FLUX_TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_mlp")
LAST = {"unet": "out.2", "flux": "final_layer.linear"}
ALPHA_ROWS = {("unet", 1): 0, ("unet", 2): 1, ("flux", 1): 0, ("flux", 2): 4}
BOTH = pytest.mark.parametrize("backbone", ["unet", "flux"])
PHASES = pytest.mark.parametrize("phase", [1, 2])


@pytest.fixture
def tiny(comfy):
    from unclutter.tests.nodes import tiny

    return tiny


@pytest.fixture
def loras(comfy, tmp_path, monkeypatch):
    import folder_paths

    paths, extensions = folder_paths.folder_names_and_paths["loras"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([*paths, str(tmp_path)], extensions))
    return tmp_path


def base(tiny, backbone, **more):
    """An inpainting model and its VAE."""
    if backbone == "unet":
        return tiny.sdxl(9, **more), tiny.vae()
    return tiny.flux(in_channels=96, mlp_ratio=4.0), tiny.vae(channels=16)


def weight_keys(model, backbone):
    """diffusers' path of every module that OSOR adapts -> where ComfyUI keeps its weight: key, first row, rows."""
    import comfy.utils

    config, weights = model.model.model_config.unet_config, model.model.diffusion_model.state_dict()
    targets = SDXL_TARGETS if backbone == "unet" else FLUX_TARGETS
    names = (comfy.utils.unet_to_diffusers if backbone == "unet" else comfy.utils.flux_to_diffusers)(config)
    found = {}
    # In one order, which the random weights follow: ComfyUI goes through a set.
    for name, key in sorted(names.items()):
        path = name.removesuffix(".weight")
        if not f".{path}".endswith(tuple(f".{end}" for end in targets)):
            continue
        key, (_, start, rows) = key if isinstance(key, tuple) else (key, (0, 0, None))
        if name.endswith(".weight") and key in weights:
            found[path] = key, start, rows or len(weights[key])
    return {path: place for path, place in found.items() if path not in ("proj_out", "conv_out")}


def eraser_file(model, backbone, phase, scale=0.3, rank=2, **more):
    generator = torch.Generator().manual_seed(phase)
    weights, pairs = model.model.diffusion_model.state_dict(), {}
    for path, (key, _, rows) in weight_keys(model, backbone).items():
        inner, *kernel = weights[key].shape[1:]
        down = scale * torch.randn(rank, inner, *kernel, generator=generator) / weights[key][0].numel() ** 0.5
        pairs[path] = LoraPair(down, torch.randn(rows, rank, *[1] * len(kernel), generator=generator), float(rank))
    own = weights[f"{LAST[backbone]}.weight"]
    rows = len(own) + ALPHA_ROWS[backbone, phase]
    last = torch.randn(rows, *own.shape[1:], generator=generator) / own[0].numel() ** 0.5
    terminal = {"weight": last, "bias": 0.1 * torch.randn(rows, generator=generator)}
    return one_step.OneStep(backbone, pairs, terminal, **more)


def with_eraser(model, file, clip=None):
    from unclutter.nodes import host

    return host.with_one_step(model, file, clip, "eraser.pth")


def erase(model, vae, image, mask, conditioning, **changed):
    from unclutter.nodes.onestep import OneStepErase

    values = {"seed": 3, "timestep": 400, "alpha_strength": 1.0, "resolution": 0, "paste_back": False} | changed
    return run_node(OneStepErase, model, vae, image, mask, **values, conditioning=conditioning)


def picture(batch=1, height=64, width=64):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0))


def patched_by_hand(tiny, backbone, file):
    """A model of its own with the LoRA added to its weights and the file's last layer in place."""
    model = base(tiny, backbone)[0].model
    network = model.diffusion_model
    weights = network.state_dict()
    for path, (key, start, rows) in weight_keys(base(tiny, backbone)[0], backbone).items():
        pair = file.lora[path]
        update = pair.up.flatten(1) @ pair.down.flatten(1)
        part = weights[key][start : start + rows]
        part += update.reshape(part.shape)
    last = network.get_submodule(LAST[backbone])
    last.weight, last.bias = (torch.nn.Parameter(file.terminal[name]) for name in ("weight", "bias"))
    return model


def by_the_formulas(model, backbone, phase, latent, mask, conditioning, timestep=400, seed=3):
    """OSOR, Eq. 3 to 6 and 12 to 13, with one direct call of the network."""
    ((context, values),) = conditioning
    shot = model.process_latent_in(latent)
    level = noise_level(timestep, "epsilon" if backbone == "unet" else "flow")
    noise = torch.randn(shot.shape, generator=torch.Generator().manual_seed(seed))
    noisy = add_noise(shot, noise, level)
    cells = F.max_pool2d(mask[:, None], 8)
    if backbone == "unet":
        y = model.encode_adm(**values, height=mask.shape[1], width=mask.shape[2])
        out = model.diffusion_model(torch.cat([noisy, cells, shot], 1), torch.tensor([float(timestep)]), context, y)
    else:
        unshuffled = F.pixel_unshuffle(mask[:, None], 8)
        x = torch.cat([noisy, shot, unshuffled], 1)
        sigma, guidance = torch.tensor([timestep / 1000]), torch.tensor([30.0])
        out = model.diffusion_model(x, sigma, context, values["pooled_output"], guidance)
    channels = shot.shape[1]
    clean = predict_clean(noisy, out[:, :channels], level)
    alpha = cells if phase == 1 else out[:, channels:].sigmoid()
    return model.process_latent_out(blend(clean, shot, alpha)), alpha


@BOTH
@PHASES
@torch.inference_mode()
def test_erasing_is_the_papers_formulas_and_leaves_the_model_as_it_was(tiny, backbone, phase):
    import comfy.model_management

    model, vae = base(tiny, backbone)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    options = str(model.model_options)
    file = eraser_file(model, backbone, phase)
    eraser, prompt = with_eraser(model, file), tiny.conditioning(1)
    image, mask = picture(1, 64, 80), tiny.square_mask(64, 80, (17, 39, 25, 47))
    result, alpha, latent = erase(eraser, vae, image, mask, prompt)
    shot = vae.encode(image)
    expected, weight = by_the_formulas(patched_by_hand(tiny, backbone, file), backbone, phase, shot, mask, prompt)
    torch.testing.assert_close(latent["samples"], expected, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(result, vae.decode(latent["samples"]))
    smooth = F.interpolate(weight, (64, 80), mode="bilinear")[:, 0]
    torch.testing.assert_close(alpha, smooth, atol=1e-4, rtol=0)
    assert not torch.allclose(latent["samples"], shot, atol=0.1)
    comfy.model_management.unload_all_models()
    after = model.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[key], value) for key, value in before.items())
    assert str(model.model_options) == options and not model.patches and not model.object_patches


@BOTH
@PHASES
@torch.inference_mode()
def test_the_sampler_in_a_graph_of_ones_own_agrees(tiny, backbone, phase):
    import comfy.samplers
    import node_helpers

    from unclutter.nodes.conditioning import RemovalConditioning
    from unclutter.nodes.onestep import OneStepSampler

    model, vae = base(tiny, backbone)
    eraser, prompt = with_eraser(model, eraser_file(model, backbone, phase)), tiny.conditioning(1)
    image, mask = picture(), tiny.square_mask(box=(17, 39, 25, 47))
    *_, expected = erase(eraser, vae, image, mask, prompt)
    pooling = "max" if backbone == "unet" else "none"
    positive, _, latent = run_node(
        RemovalConditioning,
        prompt,
        prompt,
        vae,
        image,
        mask,
        condition_image="full",
        mask_pooling=pooling,
        keep_background=phase == 1,
    )
    positive = node_helpers.conditioning_set_values(positive, {"guidance": 30.0})
    sampler, sigmas = run_node(OneStepSampler, eraser)
    assert sigmas.tolist() == pytest.approx([1.1643916 if backbone == "unet" else 0.4, 0.0])

    def run(sampler):
        guider = comfy.samplers.CFGGuider(eraser)
        guider.set_conds(positive, tiny.conditioning(2))
        guider.set_cfg(1.0)
        noise = torch.randn(latent["samples"].shape, generator=torch.Generator().manual_seed(3))
        mask = latent.get("noise_mask")
        return guider.sample(noise, latent["samples"], sampler, sigmas, denoise_mask=mask, disable_pbar=True, seed=3)

    torch.testing.assert_close(run(sampler), expected["samples"], atol=1e-4, rtol=1e-4)
    euler = run(comfy.samplers.sampler_object("euler"))
    assert torch.allclose(euler, expected["samples"], atol=1e-4, rtol=1e-4) == (phase == 1)
    with pytest.raises(ValueError, match="4 sigmas.*One-Step Sampler"):
        sampler.sample(None, torch.linspace(1, 0, 4), {}, None, None, None)


@torch.inference_mode()
def test_weights_of_other_dtypes_and_few_of_them_loaded(tiny):
    """The last layer keeps its precision beside weights in fp8; LoRA and alpha survive a partial load."""
    image, mask, prompt = picture(), tiny.square_mask(), tiny.conditioning(1)
    for dtype, tolerance in ((torch.float16, 0.02), (torch.bfloat16, 0.1), (torch.float8_e4m3fn, 0.6)):
        model, vae = base(tiny, "unet", dtype=dtype)
        plain, _ = base(tiny, "unet")
        plain.model.load_state_dict({key: value.float() for key, value in model.model.state_dict().items()})
        before = {key: value.clone() for key, value in model.model.state_dict().items()}
        file = eraser_file(plain, "unet", 2)
        *_, alpha, latent = erase(with_eraser(model, file), vae, image, mask, prompt)
        *_, alpha32, latent32 = erase(with_eraser(plain, file), vae, image, mask, prompt)
        error = (latent["samples"] - latent32["samples"]).square().mean().sqrt() / latent32["samples"].std()
        assert 0 < error < tolerance and (alpha - alpha32).abs().mean() < tolerance / 2, dtype
        model.detach()
        after = model.model.state_dict()
        assert all(torch.equal(after[key].float(), value.float()) for key, value in before.items())


@BOTH
@torch.inference_mode()
def test_a_model_loaded_in_parts_erases_alike(tiny, backbone):
    model, _ = base(tiny, backbone)
    eraser = with_eraser(model, eraser_file(model, backbone, 2))
    x = torch.randn(2, model.model.diffusion_model.in_channels // (1 if backbone == "unet" else 4), 8, 8)
    context, values = tiny.conditioning(1)[0]
    y = values["pooled_output"] if backbone == "flux" else model.model.encode_adm(**values)
    call = x, torch.tensor([0.4, 0.4]), context.repeat(2, 1, 1), y.repeat(2, 1)
    call += (torch.tensor([30.0]), None, None) if backbone == "flux" else (None,)
    outputs, logits = [], []
    for memory in (0, 1):
        options = {**eraser.model_options["transformer_options"], "cond_or_uncond": [1, 0]}
        options["unclutter_alpha"] = logits.append
        eraser.patch_model(torch.device("cpu"), lowvram_model_memory=memory)
        assert eraser.model.model_lowvram == bool(memory)
        outputs.append(eraser.model.diffusion_model(*call, options))
        eraser.unpatch_model(torch.device("cpu"))
    assert outputs[0].shape == (2, model.model.latent_format.latent_channels, 8, 8)
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
    assert logits[0].shape == (1, 1, 8, 8), "of the conditioned row alone"


def real_unet():
    """SDXL inpainting in both hosts, on the meta device."""
    import comfy.model_patcher
    import comfy.supported_models
    from diffusers import UNet2DConditionModel

    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")}
    blocks |= {"up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}
    text = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
    text |= {"cross_attention_dim": 2048, "projection_class_embeddings_input_dim": 2816}
    depth = {"transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20)}
    with torch.device("meta"):
        diffusers = UNet2DConditionModel(
            in_channels=9, block_out_channels=(320, 640, 1280), use_linear_projection=True, **blocks, **text, **depth
        )
    config = {"image_size": 32, "in_channels": 9, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2]}
    config |= {"channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10], "context_dim": 2048}
    config |= {"transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10}
    config |= {"use_linear_in_transformer": True, "use_spatial_transformer": True, "legacy": False}
    config |= {"adm_in_channels": 2816, "num_classes": "sequential", "num_heads": -1, "num_head_channels": 64}
    return diffusers, comfy.supported_models.SDXL(config), 5


def real_flux():
    import comfy.supported_models
    from diffusers import FluxTransformer2DModel

    from unclutter.tests.nodes.tiny import flux_text_ids

    with torch.device("meta"):
        diffusers = FluxTransformer2DModel(in_channels=384, out_channels=64, guidance_embeds=True)
    config = {"image_model": "flux", "in_channels": 96, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096}
    config |= {"hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38}
    config |= {"axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True}
    return diffusers, comfy.supported_models.FluxInpaint(config | flux_text_ids()), 68


@pytest.mark.parametrize(("build", "modules"), [(real_unet, 771), (real_flux, 266)])
def test_every_module_of_the_real_models_is_matched(comfy, loras, build, modules):
    """A file in the release's keys, of rank 1, for every module that peft would adapt by OSOR's targets."""
    import comfy.model_patcher

    from unclutter.nodes.onestep import LoadOneStep

    diffusers, config, rows = build()
    flux = build is real_flux
    targets, last = (FLUX_TARGETS, "proj_out") if flux else (SDXL_TARGETS, "conv_out")
    prefix = "transformer.base_model.model." if flux else "unet."
    tensors = {}
    for path, module in diffusers.named_modules():
        if path != last and f".{path}".endswith(tuple(f".{end}" for end in targets)):
            out, inner, *kernel = module.weight.shape
            tensors[f"{prefix}{path}.lora_A.default.weight"] = torch.zeros(1, inner, *kernel)
            tensors[f"{prefix}{path}.lora_B.default.weight"] = torch.zeros(out, 1, *[1] * len(kernel))
    shape = diffusers.get_submodule(last).weight.shape[1:]
    tensors |= {f"{prefix}{last}.weight": torch.zeros(rows, *shape), f"{prefix}{last}.bias": torch.zeros(rows)}
    assert len(tensors) == 2 * modules + 2
    torch.save(tensors, loras / "real.pth")
    config.set_inference_dtype(torch.float16, None)
    meta = torch.device("meta")
    model = comfy.model_patcher.ModelPatcher(config.get_model({}, "", device=meta), meta, meta)
    (loaded,) = run_node(LoadOneStep, model, file="real.pth")
    assert sum(len(patches) for patches in loaded.patches.values()) == modules
    assert list(loaded.object_patches) == [f"diffusion_model.{LAST['flux' if flux else 'unet']}.forward"]


@torch.inference_mode()
def test_seeds_batches_and_masks(tiny):
    model, vae = base(tiny, "unet")
    eraser, prompt = with_eraser(model, eraser_file(model, "unet", 2)), tiny.conditioning(1)
    images = picture(2)
    mask = tiny.square_mask()
    both, alphas, latents = erase(eraser, vae, images, mask, prompt)
    alone, alpha, latent = erase(eraser, vae, images[:1], mask, prompt)
    assert both.shape == (2, 64, 64, 3) and alphas.shape == (2, 64, 64) and latents["samples"].shape == (2, 4, 8, 8)
    assert torch.equal(both[:1], alone) and torch.equal(alphas[:1], alpha)
    assert torch.equal(erase(eraser, vae, images[:1], mask, prompt)[0], alone)
    assert not torch.equal(erase(eraser, vae, images[:1], mask, prompt, seed=4)[0], alone)
    masks = torch.cat([mask, tiny.square_mask(box=(0, 16, 0, 16))])
    several, *_ = erase(eraser, vae, images[:1], masks, prompt)
    assert torch.equal(several[:1], alone) and not torch.equal(several[1:], alone)
    with pytest.raises(ValueError, match="3 masks came for 2 pictures"):
        erase(eraser, vae, images, mask.repeat(3, 1, 1), prompt)


@BOTH
@torch.inference_mode()
def test_a_draft_fills_the_mask_and_all_around_it_goes_by_the_picture(tiny, backbone):
    model, vae = base(tiny, backbone)
    file = eraser_file(model, backbone, 2)
    eraser, prompt = with_eraser(model, file), tiny.conditioning(1)
    image, mask = picture(1, 64, 80), tiny.square_mask(64, 80, (17, 39, 25, 47))
    _, plain_alpha, plain = erase(eraser, vae, image, mask, prompt)
    result, alpha, latent = erase(eraser, vae, image, mask, prompt, draft=1 - image)
    hole = F.max_pool2d(mask[:, None], 8) > 0
    drafted = torch.where(hole, vae.encode(torch.where(mask[..., None] > 0, 1 - image, image)), vae.encode(image))
    again, _ = by_the_formulas(patched_by_hand(tiny, backbone, file), backbone, 2, drafted, mask, prompt)
    torch.testing.assert_close(latent["samples"], torch.where(hole, again, plain["samples"]), atol=2e-4, rtol=2e-4)
    assert torch.equal(alpha, plain_alpha) and torch.equal(result, vae.decode(latent["samples"]))
    assert torch.equal(erase(eraser, vae, image, mask, prompt, draft=image)[0], vae.decode(plain["samples"]))
    with pytest.raises(ValueError, match="The draft is 40x64 and the picture 80x64"):
        erase(eraser, vae, image, mask, prompt, draft=image[:, :, :40])


@torch.inference_mode()
def test_strength_timestep_and_paste_back(tiny):
    model, vae = base(tiny, "unet")
    eraser, prompt = with_eraser(model, eraser_file(model, "unet", 2)), tiny.conditioning(1)
    image, mask = picture(), tiny.square_mask()
    plain, alpha, latent = erase(eraser, vae, image, mask, prompt)
    *_, none, kept = erase(eraser, vae, image, mask, prompt, alpha_strength=0.0)
    assert none.max() == 0
    torch.testing.assert_close(kept["samples"], vae.encode(image), atol=1e-5, rtol=1e-5)
    double = erase(eraser, vae, image, mask, prompt, alpha_strength=2.0)[1]
    assert (double >= alpha).all() and double.mean() > alpha.mean() and double.max() <= 1
    assert not torch.allclose(erase(eraser, vae, image, mask, prompt, timestep=600)[2]["samples"], latent["samples"])
    pasted = erase(eraser, vae, image, mask, prompt, paste_back=True)[0]
    torch.testing.assert_close(pasted, torch.lerp(image, plain, alpha[..., None]))
    hard = with_eraser(model, eraser_file(model, "unet", 1))
    pasted, alpha, _ = erase(hard, vae, image, mask, prompt, paste_back=True)
    outside = alpha[0] == 0
    assert outside.float().mean() > 0.5 and torch.equal(pasted[0][outside], image[0][outside])
    assert not torch.equal(pasted[0][~outside], image[0][~outside])


@pytest.mark.parametrize(
    ("size", "backbone", "resolution", "expected"),
    [
        ((400, 600), "unet", 0, (400, 608)),
        ((1, 17), "unet", 0, (16, 32)),
        ((1000, 1500), "unet", 0, (512, 768)),
        ((3000, 2000), "unet", 0, (768, 512)),
        ((1365, 2048), "unet", 1024, (1024, 1536)),
        ((1024, 1024), "unet", 1024, (1024, 1024)),
        ((1500, 1000), "flux", 0, (1024, 672)),
        ((500, 600), "flux", 0, (496, 592)),
        ((5, 2000), "flux", 0, (16, 1024)),
        ((1500, 1000), "flux", 2048, (1488, 992)),
    ],
)
def test_the_size_that_is_worked_at(comfy, size, backbone, resolution, expected):
    from unclutter.nodes.onestep import working_size

    assert working_size(*size, FAMILIES[backbone], resolution) == expected


@BOTH
@pytest.mark.parametrize("size", [(37, 53), (7, 20), (70, 40)])
@torch.inference_mode()
def test_pictures_of_any_size_come_back_at_their_size(tiny, backbone, size):
    model, vae = base(tiny, backbone)
    eraser = with_eraser(model, eraser_file(model, backbone, 2))
    mask = torch.zeros(1, *size)
    mask[:, 2:5, 3:6] = 1
    result, alpha, latent = erase(eraser, vae, picture(1, *size), mask, tiny.conditioning(1))
    assert result.shape == (1, *size, 3) and alpha.shape == (1, *size)
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    assert all(8 * side % 16 == 0 for side in latent["samples"].shape[-2:])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 64, 80), "empty"),
        (torch.zeros(1, 64, 64), "Load Image"),
        (torch.ones(1, 64, 80), "covers the whole"),
        (torch.full((1, 64, 80), float("nan")), "NaN"),
    ],
)
def test_masks_that_mark_nothing_or_all(tiny, mask, message):
    model, vae = base(tiny, "unet")
    eraser = with_eraser(model, eraser_file(model, "unet", 2))
    with pytest.raises(ValueError, match=message):
        erase(eraser, vae, picture(1, 64, 80), mask, tiny.conditioning(1))


def test_models_and_files_that_do_not_fit(tiny):
    unet, vae = base(tiny, "unet")
    flux, _ = base(tiny, "flux")
    files = eraser_file(unet, "unet", 2), eraser_file(flux, "flux", 1)
    for model, file in ((flux, files[0]), (unet, files[1])):
        with pytest.raises(ValueError, match="eraser.pth is made for .*SDXL.*FLUX|eraser.pth is made for .*FLUX.*SDXL"):
            with_eraser(model, file)
    for model, file in ((tiny.sdxl(4), files[0]), (tiny.flux(mlp_ratio=4.0), files[1])):
        with pytest.raises(ValueError, match="takes .* channels.*Inpainting 0.1 or FLUX.1 Fill"):
            with_eraser(model, file)
    modules = len(files[0].lora)
    name, pair = next(iter(files[0].lora.items()))
    larger = one_step.OneStep(
        "unet", files[0].lora | {f"down_blocks.{i}.conv": pair for i in range(6, 10)}, files[0].terminal
    )
    expected = rf"{modules} of {modules + 4} LoRA modules in eraser.pth fit .*down_blocks.6.conv, .*, .*, \.\.\."
    with pytest.raises(ValueError, match=expected):
        with_eraser(unet, larger)
    lora = files[0].lora | {name: LoraPair(pair.down, pair.up[:-1], pair.alpha)}
    with pytest.raises(ValueError, match=rf"{modules - 1} of {modules} LoRA modules .*{name}:"):
        with_eraser(unet, one_step.OneStep("unet", lora, files[0].terminal))
    last = {"weight": torch.zeros(5, 16, 3, 3), "bias": torch.zeros(5)}
    with pytest.raises(ValueError, match=r"\[5, 16, 3, 3\].*\[4, 32, 3, 3\]"):
        with_eraser(unet, one_step.OneStep("unet", files[0].lora, last))
    with pytest.raises(ValueError, match="already"):
        with_eraser(with_eraser(unet, files[0]), files[0])
    with pytest.raises(ValueError, match="no one-step eraser"):
        erase(unet, vae, picture(), tiny.square_mask(), tiny.conditioning(1))


@torch.inference_mode()
def test_graphs_wired_across_families(tiny):
    model, vae = base(tiny, "unet")
    eraser, mask = with_eraser(model, eraser_file(model, "unet", 2)), tiny.square_mask()
    with pytest.raises(ValueError, match="latents have 16 channels and the model's 4"):
        erase(eraser, tiny.vae(channels=16), picture(), mask, tiny.conditioning(1))
    with pytest.raises(ValueError, match="4096 wide and the model takes 32"):
        erase(eraser, vae, picture(), mask, [[torch.zeros(1, 7, 4096), {}]])
    with pytest.raises(ValueError, match="4 channels and 3 are expected"):
        erase(eraser, vae, torch.zeros(1, 64, 64, 4), mask, tiny.conditioning(1))
    for wrong in ({"timestep": -1}, {"timestep": 1000}, {"alpha_strength": -1.0}):
        with pytest.raises(ValueError, match="must lie between"):
            erase(eraser, vae, picture(), mask, tiny.conditioning(1), **wrong)


PARTS = [
    ({"start_percent": 0.9, "end_percent": 1.0}, "a timestep range"),
    ({"area": (4, 4, 0, 0)}, "an area"),
    ({"mask": torch.ones(1, 64, 64), "area": (4, 4, 0, 0)}, "an area and a mask"),
]


@pytest.mark.parametrize(("part", "name"), PARTS)
@torch.inference_mode()
def test_a_prompt_for_a_part_of_the_picture_or_of_the_steps(tiny, part, name):
    model, vae = base(tiny, "unet")
    eraser = with_eraser(model, eraser_file(model, "unet", 2))
    ((features, values),) = tiny.conditioning(1)
    image, mask = picture(), tiny.square_mask()
    with pytest.raises(ValueError, match=f"conditioning has {name}.*whole picture"):
        erase(eraser, vae, image, mask, [*tiny.conditioning(1), [features, {**values, **part}]])
    with pytest.raises(ValueError, match="guider's conditioning leaves out .* timestep range"):
        sample(eraser, vae.encode(image), [[features, {**values, **part}]])


@torch.inference_mode()
def test_a_guider_without_the_eraser(tiny):
    model, vae = base(tiny, "unet")
    eraser = with_eraser(model, eraser_file(model, "unet", 1))
    latent = vae.encode(picture())
    with pytest.raises(ValueError, match="guider's model has no one-step eraser.*Load One-Step Eraser"):
        sample(model, latent, tiny.conditioning(1))
    assert sample(eraser, latent, tiny.conditioning(1)).isfinite().all()


def sample(model, latent, conditioning):
    """One-Step Sampler under a guider of this model and conditioning."""
    import comfy.samplers

    from unclutter.nodes import host

    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning})
    sigmas = torch.tensor([1.1643916, 0.0])
    return guider.sample(torch.randn_like(latent), latent, host.OneStepSampler(1.0), sigmas, disable_pbar=True, seed=0)


@torch.inference_mode()
def test_where_the_prompt_comes_from(tiny):
    model, vae = base(tiny, "unet")
    image, mask, ((features, values),) = picture(), tiny.square_mask(), tiny.conditioning(1)
    with pytest.raises(ValueError, match="CLIP.*Remove the instance of object"):
        erase(with_eraser(model, eraser_file(model, "unet", 2)), vae, image, mask, None)
    prompt = {"prompt_embeds": features, "pooled_prompt_embeds": values["pooled_output"]}
    cached = with_eraser(model, eraser_file(model, "unet", 2, prompt=prompt))
    expected = erase(cached, vae, image, mask, tiny.conditioning(1))[0]
    assert torch.equal(erase(cached, vae, image, mask, None)[0], expected)
    assert not torch.equal(erase(cached, vae, image, mask, tiny.conditioning(2))[0], expected)


@torch.inference_mode()
def test_the_timestep_of_the_training(tiny, caplog):
    from unclutter.nodes.onestep import OneStepSampler

    model, vae = base(tiny, "unet")
    image, mask, prompt = picture(), tiny.square_mask(), tiny.conditioning(1)
    eraser = with_eraser(model, eraser_file(model, "unet", 1, metadata={"unclutter.timestep": "600"}))
    expected = erase(eraser, vae, image, mask, prompt, timestep=600)[0]
    assert torch.equal(erase(eraser, vae, image, mask, prompt, timestep=0)[0], expected)
    assert run_node(OneStepSampler, eraser, timestep=0)[1].tolist() == pytest.approx([2.2846408, 0.0])
    silent = with_eraser(model, eraser_file(model, "unet", 1))
    for timestep, sigma in ((0, 1.1643916), (400, 1.1643916), (600, 2.2846408)):
        assert run_node(OneStepSampler, silent, timestep=timestep)[1].tolist() == pytest.approx([sigma, 0.0])
    assert "timestep" not in caplog.text
    assert not torch.equal(erase(eraser, vae, image, mask, prompt, timestep=400)[0], expected)
    assert "trained with timestep 600 and runs with 400: set 0" in caplog.text


@torch.inference_mode()
def test_numbers_that_are_none_are_no_black_picture(tiny):
    model, vae = base(tiny, "unet")
    image, mask, prompt = picture(), tiny.square_mask(), tiny.conditioning(1)
    file = eraser_file(model, "unet", 1)
    next(iter(file.lora.values())).up[0, 0] = float("nan")
    with pytest.raises(ValueError, match="network's result has NaN.*get its file again"):
        erase(with_eraser(model, file), vae, image, mask, prompt)
    with pytest.raises(ValueError, match="network's result has NaN"):
        sample(with_eraser(model, file), vae.encode(image), prompt)
    for parameter in vae.first_stage_model.decoder.parameters():
        parameter.fill_(float("inf"))
    with pytest.raises(ValueError, match="decoded picture has NaN.*--fp32-vae"):
        erase(with_eraser(model, eraser_file(model, "unet", 1)), vae, image, mask, prompt)


def pack(module, kind):
    """A module with its weight kept as core keeps that of a quantised checkpoint; of GGUF's only the state_dict."""
    if kind == "NVFP4":
        from comfy.quant_ops import QuantizedTensor

        weight = QuantizedTensor.from_float(
            module.weight.data.to(torch.bfloat16), "TensorCoreNVFP4Layout", scale="recalculate"
        )
        module.weight = torch.nn.Parameter(weight, requires_grad=False)
    else:

        def packed(destination, prefix, keep):
            destination[f"{prefix}weight"] = torch.zeros(
                len(module.weight), module.weight[0].numel() // 32 * 18, dtype=torch.uint8
            )

        module._save_to_state_dict = packed


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["GGUF", "NVFP4"])
def test_a_quantised_model_is_asked_for_its_true_shapes(tiny, kind):
    model, _ = base(tiny, "flux")
    file = eraser_file(model, "flux", 1)
    for path, module in model.model.diffusion_model.named_modules():
        if "attn.qkv" in path or path.endswith("linear1"):
            pack(module, kind)
    patched = with_eraser(model, file)
    assert sum(map(len, patched.patches.values())) == len(file.lora)


def mini_file(phase=2, **metadata):
    from unclutter.nodes import host

    model, *_ = host.load_mini(mini.load())
    metadata = {"unclutter.phase": str(phase), "unclutter.prompt": "red disc", **metadata}
    return eraser_file(model, "unet", phase, metadata=metadata)


@torch.inference_mode()
def test_the_mini_model_with_its_own_prompt(comfy, loras):
    from unclutter.nodes import host
    from unclutter.nodes.onestep import LoadOneStep

    one_step.save(loras / "mini.safetensors", mini_file())
    model, clip, vae = host.load_mini(mini.load())
    (eraser,) = run_node(LoadOneStep, model, clip, file="mini.safetensors")
    image, mask = picture(1, 50, 70), torch.zeros(1, 50, 70)
    mask[:, 10:30, 20:40] = 1
    result, alpha, latent = erase(eraser, vae, image, mask, None)
    assert result.shape == image.shape and latent["samples"].shape == (1, 12, 16, 20)
    tiny_picture, tiny_mask = picture(1, 5, 9), torch.zeros(1, 5, 9)
    tiny_mask[:, 2, 3] = 1
    assert erase(eraser, vae, tiny_picture, tiny_mask, None)[0].shape == (1, 5, 9, 3)
    words = clip.encode_from_tokens_scheduled(clip.tokenize("red disc"))
    assert torch.equal(erase(eraser, vae, image, mask, words)[0], result)


def test_both_hosts_make_the_same_picture(comfy):
    from unclutter.nodes import host

    generator = torch.Generator().manual_seed(5)
    scene = draw_scenes(1, 64, generator)
    image, mask = scene.picture(), scene.effect_mask(scene.pick_object(generator))
    model, clip, vae = host.load_mini(mini.load())
    nearest = mini_file(phase=1, **{"unclutter.mask_pooling": "nearest"})
    draft = 1 - image
    corrections = [mini_file(phase=phase, **{"unclutter.prediction": "correction"}) for phase in (1, 2)]
    plain = (mini_file(), mini_file(phase=1), nearest, *corrections)
    for file, start in (*((file, None) for file in plain), (mini_file(), draft), (corrections[1], draft)):
        made = erase_once(load_mini(), file, image, mask, draft=start, seed=3)
        begun = {} if start is None else {"draft": start.movedim(1, -1)}
        result, alpha, _ = erase(with_eraser(model, file, clip), vae, image.movedim(1, -1), mask, None, **begun)
        parity = -10 * (result.movedim(-1, 1) - made.picture).square().mean().log10()
        print(f"ComfyUI against diffusers: {parity:.1f} dB")
        assert parity >= 40
        smooth = F.interpolate(made.alpha[:, None], (64, 64), mode="bilinear")[:, 0]
        torch.testing.assert_close(alpha, smooth, atol=1e-3, rtol=0)
        assert not torch.allclose(made.picture, image, atol=0.2)


def graph(pictures, side, seed=1):
    """The mini model's scene at `side` pixels erased at 64, in a batch of `pictures` copies."""
    nodes = {
        "mini": ("UnclutterLoadMini", {}),
        "load": ("UnclutterLoadOneStep", {"model": ["mini", 0], "clip": ["mini", 1], "file": "eraser.safetensors"}),
        "image": ("LoadImage", {"image": "example_scene.png"}),
        "mask": ("LoadImageMask", {"image": "example_mask.png", "channel": "red"}),
        "large": (
            "ImageScale",
            {
                "image": ["image", 0],
                "width": side,
                "height": side,
                "upscale_method": "nearest-exact",
                "crop": "disabled",
            },
        ),
        "batch": ("RepeatImageBatch", {"image": ["large", 0], "amount": pictures}),
        "erase": (
            "UnclutterOneStepErase",
            {"model": ["load", 0], "vae": ["mini", 2], "image": ["batch", 0], "mask": ["mask", 0]}
            | {"seed": seed, "timestep": 400, "alpha_strength": 1.0, "resolution": 64, "paste_back": False},
        ),
        "save": ("SaveImage", {"images": ["erase", 0], "filename_prefix": f"onestep/{pictures}_{seed}"}),
    }
    return {key: {"class_type": kind, "inputs": inputs, "_meta": {}} for key, (kind, inputs) in nodes.items()}


def test_cancelled_while_it_decodes_and_the_next_run_is_clean(comfy, comfy_server):
    one_step.save(comfy_server.base_directory / "models" / "loras" / "eraser.safetensors", mini_file())
    for name in ("example_scene.png", "example_mask.png"):
        comfy_server.upload(PACK / "workflows" / name)
    expected = comfy_server.images(comfy_server.post(graph(1, 64)), "save")
    running = comfy_server.submit(graph(24, 1000, seed=2))
    comfy_server.wait_for_step(running, 49)  # each picture is encoded, erased and decoded
    comfy_server.cancel()
    with pytest.raises(RuntimeError, match="interrupted in UnclutterOneStepErase"):
        comfy_server.wait(running, timeout=60)
    other = comfy_server.images(comfy_server.post(graph(1, 64, seed=5)), "save")
    again = graph(1, 64)
    again["save"]["inputs"]["filename_prefix"] = "onestep/again"
    assert torch.equal(comfy_server.images(comfy_server.post(again), "save"), expected)
    assert not torch.equal(other, expected)


def test_a_wrong_file_is_one_sentence_at_the_node(comfy, comfy_server):
    from unclutter.adapters import lora

    pairs = {f"unet.{path}": pair for path, pair in mini_file().lora.items()}
    says_so = {"unclutter.kind": "one_step"}  # else the loader would not offer it
    lora.save(comfy_server.base_directory / "models" / "loras" / "plain.safetensors", lora.Lora(pairs, says_so))
    for name in ("example_scene.png", "example_mask.png"):
        comfy_server.upload(PACK / "workflows" / name)
    nodes = graph(1, 64)
    nodes["load"]["inputs"]["file"] = "plain.safetensors"
    with pytest.raises(RuntimeError, match="plain.safetensors holds .* tensors and no last layer") as raised:
        comfy_server.post(nodes)
    assert "UnclutterLoadOneStep" in str(raised.value) and json.dumps(str(raised.value)).count("Traceback") == 0
