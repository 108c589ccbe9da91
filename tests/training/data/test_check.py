"""`unclutter data check`: what it must find, and what it must not take for a fault."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from unclutter.training.cli import main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.loader import RemovalDataset
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.settings import DrawnConfig
from unclutter.training.images.files import read_image


@pytest.fixture
def check(capsys):
    def run(folder, *options):
        code = main(["data", "check", str(folder), *options])
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def write_pair(folder, source, target, mask):
    entry = {}
    for kind, layer in (("source", source), ("target", target), ("mask", mask)):
        picture = layer if isinstance(layer, Image.Image) else Image.fromarray(np.clip(layer, 0, 255).astype(np.uint8))
        picture.save(folder / f"{kind}.png")
        entry[kind] = f"{kind}.png"
    (folder / "manifest.jsonl").write_text(json.dumps(entry))


@pytest.fixture
def photographs():
    """Two photographs of one view with a sensor's noise; an object of 1 % of the picture is in the first."""
    random = np.random.default_rng(0)
    view = random.integers(60, 200, (200, 200, 3))
    source, target = (view + random.normal(0, 3, view.shape) for _ in range(2))
    source[90:110, 90:110] = 250
    return source, target


def box(top, left, height, width):
    mask = np.zeros((200, 200), np.uint8)
    mask[top : top + height, left : left + width] = 255
    return mask


def test_noise_between_two_photographs_is_no_fault(tmp_path, photographs, check):
    write_pair(tmp_path, photographs[0], photographs[1], box(88, 88, 24, 24))
    code, output = check(tmp_path)
    assert code == 0 and "all in order" in output


def test_in_noise_a_mask_that_misses_the_object_is_found(tmp_path, photographs, check):
    write_pair(tmp_path, photographs[0], photographs[1], box(10, 10, 40, 40))
    code, output = check(tmp_path)
    assert code == 1 and "it misses the object" in output


def test_a_mask_of_another_object_is_found_though_the_effect_mask_is_right(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=1, size=64))
    entry = json.loads((tmp_path / "manifest.jsonl").read_text())
    effect = np.asarray(Image.open(tmp_path / entry["effect_mask"]).convert("L"))
    rows, columns = (effect == 0).nonzero()
    mask = np.zeros_like(effect)
    mask[rows[:200], columns[:200]] = 255
    Image.fromarray(mask).save(tmp_path / entry["mask"])
    code, output = check(tmp_path)
    assert code == 1 and "it misses the object" in output


def test_instance_masks_with_nobody_are_found(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=2, size=64, crowd=True))
    code, output = check(tmp_path, "--sheet", str(tmp_path / "sheet.png"))
    assert code == 0, output
    Image.new("L", (64, 64)).save(tmp_path / "instance_masks" / "000001.png")
    code, output = check(tmp_path)
    assert code == 1 and "1 of 2 samples" in output and "000001: instance_masks is black" in output


def test_numbers_are_taken_as_a_training_takes_them(tmp_path, check):
    """In a palette the number counts, whatever its colour."""
    draw_pairs(DrawnConfig(tmp_path, count=1, size=64, crowd=True))
    file = tmp_path / "instance_masks" / "000000.png"
    numbers = Image.open(file).convert("L")
    painted = Image.frombytes("P", numbers.size, numbers.tobytes())
    painted.putpalette([0, 0, 0] * 256)
    painted.save(file)
    code, output = check(tmp_path)
    assert code == 0, output
    painted.putpalette([255, 255, 255] * 256)
    painted.paste(0, (0, 0, *painted.size))
    painted.save(file)
    code, output = check(tmp_path)
    assert code == 1 and "instance_masks is black" in output


def test_a_target_that_still_has_the_object_is_found(tmp_path, photographs, check):
    write_pair(tmp_path, photographs[0], photographs[0], box(88, 88, 24, 24))
    code, output = check(tmp_path)
    assert code == 1 and "same picture" in output


