"""Draft Fill, in this process and in a real server: an object goes without any model."""

from __future__ import annotations

import pytest
import torch

from unclutter.tests.nodes.running import run_node
from unclutter.tests.nodes.test_bad_input import blank, error, nodes, solid


@pytest.fixture
def fill(comfy):
    from unclutter.nodes.draft import DraftFill

    return lambda *links, **named: run_node(DraftFill, *links, **named)[0]


def stripes(height=64, width=96, batch=1):
    """[batch,height,width,3]: vertical stripes 8 pixels wide, black and white."""
    columns = (torch.arange(width) // 8 % 2).float()
    return columns[None, None, :, None].expand(batch, height, width, 3).clone()


def marked(box, height=64, width=96):
    mask = torch.zeros(1, height, width)
    top, bottom, left, right = box
    mask[:, top:bottom, left:right] = 1
    return mask


def with_object(image, mask, color=(1.0, 0.0, 0.0)):
    return torch.where(mask[..., None] > 0, torch.tensor(color), image)


def test_a_pattern_goes_on_where_the_object_was_and_nothing_else_changes(fill):
    truth, mask = stripes(), marked((20, 44, 36, 60))
    drawn = with_object(truth, mask)
    before = drawn.clone()
    filled = fill(drawn, mask)
    outside = (mask[..., None] == 0).expand_as(drawn)
    assert torch.equal(filled[outside], drawn[outside]) and torch.equal(drawn, before)
    assert (filled - truth).abs()[~outside].mean() < 0.1 < (drawn - truth).abs()[~outside].mean()


def test_what_is_to_be_avoided_is_not_copied(fill):
    """Two red squares on grey, one to be removed: the other one is the only thing that a red patch could come from."""
    other = marked((20, 44, 8, 32))
    picture = with_object(torch.full((1, 64, 96, 3), 0.5), other)
    hole = marked((20, 44, 32, 60))  # it touches the other one, whose edge asks to go on
    avoided = fill(picture, hole, other)
    assert (avoided - 0.5).abs()[hole > 0].max() < 0.05
    assert (fill(picture, hole) - avoided).abs().max() > 0.2


def test_several_masks_to_avoid_count_together_for_one_picture(fill):
    one, two = marked((20, 44, 0, 24)), marked((20, 44, 72, 96))
    picture, hole = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(0)), marked((24, 40, 40, 56))
    both = fill(picture, hole, torch.cat([one, two]))
    assert both.shape == picture.shape and torch.equal(both, fill(picture, hole, one + two))


def test_a_blank_mask_to_avoid_bars_nothing(fill):
    """Load Image gives one of 64x64 for a picture without transparency."""
    drawn, mask = stripes(), marked((20, 44, 36, 60))
    assert torch.equal(fill(drawn, mask, torch.zeros(1, 64, 64)), fill(drawn, mask))


@pytest.mark.parametrize(("pictures", "masks"), [(3, 1), (1, 3), (3, 3)])
def test_one_mask_for_many_pictures_and_many_for_one(fill, pictures, masks):
    image = torch.rand(pictures, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    mask = torch.cat([marked((16, 32, 8 * i + 8, 8 * i + 24), 48, 64) for i in range(masks)])
    filled = fill(image, mask)
    assert filled.shape == (3, 48, 64, 3)
    for i in range(3):
        outside = (mask[min(i, masks - 1)] == 0)[..., None].expand(48, 64, 3)
        assert torch.equal(filled[i][outside], image[min(i, pictures - 1)][outside])
        assert not torch.equal(filled[i], image[min(i, pictures - 1)])


def test_the_same_seed_gives_the_same_picture(fill):
    picture = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(2))
    mask = marked((20, 44, 36, 60))
    assert torch.equal(fill(picture, mask, seed=5), fill(picture, mask, seed=5))


def test_a_picture_in_half_precision_comes_back_in_it(fill):
    drawn, mask = with_object(stripes(), marked((20, 44, 36, 60))).half(), marked((20, 44, 36, 60))
    filled = fill(drawn, mask)
    outside = (mask[..., None] == 0).expand_as(drawn)
    assert filled.dtype == torch.float16 and torch.equal(filled[outside], drawn[outside])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mask": torch.zeros(1, 64, 64)}, "Load Image"),
        ({"mask": torch.ones(1, 64, 96)}, "whole picture"),
        ({"mask": torch.ones(2, 64, 96)}, "2 masks came for 3 pictures"),
        ({"image": torch.zeros(3, 64, 96, 4)}, "4 channels"),
        ({"image": torch.full((3, 64, 96, 3), float("nan"))}, "NaN"),
        ({"avoid": torch.ones(1, 64, 96)}, "copy from"),
        ({"avoid": torch.ones(2, 64, 96)}, "2 masks of what not to copy came for 3 pictures"),
    ],
)
def test_what_cannot_be_filled(fill, change, says):
    inputs = {"image": stripes(batch=3), "mask": marked((20, 44, 36, 60)), **change}
    with pytest.raises(ValueError, match=says):
        fill(**inputs)


