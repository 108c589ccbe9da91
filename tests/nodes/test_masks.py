"""Prepare Removal Mask, Split Mask Into Instances, Crop To Mask, Paste Back: what an artist would notice."""

from __future__ import annotations

import pytest
import torch

from unclutter.tests.nodes.running import run_node


@pytest.fixture
def masks(comfy):
    from unclutter.nodes import masks

    return masks


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth random colours, [*shape, 3]."""
    batch, height, width = shape
    noise = torch.rand(batch, 3, 6, 7, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    return smooth.movedim(1, -1).contiguous()


def rectangle(height: int, width: int, top: int, left: int, tall: int, wide: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, top : top + tall, left : left + wide] = 1
    return mask


def prepare(masks, mask, image, grow_percent=7.5, grow_pixels=0, fill_holes=True, min_area=0):
    return run_node(
        masks.PrepareMask,
        mask,
        image,
        grow_percent=grow_percent,
        grow_pixels=grow_pixels,
        fill_holes=fill_holes,
        min_area=min_area,
    )


def crop_to_mask(masks, image, mask, context=0.5, multiple=64, minimum=64, maximum=0):
    return run_node(masks.CropToMask, image, mask, context=context, multiple=multiple, minimum=minimum, maximum=maximum)


def paste_back(masks, image, crop, mask=None, feather=8, match_color=False, ring=32):
    return run_node(masks.PasteBack, image, crop, mask, feather=feather, match_color=match_color, ring=ring)[0]


def test_prepare_grows_each_object_by_its_own_size(masks):
    mask = rectangle(240, 400, 70, 50, 100, 100) + rectangle(240, 400, 110, 300, 20, 20)
    prepared, _ = prepare(masks, mask, picture(1, 240, 400))
    row = prepared[0, 120]
    large, small = row[:225].sum().item(), row[225:].sum().item()
    assert 100 + 2 * 5 <= large <= 100 + 2 * 10
    assert 20 + 2 * 1 <= small <= 20 + 2 * 2


def test_prepare_fills_holes_and_drops_specks(masks):
    mask = rectangle(120, 120, 30, 30, 40, 40) - rectangle(120, 120, 45, 45, 8, 8) + rectangle(120, 120, 100, 100, 3, 3)
    image = picture(1, 120, 120)
    filled, _ = prepare(masks, mask, image, grow_percent=0.0, min_area=20)
    assert torch.equal(filled, rectangle(120, 120, 30, 30, 40, 40))
    as_drawn, _ = prepare(masks, mask, image, grow_percent=0.0, fill_holes=False)
    assert torch.equal(as_drawn, mask)


def test_the_preview_shows_the_mask_and_leaves_the_rest_of_the_picture(masks):
    image, mask = picture(1, 90, 130), rectangle(90, 130, 30, 40, 30, 40)
    prepared, preview = prepare(masks, mask, image, grow_pixels=6)
    changed = (preview != image).any(dim=-1)
    assert torch.equal(changed, prepared > 0)
    yellow = (preview == torch.tensor([1.0, 0.9, 0.0])).all(dim=-1)
    assert yellow[0, 29, 40:70].all(), "no outline along the upper side of the mask that came in"
    assert not yellow[0, 31:59, 41:79].any(), "the outline hides what is under the mask"


@pytest.mark.parametrize("seed", range(4))
def test_the_preview_is_what_the_whole_picture_gives(masks, seed):
    generator = torch.Generator().manual_seed(seed)
    image, mask = picture(1, 90, 1300, seed=seed), torch.zeros(2, 90, 1300)
    for top, left in torch.randint(0, 60, (8, 2), generator=generator).tolist():
        mask[:, top : top + 30, 20 * left : 20 * left + 35] = torch.rand((), generator=generator).round()
    mask[0, :20, :9] = 1
    mask[1, 40:60, 1280:] = 1
    for grow_pixels in (-6, 0, 5):
        prepared, preview = prepare(masks, mask, image, grow_pixels=grow_pixels, grow_percent=0.0)
        line = torch.nn.functional.max_pool2d(mask, 5, stride=1, padding=2) > mask
        tinted = torch.lerp(image.expand(2, -1, -1, -1), torch.tensor([1.0, 0.0, 0.0]), 0.5 * prepared[..., None])
        assert torch.equal(preview, torch.where(line[..., None], torch.tensor([1.0, 0.9, 0.0]), tinted))


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("PrepareMask", "grow_percent"),
        ("PrepareMask", "grow_pixels"),
        ("PrepareMask", "min_area"),
        ("SplitInstances", "min_area"),
        ("CropToMask", "context"),
        ("CropToMask", "multiple"),
        ("CropToMask", "minimum"),
        ("CropToMask", "maximum"),
        ("PasteBack", "feather"),
        ("PasteBack", "ring"),
    ],
)
def test_absurd_numbers_through_a_link(masks, node, name):
    image, mask = picture(1, 80, 90), rectangle(80, 90, 20, 20, 30, 30)
    part, _, crop = crop_to_mask(masks, image, mask)
    call = {
        "PrepareMask": lambda **bad: prepare(masks, mask, image, **bad),
        "SplitInstances": lambda **bad: run_node(masks.SplitInstances, mask, **bad),
        "CropToMask": lambda **bad: crop_to_mask(masks, image, mask, **bad),
        "PasteBack": lambda **bad: paste_back(masks, part, crop, **bad),
    }[node]
    (widget,) = [widget for widget in getattr(masks, node).GET_SCHEMA().inputs if widget.id == name]
    for value in (float("nan"), widget.min - 1, widget.max + 1):
        limits = f"{name} is {value}: it must lie between {int(widget.min)} and {int(widget.max)}"
        with pytest.raises(ValueError, match=limits):
            call(**{name: value})


def test_no_input_is_changed_in_place(masks):
    image, mask = picture(2, 80, 90), rectangle(80, 90, 20, 20, 30, 30)
    image_before, mask_before = image.clone(), mask.clone()
    prepared, _ = prepare(masks, mask, image)
    part, _, crop = crop_to_mask(masks, image, prepared)
    paste_back(masks, torch.zeros_like(part), crop, match_color=True)
    run_node(masks.SplitInstances, mask, min_area=0)
    assert torch.equal(image, image_before)
    assert torch.equal(mask, mask_before)


def test_split_gives_one_mask_for_each_object_from_left_to_right(masks):
    left, right = rectangle(60, 100, 30, 5, 20, 20), rectangle(60, 100, 2, 60, 30, 30)
    speck = rectangle(60, 100, 50, 90, 3, 3)
    parts, _ = run_node(masks.SplitInstances, right + left + speck)
    assert torch.equal(parts, torch.cat([left, right]))
    parts, _ = run_node(masks.SplitInstances, torch.cat([right, left + speck]), min_area=0)
    assert torch.equal(parts, torch.cat([right, left, speck]))


def test_a_long_object_stays_one_object(masks):
    bar = rectangle(60, 900, 20, 10, 6, 880)
    parts, _ = run_node(masks.SplitInstances, bar)
    assert torch.equal(parts, bar)


def test_the_crop_is_the_picture_itself_where_the_picture_is_large_enough(masks):
    image, mask = picture(1, 400, 500), rectangle(400, 500, 150, 200, 60, 90)
    part, part_mask, _ = crop_to_mask(masks, image, mask)
    height, width = part.shape[1:3]
    assert height % 64 == 0 and width % 64 == 0
    assert height >= 60 * 1.5 and width >= 90 * 1.5
    assert part_mask.shape == part.shape[:3] and part_mask.sum() == 60 * 90
    rows, columns = part_mask[0].any(dim=1).nonzero().min(), part_mask[0].any(dim=0).nonzero().min()
    top, left = 150 - rows, 200 - columns
    assert torch.equal(part, image[:, top : top + height, left : left + width])


@pytest.mark.parametrize("size", [(37, 53), (400, 60)])
def test_a_picture_below_the_minimum_is_scaled_up_and_comes_back_at_its_own_size(masks, size):
    image, mask = picture(1, *size), rectangle(*size, 10, 10, 9, 9)
    part, part_mask, crop = crop_to_mask(masks, image, mask, minimum=128)
    assert min(part.shape[1:3]) >= 128 and part.shape[1] % 64 == 0 and part.shape[2] % 64 == 0
    assert part_mask.shape == part.shape[:3] and set(part_mask.unique().tolist()) == {0.0, 1.0}
    pasted = paste_back(masks, part, crop, feather=2)
    assert pasted.shape == image.shape
    assert (pasted - image).abs().max() < 0.02


def test_the_maximum_bounds_the_crop(masks):
    image, mask = picture(1, 300, 700), rectangle(300, 700, 20, 20, 250, 650)
    part, _, crop = crop_to_mask(masks, image, mask, maximum=256)
    assert max(part.shape[1:3]) <= 256
    assert paste_back(masks, part, crop).shape == image.shape


@pytest.mark.parametrize("match_color", [False, True])
@pytest.mark.parametrize("minimum", [64, 512])
def test_outside_the_soft_border_nothing_changes_and_inside_is_the_result(masks, match_color, minimum):
    image, mask = picture(1, 300, 420), rectangle(300, 420, 100, 150, 80, 70)
    part, _, crop = crop_to_mask(masks, image, mask, minimum=minimum)
    pasted = paste_back(masks, torch.rand_like(part), crop, feather=8, match_color=match_color)
    far = rectangle(300, 420, 100 - 8, 150 - 8, 80 + 16, 70 + 16)[0] == 0
    assert torch.equal(pasted[0][far], image[0][far])
    inside = mask[0] > 0
    assert (pasted[0][inside] != image[0][inside]).any(dim=-1).float().mean() > 0.99


def test_at_native_scale_the_result_arrives_unchanged_in_the_mask(masks):
    image, mask = picture(1, 300, 420), rectangle(300, 420, 100, 150, 80, 70)
    part, part_mask, crop = crop_to_mask(masks, image, mask)
    result = torch.rand_like(part)
    pasted = paste_back(masks, result, crop)
    assert torch.allclose(pasted[mask > 0], result[part_mask > 0], atol=1e-6)


def test_colour_match_takes_away_a_shift_that_varies_over_the_crop(masks):
    image, mask = picture(1, 320, 320) * 0.5 + 0.2, rectangle(320, 320, 120, 120, 80, 80)
    part, _, crop = crop_to_mask(masks, image, mask)
    slope = torch.linspace(0.0, 0.12, part.shape[2])[:, None] * torch.tensor([1.0, -0.5, 0.7])
    shifted = part + slope
    inside = mask > 0
    plain = (paste_back(masks, shifted, crop) - image)[inside].abs().mean()
    matched = (paste_back(masks, shifted, crop, match_color=True) - image)[inside].abs().mean()
    assert matched < 0.2 * plain


def test_a_blend_mask_of_the_picture_or_of_the_crop_says_where_to_paste(masks):
    image, mask = picture(1, 300, 420), rectangle(300, 420, 100, 150, 40, 40)
    part, part_mask, crop = crop_to_mask(masks, image, mask)
    with_shadow = rectangle(300, 420, 100, 150, 40, 60)
    result = 1 - part
    pasted = paste_back(masks, result, crop, mask=with_shadow, feather=0)
    assert torch.equal((pasted != image).any(dim=-1), with_shadow > 0)
    left = int(part_mask[0].any(dim=0).nonzero().min())
    top = int(part_mask[0].any(dim=1).nonzero().min())
    same_in_crop = rectangle(*part.shape[1:3], top, left, 40, 60)
    assert torch.equal(paste_back(masks, result, crop, mask=same_in_crop, feather=0), pasted)
    with pytest.raises(ValueError, match="blend mask is 50x40"):
        paste_back(masks, result, crop, mask=torch.ones(1, 40, 50))
    with pytest.raises(ValueError, match="reaches beyond the crop"):
        paste_back(masks, result, crop, mask=rectangle(300, 420, 100, 0, 40, 420))


@pytest.mark.parametrize(("pictures", "results", "rows"), [(1, 3, 3), (3, 1, 3), (2, 2, 2)])
def test_one_serves_for_many(masks, pictures, results, rows):
    image, mask = picture(pictures, 200, 220), rectangle(200, 220, 60, 70, 50, 50)
    part, _, crop = crop_to_mask(masks, image, mask)
    result = torch.stack([torch.full_like(part[0], 0.1 * n) for n in range(results)])
    pasted = paste_back(masks, result, crop)
    assert len(pasted) == rows
    for row in range(rows):
        assert torch.allclose(pasted[row, 85, 95], result[row % results, 0, 0], atol=1e-6)
        assert torch.equal(pasted[row, 0, 0], image[row % pictures, 0, 0])


def test_two_results_for_three_pictures_are_an_error(masks):
    image, mask = picture(3, 200, 220), rectangle(200, 220, 60, 70, 50, 50)
    part, _, crop = crop_to_mask(masks, image, mask)
    with pytest.raises(ValueError, match="2 results came for a crop of 3 pictures"):
        paste_back(masks, part[:2], crop)


def test_each_picture_of_a_batch_is_cut_around_its_own_mask(masks):
    image = picture(2, 300, 400)
    mask = torch.cat([rectangle(300, 400, 20, 20, 40, 40), rectangle(300, 400, 200, 300, 60, 60)])
    part, part_mask, crop = crop_to_mask(masks, image, mask)
    assert part_mask.flatten(1).sum(dim=1).tolist() == [40 * 40, 60 * 60]
    pasted = paste_back(masks, 1 - part, crop, feather=0)
    assert torch.equal((pasted != image).any(dim=-1), mask > 0)


def test_a_result_scaled_up_on_the_way_fits_and_one_of_another_shape_does_not(masks):
    image, mask = picture(1, 300, 420), rectangle(300, 420, 100, 150, 80, 70)
    part, _, crop = crop_to_mask(masks, image, mask)
    larger = torch.nn.functional.interpolate(part.movedim(-1, 1), scale_factor=2, mode="bicubic").movedim(1, -1)
    assert (paste_back(masks, larger, crop) - image).abs().max() < 0.02
    height, width = part.shape[1:3]
    with pytest.raises(ValueError, match=f"result is {width}x{height // 2} and the crop was {width}x{height}"):
        paste_back(masks, part[:, : height // 2], crop)


def test_half_precision_pictures_stay_half_precision(masks):
    image, mask = picture(1, 100, 90).half(), rectangle(100, 90, 30, 30, 30, 30)
    prepared, preview = prepare(masks, mask, image)
    part, _, crop = crop_to_mask(masks, image, prepared, minimum=128)
    pasted = paste_back(masks, part.float() + 0.05, crop, match_color=True)
    assert preview.dtype == part.dtype == pasted.dtype == torch.float16
    assert pasted.isfinite().all()


def test_instances_are_numbered_in_the_order_of_the_batch(masks):
    """The preview is white or black at a number, as its digits are, and tinted in the rest of the object."""
    mask = torch.zeros(1, 600, 800)
    mask[:, 100:300, 100:300] = 1
    mask[:, 300:500, 500:700] = 1
    parts, preview = run_node(masks.SplitInstances, mask, torch.full((1, 600, 800, 3), 0.5))
    assert preview.shape == (1, 600, 800, 3)
    assert torch.equal(preview[0, :90, :90], torch.full((90, 90, 3), 128 / 255))
    colors = [preview[0, 110, 110], preview[0, 310, 510]]
    assert not torch.equal(*colors) and all((color - 0.5).abs().max() > 0.1 for color in colors)
    for part, (row, column) in zip(parts, ((200, 200), (400, 600)), strict=True):
        around = preview[0, row - 20 : row + 20, column - 20 : column + 20]
        assert part[row, column] and (around.amin(dim=-1) > 0.95).any() and (around.amax(dim=-1) < 0.05).any()
    small = run_node(masks.SplitInstances, torch.nn.functional.interpolate(mask[None], (60, 80))[0], min_area=4)[1]
    assert small.shape == (1, 384, 512, 3)
