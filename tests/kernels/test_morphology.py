"""Morphology tokens: nothing before they are trained, and nothing where an input is absent."""

import pytest
import torch
from torch.nn import functional as F

from unclutter.kernels.morphology import (
    HumanMorphology,
    morphology_attention,
    morphology_from_state,
    parsing_one_hot,
    row_tokens,
)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    module = HumanMorphology(32)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module


def test_a_fresh_module_makes_tokens_of_zeros():
    tokens = HumanMorphology(2048)(torch.rand(2, 64, 48), torch.rand(1, 3, 100, 80), torch.rand(1, 20, 64, 48))
    assert tokens.shape == (2, 144, 2048) and not tokens.any()


def test_tokens_of_zeros_add_exactly_nothing_to_attention():
    q, k, v = torch.randn(2, 2, 9, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    nothing = torch.zeros(2, 2, 5, 8)
    longer = (torch.cat([part, nothing], dim=2) for part in (k, v))
    plain = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(morphology_attention(q, *longer, 5, F.scaled_dot_product_attention), plain)
    assert torch.equal(morphology_attention(q, k, v, 0, F.scaled_dot_product_attention), plain)


def test_tokens_are_read_apart_from_the_text():
    q, k, v = torch.randn(1, 2, 9, 8), torch.randn(1, 2, 12, 8), torch.randn(1, 2, 12, 8)
    out = morphology_attention(q, k, v, 5, F.scaled_dot_product_attention)
    parts = [F.scaled_dot_product_attention(q, k[:, :, part], v[:, :, part]) for part in (slice(7), slice(7, 12))]
    torch.testing.assert_close(out, parts[0] + parts[1])


def test_what_is_absent_becomes_null_tokens_and_the_rest_stays(trained):
    others, pose = torch.rand(2, 64, 64).round(), torch.rand(1, 3, 64, 64)
    both, alone = trained(others, pose), trained(others)
    assert not both[:, 64:128].any() and not alone[:, :128].any()
    assert torch.equal(both[:, 128:], alone[:, 128:]) and both[:, :64].any()
    assert torch.equal(both[0, :64], both[1, :64]) and not torch.equal(both[0, 128:], both[1, 128:])


def test_a_detector_that_found_nobody_is_as_good_as_none(trained):
    others, pose = torch.rand(2, 64, 64).round(), torch.rand(2, 3, 64, 64)
    pose[1] = 0
    nobody = parsing_one_hot(torch.zeros(2, 64, 64))
    tokens = trained(others, pose, nobody)
    assert torch.equal(tokens[1], trained(others)[1]) and torch.equal(tokens[0], trained(others, pose)[0])
    assert tokens[0, :64].any()


def test_tokens_see_where_something_is_at_any_size(trained):
    others = torch.zeros(2, 96, 96)
    others[0, :30, :30] = others[1, 60:, 60:] = 1
    tokens = trained(others)[:, 128:]
    assert not torch.allclose(tokens[0], tokens[1])
    larger = F.interpolate(others[:, None], scale_factor=2)[:, 0]
    torch.testing.assert_close(trained(larger)[:, 128:], tokens, atol=1e-5, rtol=1e-4)


def test_a_stored_module_reads_back(trained):
    again = morphology_from_state({key: value.clone() for key, value in trained.state_dict().items()})
    others = torch.rand(1, 32, 32)
    assert torch.equal(again(others), trained(others))
    with pytest.raises(ValueError, match="are no Human Morphology Guidance"):
        morphology_from_state({"pose.project.weight": torch.zeros(32, 4), "x": torch.zeros(1)})
    state = trained.state_dict()
    del state["others.position"]
    with pytest.raises(ValueError, match="others.position"):
        morphology_from_state(state)


def test_label_maps_become_one_plane_a_label():
    planes = parsing_one_hot(torch.tensor([[[0.0, 13.0], [19.0, 0.0]]]))
    assert planes.shape == (1, 20, 2, 2) and planes.sum() == 4
    assert planes[0, 13, 0, 1] == planes[0, 19, 1, 0] == planes[0, 0, 0, 0] == 1
    with pytest.raises(ValueError, match="labels 0 to 130, expected 0 to 19"):
        parsing_one_hot(torch.tensor([[[0, 130]]]))


def test_pictures_of_other_channels_are_refused(trained):
    with pytest.raises(ValueError, match="parsing is .* expected .1 or 1, 20"):
        trained(torch.zeros(1, 8, 8), parsing=torch.zeros(1, 18, 8, 8))


@torch.no_grad()
def test_the_background_gets_everyones_pose_and_parsing_where_it_was_trained_so():
    module, generator = HumanMorphology(6, 3), torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    others, pose = torch.rand(2, 32, 32, generator=generator).round(), torch.rand(2, 3, 32, 32, generator=generator)
    parsing = parsing_one_hot(torch.randint(3, (1, 32, 32), generator=generator), 3)
    without, with_both = (row_tokens(module, others, pose, parsing, background) for background in (False, True))
    assert torch.equal(without[:2], with_both[:2]) and not without[2].any()
    alone = row_tokens(module, others[:0], pose.amax(dim=0, keepdim=True), parsing, True)
    assert torch.allclose(alone[0], with_both[2], atol=1e-5)
    assert with_both[2, :128].any() and not with_both[2, 128:].any()
    assert row_tokens(module, others[:0], None, None, False) is None
