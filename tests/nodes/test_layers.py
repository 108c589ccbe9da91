"""MILD's nodes: rows with their own branches in one call, only what is asked for, and no trace on the model."""

from __future__ import annotations

import copy
import dataclasses
import logging

import pytest
import torch

from unclutter.adapters import layered
from unclutter.adapters.lora import LoraPair
from unclutter.kernels.lowrank import BACKGROUND, PERSON
from unclutter.kernels.morphology import HumanMorphology
from unclutter.tests.nodes.running import run_node
from unclutter.training.base_models.mini import load_mini
from unclutter.training.comfyui_server import PACK
from unclutter.training.sampling.crowd import take_apart
from unclutter.training.sampling.layered import erase_layers, fresh_adapter

OTHER_BATCH = 1e-4
"""The most that a row may differ by in calls of other sizes, after all steps."""
BOXES = ((8, 30, 8, 30), (20, 50, 24, 44), (40, 60, 4, 16))
"""Persons 1 and 2 touch, person 3 stands alone."""
SETTINGS = {
    "keep": "any",
    "seed": 3,
    "steps": 2,
    "cfg": 1.0,
    "person_cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "masg": "off",
    "grow_percent": 0.0,
    "context": 0.5,
    "minimum": 64,
    "maximum": 0,
    "match_color": False,
}


def boxes(*rectangles, size=64):
    masks = torch.zeros(len(rectangles), size, size)
    for mask, (top, bottom, left, right) in zip(masks, rectangles, strict=True):
        mask[top:bottom, left:right] = 1
    return masks


@pytest.fixture
def tiny(comfy):
    from unclutter.tests.nodes import tiny

    return tiny


@pytest.fixture
def picture():
    return (
        torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(0))
        .repeat_interleave(8, 1)
        .repeat_interleave(8, 2)
    )


def adapter_for(model, seed=0, strength=0.3, width=32):
    """A layered eraser with random weights for a ModelPatcher's network."""
    import comfy.utils

    torch.manual_seed(seed)
    network = model.model.diffusion_model
    branches, biases = ({}, {}), {}
    # In one order: ComfyUI goes through a set, whose order differs from process to process, and so would the weights.
    for module, path in sorted(comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items()):
        module, path = module.removesuffix(".weight"), path.removesuffix(".weight")
        if not module.endswith(("to_q", "to_k", "to_v")):
            continue
        out, inputs = network.get_submodule(path).weight.shape
        for branch in branches:
            branch[module] = LoraPair(torch.randn(2, inputs) / 2, strength * torch.randn(out, 2), 2.0)
        if module.endswith("attn1.to_q"):
            biases[module.removesuffix(".to_q")] = 5 * strength * torch.randn(2)
    morphology = HumanMorphology(width).state_dict()
    morphology = {
        key: value + strength * torch.randn(value.shape) if "project" in key else value
        for key, value in morphology.items()
    }
    return layered.Layered(*branches, biases, morphology)


def merged(model, branch):
    """A copy of the model's network with the LoRAs of one branch in its weights."""
    import comfy.utils

    network = copy.deepcopy(model.model.diffusion_model)
    paths = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    for module, pair in branch.items():
        weight = network.get_submodule(paths[f"{module}.weight"].removesuffix(".weight")).weight
        weight.data += pair.alpha / len(pair.down) * pair.up @ pair.down
    return network


def load(model, adapter):
    from unclutter.nodes import host

    return host.load_layered(model, adapter, "eraser.safetensors")


def sample(tiny, loaded, picture, masks, guidance=None, **changes):
    from unclutter.nodes.layers import LayeredSampler

    prompts = [tiny.conditioning(seed, tokens) for seed, tokens in ((1, 7), (2, 5), (3, 7))]
    settings = {**SETTINGS, **changes}
    with torch.inference_mode():
        return run_node(LayeredSampler, loaded, picture, masks, *prompts, tiny.vae(), **settings, guidance=guidance)[0]


def equal(one, other, tolerance=0.0):
    assert one.generated.keys() == other.generated.keys()
    pairs = [(one.background, other.background), *((one.generated[k], other.generated[k]) for k in one.generated)]
    return all(torch.allclose(a, b, atol=tolerance, rtol=0) for a, b in pairs)


def watch(model, calls, limit=None, fault=None):
    """A clone of the model that notes the rows of each call, and has no memory for more than `limit`."""
    import comfy.model_management

    model = model.clone()

    def call(apply_model, args):
        rows = len(args["input"])
        if limit and rows > limit:
            raise fault or comfy.model_management.OOM_EXCEPTION(f"no memory for {rows} rows")
        calls.append(rows)
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(call)
    return model


