import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unclutter.kernels.attention import (
    AAS,
    PLAIN,
    SRA,
    SRA_STRICT,
    RegionSettings,
    aas,
    aas_at,
    partition,
    region_attention,
    region_attention_reference,
    sma,
)

PRESETS = {
    "plain": PLAIN,
    "aas": AAS,
    "aas+ss": aas(0.3),
    "sra": SRA,
    "sra strict": SRA_STRICT,
    "sma": sma(-0.7, 1.3),
    "sma hidden from background": sma(-math.inf, 0.4),
    "temperatures": RegionSettings((0.5, 2.0), (0.0, -math.inf)),
}


def sample(batch=3, heads=2, tokens=37, width=12, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, tokens, width, generator=generator).to(dtype) for _ in range(3))
    return q, k, v, torch.rand(batch, tokens, generator=generator) < 0.4


@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("masks", ["each its own", "one object count", "no object", "all object", "mixed"])
def test_equals_the_plain_formula(settings, masks):
    q, k, v, objects = sample()
    if masks == "one object count":
        objects = objects[:1].expand(3, -1)
    elif masks == "no object":
        objects = torch.zeros_like(objects)
    elif masks == "all object":
        objects = torch.ones_like(objects)
    elif masks == "mixed":
        objects = torch.stack([torch.zeros(37).bool(), torch.ones(37).bool(), objects[2]])
    expected = region_attention_reference(q, k, v, objects, settings)
    torch.testing.assert_close(region_attention(q, k, v, objects, settings), expected, atol=2e-6, rtol=1e-5)


SIDES = {
    "of the keys": (1, 37),
    "of the batch": (3, 1, 37),
    "of each query": (3, 37, 37),
    "of four sides": (1, 1, 37, 37),
}


@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
def test_a_mask_of_the_network_itself(settings, sides):
    q, k, v, objects = sample()
    mask = torch.randn(sides, generator=torch.Generator().manual_seed(1))
    seen = mask if mask.ndim != 3 else mask[:, None]
    expected = region_attention_reference(q, k, v, objects, settings, seen)
    torch.testing.assert_close(region_attention(q, k, v, objects, settings, mask=mask), expected, atol=2e-6, rtol=1e-5)
    seen = torch.where(seen > 0.5, 0.0, -math.inf)
    seen[..., 0] = 0
    expected = region_attention_reference(q, k, v, objects.index_fill(1, torch.tensor([0]), False), settings, seen)
    mask = (mask > 0.5).index_fill(-1, torch.tensor([0]), True)
    out = region_attention(q, k, v, objects.index_fill(1, torch.tensor([0]), False), settings, mask=mask)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)
def test_queries_of_the_last_tokens_alone_and_keys_for_several_heads(settings):
    q, k, v, objects = sample(heads=4)
    objects[:, :9] = False
    k, v = k[:, ::2], v[:, ::2]

    def grouped(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    expected = region_attention_reference(q, k, v, objects, settings)
    torch.testing.assert_close(region_attention(q, k, v, objects, settings, grouped), expected, atol=2e-6, rtol=1e-5)
    last = region_attention(q[:, :, 9:], k, v, objects, settings, grouped)
    torch.testing.assert_close(last, expected[:, :, 9:], atol=2e-6, rtol=1e-5)


def test_three_tokens_by_hand():
    # One channel, q = 1 everywhere, k = ln 1, ln 2, ln 4, so that softmax weights are 1 : 2 : 4; v = 0, 7, 70.
    q = torch.ones(1, 1, 3, 1)
    k = torch.tensor([1.0, 2.0, 4.0]).log().reshape(1, 1, 3, 1)
    v = torch.tensor([0.0, 7.0, 70.0]).reshape(1, 1, 3, 1)
    objects = torch.tensor([[False, False, True]])

    def out(settings):
        return region_attention(q, k, v, objects, settings).flatten().tolist()

    assert out(PLAIN) == pytest.approx([42.0] * 3)  # (0 + 14 + 280) / 7
    assert out(AAS) == pytest.approx([14 / 3] * 3)  # the third key is gone: 14 / (1 + 2)
    assert out(SRA) == pytest.approx([42.0, 42.0, 14 / 3])
    assert out(aas(2.0)) == pytest.approx([14 / 3, 14 / 3, 28 / 5])  # squared weights 1 : 4 for the object's query
    # A logit of ln 2 doubles the object key's weight to 8; one of -ln 4 makes it 1.
    assert out(sma(math.log(2), -math.log(4))) == pytest.approx([(14 + 560) / 11] * 2 + [(14 + 70) / 4], rel=1e-5)


def test_is_the_official_two_softmax_form_of_aas_with_ss():
    q, k, v, objects = sample(batch=1)
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    hide = torch.where(objects[:, None, None], torch.finfo(logits.dtype).min, 0.0)
    of_object = (0.3 * logits + hide).softmax(-1) @ v
    of_background = (logits + hide).softmax(-1) @ v
    expected = torch.where(objects[:, None, :, None], of_object, of_background)
    torch.testing.assert_close(region_attention(q, k, v, objects, aas(0.3)), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)
def test_half_precision_is_finite_and_close(settings, dtype):
    q, k, v, objects = sample(dtype=dtype)
    out = region_attention(q, k, v, objects, settings)
    assert out.dtype == dtype
    expected = region_attention_reference(q, k, v, objects, settings)
    torch.testing.assert_close(out.float(), expected, atol=0.05 if dtype == torch.bfloat16 else 0.01, rtol=0.05)
    assert region_attention(40 * q, 40 * k, v, objects, settings).isfinite().all()


def test_learns_through_temperature_and_logit():
    q, k, v, objects = sample()
    gradients = []
    for attention in (region_attention, region_attention_reference):
        numbers = [torch.tensor(x, requires_grad=True) for x in (0.8, 1.4, -0.5, 0.9)]
        settings = RegionSettings((numbers[0], numbers[1]), (numbers[2], numbers[3]))
        attention(q, k, v, objects, settings).square().sum().backward()
        gradients.append(torch.stack([number.grad for number in numbers]))
    assert gradients[1].abs().min() > 0.1
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


def test_non_contiguous_input():
    q, k, v, objects = sample()
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    torch.testing.assert_close(region_attention(*strided, objects, SRA), region_attention(q, k, v, objects, SRA))


@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)
def test_no_tensor_of_tokens_by_tokens_is_made(settings):
    q, k, v, objects = sample(batch=2, heads=1, tokens=4096, width=8)

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return out

    with Largest() as largest:
        region_attention(q, k, v, objects, settings)
    assert q.numel() <= largest.elements < 4096 * 4096 / 16


