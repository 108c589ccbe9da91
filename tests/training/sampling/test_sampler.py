from dataclasses import replace

import pytest
import torch
from einops import rearrange

from unclutter.kernels.attention import AAS, SRA, region_attention_reference
from unclutter.kernels.regions import object_tokens
from unclutter.kernels.scenes import draw_scenes
from unclutter.training.base_models.mini import load_mini
from unclutter.training.sampling.methods import MASG, AttentiveEraser, Plain, SelfRectifying
from unclutter.training.sampling.region_attention import attending_by_region, grid
from unclutter.training.sampling.sampler import euler, remove


@pytest.fixture(scope="module")
def base():
    return load_mini()


def hole(height=64, width=64):
    mask = torch.zeros(1, height, width)
    mask[:, 16:40, 8:24] = 1
    return mask


def picture(height=64, width=64):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "method",
    [Plain(2.0), MASG(), AttentiveEraser(), AttentiveEraser(removal_scale=1), SelfRectifying(), SelfRectifying(True)],
)
def test_every_method_fills_the_hole_and_leaves_the_network_as_it_was(base, method):
    before = dict(base.network.attn_processors)
    prompts = {"positive": "red disc", "negative": "background", "steps": 3}
    out = remove(base, picture(64, 96), hole(64, 96), method, **prompts)
    assert out.shape == (1, 3, 64, 96) and out.isfinite().all() and out.min() >= 0 and out.max() <= 1
    assert dict(base.network.attn_processors) == before
    assert not torch.equal(out, remove(base, picture(64, 96), hole(64, 96), Plain(), **prompts))


def test_the_held_background_survives_as_well_as_the_autoencoder_allows(base):
    out = remove(base, picture(), hole(), Plain(), steps=3)
    round_trip = (base.decode(base.encode(2 * picture() - 1)) + 1) / 2
    outside = hole()[:, None].expand_as(out) == 0
    torch.testing.assert_close(out[outside], round_trip.clamp(0, 1)[outside], atol=1e-4, rtol=0)


def test_nothing_of_the_object_is_held_when_the_network_is_shown_the_nearest_mask(base):
    cell = base.multiple // 2
    mask = torch.zeros(1, 64, 64)
    mask[:, cell + 1 : 2 * cell, cell + 1 : 2 * cell] = 1  # not the first pixel of its cell
    out = remove(replace(base, mask_pooling="nearest"), picture(), mask, Plain(), steps=3)
    round_trip = ((base.decode(base.encode(2 * picture() - 1)) + 1) / 2).clamp(0, 1)
    assert (out - round_trip).abs()[mask[:, None].expand_as(out) > 0].mean() > 0.05


def test_little_noise_keeps_what_the_hole_holds_at_the_start(base):
    inside = hole()[:, None].expand(-1, 3, -1, -1) > 0
    for shade in (0.2, 0.8):
        flat = torch.where(inside, shade, picture())
        made = remove(base, picture(), hole(), Plain(), start=flat, denoise=0.1, steps=3)
        assert (made - shade)[inside].abs().mean() < 0.1
        as_given = remove(base, flat, hole(), Plain(), start="picture", denoise=0.1, steps=3)
        torch.testing.assert_close(made, as_given)


def test_a_start_from_noise_knows_nothing_of_what_lay_in_the_hole(base):
    other = torch.where(hole()[:, None] > 0, 1 - picture(), picture())
    one, two = (remove(base, shown, hole(), Plain(), start="noise", steps=3) for shown in (picture(), other))
    torch.testing.assert_close(one, two)
    assert not torch.allclose(one, remove(base, picture(), hole(), Plain(), steps=3), atol=1e-3)