def psnr(one, other):
    return -10 * (one - other).square().mean().log10()


@pytest.fixture(scope="module")
def mini(comfy):
    from unclutter.nodes.mini import LoadMini

    return run_node(LoadMini)


def random_mini_adapter(seed=0, strength=0.3):
    torch.manual_seed(seed)
    fresh = fresh_adapter(load_mini().network, rank=4)
    branches = (
        {key: LoraPair(pair.down, strength * torch.randn_like(pair.up), pair.alpha) for key, pair in branch.items()}
        for branch in (fresh.foreground, fresh.background)
    )
    morphology = {
        key: value + 0.05 * torch.randn_like(value) if "project" in key else value
        for key, value in fresh.morphology.items()
    }
    return layered.Layered(*branches, {key: torch.randn(2) for key in fresh.sma}, morphology)


@pytest.mark.parametrize("trained_with", ["false", "true"])
def test_both_hosts_make_the_same_layers(mini, picture, trained_with):
    from unclutter.nodes.layers import LayeredSampler
    from unclutter.nodes.morphology import HumanMorphology

    model, clip, vae = mini
    adapter, masks = random_mini_adapter(), boxes(*BOXES)
    adapter = dataclasses.replace(adapter, metadata={"unclutter.background_morphology": trained_with})
    pose = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 20, (64, 64), generator=torch.Generator().manual_seed(2))
    parsing = (labels / 255)[None, ..., None].expand(1, 64, 64, 3)
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("red disc", "blue background", "")]
    guidance = run_node(HumanMorphology, masks, pose, parsing)[0]
    settings = {**SETTINGS, "steps": 3, "cfg": 5.0, "person_cfg": 3.0, "keep": "any"}
    with torch.inference_mode():
        ours = run_node(
            LayeredSampler, load(model, adapter), picture, masks, *prompts, vae, **settings, guidance=guidance
        )[0]
    image = picture[0].movedim(-1, 0)
    named = {"prompts": ("red disc", "blue background"), "guidance": (3.0, 5.0), "steps": 3, "seed": 3}
    layers, background = erase_layers(
        load_mini(), adapter, image, masks, wanted=[0, 1], pose=pose[0].movedim(-1, 0), parsing=labels, **named
    )
    assert ours.generated.keys() == {0, 1}
    parity = min(psnr(ours.background, background), *(psnr(ours.generated[k], layers[k]) for k in (0, 1)))
    print(f"ComfyUI against diffusers: {parity:.1f} dB")
    assert parity >= 40
    _, without = erase_layers(load_mini(), adapter, image, masks, wanted=[], **{**named, "guidance": (3.0, 1.0)})
    assert psnr(without, background) < 40
    # Alone, the background has pose and parsing where it was trained with them, and the same result.
    alone = {"wanted": [], **named}
    _, given = erase_layers(load_mini(), adapter, image, masks, pose=pose[0].movedim(-1, 0), parsing=labels, **alone)
    _, bare = erase_layers(load_mini(), adapter, image, masks, **alone)
    assert psnr(given, background) >= 40 and (psnr(given, bare) < 60) == (trained_with == "true")


def test_the_command_line_removes_people_as_the_graph_does(mini, picture):
    """Layered Sampler and Compose Layers against what `unclutter remove --instances --remove 2` does."""
    from unclutter.nodes.compose import ComposeLayers
    from unclutter.nodes.layers import LayeredSampler

    model, clip, vae = mini
    adapter, masks = random_mini_adapter(), boxes(*BOXES)
    adapter = dataclasses.replace(adapter, metadata={"unclutter.prompts": '["red disc", "blue background"]'})
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("red disc", "blue background", "")]
    asked = {"keep": "1, 3", "steps": 3, "cfg": 3.0, "person_cfg": 3.0, "grow_percent": 7.5, "match_color": True}
    with torch.inference_mode():
        layers = LayeredSampler.execute(
            load(model, adapter), picture, masks, *prompts, vae, **{**SETTINGS, **asked}
        ).args[0]
        image, area, *_ = ComposeLayers.execute(layers, "2", "", 4).args
    ours = take_apart(
        load_mini(), adapter, picture[0].movedim(-1, 0), masks, [1], grow=7.5, guidance=3.0, steps=3, seed=3
    )
    assert layers.generated.keys() == ours.generated.keys() == {0}
    result, replaced = ours.composed()
    print(f"ComfyUI against unclutter remove: {psnr(image[0].movedim(-1, 0), result):.1f} dB")
    assert torch.equal(area[0], replaced) and psnr(image[0].movedim(-1, 0), result) >= 45
    assert psnr(result[:, area[0] > 0], picture[0].movedim(-1, 0)[:, area[0] > 0]) < 25


