"""OSOR's discriminator: shapes, targets, and its losses against values worked out by hand."""

import math

import pytest
import timm
import torch

from unclutter.training.recipes.osor.discriminator import (
    OPEN_CLIP,
    Discriminator,
    adversarial_loss,
    discriminator_loss,
    guidance_maps,
    load_trunk,
    r1_penalty,
)

TINY = "test_convnext"
LN2 = math.log(2)


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return Discriminator(load_trunk(TINY, None, "random", torch.float32))


def map_of(*rows):
    return torch.tensor([rows])


def test_four_scales_from_four_stages(discriminator):
    picture = torch.rand(2, 3, 128, 160) * 2 - 1
    assert [tuple(feature.shape[2:]) for feature in discriminator.features(picture)] == [
        (32, 40),
        (16, 20),
        (8, 10),
        (4, 5),
    ]
    assert [tuple(logit.shape) for logit in discriminator(picture)] == [(2, 16, 20), (2, 8, 10), (2, 4, 5), (2, 2, 3)]


def test_the_papers_trunk():
    with torch.device("meta"):
        trunk = load_trunk("convnext_xxlarge.clip_laion2b_soup", None, "random", torch.bfloat16)
        heads = Discriminator(trunk).heads
    assert trunk.channels == [384, 768, 1536, 3072]
    assert trunk.network.pretrained_cfg["mean"] == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert trunk.network.pretrained_cfg["std"] == pytest.approx((0.26862954, 0.26130258, 0.27577711))
    assert sum(p.numel() for p in heads.parameters()) == 512 * 9 * (384 + 768 + 1536 + 3072) + 4 * (512 + 512 + 1)


@pytest.mark.parametrize("prefix", ["", "visual.trunk."], ids=["timm", "open_clip"])
def test_weights_come_from_a_file(tmp_path, prefix):
    torch.manual_seed(1)
    given = timm.create_model(TINY, features_only=False)
    held = {f"{prefix}{name}": value for name, value in given.state_dict().items() if not name.startswith("head.")}
    if not prefix:
        held = given.state_dict()
    torch.save(held, tmp_path / "trunk.pt")
    trunk = load_trunk(TINY, tmp_path / "trunk.pt", "stop", torch.float32)
    picture = torch.rand(1, 3, 64, 64)
    _, expected = given.eval().forward_intermediates((picture - trunk.mean) / trunk.std)
    for feature, wanted in zip(trunk.eval()(2 * picture - 1), expected[-4:], strict=True):
        torch.testing.assert_close(feature, wanted, atol=1e-5, rtol=1e-4)


def test_the_trunk_is_frozen_and_gradients_pass_through(discriminator):
    picture = torch.zeros(1, 3, 96, 96, requires_grad=True)
    sum(logit.sum() for logit in discriminator(picture)).backward()
    assert picture.grad is not None and picture.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in discriminator.trunk.parameters())
    assert all(parameter.grad is not None for parameter in discriminator.heads.parameters())


def test_spectral_norms_move_once_a_step(discriminator):
    def vectors():
        state = discriminator.heads.state_dict()
        return torch.cat([value.flatten() for name, value in state.items() if name.endswith("_u")])

    before = vectors()
    discriminator.train()
    discriminator(torch.zeros(1, 3, 96, 96))
    assert torch.equal(vectors(), before)
    discriminator.advance()
    assert not torch.equal(vectors(), before)
    weight = discriminator.heads[0][0].weight.flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.1)


def test_a_patch_is_guided_by_the_share_of_it_that_is_masked():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :5] = 1
    logits = [torch.zeros(1, 2, 2)]
    assert guidance_maps(mask, logits, "occupancy", 1.0)[0].tolist() == [[[1, 0.25], [1, 0.25]]]
    assert guidance_maps(mask, logits, "hard", 1.0)[0].tolist() == [[[1, 1], [1, 1]]]
    logits = [torch.zeros(1, 8, 8)]
    assert torch.equal(guidance_maps(mask, logits, "hard", 1.0)[0], mask)
    soft = guidance_maps(mask, logits, "gaussian", 1.0)[0][0, 4]
    assert soft[0] > 0.99 and soft[7] < 0.02 and 0.6 < soft[4] < 0.75
    assert (soft.diff() <= 0).all()