def test_a_start_by_inversion_leads_back_to_the_picture_and_no_seed_changes_it(base):
    drawn = draw_scenes(1, 64, torch.Generator().manual_seed(3))
    index = drawn.pick_object(torch.Generator().manual_seed(3))
    scene, mask = drawn.picture(), drawn.instance_masks()[torch.arange(1), index]
    inside = mask[:, None].expand_as(scene) > 0

    def off(start, method):
        return (remove(base, scene, mask, method, start=start, steps=20) - scene)[inside].square().mean()

    assert off("inversion", Plain()) < 0.25 * off("picture", Plain())
    assert off("inversion", AttentiveEraser(removal_scale=3)) > 4 * off("inversion", Plain())
    one, other = (
        remove(base, scene, mask, AttentiveEraser(removal_scale=3), start="inversion", steps=3, seed=seed)
        for seed in (0, 1)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("steps", "denoise", "expected"),
    [(4, 1.0, [999, 749, 499, 249]), (3, 1.0, [999, 666, 333]), (2, 0.5, [499, 249]), (3, 0.4, [428, 285, 142])],
)
def test_less_denoising_takes_the_end_of_a_longer_schedule(base, steps, denoise, expected):
    # (3, 0.4): int(3 / 0.4) = 7 steps, 999 - int(k · 1000 / 7) for k = 4, 5, 6.
    assert euler(base, steps, denoise).timesteps.tolist() == expected


@pytest.mark.parametrize("settings", [AAS, SRA])
def test_a_patched_layer_computes_region_attention(base, settings):
    mask = torch.zeros(1, 16, 16)
    mask[:, 2:9, 4:10] = 1
    layer = base.network.up_blocks[0].attentions[0].transformer_blocks[0].attn1
    tokens = torch.randn(2, 64, layer.to_q.in_features)
    objects = object_tokens(mask, 8, 8).expand(2, -1)
    split = [rearrange(f(tokens), "b n (h d) -> b h n d", h=layer.heads) for f in (layer.to_q, layer.to_k, layer.to_v)]
    expected = layer.to_out[0](rearrange(region_attention_reference(*split, objects, settings), "b h n d -> b n (h d)"))
    with attending_by_region(base.network, mask, settings, decoder_only=True):
        torch.testing.assert_close(layer(tokens), expected, atol=1e-5, rtol=1e-4)
        encoder = base.network.down_blocks[0].attentions[0].transformer_blocks[0].attn1
        assert "Region" not in type(encoder.processor).__name__
    assert not torch.allclose(layer(tokens), expected, atol=1e-3)


def test_redirection_is_the_official_formula_at_cfg_1(base):
    # ε̂ = ε_wo + s (ε_w − ε_wo); a stand-in network returns 1 without and 3 with AAS.
    def call(text):
        patched = any("Region" in type(p).__name__ for p in base.network.attn_processors.values())
        return torch.tensor(3.0 if patched else 1.0)

    mask = torch.ones(1, 1, 16, 16)
    assert AttentiveEraser(removal_scale=9).predict(base.network, call, mask, "", "", 20.0, 20) == 1 + 9 * (3 - 1)
    assert AttentiveEraser(removal_scale=1).predict(base.network, call, mask, "", "", 20.0, 20) == 3


def test_masg_skips_the_second_call_where_nothing_is_guided(base):
    calls = []

    def call(text):
        calls.append(text)
        return torch.zeros(1)

    mask = torch.ones(1, 1, 2, 2)
    MASG().predict(base.network, call, mask, "yes", "no", 1.0, 20)
    assert calls == ["yes"]
    MASG().predict(base.network, call, mask, "yes", "no", 20.0, 20)
    assert calls == ["yes", "yes", "no"]
    for method in (MASG(), Plain(5.0)):
        method.predict(base.network, call, mask, "same", "same", 20.0, 20)
    assert calls[3:] == ["same", "same"]


def test_levels_of_odd_latents():
    mask = torch.zeros(1, 13, 9)
    assert grid(mask, 117) == (13, 9) and grid(mask, 35) == (7, 5) and grid(mask, 12) == (4, 3)
    with pytest.raises(ValueError, match="50 tokens"):
        grid(mask, 50)
