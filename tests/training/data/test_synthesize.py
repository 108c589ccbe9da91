"""EraDiff's dynamic image synthesis."""

import pytest
import torch

from unclutter.training.data.synthesize import synthesize


def test_the_moved_object_brings_nothing_of_its_old_background_along():
    picture, mask = torch.zeros(3, 64, 160), torch.zeros(64, 160)
    mask[20:44, 10:34] = 1
    picture[1, :, :50] = 1.0
    picture[2, :, 50:] = 1.0
    picture[:, mask > 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    greens = []
    for seed in range(20):
        source, _, hole = synthesize(picture, mask, torch.Generator().manual_seed(seed))
        if not hole[:, :50].any():
            greens.append(float(source[1].where(hole > 0, 0).max()))
    assert len(greens) > 5 and max(greens) < 0.2


def test_the_same_generator_makes_the_same_pair():
    picture, mask = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(32, 32)
    mask[8:16, 8:16] = 1
    one, other, third = (synthesize(picture, mask, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], third[0])


def test_no_object_is_said_so():
    with pytest.raises(ValueError, match="mask is empty"):
        synthesize(torch.zeros(3, 8, 8), torch.zeros(8, 8), torch.Generator())