def test_an_eraser_that_has_learned_nothing_is_the_model_itself(mini, picture):
    import comfy.sample
    import comfy.samplers

    from unclutter.nodes.conditioning import RemovalConditioning
    from unclutter.nodes.layers import LayeredSampler
    from unclutter.nodes.morphology import HumanMorphology

    model, clip, vae = mini
    masks = boxes(*BOXES)
    text = clip.encode_from_tokens_scheduled(clip.tokenize("blue background"))
    union = masks.amax(dim=0, keepdim=True)
    # What the hole begins with is grey, as what the network is shown.
    grey = torch.where(union[..., None] > 0, 0.5, picture)
    positive, _, latent = run_node(RemovalConditioning, text, text, vae, grey, union)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, positive)
    schedule = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    sampler = comfy.samplers.sampler_object("euler")
    plain = guider.sample(
        noise, latent["samples"], sampler, schedule, denoise_mask=latent["noise_mask"], disable_pbar=True, seed=3
    )
    plain = vae.decode(plain)[0].movedim(-1, 0).clamp(0, 1)
    loaded = load(model, fresh_adapter(load_mini().network, rank=4))
    pose = torch.rand(1, 64, 64, 3)
    with torch.inference_mode():
        guidance = run_node(HumanMorphology, masks, pose)[0]
        ours = [
            run_node(LayeredSampler, loaded, picture, masks, text, text, text, vae, **SETTINGS, guidance=given)[0]
            for given in (None, guidance)
        ]
    torch.testing.assert_close(ours[0].background, plain, atol=OTHER_BATCH, rtol=0)
    assert equal(*ours)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_row_is_the_model_with_the_lora_of_its_branch_merged(tiny, family):
    from unclutter.nodes.host.attention import DIFFUSION_MODEL
    from unclutter.nodes.host.layered import LayeredPatch, Rows

    model = getattr(tiny, family)(9)
    adapter = dataclasses.replace(adapter_for(model, strength=0.1), sma={}, morphology={})
    loaded, network = load(model, adapter), model.model.diffusion_model
    branches = [PERSON, PERSON, BACKGROUND]
    torch.manual_seed(0)
    x, context = torch.randn(3, 9, 8, 8), torch.randn(3, 7, tiny.CONTEXT)
    y = torch.randn(3, 1536 + tiny.POOLED) if family == "sdxl" else None
    rows = Rows(torch.tensor(branches), torch.zeros(3, 8, 8), torch.ones(3, 1, 8, 8), None)

    def call(network, options, *given):
        x, context, y = given
        with torch.inference_mode():
            return network(x, torch.full((len(x),), 500.0), context, y, transformer_options=options)

    patches = {"wrappers": {DIFFUSION_MODEL: {"unclutter": [LayeredPatch(loaded, rows, {})]}}, "cond_or_uncond": [0]}
    together, plain = call(network, patches, x, context, y), call(network, {}, x, context, y)
    assert (together - plain).abs().amax(dim=(1, 2, 3)).min() > 0.01
    for row, branch in enumerate(branches):
        alone = [None if one is None else one[row : row + 1] for one in (x, context, y)]
        out = call(merged(model, (adapter.foreground, adapter.background)[branch]), {}, *alone)
        torch.testing.assert_close(together[row : row + 1], out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_row_is_what_it_is_alone(tiny, picture, family):
    model = getattr(tiny, family)(9)
    adapter, masks = adapter_for(model), boxes(*BOXES)
    both = sample(tiny, load(model, adapter), picture, masks)
    alone = sample(tiny, load(model, adapter), picture, masks, keep="none")
    assert (both.generated.keys(), alone.generated.keys()) == ({0, 1}, set())
    torch.testing.assert_close(both.background, alone.background, atol=OTHER_BATCH, rtol=0)
    # Each branch matters to its own rows only.
    other = dataclasses.replace(adapter, foreground=adapter.background)
    swapped = sample(tiny, load(model, other), picture, masks)
    torch.testing.assert_close(both.background, swapped.background, atol=OTHER_BATCH, rtol=0)
    assert not torch.allclose(both.generated[0], swapped.generated[0], atol=1e-3)


@pytest.mark.parametrize("match_color", [False, True])
def test_nobodys_colours_reach_the_layers_of_others_or_the_background(tiny, picture, match_color):
    model = tiny.sdxl(9)
    loaded, masks = load(model, adapter_for(model)), boxes(*BOXES)
    masks[0, 20:30, 24:40] = 1  # under the second
    other = torch.where((masks[1] > 0)[None, ..., None], 1 - picture, picture)
    settings = {"grow_percent": 10.0, "match_color": match_color}
    before, after = (sample(tiny, loaded, one, masks, **settings) for one in (picture, other))
    assert torch.equal(before.background, after.background)
    assert torch.equal(before.generated[0], after.generated[0])
    assert not torch.allclose(before.generated[1], after.generated[1], atol=0.01)


@pytest.mark.parametrize(
    ("keep", "chosen"),
    [
        ("none", set()),
        ("any", {0, 1}),
        ("1", {0}),
        ("1, 3", {0}),
        ("all but 1", {1}),
        ("all but 3", set()),
        ("all", {0, 1}),
        ("1-3", {0, 1}),
        ("", set()),
    ],
)
def test_only_what_is_asked_for_is_computed(tiny, picture, keep, chosen):
    model, calls = tiny.sdxl(9), []
    out = sample(tiny, load(watch(model, calls), adapter_for(model)), picture, boxes(*BOXES), keep=keep, steps=1)
    assert out.generated.keys() == chosen
    assert calls == [len(chosen) + 1]


def test_people_who_touch_without_overlapping_need_no_layer(tiny, picture):
    from unclutter.nodes.compose import ComposeLayers

    model, calls, masks = tiny.sdxl(9), [], boxes((8, 30, 8, 30), (8, 30, 30, 50))
    loaded = load(watch(model, calls), adapter_for(model))
    out = sample(tiny, loaded, picture, masks, grow_percent=20.0, steps=1)
    assert calls == [1] and (out.holes[1] * masks[0]).any()
    (image,), *_ = run_node(ComposeLayers, out, remove="2")
    assert torch.equal(image[masks[0] > 0], picture[0][masks[0] > 0])


def test_all_rows_and_both_prompts_go_through_one_call(tiny, picture):
    model, calls = tiny.sdxl(9), []
    sample(tiny, load(watch(model, calls), adapter_for(model)), picture, boxes(*BOXES), cfg=5.0, steps=3)
    assert calls == [6, 6, 6]


def test_guidance_is_each_rows_own_and_masg_works_in_the_hole(tiny, picture):
    model = tiny.sdxl(9)
    loaded, masks = load(model, adapter_for(model)), boxes(*BOXES)
    plain, background, person, masked = (
        sample(tiny, loaded, picture, masks, **changes)
        for changes in ({}, {"cfg": 4.0}, {"person_cfg": 4.0}, {"cfg": 4.0, "masg": "linear"})
    )
    assert not torch.allclose(background.background, plain.background, atol=1e-3)
    torch.testing.assert_close(background.generated[0], plain.generated[0], atol=OTHER_BATCH, rtol=0)
    torch.testing.assert_close(person.background, plain.background, atol=OTHER_BATCH, rtol=0)
    assert not torch.allclose(person.generated[0], plain.generated[0], atol=1e-3)
    assert not torch.allclose(masked.background, background.background, atol=1e-3)


@pytest.mark.parametrize("fault", [None, "CUDA error: out of memory"])
def test_without_memory_rows_go_in_smaller_calls_with_the_same_result(tiny, picture, caplog, fault):
    import comfy.model_management

    if fault and not hasattr(comfy.model_management, "is_oom"):
        pytest.skip("this ComfyUI knows one kind of such an error")
    fault = fault and torch.AcceleratorError(fault)
    model, calls = tiny.sdxl(9), []
    adapter, masks = adapter_for(model), boxes(*BOXES)
    whole = sample(tiny, load(model, adapter), picture, masks, cfg=3.0)
    with caplog.at_level(logging.WARNING):
        parts = sample(tiny, load(watch(model, calls, 3, fault), adapter), picture, masks, cfg=3.0)
    assert equal(whole, parts, OTHER_BATCH)
    assert max(calls) <= 3
    assert "memory does not hold all 3 rows at once" in caplog.text


def test_another_fault_of_the_network_is_not_taken_for_one_of_memory(tiny, picture):
    loaded = load(watch(tiny.sdxl(9), calls := [], 1, RuntimeError("shapes do not fit")), adapter_for(tiny.sdxl(9)))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        sample(tiny, loaded, picture, boxes(*BOXES))
    assert not calls


def test_batching_of_another_pack_is_kept(tiny, picture):
    import comfy.samplers

    model, seen = tiny.sdxl(9).clone(), []
    plain = sample(tiny, load(model, adapter_for(model)), picture, boxes(*BOXES), cfg=3.0)

    def batching(args):
        seen.append(len(args["input"]))
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )

    model.model_options["sampler_calc_cond_batch_function"] = batching
    out = sample(tiny, load(model, adapter_for(model)), picture, boxes(*BOXES), cfg=3.0)
    assert equal(out, plain, OTHER_BATCH) and seen == [3, 3]


