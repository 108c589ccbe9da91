"""Compose Layers and Save Layers: any subset of people, pixels that stay, and a file that other programs open."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy
import pytest
import torch
from PIL import Image

from unclutter.tests.nodes.running import run_node

SIZE = 48
BOXES = {0: (4, 20, 4, 20), 1: (12, 36, 14, 30), 2: (4, 20, 36, 46)}
"""Person 1 hides a corner of person 0; person 2 stands alone."""


@pytest.fixture
def layers(comfy):
    """A picture in which everybody's true layer is known: a plain colour each, over a dark ground."""
    from unclutter.kernels.layers import Layers

    masks = torch.zeros(3, SIZE, SIZE)
    for k, (top, bottom, left, right) in BOXES.items():
        masks[k, top:bottom, left:right] = 1
    colors = torch.eye(3)[:, :, None, None].expand(3, 3, SIZE, SIZE)
    background = torch.full((3, SIZE, SIZE), 0.2)
    image = background.clone()
    for color, mask in zip(colors, masks, strict=True):
        image = torch.where(mask > 0, color, image)
    noise = 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return Layers((image + noise).clamp(0, 1), background, masks, masks.clone(), {0: colors[0], 1: colors[1]})


def compose(layers, remove="all", order="", feather=0, **more):
    from unclutter.nodes.compose import ComposeLayers

    return run_node(ComposeLayers, layers, remove=remove, order=order, feather=feather, **more)


@pytest.mark.parametrize("remove", ["none", "1", "2", "3", "1, 2", "1-3", "all but 1", "2;3"])
def test_any_subset_shows_the_true_scene(layers, remove):
    from unclutter.kernels.people import parse_people

    (image,), (area,), *_ = compose(layers, remove)
    gone = parse_people(remove, 3, "remove")
    expected = layers.background
    for k in (0, 1, 2):
        if k not in gone:
            expected = torch.where(layers.masks[k] > 0, torch.eye(3)[k][:, None, None], expected)
    assert (image.movedim(-1, 0) - expected).abs().max() < 0.1
    assert bool(area.any()) == bool(gone)


@pytest.mark.parametrize("feather", [0, 1, 4])
@pytest.mark.parametrize("remove", [1, 2, 3])
def test_those_who_stay_keep_their_own_pixels(layers, remove, feather):
    from unclutter.kernels.layers import visible_masks
    from unclutter.kernels.regions import feather as soften

    (image,), (area,), *_ = compose(layers, str(remove), feather=feather)
    picture, gone = layers.image.movedim(0, -1), remove - 1
    kept = visible_masks(layers.masks)
    kept[gone] = 0
    # Close up to the removed person too: a border is soft outwards, over the ground.
    same = (kept.amax(dim=0) > 0) | (soften(layers.masks[gone : gone + 1], feather)[0] == 0)
    assert torch.equal(image[same], picture[same])
    assert not torch.isclose(image[~same], picture[~same]).all(dim=-1).any()
    assert area[visible_masks(layers.masks)[gone] > 0].all()


def test_nothing_removed_is_the_picture(layers):
    (image,), (area,), *_ = compose(layers, "none", feather=4)
    assert torch.equal(image, layers.image.movedim(0, -1))
    assert not area.any()


def test_what_is_filled_may_be_wider_than_the_mask(layers):
    layers.holes[2, 2:22, 34:48] = 1
    (image,), (area,), *_ = compose(layers, "3")
    assert torch.equal(area, layers.holes[2])
    assert torch.allclose(image[2:22, 34:48], torch.tensor(0.2))


@pytest.mark.parametrize(("words", "gone"), [("3-1", {0, 1, 2}), ("3 - 2", {1, 2}), ("all but 3-2", {0})])
def test_a_range_may_be_written_from_either_end(layers, words, gone):
    assert compose(layers, words)[3].removed == gone
    assert compose(layers, order="3-1")[3].order == (2, 1, 0)


def widen(layers, pixels=3):
    from unclutter.kernels.regions import grow

    layers.holes[:] = grow(layers.masks, pixels)
    return layers


@pytest.mark.parametrize("feather", [0, 4])
def test_who_is_only_near_stays_as_they_are_and_needs_no_layer(layers, feather):
    layers.masks[1, :, :20] = 0  # beside person 0 now, in front of nobody
    layers.masks[1, :20] = 0
    layers.generated.clear()
    (image,), (area,), *_ = compose(widen(layers), "2", feather=feather)
    picture, stay = layers.image.movedim(0, -1), layers.masks[0] > 0
    assert (layers.holes[1] * layers.masks[0]).any()
    assert torch.equal(image[stay], picture[stay]) and not area[stay].any()
    filled = (layers.holes[1] > 0) & ~stay
    assert area[filled].all() and torch.equal(image[filled], layers.background.movedim(0, -1)[filled])


