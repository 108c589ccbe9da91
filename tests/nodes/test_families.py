"""Removal by attention on every transformer family that ComfyUI loads, on tiny networks of random weights.

One row a family, in `tiny_families.py`. The first test decides whether a row of `nodes/host/layouts.py` is right: with the
object's keys dropped in every layer, what lies in the object cannot reach the rest of the picture, not by one bit.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch.utils._python_dispatch import TorchDispatchMode

from unclutter.kernels import attention
from unclutter.tests.nodes import tiny, tiny_families
from unclutter.tests.nodes.running import run_node
from unclutter.tests.nodes.test_attention import erase, rectify
from unclutter.tests.nodes.tiny_families import FAMILIES

MODES = {
    "AAS": (lambda model, mask: erase(model, mask, 1.0, share=0.0, layers="all"), attention.AAS),
    "AAS and SS": (
        lambda model, mask: erase(model, mask, 1.0, suppression=0.3, share=1.0, layers="all"),
        attention.aas(0.3),
    ),
    "SRA": (rectify, attention.SRA),
}


def guider(name, model, references=None):
    import comfy.samplers

    core = comfy.samplers.CFGGuider(model)
    core.set_conds(tiny_families.conditioning(name, 1, references), tiny_families.conditioning(name, 2, references))
    core.set_cfg(1.0)
    return core


def sample(name, model, latent, references=None, steps=1):
    """A run from `latent` as its noise, which is what the network sees first."""
    return tiny.sample(guider(name, model, references), steps, latent=torch.zeros_like(latent), noise=latent)


def change_the_object(name, latent):
    mask = tiny_families.object_mask(name)[0] > 0.5
    changed = latent.clone()
    changed[..., mask] = tiny_families.noise(*changed[..., mask].shape, seed=9)
    return changed, mask


def references_of(name, model):
    return [tiny_families.latent(name, model, seed=11)] if FAMILIES[name].references else None


@pytest.mark.parametrize("name", FAMILIES)
def test_the_object_reaches_nothing(comfy, name):
    model = tiny_families.build(name)
    latent = tiny_families.latent(name, model)
    changed, mask = change_the_object(name, latent)
    references = references_of(name, model)
    erased = MODES["AAS"][0](model, tiny_families.object_mask(name))
    one, other = (sample(name, erased, x, references) for x in (latent, changed))
    assert one.isfinite().all()
    assert torch.equal(one[..., ~mask], other[..., ~mask])
    one, other = (sample(name, model, x, references) for x in (latent, changed))
    assert (one - other)[..., ~mask].abs().max() > 1e-4, "the network does not attend, so that the test says nothing"


@pytest.mark.parametrize("name", FAMILIES)
def test_each_layer_is_the_formula(comfy, name):
    model = tiny_families.build(name)
    latent, mask = tiny_families.latent(name, model), tiny_families.object_mask(name)
    references = references_of(name, model)

    def calls(mode):
        """Each attention call of a forward pass: as the network makes it, and as it arrives behind our nodes."""
        inner, outer = [], []
        noted = model.clone()
        noted.model_options["transformer_options"]["optimized_attention_override"] = recorder(inner)
        noted = MODES[mode][0](noted, mask)
        noted.add_wrapper(comfy_wrappers().APPLY_MODEL, record_outermost(outer))
        sample(name, noted, latent, references)
        return outer, inner

    made, arrived = calls("AAS")
    hidden = [dropped(call, other) for call, other in zip(made, arrived, strict=True)]
    assert sum(objects.any() for objects in hidden) >= 3
    for mode, (_, settings) in MODES.items():
        for (q, k, v, out, seen), objects in zip(calls(mode)[0], hidden, strict=True):
            settings_here = settings if objects.any() else attention.PLAIN
            expected = attention.region_attention_reference(q, k, v, objects, settings_here, seen)
            torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-3)


def comfy_wrappers():
    import comfy.patcher_extension

    return comfy.patcher_extension.WrappersMP


def recorder(calls, inner=None):
    """An attention override that notes queries, keys, values and output as [B, heads, tokens, d], and the mask as it is
    added to the logits."""

    def note(core, q, k, v, heads, mask=None, skip_reshape=False, skip_output_reshape=False, **more):
        more |= {"mask": mask, "skip_reshape": skip_reshape, "skip_output_reshape": skip_output_reshape}
        out = inner(core, q, k, v, heads=heads, **more) if inner else core(q, k, v, heads=heads, **more)
        split, inputs = "b n (h d) -> b h n d", (q, k, v)
        if not skip_reshape:
            flat = [tokens.flatten(2) for tokens in (q, k, v)]
            inputs = [rearrange(tokens, split, d=flat[0].shape[-1] // heads) for tokens in flat]
        if mask is not None:
            mask = torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask
            while mask.ndim < 4:
                mask = mask.unsqueeze(mask.ndim - 2)
        calls.append((*inputs, out if skip_output_reshape else rearrange(out, split, h=heads), mask))
        return out

    return note


def record_outermost(calls):
    def wrap(executor, x, t, concat, context, control, options, **more):
        ours = options.get("optimized_attention_override")
        options = {**options, "optimized_attention_override": recorder(calls, ours)}
        for module in executor.class_obj.diffusion_model.modules():
            if hasattr(module.forward, "attend"):  # ComfyUI gives this layer no options
                module.forward.attend = recorder(calls, module.forward.attend)
        return executor(x, t, concat, context, control, options, **more)

    return wrap


def dropped(made, arrived):
    """The keys of a call that did not arrive: bool [1, tokens]."""
    keys, left = made[1][0].movedim(1, 0), arrived[1][0].movedim(1, 0)
    return ~(keys[:, None] == left[None]).flatten(2).all(2).any(1)[None]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_run_with_guidance(comfy, name):
    """Attentive Eraser with its second pass, through euler; after it the model is as it was."""
    model = tiny_families.build(name)
    latent = tiny_families.latent(name, model)
    plain = sample(name, model, latent, steps=2)
    removed = sample(name, erase(model, tiny_families.object_mask(name), 3.0), latent, steps=2)
    assert removed.isfinite().all() and not torch.equal(removed, plain)
    assert torch.equal(sample(name, model, latent, steps=2), plain)
    assert not [
        hook for module in model.model.modules() for hook in (module._forward_pre_hooks, module._forward_hooks) if hook
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_two_pictures_with_a_mask_each(comfy, name):
    model = tiny_families.build(name)
    latent = tiny_families.latent(name, model, batch=2)
    first = tiny_families.object_mask(name)
    second = first.flip(2).roll(FAMILIES[name].cells, 1)
    second[:, :, : FAMILIES[name].cells] = 1
    both = sample(name, MODES["SRA"][0](model, torch.cat([first, second])), latent)
    for index, mask in enumerate((first, second)):
        alone = sample(name, MODES["SRA"][0](model, mask), latent[index : index + 1])
        error = (both[index : index + 1] - alone).abs().max()
        assert error < 1e-4 * alone.abs().max().clamp(
            min=1
        )  # a prediction of noise comes out thousands of times larger


class Operations(TorchDispatchMode):
    """Counts the operations of PyTorch by name, with indexing by a bool mask, which waits for the device, under its own."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        tensors = [x for x in (args[1] if name in ("index", "index_put") else ()) if isinstance(x, torch.Tensor)]
        self.counts["by_mask" if any(x.dtype == torch.bool for x in tensors) else name] += 1
        return function(*args, **(kwargs or {}))


