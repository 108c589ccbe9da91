"""Branches side by side in one batch against each LoRA merged by itself."""

import pytest
import torch
from torch.nn import functional as F

from unclutter.kernels.lowrank import BACKGROUND, PERSON, LowRank, add_branches, join, row_selection, stack_branches


@pytest.fixture
def branches():
    torch.manual_seed(0)
    return [(torch.randn(r, 40) / 6, torch.randn(24, r) / r, scale) for r, scale in ((16, 0.7), (8, 1.3))]


def add(projected, x, branches, rows):
    """One projection with the branches of its rows."""
    chosen, selection = row_selection(torch.tensor(rows))
    return add_branches([projected], x, join([branches], chosen), selection)[0]


@pytest.mark.parametrize("rows", [[PERSON, PERSON, PERSON, BACKGROUND], [BACKGROUND], [BACKGROUND, PERSON, BACKGROUND]])
def test_every_row_is_what_its_own_merged_lora_gives(branches, rows):
    weight, x = torch.randn(24, 40) / 6, torch.randn(len(rows), 9, 40)
    out = add(F.linear(x, weight), x, stack_branches(branches), rows)
    for row, branch in enumerate(rows):
        down, up, scale = branches[branch]
        alone = F.linear(x[row], weight + scale * up @ down)
        torch.testing.assert_close(out[row], alone, atol=1e-5, rtol=1e-5)


def test_a_branch_without_a_lora_here_is_the_plain_projection_bit_for_bit(branches):
    x, projected = torch.randn(2, 9, 40), torch.randn(2, 9, 24)
    out = add(projected, x, stack_branches([branches[0], None]), [PERSON, BACKGROUND])
    assert torch.equal(out[1], projected[1]) and not torch.allclose(out[0], projected[0])


@pytest.mark.parametrize("rows", [[PERSON, BACKGROUND, PERSON], [BACKGROUND]])
def test_projections_of_one_input_together_are_what_each_is_alone(rows):
    torch.manual_seed(1)
    pairs = [LowRank(torch.randn(2, r, 40), torch.randn(2, out, r)) for r, out in ((4, 24), (2, 24), (4, 8))]
    x = torch.randn(len(rows), 9, 40)
    projected = [torch.randn(len(rows), 9, pair.up.shape[1]) for pair in pairs]
    branches, selection = row_selection(torch.tensor(rows))
    together = add_branches(projected, x, join(pairs, branches), selection)
    for one, pair, out in zip(projected, pairs, together, strict=True):
        torch.testing.assert_close(out, add(one, x, pair, rows))


def test_half_precision_stays_half(branches):
    x, projected = torch.randn(2, 9, 40).bfloat16(), torch.randn(2, 9, 24).bfloat16()
    assert add(projected, x, stack_branches(branches), [0, 1]).dtype == torch.bfloat16


def test_only_the_rows_own_branch_learns():
    factors = [[torch.randn(4, 5), torch.randn(6, 4), torch.ones(())] for _ in range(2)]
    for factor in (*factors[0], *factors[1]):
        factor.requires_grad_(True)
    x = torch.randn(3, 2, 5)
    out = add(torch.zeros(3, 2, 6), x, stack_branches([tuple(f) for f in factors]), [1, 1, 1])
    out.square().sum().backward()
    assert all(factor.grad.abs().sum() > 0 for factor in factors[BACKGROUND])
    assert all(factor.grad.abs().sum() == 0 for factor in factors[PERSON])


def test_branches_of_different_projections_are_refused(branches):
    with pytest.raises(ValueError, match="of 2 shapes"):
        stack_branches([branches[0], (torch.randn(8, 40), torch.randn(32, 8), 1.0)])
    with pytest.raises(ValueError, match="of 0 shapes"):
        stack_branches([None, None])