def test_the_order_says_who_hides_whom(layers):
    corner = (16, 17)
    front = compose(layers, "3")[0][0][corner]
    back = compose(layers, "3", order="2, 1, 3")[0][0][corner]
    assert front.argmax() == 1
    # Person 0 in front is whom the picture shows there, were it true: the pixels of the picture.
    assert torch.equal(back, layers.image[:, corner[0], corner[1]])
    depth = torch.zeros(1, 12, 12, 3)
    depth[:, :5, :5] = 1
    *_, ordered = compose(layers, depth=depth)
    assert ordered.order[-1] == 0


def test_a_depth_map_of_another_shape_or_words_are_no_order(layers):
    with pytest.raises(ValueError, match="The depth map is 60x12 and the picture or its masks"):
        compose(layers, depth=torch.zeros(1, 12, 60, 3))
    with pytest.raises(ValueError, match="order is 'front': write numbers such as 2, 3 or 1-3[.]$"):
        compose(layers, order="front")


def test_a_mask_points_at_people(layers):
    pointer = torch.zeros(1, SIZE, SIZE)
    pointer[:, 30:34, 20:24] = 1
    assert compose(layers, pointer=pointer)[3].removed == {1}
    pointer[:, 6:18, 38:46] = 1
    assert compose(layers, "none", pointer=pointer)[3].removed == {1, 2}
    everybody = layers.masks.amax(dim=0, keepdim=True)
    assert compose(layers, pointer=everybody)[3].removed == {0, 1, 2}
    pointer[:, 44:48, 0:4] = 1
    with pytest.raises(ValueError, match="lies on nobody"):
        compose(layers, pointer=pointer)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"remove": "4"}, "remove names person 4 and the masks mark 3 people: give numbers from 1 to 3"),
        ({"remove": "0"}, "remove names person 0 and the masks mark 3 people"),
        ({"remove": "the tall one"}, "write numbers such as 2, 3 or 1-3"),
        ({"remove": "all 2"}, "remove is 'all 2': write numbers such as 2, 3 or 1-3, or all, all but 1, or none"),
        ({"remove": "all but"}, "remove is 'all but': write"),
        ({"remove": "all but me"}, "remove is 'all but me': write"),
        ({"order": "1, 2"}, "give each of 1 to 3 once"),
        ({"order": "1, 1, 2"}, "give each of 1 to 3 once"),
    ],
)
def test_people_who_do_not_exist_are_named(layers, words, message):
    with pytest.raises(ValueError, match=message):
        compose(layers, **words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"remove": "2"}, "^remove names person 2 and the masks mark 1 person: give 1[.]$"),
        ({"order": "2"}, "^order is '2' and the masks mark 1 person: leave it empty[.]$"),
    ],
)
def test_one_person_is_no_range(layers, words, message):
    alone = dataclasses.replace(layers, masks=layers.masks[:1], holes=layers.holes[:1])
    assert compose(alone, "1", order="1")[3].removed == {0}
    with pytest.raises(ValueError, match=message):
        compose(alone, **words)


def test_a_layer_that_was_not_computed_is_asked_for(layers):
    layers.generated.clear()
    compose(layers, "1")
    compose(layers, "1, 2")
    with pytest.raises(ValueError, match="hides a part of person 1, who has no layer"):
        compose(layers, "2")


def test_rgba_is_the_background_and_each_person(layers):
    rgba = compose(layers, "2", feather=2)[2]
    assert rgba.shape == (4, SIZE, SIZE, 4)
    assert bool((rgba[0, ..., 3] == 1).all())
    assert bool((rgba[1:, ..., 3][layers.masks > 0] == 1).all())
    # The hidden corner of person 0 comes from its layer, and its soft border takes nothing of person 1 along.
    assert rgba[1, 16, 17, :3].argmax() == 0
    assert rgba[1, 21, 18, 3] == 0
    assert 0 < rgba[1, 20, 8, 3] < 1