def test_the_host_gets_fewer_keys_and_its_default_scale():
    q, k, v, objects = sample(batch=1)
    seen = []

    def attention(q, k, v):
        seen.append((q.shape[2], k.shape[2], q.shape[3]))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    kept = int((~objects).sum())
    region_attention(q, k, v, objects, AAS, attention)
    region_attention(q, k, v, objects, SRA, attention)
    region_attention(q, k, v, objects, sma(0.5, 0.5), attention)
    assert seen == [(37, kept, 12), (kept, 37, 12), (37 - kept, kept, 12), (37, 37, 13)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("logit", [-1e4, -1e5, 1e4])
def test_a_logit_beyond_the_range_of_fp16(dtype, logit):
    q, k, v, objects = sample(width=64, dtype=dtype)
    out = region_attention(q, k, v, objects, sma(logit, logit))
    assert out.isfinite().all()
    if logit < 0:  # no key of the object counts, as with a logit of minus infinity
        expected = region_attention_reference(q, k, v, objects, AAS)
        torch.testing.assert_close(out.float(), expected, atol=0.05 if dtype == torch.bfloat16 else 0.01, rtol=0.05)


@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS)
def test_a_partition_found_before_spares_looking_at_the_mask(settings):
    q, k, v, objects = sample()
    expected, groups = region_attention(q, k, v, objects, settings), partition(objects)
    looks = []

    class Look(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(name in str(func) for name in ("_local_scalar_dense", "sort", "nonzero")):
                looks.append(str(func))
            return func(*args, **(kwargs or {}))

    with Look():
        out = region_attention(q, k, v, objects, settings, groups=groups)
    assert torch.equal(out, expected) and not looks


def test_partition_by_the_number_of_object_tokens():
    objects = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
    (two, three) = partition(objects)
    assert two.rows.tolist() == [0, 1] and two.background == 2 and two.order.tolist() == [[1, 2, 0], [0, 2, 1]]
    assert three.rows.tolist() == [2] and three.background == 3 and three.order.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "values", [{"temperature": (1.0, math.nan)}, {"temperature": (-1.0, 1.0)}, {"object_logit": (0.0, math.inf)}]
)
def test_absurd_settings_say_what_is_wrong(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RegionSettings(**values)


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    # 0.28 of 25 steps are 7.000000000000001 in floating point, and seven steps all the same.
    [(0.2, 50, 10), (0.5, 4, 2), (0.0, 4, 0), (1.0, 4, 4), (0.7, 10, 7), (0.28, 25, 7), (0.55, 20, 11), (0.25, 10, 3)],
)
def test_suppression_lasts_for_a_share_of_the_steps(share, steps, expected):
    # A step that is found from its noise level is off by a little, either way.
    for error in (-1e-5, 0, 1e-5):
        suppressed = [aas_at(step + error, steps, 0.3, share) == aas(0.3) for step in range(steps)]
        assert suppressed == [step < expected for step in range(steps)]


def test_suppression_covers_whole_shares_of_whole_steps_exactly():
    """Each share in hundredths, of each number of steps of which it is a whole number."""
    for steps in range(1, 101):
        for hundredths in range(101):
            if hundredths * steps % 100 == 0:
                covered = sum(aas_at(step, steps, 0.3, hundredths / 100) != AAS for step in range(steps))
                assert covered == hundredths * steps // 100, (steps, hundredths)
