"""Removal Conditioning, with a tiny VAE in this process: what an inpainting model is shown, and what it may change."""

from __future__ import annotations

import pytest
import torch

from unclutter.tests.nodes.running import run_node


@pytest.fixture
def tiny(comfy):
    from unclutter.tests.nodes import tiny

    return tiny


@pytest.fixture
def vae(tiny):
    return tiny.vae()


def condition(
    tiny, vae, image, mask, condition_image="masked grey", mask_pooling="max", keep_background=True, draft=None
):
    from unclutter.nodes.conditioning import RemovalConditioning

    prompts = tiny.conditioning(1), tiny.conditioning(2)
    settings = {"condition_image": condition_image, "mask_pooling": mask_pooling, "keep_background": keep_background}
    return run_node(RemovalConditioning, *prompts, vae, image, mask, draft, **settings)


def picture(batch=1, height=64, width=104):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0))


def shown(conditioning):
    return conditioning[0][1]["concat_latent_image"], conditioning[0][1]["concat_mask"]


@pytest.mark.parametrize(("kind", "hole"), [("full", None), ("masked grey", 0.5), ("masked black", 0.0)])
def test_what_the_model_sees(tiny, vae, kind, hole):
    image, mask = picture(), tiny.square_mask(64, 104)
    positive, negative, latent = condition(tiny, vae, image, mask, kind)
    expected = image.clone()
    if hole is not None:
        expected[:, 16:40, 24:48] = hole
    for conditioning in (positive, negative):
        assert torch.equal(shown(conditioning)[0], vae.encode(expected))
    assert torch.equal(latent["samples"], vae.encode(image))


def test_the_prompts_that_came_in_stay_as_they_were(tiny, vae):
    from unclutter.nodes.conditioning import RemovalConditioning

    positive = tiny.conditioning(1)
    links = positive, tiny.conditioning(2), vae, picture(), tiny.square_mask(64, 104)
    changed = run_node(RemovalConditioning, *links, condition_image="full")[0]
    assert "concat_mask" not in positive[0][1]
    assert (
        torch.equal(changed[0][0], positive[0][0]) and changed[0][1]["pooled_output"] is positive[0][1]["pooled_output"]
    )


@pytest.mark.parametrize(("pooling", "rows", "columns"), [("max", (2, 5), (3, 6)), ("nearest", (3, 5), (4, 6))])
def test_how_the_mask_meets_the_latent(tiny, vae, pooling, rows, columns):
    mask = tiny.square_mask(64, 104, (23, 40, 31, 48))
    positive, _, latent = condition(tiny, vae, picture(), mask, mask_pooling=pooling)
    expected = torch.zeros(1, 1, 64, 104)
    expected[..., 8 * rows[0] : 8 * rows[1], 8 * columns[0] : 8 * columns[1]] = 1
    assert torch.equal(shown(positive)[1], expected)
    free = torch.zeros(1, 1, 64, 104)
    free[..., 16:40, 24:48] = 1
    assert torch.equal(latent["noise_mask"], free), "part of the object is held"


def test_flux_fill_gets_every_pixel_of_the_mask(tiny, vae):
    mask = tiny.square_mask(64, 104, (23, 40, 31, 48))
    positive, _, latent = condition(tiny, vae, picture(), mask, mask_pooling="none")
    assert torch.equal(shown(positive)[1], mask[:, None])
    assert torch.equal(latent["noise_mask"], condition(tiny, vae, picture(), mask)[2]["noise_mask"])


def test_the_inpainting_model_gets_these_cells_and_a_plain_one_ignores_them(tiny, vae):
    mask = tiny.square_mask(64, 104, (17, 39, 25, 47))
    positive, _, latent = condition(tiny, vae, picture(), mask, keep_background=False)
    noise = torch.zeros_like(latent["samples"])
    call = {**positive[0][1], "noise": noise, "device": "cpu"}
    seen = tiny.sdxl(9).model.concat_cond(**call)
    assert seen.shape == (1, 5, 8, 13)
    expected = torch.zeros(8, 13)
    expected[2:5, 3:6] = 1
    assert torch.equal(seen[0, 0], expected)
    assert tiny.sdxl().model.concat_cond(**call) is None