def draft(image, mask, **more):
    return "UnclutterDraftFill", {"image": image, "mask": mask, **more}


def graph(size=96, batch=1, **more):
    """A grey picture with a white square in the middle, filled and saved."""
    return nodes(
        picture=blank(size, size, batch),
        none=solid(0.0, size, size),
        square=solid(1.0, size // 4, size // 4),
        mask=(
            "MaskComposite",
            {"destination": ["none", 0], "source": ["square", 0], "x": size // 3, "y": size // 3, "operation": "or"},
        ),
        white=("EmptyImage", {"width": size, "height": size, "batch_size": 1, "color": 0xFFFFFF}),
        drawn=(
            "ImageCompositeMasked",
            {"destination": ["picture", 0], "source": ["white", 0], "mask": ["mask", 0]}
            | {"x": 0, "y": 0, "resize_source": False},
        ),
        draft=draft(["drawn", 0], ["mask", 0], **more),
        saved=("PreviewImage", {"images": ["draft", 0]}),
    )


def test_the_white_square_is_gone(comfy_server):
    (picture,) = comfy_server.images(comfy_server.post(graph()), "saved")
    assert (picture - 0x40 / 255).abs().max() < 2 / 255


def test_an_empty_mask_gets_a_sentence(comfy_server):
    emptied = graph()
    emptied["draft"]["inputs"]["mask"] = ["none", 0]
    assert "nothing to remove" in error(comfy_server, emptied)


def test_cancel_stops_it_and_the_next_run_is_whole(comfy_server):
    running = comfy_server.submit(graph(size=256, batch=64, seed=3))
    comfy_server.wait_for_step(running)
    comfy_server.cancel()
    with pytest.raises(RuntimeError, match="interrupted in UnclutterDraftFill"):
        comfy_server.wait(running)
    (picture,) = comfy_server.images(comfy_server.post(graph(seed=4)), "saved")
    assert (picture - 0x40 / 255).abs().max() < 2 / 255


def test_it_is_found_by_what_people_search_for(comfy_server):
    aliases = comfy_server.object_info("UnclutterDraftFill")["search_aliases"]
    assert {"remove object", "erase", "inpaint", "fill", "patchmatch", "content-aware fill"} <= set(aliases)


def sampled(conditioned):
    """A grey picture with a white square, sampled by the mini model at a denoise that leaves what it begins from."""
    drawn = {name: node for name, node in graph(size=64).items() if name != "saved"}
    sample = {"seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 0.3}
    return drawn | nodes(
        mini=("UnclutterLoadMini", {}),
        prompt=("CLIPTextEncode", {"clip": ["mini", 1], "text": ""}),
        **conditioned,
        sampled=("KSampler", {"model": ["mini", 0], **sample}),
        decoded=("VAEDecode", {"samples": ["sampled", 0], "vae": ["mini", 2]}),
        saved=("PreviewImage", {"images": ["decoded", 0]}),
    )


def brightness(comfy_server, graph):
    """Of the middle of the white square."""
    (picture,) = comfy_server.images(comfy_server.post(graph), "saved")
    return float(picture[24:34, 24:34].mean())


def test_a_sampler_with_a_noise_mask_begins_from_it(comfy_server):
    def start(picture):
        sampler = sampled(
            {
                "encoded": ("VAEEncode", {"pixels": [picture, 0], "vae": ["mini", 2]}),
                "masked": ("SetLatentNoiseMask", {"samples": ["encoded", 0], "mask": ["mask", 0]}),
            }
        )
        conditions = {"positive": ["prompt", 0], "negative": ["prompt", 0], "latent_image": ["masked", 0]}
        sampler["sampled"]["inputs"] |= conditions
        return sampler

    assert brightness(comfy_server, start("draft")) < 0.4 < 0.6 < brightness(comfy_server, start("drawn"))


def test_removal_conditioning_begins_from_it(comfy_server):
    def start(**draft):
        conditioning = {"positive": ["prompt", 0], "negative": ["prompt", 0], "vae": ["mini", 2], "image": ["drawn", 0]}
        settings = {"mask": ["mask", 0], "condition_image": "full", "mask_pooling": "max", "keep_background": True}
        sampler = sampled({"conditioned": ("UnclutterRemovalConditioning", conditioning | settings | draft)})
        for slot, name in enumerate(("positive", "negative", "latent_image")):
            sampler["sampled"]["inputs"][name] = ["conditioned", slot]
        return sampler

    shown = start(draft=["draft", 0], condition_image="draft")
    assert brightness(comfy_server, shown) < 0.4 < 0.6 < brightness(comfy_server, start())
