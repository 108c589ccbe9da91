"""Mistakes that artists make with the mask nodes, through a real server's HTTP API where a graph can make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unclutter.tests.nodes.running import run_node

PACK = Path(__file__).resolve().parents[2]
PHOTOS = PACK.parent / "shared" / "photos"

# Imports ComfyUI and the mask nodes in a fresh Python and measures the most memory it ever held (VmHWM of Linux), because
# the high water mark of the test process itself belongs to whatever test ran before.
MEMORY_SCRIPT = """
import json, re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import torch
from unclutter.nodes.masks import CropToMask, PasteBack, PrepareMask
from unclutter.tests.nodes.running import run_node

def held(name="VmHWM"):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

def remove(height, width):
    image, mask = torch.full((1, height, width, 3), 0.5), torch.zeros(1, height, width)
    mask[:, 100:150, 200:260] = 1
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run_node(PrepareMask, mask, image)
    after_prepare = held()
    Path("/proc/self/clear_refs").write_text("5")
    part, _, crop = run_node(CropToMask, image, mask, minimum=512)
    after_crop = held()
    run_node(PasteBack, 1 - part, crop)
    return after_prepare - before, after_crop - before, held() - before

remove(600, 600)
print(json.dumps(remove(4000, 6000)))
"""


def nodes(**graph: tuple[str, dict]) -> dict:
    """{name: (class type, inputs)} as a graph in API format."""
    return {
        name: {"class_type": class_type, "inputs": inputs, "_meta": {"title": name}}
        for name, (class_type, inputs) in graph.items()
    }


def blank(width: int, height: int, batch: int = 1) -> tuple[str, dict]:
    return "EmptyImage", {"width": width, "height": height, "batch_size": batch, "color": 0x404040}


def solid(value: float, width: int, height: int) -> tuple[str, dict]:
    return "SolidMask", {"value": value, "width": width, "height": height}


def paint(destination: list, source: list, x: int, y: int) -> tuple[str, dict]:
    """The mask `source` painted into the mask `destination` at x, y."""
    return "MaskComposite", {"destination": destination, "source": source, "x": x, "y": y, "operation": "or"}


def prepare(image: list, mask: list, **changed) -> tuple[str, dict]:
    values = {"grow_percent": 7.5, "grow_pixels": 0, "fill_holes": True, "min_area": 0} | changed
    return "UnclutterPrepareMask", {"image": image, "mask": mask} | values


def crop(image: list, mask: list, **changed) -> tuple[str, dict]:
    values = {"context": 0.5, "multiple": 64, "minimum": 64, "maximum": 0} | changed
    return "UnclutterCropToMask", {"image": image, "mask": mask} | values


def paste(image: list, cropped: list, **changed) -> tuple[str, dict]:
    return "UnclutterPasteBack", {
        "image": image,
        "crop": cropped,
        "feather": 8,
        "match_color": True,
        "ring": 32,
    } | changed


def invert_inside(image_name: str, mask: list, **changed) -> dict:
    """Prepare, crop, invert the crop, paste back, save."""
    image = [image_name, 0]
    return nodes(
        prepared=prepare(image, mask),
        cropped=crop(image, ["prepared", 0], **changed),
        inverted=("ImageInvert", {"image": ["cropped", 0]}),
        pasted=paste(["inverted", 0], ["cropped", 2], match_color=False),
        saved=("PreviewImage", {"images": ["pasted", 0]}),
    )


def save(path: Path, pixels: torch.Tensor) -> Path:
    from PIL import Image

    Image.fromarray((pixels * 255).round().to(torch.uint8).numpy()).save(path)
    return path


def error(server, graph: dict) -> str:
    """The first line of what the server says about a graph that must fail."""
    with pytest.raises(RuntimeError) as failure:
        server.post(graph)
    return str(failure.value).splitlines()[0]


def test_an_empty_mask(comfy_server):
    graph = nodes(image=blank(96, 80), mask=solid(0.0, 96, 80)) | invert_inside("image", ["mask", 0])
    message = error(comfy_server, graph)
    assert "UnclutterPrepareMask" in message and "empty" in message.lower()


def test_the_blank_mask_of_load_image(comfy_server, tmp_path):
    name = comfy_server.upload(save(tmp_path / "opaque.png", torch.full((70, 90, 3), 0.5)))
    graph = nodes(image=("LoadImage", {"image": name})) | invert_inside("image", ["image", 1])
    message = error(comfy_server, graph)
    assert "64×64" in message and "Load Image" in message


def test_a_mask_of_the_whole_picture(comfy_server):
    graph = nodes(image=blank(96, 80), mask=solid(1.0, 96, 80)) | invert_inside("image", ["mask", 0])
    assert "whole picture" in error(comfy_server, graph) or "fill" in error(comfy_server, graph)


def test_a_mask_that_grows_over_the_whole_picture(comfy_server):
    graph = nodes(
        image=blank(96, 80),
        nothing=solid(0.0, 96, 80),
        part=solid(1.0, 90, 74),
        mask=paint(["nothing", 0], ["part", 0], 3, 3),
        prepared=prepare(["image", 0], ["mask", 0], grow_pixels=40),
        saved=("PreviewImage", {"images": ["prepared", 1]}),
    )
    assert "lower grow_percent or grow_pixels" in error(comfy_server, graph)


def test_a_mask_that_shrinks_to_nothing(comfy_server):
    graph = nodes(
        image=blank(96, 80),
        nothing=solid(0.0, 96, 80),
        part=solid(1.0, 10, 10),
        mask=paint(["nothing", 0], ["part", 0], 30, 30),
        prepared=prepare(["image", 0], ["mask", 0], grow_pixels=-20),
        saved=("PreviewImage", {"images": ["prepared", 1]}),
    )
    assert "raise grow_percent or grow_pixels" in error(comfy_server, graph)


@pytest.mark.parametrize("opacity", [0.98, 0.6])
def test_a_mask_of_less_than_full_opacity_removes_fully(comfy_server, opacity):
    graph = nodes(
        image=blank(96, 80),
        nothing=solid(0.0, 96, 80),
        part=solid(opacity, 30, 30),
        mask=paint(["nothing", 0], ["part", 0], 30, 30),
        prepared=prepare(["image", 0], ["mask", 0], grow_percent=0.0),
        picture=("MaskToImage", {"mask": ["prepared", 0]}),
        saved=("PreviewImage", {"images": ["picture", 0]}),
    )
    # MaskComposite's "or" rounds to 0 and 1; "add" keeps the opacity.
    graph["mask"]["inputs"]["operation"] = "add"
    prepared = comfy_server.images(comfy_server.post(graph))[0, ..., 0]
    assert prepared[30:60, 30:60].min() == 1 and prepared.sum() == 30 * 30


def test_a_mask_of_another_size(comfy_server):
    graph = nodes(
        image=blank(192, 160),
        nothing=solid(0.0, 96, 80),
        part=solid(1.0, 10, 20),
        mask=paint(["nothing", 0], ["part", 0], 40, 20),
        prepared=prepare(["image", 0], ["mask", 0], grow_percent=0.0),
        picture=("MaskToImage", {"mask": ["prepared", 0]}),
        saved=("PreviewImage", {"images": ["picture", 0]}),
    )
    prepared = comfy_server.images(comfy_server.post(graph))[0, ..., 0]
    assert prepared.shape == (160, 192)
    assert prepared[40:80, 80:100].min() == 1 and prepared.sum() == 20 * 40


@pytest.mark.parametrize(("pictures", "masks", "rows"), [(3, 1, 3), (1, 3, 3), (2, 2, 2)])
def test_one_mask_for_many_pictures_and_many_for_one(comfy_server, pictures, masks, rows):
    graph = batch_graph(pictures, masks)
    assert len(comfy_server.images(comfy_server.post(graph))) == rows


def test_two_masks_for_three_pictures(comfy_server):
    message = error(comfy_server, batch_graph(3, 2))
    assert "2" in message and "3" in message and "mask" in message


def batch_graph(pictures: int, masks: int) -> dict:
    """`pictures` grey pictures and `masks` masks through the whole pack of mask nodes."""
    return nodes(
        image=blank(96, 80, batch=pictures),
        nothing=solid(0.0, 96, 80),
        part=solid(1.0, 20, 20),
        painted=paint(["nothing", 0], ["part", 0], 30, 30),
        as_image=("MaskToImage", {"mask": ["painted", 0]}),
        repeated=("RepeatImageBatch", {"image": ["as_image", 0], "amount": masks}),
        mask=("ImageToMask", {"image": ["repeated", 0], "channel": "red"}),
    ) | invert_inside("image", ["mask", 0])


@pytest.mark.parametrize(("height", "width"), [(53, 37), (37, 53)])
def test_a_very_small_picture(comfy_server, height, width):
    graph = nodes(
        image=blank(width, height),
        nothing=solid(0.0, width, height),
        part=solid(1.0, 8, 8),
        mask=paint(["nothing", 0], ["part", 0], 14, 14),
    ) | invert_inside("image", ["mask", 0], minimum=512)
    (pasted,) = comfy_server.images(comfy_server.post(graph))
    assert pasted.shape == (height, width, 3)
    assert (pasted[0, 0] * 255).round().unique().tolist() == [64]
    assert (pasted[17, 17] * 255 - 191).abs().max() < 1.5


def test_a_picture_of_one_pixel(comfy_server):
    for value, what in ((1.0, "fill"), (0.0, "empty")):
        graph = nodes(image=blank(1, 1), mask=solid(value, 1, 1)) | invert_inside("image", ["mask", 0])
        message = error(comfy_server, graph)
        assert "UnclutterPrepareMask" in message and what in message.lower()


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("prepared", {"grow_percent": -1e9}),
        ("prepared", {"grow_pixels": 10**6}),
        ("prepared", {"min_area": -1}),
        ("cropped", {"context": -0.5}),
        ("cropped", {"multiple": 0}),
        ("cropped", {"minimum": -512}),
        ("cropped", {"maximum": 10**9}),
        ("pasted", {"feather": -3}),
        ("pasted", {"ring": 0}),
    ],
)
def test_negative_and_absurd_parameters_are_refused(comfy_server, node, inputs):
    graph = batch_graph(1, 1)
    graph[node]["inputs"] |= inputs
    message = error(comfy_server, graph)
    assert "refused" in message and next(iter(inputs)) in message


def test_a_graph_of_which_a_part_is_refused_is_no_success(comfy_server):
    graph = batch_graph(1, 1) | nodes(untouched=("PreviewImage", {"images": ["image", 0]}))
    graph["pasted"]["inputs"]["ring"] = 0
    message = error(comfy_server, graph)
    assert "part of the graph was refused" in message and "ring" in message


def test_a_mask_painted_too_faintly(comfy_server):
    graph = nodes(
        image=blank(96, 80),
        nothing=solid(0.0, 96, 80),
        part=solid(0.4, 30, 30),
        mask=paint(["nothing", 0], ["part", 0], 30, 30),
    ) | invert_inside("image", ["mask", 0])
    graph["mask"]["inputs"]["operation"] = "add"
    assert "its largest value is 0.4, and 0.5 and above counts" in error(comfy_server, graph)


def test_a_maximum_below_the_minimum(comfy_server):
    graph = batch_graph(1, 1)
    graph["cropped"]["inputs"] |= {"minimum": 512, "maximum": 256}
    message = error(comfy_server, graph)
    assert "256" in message and "512" in message


def test_a_minimum_area_above_every_part(comfy_server):
    graph = batch_graph(1, 1)
    graph["prepared"]["inputs"]["min_area"] = 401
    assert "lower min_area" in error(comfy_server, graph)


def test_a_picture_with_alpha(comfy_server):
    graph = batch_graph(1, 1) | nodes(
        transparent=("JoinImageWithAlpha", {"image": ["image", 0], "alpha": ["painted", 0]}),
    )
    graph["prepared"]["inputs"]["image"] = ["transparent", 0]
    message = error(comfy_server, graph)
    assert "4 channels" in message and "RGB" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_no_numbers(comfy, value):
    from unclutter.nodes.masks import CropToMask, PasteBack, PrepareMask

    image, mask = torch.full((1, 80, 90, 3), 0.5), torch.zeros(1, 80, 90)
    mask[:, 30:50, 30:50] = 1
    part, _, cropped = run_node(CropToMask, image, mask, minimum=64)
    broken_image, broken_mask, broken_part = image.clone(), mask.clone(), part.clone()
    for broken in (broken_image, broken_mask, broken_part):
        broken[:, 5, 5] = value
    with pytest.raises(ValueError, match="NaN"):
        run_node(PrepareMask, mask, broken_image)
    with pytest.raises(ValueError, match="NaN"):
        run_node(PrepareMask, broken_mask, image)
    with pytest.raises(ValueError, match="NaN"):
        run_node(CropToMask, broken_image, mask, minimum=64)
    with pytest.raises(ValueError, match="NaN"):
        run_node(PasteBack, broken_part, cropped)


def test_a_mask_without_a_batch_dimension(comfy):
    from unclutter.nodes.masks import CropToMask, PrepareMask, SplitInstances

    image, mask = torch.full((1, 80, 90, 3), 0.5), torch.zeros(80, 90)
    mask[30:50, 30:50] = 1
    assert run_node(PrepareMask, mask, image, grow_percent=0.0)[0].shape == (1, 80, 90)
    assert run_node(CropToMask, image, mask, minimum=64)[1].sum() == 400
    assert run_node(SplitInstances, mask)[0].shape == (1, 80, 90)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory of a process as Linux shows it")
def test_memory_follows_the_mask_and_not_the_picture(comfyui_path):
    # Large blocks go back to the system when they are freed, so that what is measured is what the nodes hold.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(comfyui_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    prepare_cost, crop_cost, whole_cost = json.loads(run.stdout.splitlines()[-1])
    picture, mask = 4000 * 6000 * 3 * 4 / 2**20, 4000 * 6000 * 4 / 2**20
    # The preview, the mask, and two copies of the mask on the way; a whole picture more would be too much.
    assert prepare_cost < picture + 3 * mask, "preparing took more than the preview and the mask that come out"
    assert crop_cost < picture, "cropping a small part took as much memory as the picture"
    assert whole_cost < picture + 3 * mask, "pasting took more than the picture that comes out"


@pytest.mark.parametrize("photo", ["bench", "doorway"])
def test_a_photo_goes_there_and_back_through_the_server(comfy_server, photo):
    if not (PHOTOS / f"{photo}.jpg").exists():
        pytest.skip(f"no photos in {PHOTOS}")
    graph = nodes(
        image=("LoadImage", {"image": comfy_server.upload(PHOTOS / f"{photo}.jpg")}),
        mask=("LoadImageMask", {"image": comfy_server.upload(PHOTOS / f"{photo}_mask.png"), "channel": "red"}),
        original=("PreviewImage", {"images": ["image", 0]}),
        prepared_image=("MaskToImage", {"mask": ["prepared", 0]}),
        prepared_saved=("PreviewImage", {"images": ["prepared_image", 0]}),
    ) | invert_inside("image", ["mask", 0])
    outputs = comfy_server.post(graph)
    original = comfy_server.images(outputs, "original")[0]
    pasted = comfy_server.images(outputs, "saved")[0]
    prepared = comfy_server.images(outputs, "prepared_saved")[:, None, :, :, 0]
    band = torch.nn.functional.max_pool2d(prepared, 17, stride=1, padding=8)[0, 0]
    assert torch.equal(pasted[band == 0], original[band == 0])
    assert torch.allclose(pasted[prepared[0, 0] > 0], 1 - original[prepared[0, 0] > 0], atol=1 / 128)


FRAMES, EMPTY = 3, 1


def film():
    """Three pictures, and masks of which the second marks nothing."""
    images = torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(FRAMES, 64, 64)
    masks[:, 20:40, 24:44] = 1
    masks[EMPTY] = 0
    return images, masks


@torch.inference_mode()
def test_an_empty_mask_among_others_leaves_its_picture_as_it_is(comfy, caplog):
    from unclutter.nodes.attention import AttentiveEraser, SelfRectifyingAttention
    from unclutter.nodes.conditioning import RemovalConditioning
    from unclutter.nodes.draft import DraftFill
    from unclutter.nodes.guidance import MASGGuider
    from unclutter.nodes.masks import CropToMask, PasteBack, PrepareMask
    from unclutter.nodes.remove import RemoveObject
    from unclutter.tests.nodes import tiny

    images, masks = film()
    with pytest.raises(ValueError, match="Mask 2 of 3 is empty"):
        run_node(PrepareMask, masks, images)
    with pytest.raises(ValueError, match="blank"):
        run_node(PrepareMask, torch.zeros_like(masks), images, skip_empty=True)
    prepared, preview = run_node(PrepareMask, masks, images, skip_empty=True)
    assert "Mask 2 of 3 is empty, and its picture comes out unchanged" in caplog.text
    assert not prepared[EMPTY].any() and torch.equal(preview[EMPTY], images[EMPTY])
    assert torch.equal(run_node(DraftFill, images, prepared)[0][EMPTY], images[EMPTY])
    part, hole, crop = run_node(CropToMask, images, prepared, minimum=64)
    model, prompts = tiny.sdxl(9), (tiny.conditioning(1), tiny.conditioning(2))
    positive, negative, latent = run_node(RemovalConditioning, *prompts, tiny.vae(), part, hole)
    assert not latent["noise_mask"][EMPTY].any()
    for patch in (
        lambda m: run_node(AttentiveEraser, m, hole, suppression=1.0, suppression_steps=0.0, layers="all")[0],
        lambda m: run_node(SelfRectifyingAttention, m, hole)[0],
    ):
        results = []
        for patched in (patch(model), model):
            guider, _ = run_node(MASGGuider, patched, positive, negative, hole, mask_scale=9.0, schedule="constant")
            results.append(tiny.sample(guider, 1, latent=torch.zeros(FRAMES, 4, 8, 8)))
        changed = (results[0] - results[1]).flatten(1).abs().amax(dim=1)
        assert changed[EMPTY] < 1e-3 * changed[0]
    pasted = run_node(PasteBack, torch.zeros_like(part), crop)[0]
    assert torch.equal(pasted[EMPTY], images[EMPTY]) and not torch.equal(pasted[0], images[0])
    settings = {"seed": 0, "steps": 0, "strength": 1.0, "grow_percent": 7.5, "background": "", "negative_text": ""}
    settings |= {"denoise": 0.0, "resolution": 0, "context": 0.5, "feather": 8, "sampler_name": "euler"}
    result, removed, _ = run_node(RemoveObject, images, masks, method="draft", scheduler="simple", **settings)
    assert torch.equal(result[EMPTY], images[EMPTY]) and not removed[EMPTY].any() and removed[0].any()
    with pytest.raises(ValueError, match="Mask 2 of 3 is empty"):
        run_node(RemoveObject, images, masks, method="draft", scheduler="simple", skip_empty=False, **settings)


def test_a_mask_of_another_shape_is_refused_wherever_a_picture_is_there(comfy):
    from unclutter.nodes.conditioning import RemovalConditioning
    from unclutter.nodes.masks import CropToMask, PrepareMask
    from unclutter.tests.nodes import tiny

    image, mask = torch.rand(1, 96, 128, 3), torch.zeros(1, 256, 192)
    mask[:, 60:90, 60:90] = 1
    prompts, vae = (tiny.conditioning(1), tiny.conditioning(2)), tiny.vae()
    for run in (
        lambda: run_node(PrepareMask, mask, image),
        lambda: run_node(CropToMask, image, mask, minimum=64),
        lambda: run_node(RemovalConditioning, *prompts, vae, image, mask, condition_image="full"),
    ):
        with pytest.raises(
            ValueError, match="192x256 and the picture 128x96, another shape.*before its EXIF data turned it"
        ):
            run()
    assert run_node(CropToMask, image, mask.mT, minimum=64)[1].any()  # the same one, turned as well