def test_the_background_is_held_or_free(tiny, vae):
    image, mask = picture(1, 64, 64), tiny.square_mask()
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[2:5, 3:6] = False
    for keep in (True, False):
        positive, negative, latent = condition(tiny, vae, image, mask, keep_background=keep)
        guider = tiny.guider(tiny.sdxl(9), 2.0)
        guider.set_conds(positive, negative)
        result = tiny.sample(guider, latent=latent["samples"], noise_mask=latent.get("noise_mask"))
        change = (result - latent["samples"]).abs()[0].amax(dim=0)
        assert change[~outside].min() > 0.1
        assert (change[outside].max() < 1e-3) == keep


def test_one_mask_for_many_pictures_and_many_for_one(tiny, vae):
    for pictures, masks in ((3, 1), (1, 3)):
        image = picture(pictures)
        mask = torch.cat([tiny.square_mask(64, 104, (0, 8 * (i + 1), 0, 16)) for i in range(masks)])
        positive, _, latent = condition(tiny, vae, image, mask)
        assert latent["samples"].shape == (3, 4, 8, 13)
        assert shown(positive)[0].shape == (3, 4, 8, 13)
        alone, _, _ = condition(tiny, vae, image[-1:], mask[-1:])
        torch.testing.assert_close(shown(positive)[0][-1:], shown(alone)[0])
        assert torch.equal(shown(positive)[1][-1:], shown(alone)[1])


def test_two_masks_for_three_pictures(tiny, vae):
    with pytest.raises(ValueError, match=r"2 .*3 "):
        condition(tiny, vae, picture(3), tiny.square_mask(64, 104).repeat(2, 1, 1))


@pytest.mark.parametrize(("height", "width"), [(37, 53), (1, 1), (64, 60)])
def test_a_picture_that_would_lose_pixels(tiny, vae, height, width):
    mask = torch.zeros(1, 64, 64)
    mask[:, :32] = 1
    with pytest.raises(ValueError, match=f"{width}x{height}.*Crop To Mask"):
        condition(tiny, vae, picture(1, height, width), mask)