def test_memory_for_no_row_at_all_is_an_error(tiny, picture):
    import comfy.model_management

    model = tiny.sdxl(9)
    loaded = load(watch(model, [], limit=0.5), adapter_for(model))
    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        sample(tiny, loaded, picture, boxes(*BOXES))


def test_two_erasers_on_one_model_do_not_meet(tiny, picture):
    model, masks = tiny.sdxl(9), boxes(*BOXES)
    weights = {key: value.clone() for key, value in model.model.state_dict().items()}
    options = str(model.model_options)
    one, two = (load(model, adapter_for(model, seed)) for seed in (1, 2))
    before = tiny.sample(tiny.guider(model))
    first, second, again = (sample(tiny, loaded, picture, masks) for loaded in (one, two, one))
    assert equal(first, again)
    assert not equal(first, second, 1e-3)
    assert torch.equal(tiny.sample(tiny.guider(model)), before)
    assert all(torch.equal(value, weights[key]) for key, value in model.model.state_dict().items())
    assert str(model.model_options) == options


def test_attention_of_another_pack_keeps_working(tiny, picture):
    """IP-Adapter and others take over cross-attention: they get the layer's queries, and no tokens they do not know."""
    from comfy.ldm.modules.attention import optimized_attention

    model, masks, lengths = tiny.sdxl(9), boxes(*BOXES), set()
    plain = sample(tiny, load(model, adapter_for(model)), picture, masks)
    patched = model.clone()

    def theirs(q, k, v, extra):
        lengths.add(k.shape[1])
        return optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"])

    patched.set_model_attn2_replace(theirs, "middle", 0)
    assert equal(sample(tiny, load(patched, adapter_for(model)), picture, masks), plain, OTHER_BATCH)
    assert lengths == {35}