def test_half_precision_pictures_stay_half_precision(layers):
    """Values in half precision, as ComfyUI hands them on under --fp16-intermediates."""
    expected = compose(layers, "2", feather=3)
    half = dataclasses.replace(
        layers,
        image=layers.image.half(),
        background=layers.background.half(),
        generated={k: layer.half() for k, layer in layers.generated.items()},
    )
    image, area, rgba, composed = compose(half, "2", feather=3)
    assert image.dtype == rgba.dtype == torch.float16
    assert torch.equal(area, expected[1])
    torch.testing.assert_close(image.float(), expected[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(rgba.float(), expected[2], rtol=0, atol=2e-3)
    assert save(composed, "half").is_file()


def save(layers, prefix="layers"):
    from unclutter.nodes.compose import SaveLayers

    return Path(run_node(SaveLayers, layers, filename_prefix=prefix)[0])


def opened(archive, name):
    with archive.open(name) as file:
        picture = Image.open(io.BytesIO(file.read()))
        assert picture.format == "PNG"
        return picture


def test_the_saved_file_is_openraster(layers):
    composed = compose(layers, "2", feather=2)
    path = save(composed[3], "layers/crowd")
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type, archive.read("mimetype")) == (
            "mimetype",
            zipfile.ZIP_STORED,
            b"image/openraster",
        )
        root = ElementTree.fromstring(archive.read("stack.xml"))
        assert (root.tag, root.get("w"), root.get("h")) == ("image", str(SIZE), str(SIZE))
        entries = root.findall("./stack/layer")
        assert [entry.get("name") for entry in entries] == ["Person 3", "Person 2", "Person 1", "Background"]
        canvas = Image.new("RGBA", (SIZE, SIZE))
        for entry in reversed(entries):
            assert entry.get("composite-op") == "svg:src-over"
            if entry.get("visibility") == "visible":
                canvas.alpha_composite(
                    opened(archive, entry.attrib["src"]), (int(entry.attrib["x"]), int(entry.attrib["y"]))
                )
        merged = opened(archive, "mergedimage.png")
        thumbnail = opened(archive, "Thumbnails/thumbnail.png")
    assert max(thumbnail.size) <= 256
    assert numpy.array_equal(numpy.asarray(canvas), numpy.asarray(merged))
    assert [entry.get("visibility") for entry in entries] == ["visible", "hidden", "visible", "visible"]


@pytest.mark.parametrize("wider", [0, 3])
@pytest.mark.parametrize("feather", [0, 1, 4])
@pytest.mark.parametrize("remove", ["none", "1", "2", "3", "1, 3", "2, 3"])
def test_an_editor_shows_those_who_stay_as_compose_layers_does(layers, remove, feather, wider):
    (image,), _, _, composed = compose(widen(layers, wider), remove, feather=feather)
    with zipfile.ZipFile(save(composed)) as archive:
        merged = torch.from_numpy(numpy.asarray(opened(archive, "mergedimage.png"))[..., :3].copy())
    inside = layers.masks[[k for k in range(3) if k not in composed.removed]].amax(dim=0) > 0
    assert torch.equal(merged[inside], (image[inside] * 255).round().byte())


def flattened(layers):
    with zipfile.ZipFile(save(layers)) as archive:
        return torch.from_numpy(numpy.asarray(opened(archive, "mergedimage.png"))[..., :3] / 255)


def test_everyone_visible_is_the_picture_again(layers):
    inside = layers.masks.amax(dim=0) > 0
    assert (flattened(layers) - layers.image.movedim(0, -1))[inside].abs().max() < 1 / 255


@pytest.mark.parametrize("order", ["", "3, 2, 1"])
@pytest.mark.parametrize("remove", ["none", "1", "2", "3", "1, 3", "2, 3", "all"])
def test_with_no_soft_border_an_editor_shows_all_that_compose_layers_does(layers, remove, order):
    """The margin of a hole around its mask is filled for people who are removed, and stays the picture's for the others."""
    (image,), *_, composed = compose(widen(layers, 5), remove, order)
    assert (layers.holes.sum(dim=0) > 1).any()
    assert (flattened(composed) - image).abs().max() <= 0.5 / 255 + 1e-6


def test_files_are_counted_on_and_leave_nothing_half_written(layers):
    one, two = save(layers, "again"), save(layers, "again")
    assert (one.name, two.name) == ("again_00001_.ora", "again_00002_.ora")
    assert sorted(path.name for path in one.parent.glob("again*")) == [one.name, two.name]


@pytest.mark.parametrize("prefix", ["", "people/", "people/ "])
def test_a_name_that_is_only_a_folder_is_counted_on_too(layers, prefix):
    one, two = save(layers, prefix), save(layers, prefix)
    assert one.name.startswith("layers_") and one != two and one.exists() and two.exists()


@pytest.mark.parametrize("prefix", ["a\0b", "x" * 300, "folder/" + "ü" * 150, "\ud800"])
def test_a_name_that_no_file_can_have_is_one_sentence(layers, prefix):
    with pytest.raises(
        ValueError, match="^filename_prefix is .*, of which a part (holds NUL|is 30.* bytes long|is 300 bytes long)"
    ):
        save(layers, prefix)


def test_a_person_wholly_hidden_can_be_saved(layers):
    layers.masks[0] = 0
    layers.masks[0, 20:24, 18:22] = 1
    layers.holes[0] = layers.masks[0]
    layers.generated.clear()
    with zipfile.ZipFile(save(layers, "hidden")) as archive:
        assert opened(archive, "data/person1.png").size == (1, 1)