VIEWS = {
    "view",
    "_unsafe_view",
    "transpose",
    "permute",
    "expand",
    "unsqueeze",
    "squeeze",
    "slice",
    "select",
    "alias",
    "reshape",
}
VIEWS |= {"clone", "detach", "as_strided", "t", "split", "split_with_sizes", "unbind"}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "by_mask", "item", "unique", "is_nonzero"}


@pytest.mark.parametrize("mode", ["AAS", "SRA"])
@pytest.mark.parametrize(
    ("name", "layers"), [("Qwen-Image", "num_layers"), ("Z-Image", "n_layers"), ("ERNIE-Image", "num_layers")]
)
@torch.inference_mode()
def test_a_layer_costs_gathers_and_attention_and_waits_for_nothing(comfy, name, layers, mode):
    """Counts the operations that two more layers add under the removal, beyond those that they add without it."""

    def operations(depth, removing):
        model = tiny_families.build(name, **{layers: depth})
        latent = tiny_families.latent(name, model)
        if removing:
            model = MODES[mode][0](model, tiny_families.object_mask(name))
        sample(name, model, latent)
        with Operations() as counted:
            sample(name, model, latent)
        return counted.counts

    plain, removed = (operations(5, removing) - operations(3, removing) for removing in (False, True))
    extra = removed - plain
    assert not WAITS & set(extra)
    assert extra["index_select"] >= 2
    if mode == "AAS" and name != "ERNIE-Image":  # SRA attends once more, and ERNIE's own attention is one fused kernel
        others = set(extra) - VIEWS - {"index_select", "gather"}
        assert all("attention" in kind for kind in others), others