def test_a_large_picture_is_worked_on_around_the_people(tiny):
    model, calls = tiny.sdxl(9), []
    large = torch.rand(1, 250, 331, 3, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 250, 331)
    masks[0, 100:130, 150:180] = 1
    masks[1, 110:140, 170:200] = 1
    out = sample(tiny, load(watch(model, calls), adapter_for(model)), large, masks, match_color=True)
    assert out.background.shape == (3, 250, 331)
    far = out.background != large[0].movedim(-1, 0)
    assert far[:, 110:120, 160:190].any()
    assert not far[:, :40].any()
    assert not far[:, :, :60].any()


def test_people_who_are_far_keep_their_pixels(tiny, picture):
    from unclutter.nodes.compose import ComposeLayers

    model, masks = tiny.sdxl(9), boxes(*BOXES)
    layers = sample(tiny, load(model, adapter_for(model)), picture, masks, grow_percent=5.0)
    (image,), *_ = run_node(ComposeLayers, layers, remove="1")
    assert torch.equal(image[masks[2] > 0], picture[0][masks[2] > 0])
    assert torch.equal(image[:, 50:], picture[0][:, 50:])
    assert not torch.allclose(image[10:18, 10:22], picture[0][10:18, 10:22], atol=0.01)


def test_the_preview_is_the_composite(tiny, picture, monkeypatch):
    import latent_preview

    shown = []
    prepare = latent_preview.prepare_callback

    def spy(*args, **more):
        callback = prepare(*args, **more)
        return lambda step, x0, x, total: (shown.append(x0.clone()), callback(step, x0, x, total))[1]

    monkeypatch.setattr(latent_preview, "prepare_callback", spy)
    model = tiny.sdxl(9)
    loaded = load(model, adapter_for(model))
    masks = boxes(*BOXES)
    sample(tiny, loaded, picture, masks, keep="none")
    sample(tiny, loaded, picture, masks, keep="3")
    none, third = shown[1], shown[3]
    assert none.shape == third.shape == (1, 4, 8, 8)
    changed = (none != third).any(dim=1)[0]
    assert changed[5:8, 0:2].any()
    assert not changed[:5].any()


def test_forty_people(tiny, picture):
    model, calls = tiny.sdxl(9), []
    rectangles = [(2 + 11 * i, 14 + 11 * i, 1 + 7 * j, 9 + 7 * j) for i in range(5) for j in range(8)]
    out = sample(tiny, load(watch(model, calls), adapter_for(model)), picture, boxes(*rectangles), steps=1)
    assert calls == [41]
    assert len(out.generated) == 40


