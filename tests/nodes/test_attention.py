"""Attentive Eraser and Self-Rectifying Attention, on tiny models in this process: each layer against the formula, and
the company of other nodes."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from unclutter.kernels import attention, regions
from unclutter.tests.nodes.running import run_node

STEPS = 4
FAMILIES = ["sd15", "sdxl", "flux"]


@pytest.fixture
def tiny(comfy):
    from unclutter.tests.nodes import tiny

    return tiny


def erase(model, mask, scale=9.0, suppression=0.3, share=0.5, layers="decoder", start=0.0, end=1.0):
    from unclutter.nodes.attention import AttentiveEraser

    return run_node(
        AttentiveEraser,
        model,
        mask,
        removal_scale=scale,
        suppression=suppression,
        suppression_steps=share,
        layers=layers,
        start_percent=start,
        end_percent=end,
    )[0]


def rectify(model, mask, mode="Eq. 10", start=0.0, end=1.0):
    from unclutter.nodes.attention import SelfRectifyingAttention

    return run_node(SelfRectifyingAttention, model, mask, mode=mode, start_percent=start, end_percent=end)[0]


METHODS = {
    "AAS": lambda model, mask: erase(model, mask, 1.0, layers="all"),
    "SARG": erase,
    "SRA": rectify,
    "SRA strict": lambda model, mask: rectify(model, mask, "strict"),
}


def two_masks(tiny):
    """Two masks that hide different numbers of tokens."""
    return torch.cat([tiny.square_mask(), tiny.square_mask(box=(0, 16, 0, 64))])


def record_unet(model):
    """A clone of the model that notes the input and output of each self-attention: (input, output, extra_options)."""
    model, layers = model.clone(), []

    def enter(n, context, value, extra):
        layers.append([n, None, extra])
        return n, context, value

    def leave(out, extra):
        layers[-1][1] = out
        return out

    model.set_model_attn1_patch(enter)
    model.set_model_attn1_output_patch(leave)
    return model, layers


def record_flux(model, **more):
    """A clone of the model that notes each attention: (queries and keys as rotated, values, output, kind of block);
    `more` goes into its call."""
    model, layers = model.clone(), []

    def block(kind):
        def run(args, extra):
            options = args["transformer_options"]
            ours = options.get("optimized_attention_override")

            def note(core, q, k, v, *rest, **own):
                own |= more
                out = ours(core, q, k, v, *rest, **own) if ours else core(q, k, v, *rest, **own)
                layers.append((q, k, v, out, kind))
                return out

            options = {**options, "optimized_attention_override": note}
            return extra["original_block"]({**args, "transformer_options": options})

        return run

    for kind in ("double", "single"):
        for i in range(2):
            model.set_model_patch_replace(block(kind), "dit", f"{kind}_block", i)
    return model, layers


def expected_unet(model, n, module, objects, settings):
    """The result that a self-attention ought to give: the plain formula on its own queries, keys and values."""
    q, k, v = (
        rearrange(project(n), "b n (h d) -> b h n d", h=module.heads)
        for project in (module.to_q, module.to_k, module.to_v)
    )
    out = attention.region_attention_reference(q, k, v, objects, settings)
    return module.to_out(rearrange(out, "b h n d -> b n (h d)"))


CASES = {
    "AAS, decoder": (lambda m, mask: erase(m, mask, 1.0), {"output"}, attention.aas(0.3)),
    "AAS, all": (METHODS["AAS"], {"input", "middle", "output"}, attention.aas(0.3)),
    "AAS, no suppression": (lambda m, mask: erase(m, mask, 1.0, share=0.0), {"output"}, attention.AAS),
    "SRA": (rectify, {"input", "middle", "output"}, attention.SRA),
    "SRA strict": (METHODS["SRA strict"], {"input", "middle", "output"}, attention.SRA_STRICT),
}


@pytest.mark.parametrize("masks", ["one mask", "one each"])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("case", CASES)
def test_each_layer_of_a_unet_is_the_formula(tiny, family, case, masks):
    from comfy.ldm.modules.attention import BasicTransformerBlock

    apply, parts, settings = CASES[case]
    mask = tiny.square_mask(88, 56) if masks == "one mask" else torch.cat(
        [tiny.square_mask(88, 56), tiny.square_mask(88, 56, (0, 24, 0, 48))]
    )  # fmt: skip
    model, layers = record_unet(getattr(tiny, family)())
    # 11x7 latent pixels, and 6x4 on the level below: no square, nothing even.
    tiny.sample(tiny.guider(apply(model, mask), 3.0), 1, latent=torch.zeros(2, 4, 11, 7))
    modules = [m.attn1 for m in model.model.diffusion_model.modules() if isinstance(m, BasicTransformerBlock)]
    assert len(layers) == len(modules) > 2
    patched = 0
    for (n, out, extra), module in zip(layers, modules, strict=True):
        objects = regions.object_tokens(mask, *extra["activations_shape"][-2:])
        assert objects.shape[1] == n.shape[1]
        objects = objects.repeat(4 // len(mask), 1)
        inside = extra["block"][0] in parts
        expected = expected_unet(model, n, module, objects, settings if inside else attention.PLAIN)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        if inside:
            patched += 1
            plain = expected_unet(model, n, module, objects, attention.PLAIN)
            assert (out - plain).abs().max() > 1e-2
    assert patched


@pytest.mark.parametrize("masks", ["one mask", "one each"])
@pytest.mark.parametrize("case", ["AAS, decoder", "AAS, all", "SRA", "SRA strict"])
def test_each_block_of_flux_is_the_formula(tiny, case, masks):
    apply, parts, settings = CASES[case]
    mask = tiny.square_mask(88, 56) if masks == "one mask" else torch.cat(
        [tiny.square_mask(88, 56), tiny.square_mask(88, 56, (0, 24, 0, 48))]
    )  # fmt: skip
    model, layers = record_flux(tiny.flux())
    tiny.sample(tiny.guider(apply(model, mask)), 1, latent=torch.zeros(2, 16, 11, 7))
    assert [layer[4] for layer in layers] == ["double", "double", "single", "single"]
    # Seven tokens of text, then 6x4 of the picture.
    objects = torch.nn.functional.pad(regions.object_tokens(mask, 6, 4), (7, 0)).expand(2, -1)
    for q, k, v, out, kind in layers:
        used = settings if kind == "single" or "input" in parts else attention.PLAIN
        expected = rearrange(attention.region_attention_reference(q, k, v, objects, used), "b h n d -> b n (h d)")
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_flux_with_an_attention_mask_of_its_own(tiny):
    mask = tiny.square_mask()
    own = torch.zeros(1, 23, 23)
    own[:, :, 3] = -50.0
    model, layers = record_flux(tiny.flux(), mask=own)
    tiny.sample(tiny.guider(rectify(model, mask)), 1)
    assert len(layers) == 4
    objects = torch.nn.functional.pad(regions.object_tokens(mask, 4, 4), (7, 0))
    blocked = objects[:, :, None] & objects[:, None, :]
    bias = own.masked_fill(blocked, -torch.inf)
    for q, k, v, out, _ in layers:
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None])
        torch.testing.assert_close(out, rearrange(expected, "b h n d -> b n (h d)"), rtol=1e-4, atol=1e-4)


def test_a_layer_without_background_stays_plain(tiny):
    from comfy.ldm.modules.attention import BasicTransformerBlock

    mask = tiny.square_mask(box=(0, 64, 4, 64))
    for apply in (METHODS["AAS"], rectify):
        model, layers = record_unet(tiny.sd15())
        tiny.sample(tiny.guider(apply(model, mask)), 1)
        modules = [m.attn1 for m in model.model.diffusion_model.modules() if isinstance(m, BasicTransformerBlock)]
        for (n, out, _), module in zip(layers, modules, strict=True):
            objects = torch.zeros(1, n.shape[1], dtype=torch.bool)
            torch.testing.assert_close(
                out, expected_unet(model, n, module, objects, attention.PLAIN), rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [2.0, 9.0])
def test_removal_guidance_is_the_official_formula(tiny, family, scale):
    model, mask = getattr(tiny, family)(), tiny.square_mask()
    plain = tiny.sample(tiny.guider(model), 1)
    erased = tiny.sample(tiny.guider(erase(model, mask, 1.0)), 1)
    ours = tiny.sample(tiny.guider(erase(model, mask, scale)), 1)
    assert (erased - plain).abs().max() > 0.1
    torch.testing.assert_close(ours, plain + scale * (erased - plain), rtol=1e-3, atol=1e-2)
    guided = tiny.sample(tiny.guider(erase(model, mask, scale), 3.0), 1)
    expected = tiny.sample(tiny.guider(model, 3.0), 1) + scale * (erased - plain)
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_each_picture_of_a_batch_has_its_own_mask(tiny, family, method):
    model, masks = getattr(tiny, family)(), two_masks(tiny)
    channels = model.model.latent_format.latent_channels
    noise = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros_like(noise)
    apply = METHODS[method]
    together = tiny.sample(tiny.guider(apply(model, masks), 3.0), 1, latent=zeros, noise=noise)
    for i in range(2):
        one = tiny.guider(apply(model, masks[i : i + 1]), 3.0)
        alone = tiny.sample(one, 1, latent=zeros[:1], noise=noise[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-2)


def test_two_masks_for_three_pictures(tiny):
    for apply in METHODS.values():
        with pytest.raises(ValueError, match="2 masks came for 3"):
            tiny.sample(tiny.guider(apply(tiny.sdxl(), two_masks(tiny))), latent=torch.zeros(3, 4, 8, 8))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_another_shape_than_the_latent(tiny, family):
    for apply in METHODS.values():
        with pytest.raises(ValueError, match="mask is 128x64 and the latent 8x8"):
            tiny.sample(tiny.guider(apply(getattr(tiny, family)(), tiny.square_mask(64, 128))), 1)
    channels = getattr(tiny, family)().model.latent_format.latent_channels
    # 1000x333 pixels are 125x41 or 42 latent ones.
    for height in (41, 42):
        patched = METHODS["SRA"](getattr(tiny, family)(), tiny.square_mask(333, 1000))
        assert tiny.sample(tiny.guider(patched), 1, latent=torch.zeros(1, channels, height, 125)).isfinite().all()


def test_a_prompt_for_an_area_of_the_latent(tiny):
    for apply in METHODS.values():
        for area in ((4, 4, 4, 4), ("percentage", 0.5, 1.0, 0.0, 0.0)):
            guider = tiny.guider(apply(tiny.sdxl(), tiny.square_mask()), 3.0)
            positive = [[text, {**more, "area": area}] for text, more in tiny.conditioning(1)]
            guider.set_conds(positive, tiny.conditioning(2))
            with pytest.raises(ValueError, match=r"area of \dx4 of the 8x8 latent pixels.*set_cond_area default"):
                tiny.sample(guider, 1)
        whole = [[text, {**more, "area": (8, 8, 0, 0)}] for text, more in tiny.conditioning(1)]
        guider.set_conds(whole, tiny.conditioning(2))
        assert tiny.sample(guider, 1).isfinite().all()


def test_the_mask_is_looked_at_once_a_grid_and_not_in_every_layer(tiny, monkeypatch):
    looked = []

    def partition(objects, original=attention.partition):
        looked.append(objects.shape)
        return original(objects)

    monkeypatch.setattr(attention, "partition", partition)
    for family in FAMILIES:
        for method in METHODS.values():
            looked.clear()
            tiny.sample(tiny.guider(method(getattr(tiny, family)(), tiny.square_mask())), STEPS)
            assert len(looked) == len(set(looked)) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_stays_behind(tiny, family):
    model, mask = getattr(tiny, family)(), tiny.square_mask()
    options = str(model.model_options)
    before = tiny.sample(tiny.guider(model, 3.0))
    for apply in METHODS.values():
        one, other = apply(model, mask), apply(model, tiny.square_mask(box=(40, 64, 0, 24)))
        first = tiny.sample(tiny.guider(one, 3.0))
        assert not torch.equal(first, before)
        assert not torch.equal(first, tiny.sample(tiny.guider(other, 3.0)))
        assert torch.equal(first, tiny.sample(tiny.guider(one, 3.0)))
        assert torch.equal(before, tiny.sample(tiny.guider(model, 3.0)))
    assert str(model.model_options) == options


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "dpmpp_sde", "euler_cfg_pp", "euler_ancestral"])
def test_any_sampler(tiny, sampler):
    model = tiny.sdxl()
    for method, apply in METHODS.items():
        result = tiny.sample(tiny.guider(apply(model, tiny.square_mask()), 2.0), STEPS, sampler)
        assert result.isfinite().all(), method


def test_start_and_end_are_shares_of_the_noise_schedule(tiny):
    model, mask = tiny.sdxl(), tiny.square_mask()
    schedule = tiny.sigmas(model, STEPS)[:-1]
    middle = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    for part, inside in (((0.0, 0.5), schedule >= middle), ((0.5, 1.0), schedule <= middle)):
        calls = []
        counted = model.clone()

        def count(apply_model, args, calls=calls):
            calls.append(float(args["timestep"].max()))
            return apply_model(args["input"], args["timestep"], **args["c"])

        counted.set_model_unet_function_wrapper(count)
        tiny.sample(tiny.guider(erase(counted, mask, start=part[0], end=part[1])), STEPS)
        assert 0 < inside.sum() < STEPS
        twice = [calls.count(sigma) == 2 for sigma in schedule.tolist()]
        assert twice == inside.tolist()
    outside = tiny.sample(tiny.guider(rectify(model, mask, start=1.0)))
    assert torch.equal(outside, tiny.sample(tiny.guider(model)))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("method", METHODS)
def test_an_attention_function_of_another_node_is_called(tiny, family, method):
    model, calls = getattr(tiny, family)(), []

    def theirs(core, q, k, v, *args, **kwargs):
        calls.append(q.shape)
        return core(q, k, v, *args, **kwargs)

    expected = tiny.sample(tiny.guider(METHODS[method](model, tiny.square_mask())), 1)
    model.model_options["transformer_options"]["optimized_attention_override"] = theirs
    ours = tiny.sample(tiny.guider(METHODS[method](model, tiny.square_mask())), 1)
    assert torch.equal(ours, expected)
    assert len(calls) >= 4


def test_a_block_of_flux_patched_by_another_node(tiny):
    mask, calls = tiny.square_mask(), []

    def theirs(args, extra):
        calls.append(args["img"].shape)
        return extra["original_block"](args)

    model = tiny.flux()
    expected = tiny.sample(tiny.guider(rectify(model, mask)), 1)
    before, after = model.clone(), rectify(model, mask)
    for patched in (before, after):
        patched.set_model_patch_replace(theirs, "dit", "single_block", 0)
    for patched in (rectify(before, mask), after):
        calls.clear()
        assert torch.equal(tiny.sample(tiny.guider(patched), 1), expected)
        assert len(calls) == 1


@pytest.mark.parametrize("method", METHODS)
def test_with_perturbed_attention_guidance(tiny, method):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    model, mask = tiny.sdxl(), tiny.square_mask()
    ours = METHODS[method](model, mask)
    perturbed = PerturbedAttentionGuidance.execute(ours, 3.0).args[0]
    added = tiny.sample(tiny.guider(perturbed, 2.0), 1) - tiny.sample(tiny.guider(ours, 2.0), 1)
    assert added.isfinite().all() and added.abs().max() > 0.1
    other_order = METHODS[method](PerturbedAttentionGuidance.execute(model, 3.0).args[0], mask)
    torch.testing.assert_close(
        tiny.sample(tiny.guider(other_order, 2.0), 1), tiny.sample(tiny.guider(perturbed, 2.0), 1), rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_nodes_that_merge_or_tile_tokens_are_named(tiny, method, order):
    from comfy_extras.nodes_hypertile import HyperTile
    from comfy_extras.nodes_tomesd import TomePatchModel

    def tile(model):
        return HyperTile.execute(model, 32, 2, 0, False)[0]

    def merge(model):
        return TomePatchModel.execute(model, 0.3).args[0]

    model, mask = tiny.sd15(), tiny.square_mask()
    for other in (tile, merge):
        both = METHODS[method](other(model), mask) if order == "before" else other(METHODS[method](model, mask))
        with pytest.raises(ValueError, match=r"A layer has \d+ tokens where its grid has 64: remove the node"):
            tiny.sample(tiny.guider(both), 1)


@pytest.mark.parametrize("method", METHODS)
def test_with_masg(tiny, method):
    from unclutter.nodes.guidance import MASGGuider

    model, mask = METHODS[method](tiny.sdxl(9), tiny.square_mask()), tiny.square_mask()
    prompts = tiny.conditioning(1), tiny.conditioning(2)
    (guider, _) = run_node(MASGGuider, model, *prompts, mask, mask_scale=4.0, background_scale=4.0, schedule="constant")
    assert torch.equal(tiny.sample(guider), tiny.sample(tiny.guider(model, 4.0)))


def test_with_differential_diffusion(tiny):
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    mask = tiny.square_mask()
    soft = torch.zeros(1, 1, 8, 8)
    soft[..., 2:5, 3:6] = torch.linspace(0.3, 1, 9).reshape(3, 3)
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    model = DifferentialDiffusion.execute(tiny.sdxl()).args[0]
    plain = tiny.sample(tiny.guider(model), latent=latent, noise_mask=soft)
    for apply in METHODS.values():
        result = tiny.sample(tiny.guider(apply(model, mask)), latent=latent, noise_mask=soft)
        free = tiny.sample(tiny.guider(apply(model, mask)), latent=latent)
        outside = (soft == 0).expand_as(result)
        # Its last step, at threshold 0, is free everywhere, with or without our nodes.
        assert (result - latent)[outside].abs().mean() < 0.5 * (free - latent)[outside].abs().mean()
        assert not torch.equal(result, plain)


def test_with_a_lora(tiny):
    key = "diffusion_model.output_blocks.0.1.transformer_blocks.0.attn1.to_q.weight"
    base, mask = tiny.sdxl(), tiny.square_mask()
    weight = dict(base.model.named_parameters())[key]
    change = 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    lora = base.clone()
    assert lora.add_patches({key: ("diff", (change,))}) == [key]
    merged = tiny.sdxl()
    dict(merged.model.named_parameters())[key].data += change
    for apply in METHODS.values():
        result = tiny.sample(tiny.guider(apply(lora, mask)), 1)
        torch.testing.assert_close(result, tiny.sample(tiny.guider(apply(merged, mask)), 1), rtol=1e-3, atol=1e-2)


def test_with_a_controlnet(tiny):
    import comfy.controlnet

    class Push(comfy.controlnet.ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            return {"middle": [torch.full((x_noisy.shape[0], 64, 4, 4), 2.0)], "output": [], "input": []}

        def copy(self):
            copied = Push()
            self.copy_to(copied)
            return copied

    model, mask = tiny.sdxl(), tiny.square_mask()
    for apply in METHODS.values():
        patched = apply(model, mask)
        guider = tiny.guider(patched)
        positive = [[text, {**more, "control": Push()}] for text, more in tiny.conditioning(1)]
        guider.set_conds(positive, tiny.conditioning(2))
        result = tiny.sample(guider, 2)
        assert result.isfinite().all()
        assert not torch.equal(result, tiny.sample(tiny.guider(patched), 2))


def test_cancel_in_the_extra_pass_stops_at_once_and_leaves_nothing(tiny):
    import comfy.model_management as management

    model, mask, calls = tiny.sdxl(), tiny.square_mask(), []
    expected = tiny.sample(tiny.guider(erase(model, mask)))
    cancelled = model.clone()

    def cancel_in_the_second_call(apply_model, args):
        calls.append(1)
        if len(calls) == 2:
            management.interrupt_current_processing(True)
        return apply_model(args["input"], args["timestep"], **args["c"])

    cancelled.set_model_unet_function_wrapper(cancel_in_the_second_call)
    with pytest.raises(management.InterruptProcessingException):
        tiny.sample(tiny.guider(erase(cancelled, mask)))
    assert len(calls) <= 4
    assert torch.equal(tiny.sample(tiny.guider(erase(model, mask))), expected)


def test_two_nodes_that_both_decide_what_attention_sees(tiny):
    model, mask = tiny.sdxl(), tiny.square_mask()
    for first in METHODS.values():
        for second in METHODS.values():
            with pytest.raises(ValueError, match="keep one"):
                second(first(model, mask), mask)


def test_masks_that_remove_nothing_or_everything(tiny):
    for apply in METHODS.values():
        with pytest.raises(ValueError, match="64"):
            apply(tiny.sdxl(), torch.zeros(1, 64, 64))
        with pytest.raises(ValueError, match="(?i)fill"):
            apply(tiny.sdxl(), torch.ones(1, 64, 64))


@pytest.mark.parametrize(
    ("apply", "name", "bad"),
    [
        (erase, "removal_scale", {"scale": -1.0}),
        (erase, "removal_scale", {"scale": float("nan")}),
        (erase, "suppression", {"suppression": 1.5}),
        (erase, "suppression_steps", {"share": -0.1}),
        (erase, "start_percent", {"start": 0.6, "end": 0.4}),
        (rectify, "end_percent", {"end": 7.0}),
    ],
)
def test_absurd_numbers_through_a_link(tiny, apply, name, bad):
    with pytest.raises(ValueError, match=name):
        apply(tiny.sdxl(), tiny.square_mask(), **bad)


@torch.inference_mode()
def test_masks_of_frames_follow_cores_context_windows(tiny):
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    frames = 6
    masks = torch.cat([tiny.square_mask(box=(8 * k, 8 * k + 16, 24, 48)) for k in range(frames)])
    latent = torch.zeros(frames, 4, 8, 8)
    for apply in (METHODS["SARG"], METHODS["SRA"]):
        whole = tiny.sample(tiny.guider(apply(tiny.sd15(), masks)), 1, latent=latent)
        windowed = apply(
            ContextWindowsManualNode.execute(tiny.sd15(), 4, 2, "standard_static", 1, False, "flat", 0, False).args[0],
            masks,
        )
        # Frames of this network do not see each other, so windows change nothing.
        torch.testing.assert_close(tiny.sample(tiny.guider(windowed), 1, latent=latent), whole, rtol=1e-3, atol=1e-2)
