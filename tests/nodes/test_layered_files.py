"""Save Layers' two formats: a reader of Photoshop files finds in the .psd what the .ora holds, bit for bit."""

from __future__ import annotations

import io
import resource
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy
import psd_tools
import pytest
import torch
from PIL import Image
from psd_tools.constants import Tag

from unclutter.tests.nodes.running import run_node

HEIGHT, WIDTH = 40, 300
"""Wide enough for runs and for noise that PackBits, with its 128 bytes at a time, has to split."""


@pytest.fixture
def layers(comfy):
    """Two people over noise and plain colour; the second stands at an edge, is removed, and hides a part of the first."""
    from unclutter.kernels.layers import Layers

    draw = torch.Generator().manual_seed(0)
    background, first = (torch.rand(3, HEIGHT, WIDTH, generator=draw) for _ in range(2))
    background[:, :, 20:160] = 0.5
    masks = torch.zeros(2, HEIGHT, WIDTH)
    masks[0, 8:30, 10:200] = 1
    masks[1, 20:, 150:] = 1
    image = torch.where(masks[1] > 0, torch.tensor(0.9), torch.where(masks[0] > 0, first, background))
    return Layers(image, background, masks, masks.clone(), {0: first}, frozenset({1}), feather=3)


def save(layers, format):
    from unclutter.nodes.compose import SaveLayers

    return Path(run_node(SaveLayers, layers, filename_prefix="layered", format=format)[0])


def openraster(path):
    """The layers of an .ora from back to front: (name, visible, box), RGBA pixels; and its merged picture."""
    with zipfile.ZipFile(path) as archive:
        found = []
        for entry in reversed(ElementTree.fromstring(archive.read("stack.xml")).findall("./stack/layer")):
            picture = Image.open(io.BytesIO(archive.read(entry.attrib["src"])))
            left, top = int(entry.attrib["x"]), int(entry.attrib["y"])
            box = (left, top, left + picture.width, top + picture.height)
            found.append(((entry.get("name"), entry.get("visibility") == "visible", box), numpy.asarray(picture)))
        return found, numpy.asarray(Image.open(io.BytesIO(archive.read("mergedimage.png"))))


def test_a_psd_holds_the_layers_of_the_ora(layers):
    expected, merged = openraster(save(layers, "ora"))
    file = psd_tools.PSDImage.open(save(layers, "psd"))
    assert (file.size, file.color_mode.name, file.depth) == ((WIDTH, HEIGHT), "RGB", 8)
    found = [((layer.name, layer.visible, layer.bbox), numpy.asarray(layer.topil())) for layer in file]
    assert [entry for entry, _ in found] == [entry for entry, _ in expected]
    assert [entry[:2] for entry, _ in found] == [("Background", True), ("Person 1", True), ("Person 2", False)]
    for (_, pixels), (_, wanted) in zip(found, expected, strict=True):
        assert numpy.array_equal(pixels, wanted)
    # What a viewer shows without reading layers, and what an editor makes of them.
    assert numpy.array_equal(numpy.asarray(file.topil()), merged[..., :3])
    composed = numpy.asarray(file.composite(force=True).convert("RGB")).astype(int)
    assert abs(composed - merged[..., :3]).max() <= 1


def test_a_viewer_without_layers_opens_the_psd(layers):
    _, merged = openraster(save(layers, "ora"))
    with Image.open(save(layers, "psd")) as picture:
        assert (picture.format, picture.mode) == ("PSD", "RGB")
        assert numpy.array_equal(numpy.asarray(picture), merged[..., :3])


@pytest.mark.parametrize("width", [1, 2, 127, 128, 129, 256, 1001])
def test_every_width_is_packed(layers, width):
    """Rows that PackBits makes longer, and rows of one colour, at the widths where its codes change."""
    from unclutter.kernels.layers import Layers

    background = torch.rand(3, 4, width, generator=torch.Generator().manual_seed(width))
    background[:, 2:] = 1
    nobody = torch.zeros(1, 4, width)
    file = psd_tools.PSDImage.open(save(Layers(background, background, nobody, nobody, {}), "psd"))
    pixels = (background * 255).round().byte().movedim(0, -1).numpy()
    assert numpy.array_equal(numpy.asarray(file[0].topil())[..., :3], pixels)
    assert numpy.array_equal(numpy.asarray(file.topil()), pixels)
    assert file[1].bbox == (0, 0, 1, 1) and not numpy.asarray(file[1].topil())[..., 3].any()


def test_names_are_there_for_old_and_for_newer_programs(layers):
    """Both ways to write a name are padded, so that names of several lengths are needed to see it."""
    from unclutter.kernels.layers import Layers

    masks = torch.zeros(12, HEIGHT, WIDTH)
    crowd = Layers(layers.image, layers.background, masks, masks, {})
    people = list(psd_tools.PSDImage.open(save(crowd, "psd")))
    names = ["Background", *(f"Person {k}" for k in range(1, 13))]
    assert [layer._record.name for layer in people] == names
    assert [layer.tagged_blocks.get_data(Tag.UNICODE_LAYER_NAME) for layer in people] == names


def test_a_side_no_psd_holds_is_refused(comfy):
    from unclutter.kernels.layers import Layers

    picture, nobody = torch.zeros(3, 1, 30_001), torch.zeros(1, 1, 30_001)
    layers = Layers(picture, picture, nobody, nobody, {})
    with pytest.raises(
        ValueError, match=r"30001x1 and a PSD file holds at most 30,000 pixels a side: set format to ora"
    ):
        save(layers, "psd")
    assert save(layers, "ora").is_file()


def test_more_than_a_psd_holds_is_refused(layers, monkeypatch):
    from unclutter.adapters import layered_files

    monkeypatch.setattr(layered_files, "PSD_LARGEST_FILE", 10_000)
    with pytest.raises(ValueError, match="more than the 2 GB that a PSD file holds: set format to ora"):
        save(layers, "psd")


@pytest.mark.parametrize("format", ["ora", "psd"])
def test_a_full_disk_is_one_sentence_and_leaves_no_part(layers, format):
    whole = save(layers, format)
    there = set(whole.parent.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            OSError, match=rf"{whole.stem[:-7]}\S*\.{format} could not be written .*: make room, or give"
        ):
            save(layers, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert set(whole.parent.iterdir()) == there


def test_formats_are_counted_together(layers):
    one, two = save(layers, "psd"), save(layers, "ora")
    assert (one.suffix, two.suffix) == (".psd", ".ora")
    assert int(two.stem.split("_")[1]) == int(one.stem.split("_")[1]) + 1