def test_one_mask_is_one_person_and_needs_the_background_alone(tiny, picture):
    model, calls = tiny.sdxl(9), []
    out = sample(tiny, load(watch(model, calls), adapter_for(model)), picture, boxes(BOXES[0])[0], steps=1)
    assert calls == [1]
    assert out.masks.shape == (1, 64, 64)


def test_a_mask_of_another_size_is_brought_to_the_pictures(tiny, picture):
    model = tiny.sdxl(9)
    loaded = load(model, adapter_for(model))
    small = boxes((4, 12, 4, 12), (12, 20, 20, 28), size=32)
    out = sample(tiny, loaded, picture, small, steps=1)
    assert torch.equal(out.masks, boxes((8, 24, 8, 24), (24, 40, 40, 56)))


@pytest.mark.parametrize(
    ("masks", "changes", "message"),
    [
        (torch.zeros(0, 64, 64), {}, "No masks came"),
        (
            boxes(BOXES[0], size=128)[:, :32],
            {},
            "The mask is 128x32 and the picture 64x64, another shape",
        ),
        (boxes(BOXES[0], (0, 0, 0, 0)), {}, "Mask 2 of 2 is empty"),
        (torch.zeros(1, 64, 64), {}, "blank 64×64"),
        (boxes(BOXES[0], BOXES[1], BOXES[0]), {}, "Masks 1 and 3 mark the same person"),
        (boxes((0, 64, 0, 40), (0, 64, 30, 64)), {}, "Together the masks cover the whole picture"),
        (boxes(BOXES[0], (0, 64, 0, 64)), {}, "^Mask 2 of 2 covers the whole picture"),
        (boxes((0, 64, 0, 64)), {}, "^The mask covers the whole picture"),
        (boxes(*BOXES), {"keep": "foo"}, "keep is 'foo': write numbers .*, or any, all, all but 1, or none[.]$"),
        (boxes(*BOXES), {"keep": "4"}, "keep names person 4 and the masks mark 3 people"),
        (boxes(*BOXES), {"cfg": float("nan")}, "cfg is nan"),
        (boxes(*BOXES), {"minimum": 128, "maximum": 64}, "^maximum is 64 and minimum 128: lower minimum, or raise max"),
        (boxes(*BOXES), {"minimum": 8, "maximum": 32}, "^maximum is 32 and sides are multiples of 64: raise max"),
    ],
)
def test_what_cannot_be_sampled_is_said(tiny, picture, masks, changes, message):
    model = tiny.sdxl(9)
    with pytest.raises(ValueError, match=message):
        sample(tiny, load(model, adapter_for(model)), picture, masks, **changes)


def test_several_pictures_and_conditionings_of_parts_are_refused(tiny, picture):
    from unclutter.nodes.layers import LayeredSampler

    model = tiny.sdxl(9)
    loaded, text = load(model, adapter_for(model)), tiny.conditioning(1)
    with pytest.raises(ValueError, match="2 pictures came"):
        sample(tiny, loaded, picture.repeat(2, 1, 1, 1), boxes(*BOXES))
    with pytest.raises(ValueError, match="conditioning background has 2 parts"):
        run_node(LayeredSampler, loaded, picture, boxes(*BOXES), text, text * 2, text, tiny.vae(), **SETTINGS)


@pytest.mark.parametrize("option", ["area", "mask", "start_percent", "end_percent", "control", "gligen", "hooks"])
def test_what_one_prompt_would_lend_to_all_layers_is_refused_by_name(tiny, picture, option):
    from unclutter.nodes.layers import LayeredSampler

    model = tiny.sdxl(9)
    loaded = load(model, adapter_for(model))
    for index, name in enumerate(("person", "background", "negative")):
        prompts = [tiny.conditioning(seed) for seed in range(3)]
        prompts[index][0][1][option] = 0.5
        with pytest.raises(ValueError, match=f"conditioning {name} comes with {option}, .*: connect it without"):
            run_node(LayeredSampler, loaded, picture, boxes(*BOXES), *prompts, tiny.vae(), **SETTINGS)


@pytest.mark.parametrize(
    ("number", "values"),
    [
        ("steps", (0, -3, 1001)),
        ("cfg", (-1.0, float("nan"))),
        ("person_cfg", (101.0, float("inf"))),
        ("grow_percent", (float("nan"), -50.0, 1e6)),
        ("context", (float("nan"), -1.0, 1e9)),
        ("minimum", (0, 8193)),
        ("maximum", (-8, 16385)),
    ],
)
def test_numbers_that_come_through_links_are_checked(tiny, picture, number, values):
    model = tiny.sdxl(9)
    loaded = load(model, adapter_for(model))
    for value in values:
        with pytest.raises(ValueError, match=f"^{number} is .*: it must lie between"):
            sample(tiny, loaded, picture, boxes(*BOXES), **{number: value})


