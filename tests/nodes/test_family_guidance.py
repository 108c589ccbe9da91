"""Removal by attention beside the guidance nodes that people use with each family, on tiny networks of random weights.

One rule decides: whatever another node does to the guidance, Attentive Eraser adds to it, `scale` times, the difference
that its attention makes to the conditioned prediction.
"""

from __future__ import annotations

import pytest
import torch

from unclutter.tests.nodes import tiny, tiny_families
from unclutter.tests.nodes.test_attention import erase

NAMES = ("FLUX.1", "FLUX.2 Klein", "Chroma", "Qwen-Image", "Z-Image", "Stable Diffusion 3", "ERNIE-Image")
BY_ATTENTION_OUTPUT = ("FLUX.1", "FLUX.2 Klein", "Chroma")
"""Families in which core calls the patch by which Normalized Attention Guidance works; in the others it does nothing."""
SKIPS = ("FLUX.1", "FLUX.2 Klein", "Chroma", "Qwen-Image", "Stable Diffusion 3")
"""Families in which core lets a node leave out a block."""

CACHED = tuple(name for name in NAMES if name not in ("Stable Diffusion 3", "ERNIE-Image"))
"""Families whose network core runs through the wrappers on which EasyCache hangs; in the others it does nothing."""


def run(name, model, cfg=4.0, steps=1, prompts=None):
    import comfy.samplers
    import node_helpers

    latent = tiny_families.latent(name, model)
    guider = comfy.samplers.CFGGuider(model)
    both = (tiny_families.conditioning(name, seed) for seed in (1, 2))
    guider.set_conds(*(node_helpers.conditioning_set_values(prompt, prompts or {}) for prompt in both))
    guider.set_cfg(cfg)
    return tiny.sample(guider, steps, latent=torch.zeros_like(latent), noise=latent)


def removal(name, model, scale):
    return erase(model, tiny_families.object_mask(name), scale, share=0.0, layers="all")


def apg(model):
    from comfy_extras.nodes_apg import APG

    return APG.execute(model, 0.5, 5.0, 0.0).args[0]


def cfg_norm(model):
    from comfy_extras.nodes_cfg import CFGNorm

    return CFGNorm.execute(model, 1.0).args[0]


def skip_layer(model):
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    return SkipLayerGuidanceDiT.execute(model, 3.0, 0.0, 1.0, "0", "0").args[0]


def nag(model):
    from comfy_extras.nodes_nag import NAGuidance

    return NAGuidance.execute(model, 5.0, 0.5, 1.5).args[0]


def differ(one, other):
    """By more than the rounding that two prompts in one call, or in two, make."""
    assert one.isfinite().all()
    return bool((one - other).abs().max() > 1e-3 * other.abs().max())


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_what_others_do_to_the_guidance_is_kept_and_the_removal_added(comfy, name):
    model = tiny_families.build(name)
    conditioned = run(name, model, cfg=1.0)
    push = run(name, removal(name, model, 1.0), cfg=1.0) - conditioned
    assert push.abs().max() > 1e-3 * conditioned.abs().max()
    for node in (apg, cfg_norm, skip_layer):
        guided = run(name, node(model))
        assert differ(guided, run(name, model)) == (node is not skip_layer or name in SKIPS), node
        assert not differ(run(name, removal(name, node(model), 3.0)), guided + 3 * push)
        if node is not cfg_norm:  # behind the removal it brings all of the guidance, and so the removal, to one norm
            assert not differ(run(name, node(removal(name, model, 3.0))), guided + 3 * push)
    assert run(name, cfg_norm(removal(name, model, 3.0))).isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_both_passes_have_normalized_attention_guidance(comfy, name):
    pytest.importorskip("comfy_extras.nodes_nag")
    model = tiny_families.build(name)
    normalized = nag(model)
    plain = run(name, normalized, cfg=1.0)
    assert differ(plain, run(name, model, cfg=1.0)) == (name in BY_ATTENTION_OUTPUT)
    hidden = run(name, removal(name, normalized, 1.0), cfg=1.0)
    assert not differ(run(name, removal(name, normalized, 3.0), cfg=1.0), plain + 3 * (hidden - plain))
    assert not differ(run(name, nag(removal(name, model, 3.0)), cfg=1.0), plain + 3 * (hidden - plain))


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_a_cache_of_steps_costs_the_removal_no_more_than_the_picture(comfy, name):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = tiny_families.build(name).clone()
    model.model.diffusion_model.to(torch.bfloat16)  # in fp32 core adds to the latent itself, with or without us
    model.model.get_dtype_inference = lambda: torch.bfloat16

    def cached(model):
        return EasyCacheNode.execute(model, 2.0, 0.15, 0.95, False).args[0]

    plain, erased, skipped = (run(name, m, 1.0, 10) for m in (model, removal(name, model, 3.0), cached(model)))
    price = (skipped - plain).norm()
    assert (price > 0) == (name in CACHED)
    for both in (cached(removal(name, model, 3.0)), removal(name, cached(model), 3.0)):
        got = run(name, both, 1.0, 10)
        assert (got - erased).norm() <= 1.5 * price
        assert torch.equal(got, run(name, both, 1.0, 10))  # no run leaves anything to the next


@torch.inference_mode()
@pytest.mark.parametrize("name", ["FLUX.1", "FLUX.2"])
def test_both_passes_have_the_guidance_that_is_given_to_the_network(comfy, name):
    """Flux Guidance, which writes it on the prompt."""
    model = tiny_families.build(name)

    def at(guidance, scale):
        erased = removal(name, model, scale) if scale else model
        return run(name, erased, 1.0, prompts={"guidance": guidance})

    assert differ(at(10.0, 0), at(2.0, 0))
    for guidance in (2.0, 10.0):
        plain = at(guidance, 0)
        assert not differ(at(guidance, 3.0), plain + 3 * (at(guidance, 1.0) - plain))


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_masg_of_one_strength_everywhere_is_guidance_beside_the_same_nodes(comfy, name):
    from unclutter.nodes.guidance import MASGGuider

    model = tiny_families.build(name)
    latent, mask = tiny_families.latent(name, model), tiny_families.object_mask(name)
    for node in (apg, cfg_norm, skip_layer, nag):
        prompts = (tiny_families.conditioning(name, seed) for seed in (1, 2))
        guider = MASGGuider.execute(node(model), *prompts, mask, 4.0, 4.0, "constant", 0.0).args[0]
        masg = tiny.sample(guider, 1, latent=torch.zeros_like(latent), noise=latent)
        assert not differ(masg, run(name, node(model))), node