def test_the_discriminators_loss_by_hand():
    # At logit 0 every cross-entropy is ln 2, whatever the target: two of them at four scales.
    zeros, any_map = [torch.zeros(1, 2, 2)] * 4, [torch.rand(1, 2, 2)] * 4
    assert discriminator_loss(zeros, zeros, any_map).item() == pytest.approx(8 * LN2)
    # A quarter of the patch is painted, so it is three quarters real: softplus(2) - 2 · 0.75; the real one softplus(-1).
    loss = discriminator_loss([map_of([1.0])], [map_of([2.0])], [map_of([0.25])])
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)) + math.log1p(math.exp(2)) - 1.5)


def test_the_generators_loss_by_hand():
    fake, guidance = map_of([0.0, math.log(3)], [5.0, -5.0]), map_of([1.0, 0.5], [0.0, 0.0])
    # softplus(-ln 3) = ln(4/3); patches that are not painted do not count.
    expected = (LN2 + 0.5 * math.log(4 / 3)) / 1.5
    assert adversarial_loss([fake], [guidance]).item() == pytest.approx(expected)
    assert adversarial_loss([fake, fake], [guidance, guidance]).item() == pytest.approx(2 * expected)
    assert adversarial_loss([fake], [torch.zeros_like(guidance)]).item() == 0


def test_r1_by_hand():
    # A head that weighs its two channels by 3 and 4 has the gradient (3, 4) everywhere: a mean square of 12.5.
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    features = [torch.rand(2, 2, 4, 4, requires_grad=True), torch.rand(2, 2, 2, 2, requires_grad=True)]
    logits = [torch.einsum("bchw,c->bhw", features[0], weight), 2 * features[1][:, 0]]
    penalty = r1_penalty(logits, features)  # the second: (2, 0), a mean square of 2
    assert penalty.tolist() == pytest.approx([(12.5 + 2) / 2] * 2)
    (gradient,) = torch.autograd.grad(penalty.sum(), weight)
    assert gradient.tolist() == pytest.approx([2 * 3 / 2, 2 * 4 / 2])


def test_what_does_not_fit_is_one_sentence(discriminator, tmp_path):
    with pytest.raises(ValueError, match="sees pictures of 64x64, expected sides over 64"):
        discriminator(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="timm knows no network convnext_huge"):
        load_trunk("convnext_huge", None, "random", torch.float32)
    with pytest.raises(ValueError, match="test_convnext has no weights: give their file"):
        load_trunk(TINY, None, "stop", torch.float32)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_trunk(TINY, tmp_path / "none.pt", "stop", torch.float32)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"a": torch.ones(2)}, r"holds 0 of the \d+ tensors of test_convnext"),
        ({"a.weight": torch.ones(2, 2)}, "holds 0 of the"),
        (timm.create_model("test_convnext2").state_dict(), r"holds \d+ of the \d+ tensors"),
        (timm.create_model("test_resnet").state_dict(), r"holds 0 of the"),
        ({"step": 3}, "other things than tensors"),
        (pytest, "holds code, which is not run"),
        (b"junk", "no whole file of tensors"),
    ],
    ids=["nothing", "unknown", "wider", "resnet", "numbers", "code", "junk"],
)
def test_a_file_that_is_not_the_trunks_is_one_sentence(tmp_path, held, message):
    file = tmp_path / "trunk.pt"
    if isinstance(held, bytes):
        file.write_bytes(held)
    else:
        torch.save(pytest.approx if held is pytest else held, file)
    with pytest.raises(ValueError, match=message):
        load_trunk(TINY, file, "random", torch.float32)


def test_a_trunk_is_named_as_in_open_clip():
    assert all(timm.is_model_pretrained(name) for name in OPEN_CLIP.values())
    with torch.device("meta"):
        trunk = load_trunk("convnext_large_d", None, "random", torch.bfloat16)
    assert trunk.channels == [192, 384, 768, 1536]
    assert trunk.network.pretrained_cfg["mean"] == pytest.approx((0.48145466, 0.4578275, 0.40821073))
