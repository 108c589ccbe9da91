"""The mini model in ComfyUI: the same picture as in diffusers, and runs that leave no trace."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from unclutter.adapters import mini
from unclutter.kernels.exemplar import exemplar_fill
from unclutter.kernels.scenes import draw_scenes
from unclutter.tests.nodes.running import run_node
from unclutter.training.base_models.mini import load_mini
from unclutter.training.comfyui_server import PACK
from unclutter.training.mini.config import CPU, GPU
from unclutter.training.mini.train import train_mini
from unclutter.training.sampling.methods import MASG, AttentiveEraser, Plain, SelfRectifying
from unclutter.training.sampling.sampler import remove

STEPS, SEED = 6, 3


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(5)
    drawn = draw_scenes(1, 64, generator)
    return drawn.picture(), drawn.effect_mask(drawn.pick_object(generator))


@pytest.fixture(scope="module")
def loaded(comfy):
    from unclutter.nodes.mini import LoadMini

    return run_node(LoadMini)


def condition(loaded, scene, draft):
    from unclutter.nodes.conditioning import RemovalConditioning

    _, clip, vae = loaded
    text = [clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in ("blue background", "")]
    drafted = None if draft is None else draft.movedim(1, -1)
    return run_node(RemovalConditioning, *text, vae, scene[0].movedim(1, -1), scene[1], drafted)


def guide(method, model, mask, positive, negative):
    import comfy.samplers

    from unclutter.nodes.attention import AttentiveEraser as Eraser
    from unclutter.nodes.attention import SelfRectifyingAttention
    from unclutter.nodes.guidance import MASGGuider

    if isinstance(method, MASG):
        values = {"mask_scale": method.guidance, "background_scale": method.background}
        values |= {"schedule": method.schedule, "cutoff": method.cutoff}
        return run_node(MASGGuider, model, positive, negative, mask, **values)[0]
    if isinstance(method, AttentiveEraser):
        values = {"removal_scale": method.removal_scale, "suppression": method.suppression}
        model = run_node(Eraser, model, mask, **values, suppression_steps=method.suppression_steps)[0]
    if isinstance(method, SelfRectifying):
        model = run_node(SelfRectifyingAttention, model, mask, mode="strict" if method.strict else "Eq. 10")[0]
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(method.guidance)
    return guider


def sample(loaded, scene, method, draft=None, denoise=1.0):
    """The picture [1, 3, H, W] that ComfyUI makes, from the noised draft or by default from the noised picture itself."""
    import comfy.sample
    import comfy.samplers

    model, _, vae = loaded
    positive, negative, latent = condition(loaded, scene, draft)
    begun = latent["samples"]
    samples = guide(method, model, scene[1], positive, negative).sample(
        comfy.sample.prepare_noise(begun, SEED),
        begun,
        comfy.samplers.sampler_object("euler"),
        comfy.samplers.KSampler(model, STEPS, "cpu", "euler", "simple", denoise).sigmas,
        denoise_mask=latent["noise_mask"],
        disable_pbar=True,
        seed=SEED,
    )
    return vae.decode(samples).movedim(-1, 1)


def psnr(one, other):
    return -10 * (one - other).square().mean().log10()


@pytest.mark.parametrize(
    "method",
    [
        Plain(),
        Plain(3.0),
        MASG(6.0),
        AttentiveEraser(removal_scale=3.0),
        AttentiveEraser(removal_scale=1.0),
        AttentiveEraser(removal_scale=3.0, guidance=2.0),
        SelfRectifying(),
        SelfRectifying(strict=True),
    ],
    ids=str,
)
def test_both_hosts_make_the_same_picture(loaded, scene, method):
    in_diffusers = remove(load_mini(), *scene, method, positive="blue background", steps=STEPS, seed=SEED)
    assert psnr(sample(loaded, scene, method), in_diffusers) >= 40
    plain = remove(load_mini(), *scene, Plain(), positive="blue background", steps=STEPS, seed=SEED)
    assert method == Plain() or not torch.allclose(in_diffusers, plain, atol=1e-3)


@pytest.mark.parametrize("method", [Plain(), MASG(6.0), AttentiveEraser(removal_scale=3.0), SelfRectifying()], ids=str)
def test_a_draft_is_the_same_start_in_both_hosts(loaded, scene, method):
    draft = exemplar_fill(*scene)
    words = {"positive": "blue background", "steps": STEPS, "seed": SEED}
    in_diffusers = remove(load_mini(), *scene, method, **words, start=draft, denoise=0.55)
    assert psnr(sample(loaded, scene, method, draft, 0.55), in_diffusers) >= 40
    assert psnr(sample(loaded, scene, method, scene[0], 0.55), in_diffusers) < 38


def test_a_model_of_the_gpu_presets_structure_is_the_same_in_both_hosts(comfy, scene, tmp_path):
    from unclutter.nodes import host

    levels = {"vae_channels": (32, 64, 64, 128), "unet_channels": (32, 64, 96), "transformer_depth": (1, 2, 2)}
    small = {"size": 64, "vae_steps": 1, "vae_batch": 2, "steps": 1, "batch": 2, "sample_every": 0}
    train_mini(replace(GPU, output=tmp_path, **small, **levels))
    in_comfyui = sample(host.load_mini(mini.load(tmp_path)), scene, Plain())
    in_diffusers = remove(load_mini(tmp_path), *scene, Plain(), positive="blue background", steps=STEPS, seed=SEED)
    assert in_diffusers.std() > 0.01
    assert psnr(in_comfyui, in_diffusers) >= 40


def test_a_model_of_the_cpu_presets_structure_is_the_same_in_both_hosts(comfy, tmp_path):
    """Patches of 8×8 pixels as 48 channels, weights in half precision."""
    from unclutter.nodes import host

    levels = {"unet_channels": (32, 32), "transformer_depth": (1, 2)}
    train_mini(replace(CPU, output=tmp_path, **levels, steps=2, batch=2, sample_every=0, learning_rate=0.02))
    generator = torch.Generator().manual_seed(5)
    drawn = draw_scenes(1, 128, generator, difficulty="texture")
    scene = drawn.picture(), drawn.effect_mask(drawn.pick_object(generator))
    in_comfyui = sample(host.load_mini(mini.load(tmp_path)), scene, Plain())
    base = load_mini(tmp_path)
    assert (base.native_size, base.multiple) == (128, 16)
    in_diffusers = remove(base, *scene, Plain(), positive="blue background", steps=STEPS, seed=SEED)
    assert in_diffusers.shape == (1, 3, 128, 128) and psnr(in_comfyui, in_diffusers) >= 40
    assert psnr(in_diffusers, scene[0]) < 25


def test_words_of_a_prompt_reach_the_network(loaded):
    _, clip, _ = loaded
    base = load_mini()
    for text in ("", "five green discs on blue waves background", "nikon, 8K"):
        (context, _), *_ = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        torch.testing.assert_close(context, base.texts.encode([text], (64, 64)).context, atol=1e-4, rtol=0)


def graph(name, **changes):
    """A shipped graph with inputs changed by class: KSampler={"steps": 4}."""
    nodes = json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())
    for node in nodes.values():
        node["inputs"] |= changes.get(node["class_type"], {})
    return nodes


@pytest.fixture
def server(comfy_server):
    for name in ("example_scene.png", "example_mask.png"):
        comfy_server.upload(PACK / "workflows" / name)
    return comfy_server


def result(server, nodes):
    (saved,) = [key for key, node in nodes.items() if node["class_type"] == "SaveImage"]
    return server.images(server.post(nodes), saved)


def test_a_cancelled_run_stops_and_the_next_one_is_clean(server):
    quick = graph("attentive_eraser_mini", KSampler={"steps": 4, "seed": 11})
    expected = result(server, quick)
    running = server.submit(graph("attentive_eraser_mini", KSampler={"steps": 2000, "seed": 12}))
    server.wait_for_step(running)
    server.cancel()
    with pytest.raises(RuntimeError, match="interrupted in KSampler"):
        server.wait(running, timeout=30)
    quick["18"]["inputs"]["filename_prefix"] = "unclutter/again"
    quick["15"]["inputs"]["steps"] = 5
    result(server, quick)
    quick["15"]["inputs"]["steps"] = 4
    assert torch.equal(result(server, quick), expected)


def test_without_our_node_the_model_is_as_before(server):
    nodes = graph("sra_mini", KSampler={"steps": 4, "seed": 21})
    sampler = next(node for node in nodes.values() if node["class_type"] == "KSampler")
    patched = sampler["inputs"]["model"]
    bare = nodes[patched[0]]["inputs"]["model"]
    sampler["inputs"]["model"] = bare
    before = result(server, nodes)
    sampler["inputs"]["model"] = patched
    assert not torch.equal(result(server, nodes), before)
    sampler["inputs"] |= {"model": bare, "steps": 3}
    result(server, nodes)
    sampler["inputs"]["steps"] = 4
    nodes["18"]["inputs"]["filename_prefix"] = "unclutter/after"
    assert torch.equal(result(server, nodes), before)


def test_two_masks_on_one_cached_model(server):
    nodes = graph("sra_mini", KSampler={"steps": 4, "seed": 31}, UnclutterPrepareMask={"grow_percent": 5.0})
    first = result(server, nodes)
    other = graph("sra_mini", KSampler={"steps": 4, "seed": 31}, UnclutterPrepareMask={"grow_percent": 40.0})
    assert not torch.equal(result(server, other), first)
    nodes["18"]["inputs"]["filename_prefix"] = "unclutter/first_again"
    assert torch.equal(result(server, nodes), first)