def test_pixels_that_are_no_numbers(tiny, vae):
    image = picture()
    image[0, 3, 4, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        condition(tiny, vae, image, tiny.square_mask(64, 104))


def test_masks_that_remove_nothing_or_everything(tiny, vae):
    with pytest.raises(ValueError, match="LoadImage|Load Image"):
        condition(tiny, vae, picture(), torch.zeros(1, 64, 64))
    with pytest.raises(ValueError, match="(?i)fill"):
        condition(tiny, vae, picture(), torch.ones(1, 64, 104))


def test_sampling_begins_from_the_draft_in_the_hole_and_from_the_picture_around_it(tiny, vae):
    image, mask = picture(), tiny.square_mask(64, 104, (18, 38, 26, 46))  # cells 2 to 4 and 3 to 5
    draft = 1 - image  # not only the hole is another: what lies around it must not count
    held, free = condition(tiny, vae, image, mask)[2], condition(tiny, vae, image, mask, draft=draft)[2]
    in_hole = torch.zeros(1, 1, 8, 13, dtype=torch.bool)
    in_hole[..., 2:5, 3:6] = True
    whole = vae.encode(torch.where(mask[..., None] > 0, draft, image))
    assert torch.equal(free["samples"], torch.where(in_hole, whole, vae.encode(image)))
    assert torch.equal(free["noise_mask"], held["noise_mask"])
    assert not torch.equal(whole[in_hole.expand_as(whole)], held["samples"][in_hole.expand_as(whole)])


@pytest.mark.parametrize("kind", ["full", "masked grey", "masked black"])
def test_what_the_model_sees_does_not_change_with_the_start(tiny, vae, kind):
    image, mask = picture(), tiny.square_mask(64, 104)
    for with_draft, without in zip(
        condition(tiny, vae, image, mask, kind, draft=1 - image)[:2],
        condition(tiny, vae, image, mask, kind)[:2],
        strict=True,
    ):
        assert torch.equal(shown(with_draft)[0], shown(without)[0])


def test_the_model_sees_the_draft_in_the_hole(tiny, vae):
    image, mask = picture(), tiny.square_mask(64, 104)
    positive, negative, _ = condition(tiny, vae, image, mask, "draft", draft=1 - image)
    for conditioning in (positive, negative):
        assert torch.equal(shown(conditioning)[0], vae.encode(torch.where(mask[..., None] > 0, 1 - image, image)))


def test_one_draft_for_many_masks_and_one_for_each(tiny, vae):
    image = picture(2)
    masks = torch.cat([tiny.square_mask(64, 104, (0, 8 * (i + 1), 0, 16)) for i in range(2)])
    for drafts in (1 - image[:1], 1 - image):
        _, _, latent = condition(tiny, vae, image, masks, "draft", draft=drafts)
        alone = condition(tiny, vae, image[1:], masks[1:], "draft", draft=drafts[-1:])[2]
        torch.testing.assert_close(latent["samples"][1:], alone["samples"])


@pytest.mark.parametrize(
    ("kind", "draft", "says"),
    [
        ("draft", None, "no draft is connected"),
        ("full", torch.zeros(1, 32, 104, 3), "104x32.*104x64"),
        ("full", torch.zeros(2, 64, 104, 3), "2 drafts came for 1 "),
        ("full", torch.zeros(1, 64, 104, 4), "The draft has 4 channels"),
        ("full", torch.full((1, 64, 104, 3), float("nan")), "The draft has NaN"),
    ],
)
def test_a_draft_that_does_not_fit(tiny, vae, kind, draft, says):
    with pytest.raises(ValueError, match=says):
        condition(tiny, vae, picture(), tiny.square_mask(64, 104), kind, draft=draft)


@pytest.mark.parametrize("references", ["picture", "picture and marked picture"])
def test_what_an_edit_model_is_shown(tiny, vae, references):
    from unclutter.nodes.conditioning import RemovalConditioning

    image, mask = picture(), tiny.square_mask(64, 104)
    prompts = tiny.conditioning(1), tiny.conditioning(2)
    positive, negative, _ = run_node(
        RemovalConditioning, *prompts, vae, image, mask, None, condition_image="full", references=references
    )
    marked = image.clone()
    marked[:, 16:40, 24:48] = torch.tensor([1.0, 0.0, 0.0])
    expected = [vae.encode(image), vae.encode(marked)][: 1 + ("marked" in references)]
    for prompt in (positive, negative):
        latents = prompt[0][1]["reference_latents"]
        assert len(latents) == len(expected) and all(map(torch.equal, latents, expected))
    assert "reference_latents" not in prompts[0][0][1]


def test_a_vae_of_a_family_that_also_makes_videos(tiny, comfy):
    """Wan's VAE takes a batch for the frames of one video: each picture goes through it by itself."""
    import comfy.sd

    wan = tiny.wan_vae()
    images, mask = picture(2, 64, 96), tiny.square_mask(64, 96)
    _, _, latent = condition(tiny, wan, images, mask, draft=torch.zeros(1, 64, 96, 3))
    samples, free = latent["samples"], torch.zeros(8, 12, dtype=torch.bool)
    free[2:5, 3:6] = True
    assert samples.shape == (2, 16, 1, 8, 12)
    for index in range(2):
        alone = wan.encode(images[index : index + 1])
        assert torch.equal(samples[index : index + 1][..., ~free], alone[..., ~free])
    assert isinstance(wan, comfy.sd.VAE) and not torch.equal(samples[0], samples[1])