LORA_TARGETS = {
    "Qwen-Image": ("transformer.transformer_blocks.1.attn.to_q", "transformer_blocks.1.attn.to_q"),
    "FLUX.1": ("transformer.single_transformer_blocks.0.proj_out", "single_blocks.0.linear2"),
    "FLUX.2 Klein": ("diffusion_model.double_blocks.0.img_attn.proj", "double_blocks.0.img_attn.proj"),
    "Z-Image": ("diffusion_model.layers.1.attention.out", "layers.1.attention.out"),
    "ERNIE-Image": ("diffusion_model.layers.1.self_attention.to_q", "layers.1.self_attention.to_q"),
}
"""A layer by the key of LoRA files that people have, in the manner of diffusers or of ComfyUI, and by its name here."""


@pytest.mark.parametrize("name", LORA_TARGETS)
@torch.inference_mode()
def test_a_lora_loads_as_ever(comfy, name):
    """Before the removal or behind it, through core's loader: the result is that of the changed weights."""
    import comfy.sd

    key, path = LORA_TARGETS[name]
    model = tiny_families.build(name)
    layer = model.model.diffusion_model.get_submodule(path)
    down, up = (tiny_families.noise(*shape, seed=5) for shape in ((2, layer.in_features), (layer.out_features, 2)))
    weights = {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": 0.1 * up}
    latent, mask = tiny_families.latent(name, model), tiny_families.object_mask(name)

    def with_lora(model):
        return comfy.sd.load_lora_for_models(model, None, dict(weights), 0.5, 0.0)[0]

    plain = sample(name, rectify(model, mask), latent)
    before, after = (
        sample(name, chain, latent) for chain in (rectify(with_lora(model), mask), with_lora(rectify(model, mask)))
    )
    assert torch.equal(before, after) and not torch.equal(before, plain)
    assert torch.equal(sample(name, rectify(model, mask), latent), plain)
    layer.weight.add_(0.5 * 0.1 * up @ down)
    torch.testing.assert_close(sample(name, rectify(model, mask), latent), before, atol=1e-4, rtol=1e-3)


def test_every_layout_is_tried(comfy):
    """A record in layouts.py without a row here would be a promise that nothing holds."""
    from unclutter.nodes.host.layouts import LAYOUTS

    tried = {type(tiny_families.build(name).model.diffusion_model) for name in FAMILIES}
    names = {f"{kind.__module__.removeprefix('comfy.ldm.')}.{kind.__name__}" for kind in tried}
    assert names == set(LAYOUTS)


@pytest.mark.parametrize(
    ("name", "auto", "many"),
    [
        ("FLUX.2 Klein", (4, 1.0), (20, 5.0)),
        ("Z-Image", (8, 1.0), (25, 4.0)),
        ("ERNIE-Image", (8, 1.0), (20, 4.0)),
        ("FLUX.2", (20, 1.0), (20, 1.0)),
        ("Qwen-Image", (20, 2.5), (20, 2.5)),
    ],
)
def test_few_steps_mean_the_version_that_is_made_for_them(comfy, name, auto, many):
    """Klein and Klein base are built alike: as long as the artist sets no steps, it is the one for few steps."""
    from unclutter.nodes import host, methods, removal

    facts = host.facts_of(tiny_families.build(name))

    def numbers(steps):
        method = methods.method_for("Attentive Eraser", facts, steps)
        return method.steps, method.guidance

    assert numbers(0) == auto and numbers(many[0]) == many
    assert numbers(6) == (6, 1.0)
    warned = removal.taken_for_few_steps(facts, 0)
    assert (f"set steps to {many[0]}" in warned) == (auto != many)
    assert not removal.taken_for_few_steps(facts, many[0])


def test_the_table_of_the_readme():
    rows = [("SD 1.5, SD 2, SDXL", "no", "by the authors of Attentive Eraser and EraDiff")]
    rows += [(name, "yes" if row.references else "no", "by nobody yet") for name, row in FAMILIES.items()]
    lines = [
        "| family | removal by attention | reference pictures | removes from photographs, seen |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | exact | {references} | {seen} |" for name, references, seen in rows]
    readme = Path(__file__).parents[2] / "README.md"
    before, table, after = re.split(
        r"(?<=<!-- families: written by tests/nodes/test_families.py -->\n)(.*?)(?=<!-- end of families -->)",
        readme.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    expected = "\n" + "\n".join(lines) + "\n\n"
    if table != expected and os.environ.get("UNCLUTTER_WRITE_TABLES"):
        readme.write_text(before + expected + after, encoding="utf-8")
        return
    assert table == expected, "UNCLUTTER_WRITE_TABLES=1 pytest tests/nodes/test_families.py -k readme writes it"


def test_a_sequence_of_another_length_is_refused(comfy):
    """Another node that puts tokens behind the picture's must not shift the mask in silence."""
    model = tiny_families.build("Qwen-Image")

    def join(args):
        more = torch.zeros_like(args["img"][:, :4])
        return {
            **args,
            "img": torch.cat([args["img"], more], 1),
            "img_ids": torch.cat([args["img_ids"], args["img_ids"][:, :4]], 1),
        }

    joined = model.clone()
    joined.set_model_patch(join, "post_input")
    latent, mask = tiny_families.latent("Qwen-Image", model), tiny_families.object_mask("Qwen-Image")
    with pytest.raises(ValueError, match="Qwen-Image has 52 tokens, of which 24 are the picture's"):
        sample("Qwen-Image", rectify(joined, mask), latent)


def test_merged_tokens_are_refused_where_the_picture_stands_alone(comfy):
    """PixArt's text comes in by cross-attention: any number of tokens but the picture's is another node's doing."""
    model = tiny_families.build("PixArt")
    erased = rectify(model, tiny_families.object_mask("PixArt"))

    def doubled(module, args, more):
        return (torch.cat([args[0], args[0]], 1), *args[1:]), more

    def halved(module, args, out):
        return out[:, : out.shape[1] // 2]

    layer = model.model.diffusion_model.blocks[1].attn
    hooks = [layer.register_forward_pre_hook(doubled, with_kwargs=True), layer.register_forward_hook(halved)]
    with pytest.raises(ValueError, match="PixArt has 48 tokens, of which 24 are the picture's"):
        sample("PixArt", erased, tiny_families.latent("PixArt", model))
    for hook in hooks:
        hook.remove()


def test_a_family_that_nobody_knows_is_named(comfy):
    """A class of its own may lay out its tokens otherwise, whatever it is derived from."""
    model = tiny_families.build("ERNIE-Image")
    network = model.model.diffusion_model
    network.__class__ = type("NextYearsModel", (type(network),), {})
    with pytest.raises(ValueError, match="ErnieImage.*Qwen-Image.*DESIGN.md"):
        rectify(model, tiny.square_mask())


def test_an_attention_that_comfyui_calls_without_options_is_its_own_again(comfy):
    """An error says so if another node has replaced ERNIE's attention after ours."""
    model = tiny_families.build("ERNIE-Image")
    latent, mask = tiny_families.latent("ERNIE-Image", model), tiny_families.object_mask("ERNIE-Image")
    plain = sample("ERNIE-Image", model, latent)
    erased = rectify(model, mask)
    assert not torch.equal(sample("ERNIE-Image", erased, latent), plain)
    assert torch.equal(sample("ERNIE-Image", model, latent), plain)
    for index, layer in enumerate(model.model.diffusion_model.layers):
        own = type(layer.self_attention).forward.__get__(layer.self_attention)
        erased.add_object_patch(f"diffusion_model.layers.{index}.self_attention.forward", own)
    with pytest.raises(ValueError, match="No attention layer of ERNIE-Image"):
        sample("ERNIE-Image", erased, latent)


def test_pixart_that_merges_keys_is_refused(comfy):
    model = tiny_families.build("PixArt")
    model.model.diffusion_model.blocks[1].attn.sr_ratio = 2
    with pytest.raises(ValueError, match="key-value compression"):
        sample("PixArt", rectify(model, tiny_families.object_mask("PixArt")), tiny_families.latent("PixArt", model))


@pytest.mark.parametrize("references", ["none", "picture", "picture and marked picture"])
def test_remove_object_on_a_transformer(comfy, references):
    """FLUX with the mini model's text encoder, whose widths it takes: `auto` steers its attention, and references reach it."""
    from unclutter.nodes import host
    from unclutter.nodes.mini import LoadMini
    from unclutter.nodes.remove import RemoveObject
    from unclutter.tests.nodes.test_remove import WIDGETS

    _, clip, _ = run_node(LoadMini)
    features, more = host.encode_text(clip, "background")[0]
    model = tiny.flux(
        context_in_dim=features.shape[-1], vec_in_dim=more["pooled_output"].shape[-1], guidance_embed=False
    )
    picture = tiny_families.noise(1, 64, 96, 3).sigmoid()
    mask = tiny.square_mask(64, 96)
    parts = {"model": model, "vae": tiny.vae(channels=16), "clip": clip}
    widgets = {**WIDGETS, "resolution": 64, "steps": 2, "background": "remove it"}
    made, removed, _ = run_node(RemoveObject, picture, mask, method="auto", **parts, **widgets, references=references)
    away = torch.nn.functional.max_pool2d(removed, 19, 1, 9)[0] == 0
    assert torch.equal(made[:, away], picture[:, away])
    assert made.isfinite().all() and not torch.equal(made, picture)
    if references != "none":
        without, _, _ = run_node(RemoveObject, picture, mask, method="auto", **parts, **widgets)
        assert not torch.equal(made, without)
