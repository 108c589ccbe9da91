import math

import numpy
import pytest
import torch

from unclutter.kernels import regions


def square(height=64, width=64, top=10, left=20, side=10):
    mask = torch.zeros(1, height, width)
    mask[:, top : top + side, left : left + side] = 1
    return mask


def test_normalize_accepts_what_graphs_hold():
    mask = square()
    for given in (mask, mask[0], mask[:, None], 0.98 * mask):
        assert torch.equal(regions.normalize_mask(given, 1, 64, 64), mask)
    assert regions.normalize_mask(mask, 3, 64, 64).shape == (3, 64, 64)
    assert regions.normalize_mask(mask.expand(3, -1, -1), 1, 64, 64).shape == (3, 64, 64)


def test_normalize_loses_nothing_when_it_shrinks_a_mask():
    mask = torch.zeros(1, 512, 512)
    mask[0, 301, 77] = 1
    small = regions.normalize_mask(mask, 1, 64, 64)
    assert small[0, 301 // 8, 77 // 8] == 1 and small.sum() == 1
    large = regions.normalize_mask(square(), 1, 128, 126)
    assert large.shape == (1, 128, 126) and abs(large.mean() - square().mean()) < 0.01


@pytest.mark.parametrize(
    "mask, batch, message",
    [
        (torch.zeros(1, 64, 64), 1, "Load Image"),
        (torch.zeros(1, 80, 64), 1, "empty"),
        (torch.stack([square()[0], torch.zeros(64, 64)]), 2, "Mask 2 of 2 is empty"),
        (torch.ones(1, 64, 64), 1, "whole picture"),
        (torch.eye(80)[None, :, :64], 1, "is 64x80 and the picture 64x64, another shape"),
        (torch.full((1, 64, 64), math.nan), 1, "NaN"),
        (square().expand(2, -1, -1), 3, "2 masks came for 3 pictures"),
        (torch.zeros(1, 3, 64, 64), 1, "1×3×64×64"),
        (0.4 * square(), 1, "The mask is too faint: its largest value is 0.4, and 0.5 and above counts"),
        (torch.stack([square()[0], 127 / 255 * square()[0]]), 2, "Mask 2 of 2 is too faint: .* 0.498"),
    ],
)
def test_normalize_says_what_is_wrong(mask, batch, message):
    with pytest.raises(ValueError, match=message):
        regions.normalize_mask(mask, batch, 64, 64)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 13), (64, 64), (100, 90)])
def test_any_pixel_of_the_object_makes_its_token_an_object(height, width):
    mask = torch.zeros(1, 64, 64)
    mask[0, 33, 50] = 1
    tokens = regions.object_tokens(mask, height, width).reshape(height, width)
    assert tokens[int((33 + 0.5) * height / 64), int((50 + 0.5) * width / 64)]
    assert 1 <= tokens.sum() <= 9


def test_cells_by_pooling():
    mask = torch.zeros(1, 16, 16)
    mask[0, 3, 9] = 1  # one pixel of the cell (0, 1), not its first
    assert regions.latent_mask(mask, 2, 2, "max").flatten().tolist() == [0, 1, 0, 0]
    assert regions.latent_mask(mask, 2, 2, "nearest").sum() == 0
    with pytest.raises(ValueError, match="nearest"):
        regions.latent_mask(mask, 2, 2, "mean")


def test_grow_is_round_and_by_each_object():
    mask = torch.zeros(1, 200, 200)
    mask[0, 20:60, 20:60] = 1  # 40×40
    mask[0, 150:160, 150:160] = 1  # 10×10
    grown = regions.grow(mask, percent=10)
    assert grown[0, 16:64, 40].all() and grown[0, 15, 40] == 0  # 10 % of 40 are 4 pixels
    assert grown[0, 149, 155] == 1 and grown[0, 148, 155] == 0  # and of 10 one
    assert grown[0, 16, 16] == 0  # round corners
    assert torch.equal(regions.grow(mask, pixels=4)[:, :80, :80], grown[:, :80, :80])
    shrunk = regions.grow(mask, pixels=-2)
    assert shrunk[0, 22:58, 22:58].all() and shrunk.sum() == 36 * 36 + 6 * 6
    assert torch.equal(regions.grow(mask), mask)


def test_fill_holes_and_feather():
    ring = square(side=20)
    ring[:, 15:25, 25:35] = 0
    assert torch.equal(regions.fill_holes(ring), square(side=20))
    soft = regions.feather(square(), 4)
    assert (soft[square() > 0] == 1).all()
    profile = soft[0, 15, 30:40]
    assert (profile[:4] > 0).all() and (profile[4:] == 0).all() and (profile[:5].diff() < 0).all()