def test_an_eraser_of_no_numbers_is_no_black_picture(tiny, picture):
    model = tiny.sdxl(9)
    adapter = adapter_for(model)
    next(iter(adapter.background.values())).up[0, 0] = float("nan")
    with pytest.raises(ValueError, match="network's result has NaN or infinite values: a damaged LoRA"):
        sample(tiny, load(model, adapter), picture, boxes(*BOXES))


def test_an_eraser_for_another_model_is_counted_and_refused(tiny):
    sdxl, sd15 = tiny.sdxl(9), tiny.sd15(9)
    with pytest.raises(ValueError, match=r"\d+ of the \d+ LoRA modules in eraser.safetensors fit this model"):
        load(sdxl, adapter_for(sd15))
    with pytest.raises(ValueError, match="tokens of its width"):
        load(sdxl, adapter_for(sdxl, width=48))


def test_models_it_cannot_work_on_are_refused(tiny):
    from unclutter.nodes.attention import SelfRectifyingAttention

    adapter = adapter_for(tiny.sdxl(9))
    with pytest.raises(ValueError, match="works on no model of the family Flux"):
        load(tiny.flux(), adapter)
    with pytest.raises(ValueError, match="no inpainting channels"):
        load(tiny.sdxl(), adapter)
    patched = run_node(SelfRectifyingAttention, tiny.sdxl(9), boxes(BOXES[0]), mode="strict")[0]
    with pytest.raises(ValueError, match="came after Self-Rectifying Attention"):
        load(patched, adapter)


def morphology(masks=None, **inputs):
    from unclutter.nodes.morphology import HumanMorphology

    return run_node(HumanMorphology, boxes(*BOXES) if masks is None else masks, **inputs)[0]


def test_pose_and_parsing_of_any_scale_reach_the_layers(tiny, picture):
    model, masks = tiny.sdxl(9), boxes(*BOXES)
    loaded = load(model, adapter_for(model))
    plain = sample(tiny, loaded, picture, masks)
    pose = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(1))
    parsing = torch.randint(0, 20, (1, 32, 32, 1), generator=torch.Generator().manual_seed(2)).expand(1, 32, 32, 3)
    for inputs in ({"pose": pose}, {"parsing": parsing / 255}, {"pose": pose.repeat(3, 1, 1, 1)}):
        guided = sample(tiny, loaded, picture, masks, guidance=morphology(**inputs))
        assert torch.allclose(guided.background, plain.background, atol=1e-5)
        assert not torch.allclose(guided.generated[0], plain.generated[0], atol=1e-4)


def test_a_box_at_another_scale_stays_in_the_picture_and_is_never_empty(comfy):
    from unclutter.kernels.regions import Box
    from unclutter.nodes.morphology import at_scale

    assert at_scale(Box(10, 20, 30, 40), (100, 200), (100, 200)) == (10, 20, 30, 40)
    assert at_scale(Box(10, 20, 30, 40), (100, 200), (50, 400)) == (5, 40, 15, 80)
    assert at_scale(Box(99, 7, 1, 193), (100, 200), (3, 7)) == (2, 0, 1, 7)


def test_parsing_maps_of_all_kinds_say_the_same(comfy):
    from unclutter.nodes.morphology import palette

    labels = torch.arange(64 * 64).reshape(64, 64) % 20
    grey = (labels / 255)[None, ..., None].expand(1, 64, 64, 3)
    colors = palette(20)[labels][None] / 255
    planes = torch.nn.functional.one_hot(labels, 20).movedim(-1, 0)[..., None].expand(20, 64, 64, 3).float()
    assert palette(20)[[1, 2, 15, 19]].tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128], [128, 192, 0]]
    expected = morphology(parsing=grey).parsing
    assert expected.shape == (1, 20, 64, 64)
    assert torch.equal(expected[0].argmax(dim=0), labels)
    assert torch.equal(morphology(parsing=colors).parsing, expected)
    assert torch.equal(morphology(parsing=planes).parsing, expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"pose": torch.zeros(1, 64, 128, 3)}, "The pose picture is 128x64 and the picture or its masks 64x64"),
        ({"pose": torch.zeros(2, 64, 64, 3)}, "2 pose pictures came for 3 people"),
        ({"parsing": torch.zeros(1, 90, 64, 3)}, "The parsing map is 64x90"),
        ({"parsing": torch.full((1, 64, 64, 3), 0.5)}, "labels 128 to 128, expected 0 to 19"),
        ({"parsing": torch.rand(1, 64, 64, 3)}, "colours that are none of SCHP's 20"),
        ({"parsing": torch.zeros(7, 64, 64, 3)}, "7 parsing pictures came"),
    ],
)
def test_pose_and_parsing_that_do_not_fit_are_refused(comfy, inputs, message):
    with pytest.raises(ValueError, match=message):
        morphology(**inputs)


