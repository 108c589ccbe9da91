"""Removal by attention on every transformer family that ComfyUI loads, on tiny networks of random weights.

One row a family, in `tiny_families.py`. The first test decides whether a row of `nodes/host/layouts.py` is right: with the
object's keys dropped in every layer, what lies in the object cannot reach the rest of the picture, not by one bit.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from einops import rearrange

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
        torch.testing.assert_close(both[index : index + 1], alone, atol=1e-4, rtol=1e-3)


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


def test_a_family_that_nobody_knows_is_named(comfy):
    import comfy.supported_models

    model = tiny.patcher(
        comfy.supported_models.ErnieImage(
            {
                "image_model": "ernie",
                "hidden_size": 64,
                "num_attention_heads": 2,
                "num_layers": 1,
                "ffn_hidden_size": 64,
                "text_in_dim": 32,
                "rope_axes_dim": (8, 12, 12),
            }
        ),
        0,
    )
    with pytest.raises(ValueError, match="ErnieImage.*Qwen-Image"):
        rectify(model, tiny.square_mask())


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
