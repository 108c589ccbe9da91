"""The photographs that come with the pack."""

from __future__ import annotations

import pytest

from unclutter.adapters import photos


@pytest.mark.parametrize("name", photos.NAMES)
def test_a_photograph_has_a_mask_of_its_size(name):
    photo = photos.load(name)
    assert photo.image.shape[-2:] == photo.mask.shape[-2:]
    assert 0.005 < photo.mask.mean() < 0.2 and photo.mask.max() == 1


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="'tree'.*rocket"):
        photos.load("tree")
