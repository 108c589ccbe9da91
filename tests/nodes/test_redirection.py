"""Attentive Eraser's second pass beside nodes that cache, project or normalise what the first one predicts."""

from __future__ import annotations

import pytest
import torch

from .test_attention import erase


@pytest.fixture
def tiny(comfy):
    from unclutter.tests.nodes import tiny

    return tiny


def flux_in_bf16(tiny):
    """EasyCache adds to the latent itself where FLUX computes in fp32, and spoils the picture with or without us."""
    model = tiny.flux().clone()
    model.model.diffusion_model.to(torch.bfloat16)
    model.model.get_dtype_inference = lambda: torch.bfloat16
    return model


@torch.inference_mode()
@pytest.mark.parametrize(("family", "threshold"), [("sdxl", 0.05), ("flux", 0.4)])
def test_easycache_costs_the_removal_no_more_than_it_costs_the_picture(tiny, family, threshold):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = tiny.sdxl() if family == "sdxl" else flux_in_bf16(tiny)

    def cached(model):
        return EasyCacheNode.execute(model, threshold, 0.15, 0.95, False).args[0]

    def run(model):
        return tiny.sample(tiny.guider(model), 12)

    plain, erased, skipped = run(model), run(erase(model, tiny.square_mask())), run(cached(model))
    price = (skipped - plain).norm()
    assert price > 0
    for both in (cached(erase(model, tiny.square_mask())), erase(cached(model), tiny.square_mask())):
        assert (run(both) - erased).norm() < 1.3 * price
        assert torch.equal(run(both), run(both))  # no run leaves anything to the next


@torch.inference_mode()
def test_what_is_projected_is_not_taken_for_the_plain_prediction(tiny):
    from comfy_extras.nodes_apg import APG

    model, mask = tiny.sdxl(), tiny.square_mask()

    def push(around, inside):
        """The change from scale 5 to scale 9, in one step."""
        strong, weak = (around(erase(inside(model), mask, scale)) for scale in (9.0, 5.0))
        return tiny.sample(tiny.guider(strong, 4.0), 1) - tiny.sample(tiny.guider(weak, 4.0), 1)

    def apg(model):
        return APG.execute(model, 0.0, 1.0, 0.0).args[0]

    def unchanged(model):
        return model

    expected = push(unchanged, unchanged)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(push(unchanged, apg), expected, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(push(apg, unchanged), expected, rtol=1e-3, atol=1e-2)


@torch.inference_mode()
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_both_passes_have_the_negative_that_normalized_attention_guidance_needs(tiny, family):
    pytest.importorskip("comfy_extras.nodes_nag")
    from comfy_extras.nodes_nag import NAGuidance

    model, mask = NAGuidance.execute(getattr(tiny, family)(), 5.0, 0.5, 1.5).args[0], tiny.square_mask()

    def run(model):
        return tiny.sample(tiny.guider(model), 1)

    plain, hidden = run(model), run(erase(model, mask, 1.0))
    torch.testing.assert_close(run(erase(model, mask, 9.0)), plain + 9 * (hidden - plain), rtol=1e-3, atol=1e-2)
