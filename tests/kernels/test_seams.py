import pytest
import torch

from unclutter.kernels import regions, seams


def picture(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def hole(height, width, top, left, side):
    mask = torch.zeros(1, height, width)
    mask[:, top : top + side, left : left + side] = 1
    return mask


@pytest.mark.parametrize(
    "height, width, top, left, side, minimum",
    [
        (1000, 1500, 400, 700, 80, 512),
        (1000, 1500, 0, 1450, 50, 512),
        (37, 53, 10, 10, 8, 512),
        (300, 2000, 100, 900, 90, 512),
        (1, 1, 0, 0, 1, 64),
        (700, 700, 100, 100, 400, 512),
    ],
)
def test_a_crop_holds_the_object_in_a_size_the_network_takes(height, width, top, left, side, minimum):
    mask = hole(height, width, top, left, side)
    crop = seams.plan_crop(mask, context=0.5, multiple=64, minimum=minimum)
    (box,) = crop.boxes
    assert all(s % 64 == 0 and s >= minimum for s in crop.size)
    assert box.top >= 0 and box.top + box.height <= height and box.left >= 0 and box.left + box.width <= width
    assert mask[0, box.top : box.top + box.height, box.left : box.left + box.width].sum() == mask.sum()
    if min(height, width) >= 704:
        assert (box.height, box.width) == crop.size  # native scale
    assert seams.extract(picture(height, width), crop, "image").shape == (1, 3, *crop.size)


def test_size_follows_the_mask_and_the_limit():
    mask = hole(4000, 6000, 2000, 3000, 100)
    assert seams.plan_crop(mask, context=0.5, multiple=64, minimum=512).size == (512, 512)
    wide = hole(4000, 6000, 500, 1000, 3000)
    crop = seams.plan_crop(wide, context=0.2, multiple=64, minimum=512, maximum=1024)
    assert max(crop.size) <= 1024 and crop.boxes[0].height > 3000


@pytest.mark.parametrize(
    "height, side, long, minimum, maximum",
    [(3000, 100, 2000, 64, 512), (3000, 100, 2000, 512, 1024), (3000, 30, 90, 96, 96), (290, 280, 1500, 64, 512)],
)
def test_a_crop_scaled_down_keeps_its_shape_and_the_minimum(height, side, long, minimum, maximum):
    mask, top = torch.zeros(1, height, 3000), (height - side) // 2
    mask[:, top : top + side, 200 : 200 + long] = 1
    for turned in (mask, mask.mT):
        crop = seams.plan_crop(turned, context=0.1, multiple=32, minimum=minimum, maximum=maximum)
        (box,) = crop.boxes
        assert minimum <= min(crop.size) and max(crop.size) <= maximum
        assert box.width / crop.size[1] == pytest.approx(box.height / crop.size[0], rel=0.01)
        assert turned[0, box.top : box.top + box.height, box.left : box.left + box.width].sum() == turned.sum()


def test_samples_of_a_batch_share_one_size():
    mask = torch.cat([hole(900, 900, 10, 10, 50), hole(900, 900, 500, 300, 300)])
    crop = seams.plan_crop(mask, minimum=128)
    assert len({(box.height, box.width) for box in crop.boxes}) == 1
    parts = seams.extract(picture(900, 900), crop, "image")
    assert parts.shape == (2, 3, *crop.size)
    assert torch.equal(
        parts[1], picture(900, 900)[0][:, crop.boxes[1].top :, crop.boxes[1].left :][:, : crop.size[0], : crop.size[1]]
    )


@pytest.mark.parametrize("match_colors", [True, False])
@pytest.mark.parametrize("size", [(900, 1300), (100, 130)])
def test_nothing_changes_outside_the_band(size, match_colors):
    image, mask = picture(*size), hole(*size, 30, 40, 20)
    crop = seams.plan_crop(mask, multiple=64, minimum=256)
    result = torch.rand(1, 3, *crop.size)
    out = seams.paste_back(image, result, crop, mask, feather_pixels=6, match_colors=match_colors)
    band = (regions.feather(mask, 6) > 0)[:, None].expand_as(image)
    assert torch.equal(out[~band], image[~band])
    assert (out[band] != image[band]).float().mean() > 0.9


@pytest.mark.parametrize("context, feather", [(0.0, 8), (0.05, 8), (0.1, 32), (0.5, 128), (0.0, 64)])
@pytest.mark.parametrize("left", [300, 0])
def test_the_border_is_soft_where_the_crop_ends_too(context, feather, left):
    image, mask = torch.ones(1, 3, 700, 700), hole(700, 700, 300, left, 128)
    crop = seams.plan_crop(mask, context=context, multiple=64, minimum=64)
    black = torch.zeros(1, 3, *crop.size)
    out = seams.paste_back(image, black, crop, mask, feather_pixels=feather, match_colors=False)[0, 0]
    assert max(out.diff(dim=0).abs().max(), out.diff(dim=1).abs().max()) < 0.25
    assert (out[308:420, left + 8 : left + 120] == 0).all()
    assert left or (out[308:420, :120] == 0).all()  # the side of the picture is no end


def test_an_unchanged_crop_changes_nothing():
    image, mask = picture(600, 700), hole(600, 700, 200, 300, 60)
    crop = seams.plan_crop(mask, multiple=64, minimum=256)
    assert torch.equal(seams.paste_back(image, seams.extract(image, crop, "image"), crop, mask), image)


@pytest.mark.parametrize("shift", ["constant", "across the ring"])
def test_a_colour_shift_is_taken_off(shift):
    smooth = torch.linspace(0.3, 0.6, 320).expand(1, 3, 320, 320)
    mask = hole(320, 320, 120, 120, 80)
    across = torch.linspace(-0.08, 0.08, 320)[:, None].expand(320, 320)
    offset = torch.full((3, 1, 1), 0.05) if shift == "constant" else across
    crop = seams.Crop((seams.Box(0, 0, 320, 320),), (320, 320))
    corrected = seams.paste_back(smooth, (smooth + offset).clamp(0, 1), crop, mask)
    inside = mask[:, None].expand_as(smooth) > 0
    assert (corrected - smooth)[inside].abs().max() < 1 / 255
    raw = seams.paste_back(smooth, (smooth + offset).clamp(0, 1), crop, mask, match_colors=False)
    assert (raw - smooth)[inside].abs().max() > 0.015


def test_other_content_on_the_ring_is_no_colour_shift():
    grey = torch.full((1, 3, 200, 200), 0.5)
    mask = hole(200, 200, 80, 80, 40)
    result = grey.clone()
    result[..., 60:75, 80:120] = 1.0  # something the network drew beside the mask
    crop = seams.Crop((seams.Box(0, 0, 200, 200),), (200, 200))
    assert torch.equal(seams.paste_back(grey, result, crop, mask, feather_pixels=2), grey)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_pixel_that_is_no_number_stays_one_pixel_and_is_not_pasted(value):
    smooth = torch.linspace(0.3, 0.6, 320).expand(1, 3, 320, 320)
    mask = hole(320, 320, 120, 120, 80)
    shifted = smooth + 0.05
    broken = shifted.clone()
    broken[0, 1, 110, 150] = value  # on the ring
    matched = seams.match_color(broken, smooth, mask)
    assert (matched - seams.match_color(shifted, smooth, mask))[:, :, 120:200, 120:200].abs().max() < 1e-3
    assert (~matched.isfinite()).sum() <= 1
    crop = seams.Crop((seams.Box(0, 0, 320, 320),), (320, 320))
    with pytest.raises(ValueError, match="The result has NaN"):
        seams.paste_back(smooth, broken, crop, mask)


@pytest.mark.parametrize("wrong", [{"multiple": 0}, {"minimum": 0}, {"context": -1.0}, {"maximum": 100}])
def test_absurd_sizes_say_what_is_wrong(wrong):
    with pytest.raises(ValueError, match="multiple|maximum"):
        seams.plan_crop(hole(64, 64, 1, 1, 9), **wrong)
