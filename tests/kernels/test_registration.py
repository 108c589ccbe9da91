"""Registration on scikit-image's own photographs, shifted and scaled by known amounts, with what an edit model adds: noise,
another colour, another content in the hole and a shadow that went."""

import pytest
import skimage.data
import torch

from unclutter.kernels import registration, seams
from unclutter.kernels.registration import Similarity

MOVES = [(1.3, -2.7, 1.0), (5.2, 3.1, 1.004), (-8.0, 8.0, 0.99), (0.3, 0.0, 1.0), (0.0, 0.0, 1.01)]


def photograph(name):
    return torch.from_numpy(getattr(skimage.data, name)()[..., :3].copy()).movedim(-1, 0)[None].float() / 255


def removal(picture, move):
    """A picture as an edit model gives it back: (result, mask [1, H, W])."""
    down, right, scale = move
    generator = torch.Generator().manual_seed(0)
    height, width = picture.shape[-2:]
    mask = torch.zeros(1, height, width)
    mask[:, height // 3 : height // 2, width // 3 : width // 2] = 1
    edited = picture.clone()
    edited[:, :, height // 3 : height // 2, width // 3 : width // 2] = torch.rand(3, generator=generator)[:, None, None]
    edited[:, :, height // 2 : height // 2 + 40, width // 3 : width // 2] *= 0.6
    result = registration.sample(edited, Similarity(-down / scale, -right / scale, 1 / scale))
    result = 0.97 * result + 0.02 + 0.01 * torch.randn(result.shape, generator=generator)
    return result.clamp(0, 1), mask


def distance(found, move, height, width):
    """The largest distance between two moves, in pixels, at the corners of the picture."""
    down, right, scale = move
    corners = [(y * height / 2, x * width / 2) for y in (-1, 1) for x in (-1, 1)]
    return max(
        (
            (found.scale * y + found.down - scale * y - down) ** 2
            + (found.scale * x + found.right - scale * x - right) ** 2
        )
        ** 0.5
        for y, x in corners
    )


@pytest.mark.parametrize(
    ("name", "move"),
    [*(("chelsea", move) for move in MOVES), ("astronaut", MOVES[1]), ("coffee", MOVES[2]), ("rocket", MOVES[1])],
)
def test_a_known_move_is_found_to_a_tenth_of_a_pixel(name, move):
    picture = photograph(name)
    result, mask = removal(picture, move)
    found = registration.find_shift(result, picture, mask)
    assert distance(found, move, *picture.shape[-2:]) < 0.1


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_a_result_in_its_place_stays_as_it_is(name):
    picture = photograph(name)
    result, mask = removal(picture, (0.0, 0.0, 1.0))
    assert registration.align(result, picture, mask) is result


@pytest.mark.parametrize("kind", ["noise", "flat", "another picture", "tiny"])
def test_where_nothing_can_be_measured_the_result_stays(kind):
    picture = photograph("chelsea")[..., :200, :240]
    mask = torch.zeros(1, 200, 240)
    mask[:, 80:120, 90:150] = 1
    result = {
        "noise": torch.rand(picture.shape, generator=torch.Generator().manual_seed(1)),
        "flat": torch.full_like(picture, 0.5),
        "another picture": photograph("rocket")[..., :200, :240],
        "tiny": picture,
    }[kind]
    if kind == "tiny":
        picture, result, mask = picture[..., :20, :24], result[..., 1:21, :24], mask[:, 70:90, 80:104]
    assert registration.align(result, picture, mask) is result


def test_pasting_back_a_moved_result():
    """The fill lies where the hole is, and all beyond the soft border is the picture, bit for bit."""
    picture = photograph("astronaut")
    result, mask = removal(picture, (4.0, -3.0, 1.003))
    whole = seams.Crop((seams.Box(0, 0, *picture.shape[-2:]),), tuple(picture.shape[-2:]))
    pasted = {
        register: seams.paste_back(picture, result, whole, mask, feather_pixels=24, register=register)
        for register in (True, False)
    }
    band = (seams.feather(mask, 24) > 0)[:, None].expand_as(picture) & (mask == 0)[:, None].expand_as(picture)
    band[..., picture.shape[-2] // 2 :, :] = False  # there lies the shadow that went
    errors = {register: (pasted[register] - picture)[band].square().mean() for register in pasted}
    assert errors[True] < 0.5 * errors[False]
    beyond = (seams.feather(mask, 24) == 0)[:, None].expand_as(picture)
    assert torch.equal(pasted[True][beyond], picture[beyond])
