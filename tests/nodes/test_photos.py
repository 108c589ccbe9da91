"""Example Photo: a photograph and its mask, in a real server, with nothing uploaded."""

from __future__ import annotations

import pytest
import torch

from unclutter.adapters import photos
from unclutter.tests.nodes.test_bad_input import nodes


@pytest.mark.parametrize("name", photos.NAMES)
def test_a_photograph_marks_something_and_not_what_must_stay(name):
    photo = photos.load(name)
    assert photo.image.shape[-2:] == photo.mask.shape[-2:] == photo.others.shape[-2:]
    assert 0.005 < photo.mask.mean() < 0.2 and set(photo.mask.unique().tolist()) == {0, 1}
    assert not (photo.mask * photo.others).any()


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="'tree'.*rocket"):
        photos.load("tree")


def test_the_rocket_goes_at_the_first_click(comfy_server):
    graph = nodes(
        photo=("UnclutterExamplePhoto", {"photo": "rocket"}),
        draft=("UnclutterDraftFill", {"image": ["photo", 0], "mask": ["photo", 1]}),
        saved=("PreviewImage", {"images": ["draft", 0]}),
    )
    outputs = comfy_server.post(graph)
    shown, filled = (comfy_server.images(outputs, name) for name in ("photo", "saved"))
    photo = photos.load("rocket")
    outside = (photo.mask[..., None] == 0).expand_as(filled)
    assert torch.equal(shown[outside], filled[outside])
    # The rocket is bright and the sky behind it dark: what is left is no brighter than the sky around it.
    rocket = photo.mask[0, 130:300] > 0
    assert filled[0, 130:300][rocket].mean() < 0.35 < shown[0, 130:300][rocket].mean()