def test_every_broken_file_of_a_sample_is_named(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=2, size=32))
    (tmp_path / "source" / "000000.png").write_bytes(b"")
    (tmp_path / "target" / "000000.png").write_text("<html>404</html>")
    (tmp_path / "mask" / "000000.png").unlink()
    effect = tmp_path / "effect_mask" / "000000.png"
    effect.write_bytes(effect.read_bytes()[:-30])
    code, output = check(tmp_path, "--sheet", str(tmp_path / "sheet.png"))
    assert code == 1 and "1 of 2 samples" in output
    for kind in ("source", "target", "mask", "effect_mask"):
        assert f"000000: {kind}: " in output
    assert read_image(tmp_path / "sheet.png").std() > 0.05


def test_a_picture_that_claims_to_be_endless_is_a_fault_like_others(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=1, size=32))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "source" / "000000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
    code, output = check(tmp_path)
    assert code == 1 and "000000: source: " in output


def test_a_picture_of_one_pixel_is_a_fault(tmp_path, check):
    write_pair(
        tmp_path, *(Image.new(mode, (1, 1), colour) for mode, colour in (("RGB", "red"), ("RGB", "blue"), ("L", 255)))
    )
    code, output = check(tmp_path)
    assert code == 1 and "the mask is full" in output


def test_an_empty_manifest_says_so(tmp_path, check):
    (tmp_path / "manifest.jsonl").write_text("\n")
    code, output = check(tmp_path)
    assert code == 1 and "holds no pairs" in output


def test_cameras_files_of_every_kind_pass_and_train(tmp_path, check):
    """A turned CMYK photograph, its target upright in RGB, a 16-bit mask."""
    lying = Image.new("CMYK", (60, 40), (0, 0, 255, 0))
    lying.paste((255, 255, 0, 0), (5, 10, 25, 30))
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright: turn it to the right
    lying.save(tmp_path / "source.jpg", exif=exif, quality=95)
    Image.new("RGB", (40, 60), "yellow").save(tmp_path / "target.png")
    mask = np.zeros((60, 40), np.uint16)
    mask[5:25, 10:30] = 65535
    Image.fromarray(mask).save(tmp_path / "mask.png")
    entry = {"source": "source.jpg", "target": "target.png", "mask": "mask.png"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry))
    code, output = check(tmp_path)
    assert code == 0, output
    item = RemovalDataset(read_manifest(tmp_path), 48, dilation=(0, 0), flip=False)[(0, 0)]
    blue = item["source"][2] > 0.5
    assert blue.any() and torch.all(item["mask"][blue] == 1)


def test_a_bad_line_does_not_hide_what_comes_after_it(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=2, size=32))
    (tmp_path / "mask" / "000001.png").write_bytes(b"")
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("{\n" + manifest.read_text() + '{"source": "source/000000.png"}\n')
    code, output = check(tmp_path)
    assert code == 1 and "1 of 2 samples" in output and "2 faults" in output
    for part in ("line 1 is no JSON", "line 4 lacks target, mask", "000001: mask: "):
        assert part in output


def test_only_bad_lines_are_told_too(tmp_path, check):
    (tmp_path / "manifest.jsonl").write_text("{\n[]\n")
    code, output = check(tmp_path)
    assert code == 1 and "line 1 is no JSON" in output and "line 2 is no object" in output
    assert "there are 2 faults of the manifest" in output and "0 of 0" not in output


def test_one_fault_is_one(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=2, size=32))
    with (tmp_path / "manifest.jsonl").open("a") as manifest:
        manifest.write("{\n")
    code, output = check(tmp_path)
    assert code == 1 and output.endswith(
        f"In {tmp_path} there is 1 fault of the manifest or the files' names: mend them, or leave these samples out.\n"
    )
    (tmp_path / "mask" / "000001.png").write_bytes(b"")
    code, output = check(tmp_path)
    assert code == 1 and f"In {tmp_path} 1 of 2 samples has something wrong and there is 1 fault of" in output


def test_pictures_that_the_manifest_leaves_out_are_told(tmp_path, check):
    draw_pairs(DrawnConfig(tmp_path, count=6, size=32))
    code, output = check(tmp_path)
    assert code == 0 and "leaves out" not in output
    draw_pairs(DrawnConfig(tmp_path, count=2, size=32))
    code, output = check(tmp_path)
    assert code == 0 and "all in order" in output
    assert "leaves out 4 of the pictures in source/ (000002.png, 000003.png, 000004.png, ...)" in output