def scattered(seed, height=50, width=64):
    """Rectangles and specks anywhere, one mask of [2, H, W] in a corner of its picture and one all over it."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, height, width, generator=generator) > 0.995).float()
    for top, left, tall, wide in torch.randint(1, 25, (6, 4), generator=generator).tolist():
        mask[:, 2 * top : 2 * top + tall, 2 * left : 2 * left + wide] = torch.rand((), generator=generator).round()
    mask[0, 20:], mask[0, :, 30:] = 0, 0
    mask[:, 5:12, 7:15] = 1
    mask[:, 8, 9:11] = 0
    return mask


@pytest.mark.parametrize("seed", range(8))
def test_a_part_of_the_picture_gives_what_the_whole_gives(seed):
    from scipy import ndimage

    def grow_whole(sample, radius_of):
        labels, count = ndimage.label(sample, structure=[[1] * 3] * 3)
        grown = sample & False
        for one in (labels == index for index in range(1, count + 1)):
            radius = radius_of(one.sum())
            if radius < 0:
                # What lies beyond the picture is as its border, and never the nearest background.
                inner = ndimage.distance_transform_edt(numpy.pad(one, 1, mode="edge"))[1:-1, 1:-1]
                grown |= inner > -radius
            else:
                grown |= ndimage.distance_transform_edt(~one) <= radius
        return grown

    mask = scattered(seed)
    for pixels, percent in ((0, 7.5), (4, 0), (-2, 0), (6, -40), (-3, 50), (200, 0)):
        expected = [grow_whole(one.numpy() > 0, lambda a: pixels + percent / 100 * math.sqrt(a)) for one in mask]  # noqa: B023
        assert torch.equal(regions.grow(mask, pixels, percent), torch.from_numpy(numpy.stack(expected)).float())
    expected = [ndimage.binary_fill_holes(one.numpy()) for one in mask]
    assert torch.equal(regions.fill_holes(mask), torch.from_numpy(numpy.stack(expected)).float())
    for pixels in (0, 3, 90):
        distance = numpy.stack([ndimage.distance_transform_edt(one.numpy() == 0) for one in mask])
        expected = numpy.where(distance <= pixels, (1 + numpy.cos(numpy.pi * distance / (pixels + 1))) / 2, 0)
        assert torch.equal(regions.feather(mask, pixels), torch.from_numpy(expected).float())


def test_instances_of_a_snake_and_a_speck():
    mask = torch.zeros(60, 80)
    for row in range(0, 40, 4):  # a path of some 600 pixels through one component
        mask[row, :60] = 1
        mask[row : row + 4, 0 if row % 8 else 59] = 1
    mask[50, 70] = 1
    parts = regions.split_instances(mask)
    assert len(parts) == 2 and torch.equal(parts.sum(0), mask) and parts[1].sum() == 1
    assert len(regions.split_instances(mask, min_area=2)) == 1
    assert regions.split_instances(mask, min_area=9999).shape == (0, 60, 80)


def specks():
    mask = torch.zeros(1, 400, 500)
    mask[:, ::10, ::10] = 1
    mask[:, 102:118, 102:148] = 1
    return mask


def test_small_parts_go_without_a_mask_for_each():
    kept = torch.zeros(1, 400, 500)
    kept[:, 102:118, 102:148] = 1
    assert torch.equal(regions.drop_small(torch.cat([specks(), 1 - kept]), 2), torch.cat([kept, 1 - kept]))
    assert torch.equal(regions.drop_small(specks(), 1), specks())
    assert not regions.drop_small(specks(), 9999).any()


def test_parts_are_bounded_by_the_memory_they_take(monkeypatch):
    mask = torch.zeros(40, 40)
    for left in range(0, 40, 8):
        mask[10:20, left : left + 4] = 1
    monkeypatch.setattr(regions, "MAX_PIXELS", 4 * 40 * 40)
    with pytest.raises(
        ValueError, match="5 parts of at least 0 pixels, and at most 4 of 40x40 are given apart: raise min_area"
    ):
        regions.split_instances(mask)
    monkeypatch.setattr(regions, "MAX_PIXELS", 5 * 40 * 40)
    assert len(regions.split_instances(mask)) == 5
    # At 12 megapixels so many masks are 4 GB, and not the 12 GB of as many as are told apart.
    monkeypatch.undo()
    assert 4 * regions.MAX_PIXELS == 2**32 and regions.MAX_PIXELS // 12_000_000 < regions.MAX_PARTS


def test_a_mask_full_of_specks_is_not_split():
    with pytest.raises(ValueError, match="1997 parts of at least 0 pixels.* 256 .*raise min_area"):
        regions.split_instances(specks())
    assert len(regions.split_instances(specks(), min_area=2)) == 1


def test_instances_go_from_left_to_right():
    mask = torch.zeros(20, 40)
    mask[2:5, 30:33], mask[10:13, 1:4], mask[1:4, 15:18] = 1, 1, 1
    parts = regions.split_instances(mask)
    assert [int(part.amax(0).nonzero()[0]) for part in parts] == [1, 15, 30]


def test_boxes_are_clipped_to_the_picture():
    assert regions.bounding_boxes(square()) == [(10, 20, 10, 10)]
    assert regions.bounding_boxes(square(), context=1.5) == [(0, 5, 35, 40)]