def test_a_number_of_labels_through_a_link_is_checked(comfy):
    with pytest.raises(ValueError, match="^labels is 100000: it must lie between 2 and 256"):
        morphology(boxes(*BOXES), parsing=torch.zeros(1, 64, 64, 3), labels=100_000)


def test_guidance_of_other_masks_or_for_an_eraser_without_it_is_refused(tiny, picture):
    model, masks = tiny.sdxl(9), boxes(*BOXES)
    adapter, pose = adapter_for(model), torch.zeros(1, 64, 64, 3)
    other = morphology(boxes(*BOXES[:2]), pose=pose)
    with pytest.raises(ValueError, match="guidance is for 2 people and 3 masks came"):
        sample(tiny, load(model, adapter), picture, masks, guidance=other)
    with pytest.raises(ValueError, match="has 7 labels and this eraser was trained on 20: set labels to 20"):
        seven = morphology(parsing=torch.zeros(1, 64, 64, 3), labels=7)
        sample(tiny, load(model, adapter), picture, masks, guidance=seven)
    with pytest.raises(ValueError, match="trained without Human Morphology Guidance"):
        bare = load(model, dataclasses.replace(adapter, morphology={}))
        sample(tiny, bare, picture, masks, guidance=morphology(pose=pose))


@pytest.fixture
def server(comfy_server):
    loras = comfy_server.base_directory / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    for seed in (1, 2):
        layered.save(loras / f"layered_{seed}.safetensors", random_mini_adapter(seed))
    for name in ("example_scene.png", "example_mask.png"):
        comfy_server.upload(PACK / "workflows" / name)
    return comfy_server


def graph(steps=2, remove="all", seed=0, files=(1,)):
    """The mini model, everything in the example mask as one person and a square beside it as another."""
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}}
    nodes = {
        "1": {"class_type": "UnclutterLoadMini", "inputs": {}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "example_scene.png"}},
        "3": {"class_type": "LoadImageMask", "inputs": {"image": "example_mask.png", "channel": "red"}},
        "4": {"class_type": "UnclutterSplitInstances", "inputs": {"mask": ["3", 0], "min_area": 4}},
        "5": text,
    }
    for index, file in enumerate(files):
        load, run, compose, save = (str(10 * (index + 1) + i) for i in range(4))
        settings = {**SETTINGS, "steps": steps, "seed": seed}
        links = {"image": ["2", 0], "masks": ["4", 0], "person": ["5", 0], "background": ["5", 0], "negative": ["5", 0]}
        name = f"layered_{file}.safetensors"
        nodes |= {
            load: {"class_type": "UnclutterLoadLayered", "inputs": {"model": ["1", 0], "file": name}},
            run: {
                "class_type": "UnclutterLayeredSampler",
                "inputs": {"layered_model": [load, 0], "vae": ["1", 2], **links, **settings},
            },
            compose: {
                "class_type": "UnclutterComposeLayers",
                "inputs": {"layers": [run, 0], "remove": remove, "order": "", "feather": 2},
            },
            save: {
                "class_type": "SaveImage",
                "inputs": {"images": [compose, 0], "filename_prefix": f"unclutter/{file}"},
            },
        }
    nodes["9"] = {"class_type": "UnclutterSaveLayers", "inputs": {"layers": ["12", 3], "filename_prefix": "people"}}
    return nodes


def test_a_server_removes_and_saves_and_two_erasers_share_a_model(server):
    outputs = server.post(graph(files=(1, 2)))
    one, two = (server.images(outputs, key) for key in ("13", "23"))
    assert not torch.equal(one, two)
    (saved,) = outputs["9"]["files"]
    assert (server.base_directory / "output" / saved["filename"]).is_file()
    alone = server.images(server.post(graph(files=(2,))), "13")
    assert torch.equal(alone, two)


def test_cancel_stops_within_the_run_and_leaves_nothing(server):
    expected = server.images(server.post(graph(seed=5)), "13")
    running = server.submit(graph(steps=900, seed=6))
    server.wait_for_step(running)
    server.cancel()
    with pytest.raises(RuntimeError, match="interrupted in UnclutterLayeredSampler"):
        server.wait(running, timeout=30)
    server.post(graph(steps=3, seed=5))
    assert torch.equal(server.images(server.post(graph(seed=5)), "13"), expected)
