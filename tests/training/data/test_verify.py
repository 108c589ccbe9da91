"""`unclutter data verify`: which edits pass, what is written of them, and how it goes on after a stop."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from PIL import Image, ImageDraw

from unclutter.training.data.check import check_data
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.settings import CheckConfig, Constants, VerifyConfig
from unclutter.training.data.verify import verify_pairs
from unclutter.training.images.files import read_image, read_mask

PHOTOS = Path(__file__).parents[4] / "shared" / "photos"
SIZE = 96
BALL, SHADOW = (30, 20, 60, 50), (30, 52, 75, 62)
SMALL = Constants(min_area=60, max_hole_area=20, disk_radius=1)


def scene(*boxes, size=SIZE):
    """A striped floor; the first box is a ball, the others darken it."""
    stripes = (140 + 30 * np.sin(np.arange(size) / 5)).astype(np.uint8)
    picture = Image.fromarray(np.broadcast_to(stripes[:, None, None], (size, size, 3)).copy())
    for box in boxes[1:]:
        left, top, right, bottom = box
        picture.paste(picture.crop(box).point(lambda value: value * 0.7), (left, top, right, bottom))
    if boxes:
        ImageDraw.Draw(picture).rectangle((*boxes[0][:2], boxes[0][2] - 1, boxes[0][3] - 1), fill=(200, 50, 40))
    return picture


def add_edit(root, name, shot, background, instruction="Remove the ball."):
    for folder, picture in (("shot", shot), ("bg", background)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if picture is not None:
            picture.save(root / folder / f"{name}.png")
    file = root / "prompts.json"
    prompts = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(prompts | {name: instruction}))


@pytest.fixture
def config(tmp_path):
    root = tmp_path / "edits"
    add_edit(root, "ball", scene(BALL, SHADOW), scene())
    add_edit(root, "same", scene(BALL, SHADOW), scene(BALL, SHADOW))
    add_edit(root, "bare", scene(BALL), scene())
    return VerifyConfig(root, tmp_path / "out", constants=SMALL, workers=1)


def report(config):
    lines = (config.output / "report.jsonl").read_text().splitlines()
    return {entry["name"]: entry for entry in map(json.loads, lines)}


def reasons(config):
    return {name: entry["reason"] for name, entry in report(config).items()}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def inside(mask, box):
    left, top, right, bottom = box
    return mask[top:bottom, left:right]


def with_boxes(config, boxes):
    file = config.output.with_name("boxes.jsonl")
    file.write_text("".join(json.dumps({"name": name, "boxes": found}) + "\n" for name, found in boxes.items()))
    return replace(config, boxes=file)


def with_masks(config, masks):
    folder = config.output.with_name("objects")
    folder.mkdir()
    for name, box in masks.items():
        mask = Image.new("L", (SIZE, SIZE))
        mask.paste(255, box)
        mask.save(folder / f"{name}.png")
    return replace(config, masks=folder)


def test_a_pair_that_passes_has_a_mask_of_object_and_shadow(config, capsys):
    verify_pairs(config)
    output = capsys.readouterr().out
    assert "2 of 3 pairs passed" in output and "no_change: 1 rejected" in output
    assert "No detector and no boxes: the difference alone decided" in output and "680,088 edits" in output
    ball = {sample.name: sample for sample in read_manifest(config.output)}["ball"]
    assert ball.effect_mask is not None
    mask = read_mask(ball.effect_mask)[0]
    assert inside(mask, BALL).mean() > 0.95 and inside(mask, SHADOW).mean() > 0.9 and mask.mean() < 0.25
    assert torch.equal(read_image(ball.source), read_image(config.edits / "shot/ball.png"))
    assert torch.equal(read_image(ball.target), read_image(config.edits / "bg/ball.png"))
    check_data(CheckConfig(config.output))
    assert read_image(config.output / "sheet.jpg").std() > 0.05


def test_both_directions_of_an_edit_give_one_pair(config, tmp_path):
    lines = [
        {"name": "added", "before": "edits/bg/ball.png", "after": "edits/shot/ball.png", "direction": "add"},
        {"name": "removed", "before": "edits/shot/ball.png", "after": "edits/bg/ball.png", "direction": "remove"},
    ]
    listed = tmp_path / "edits.jsonl"
    listed.write_text("".join(json.dumps(line | {"instruction": "the ball"}) + "\n" for line in lines))
    verify_pairs(replace(config, edits=listed))
    added, removed = read_manifest(config.output)
    for kind in ("source", "target", "effect_mask"):
        assert getattr(added, kind).read_bytes() == getattr(removed, kind).read_bytes()
    assert torch.equal(read_image(added.source), read_image(config.edits / "shot/ball.png"))


def test_workers_and_a_stop_in_between_change_no_byte(config, capsys):
    verify_pairs(config)
    whole = contents(config.output)
    verify_pairs(replace(config, output=config.output.with_name("two"), workers=2))
    assert contents(config.output.with_name("two")) == whole
    # Killed while it wrote the second line; of the first pair a picture was lost.
    lines = (config.output / "report.jsonl").read_text().splitlines(keepends=True)
    (config.output / "report.jsonl").write_text(lines[0] + lines[2] + lines[1][:40])
    (config.output / "effect_mask" / "ball.png").unlink()
    capsys.readouterr()
    verify_pairs(config)
    assert contents(config.output) == whole
    assert "2 new in" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [1, 2])
def test_without_its_networks_nothing_is_written(config, monkeypatch, workers):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="detector nobody/none is not in the cache"):
        verify_pairs(replace(config, detector="nobody/none", workers=workers))
    assert not config.output.exists()


def test_ray_gives_the_same_bytes(config):
    ray = pytest.importorskip("ray")
    verify_pairs(config)
    try:
        verify_pairs(replace(config, output=config.output.with_name("ray"), engine="ray", workers=1))
    finally:
        ray.shutdown()
    assert contents(config.output.with_name("ray")) == contents(config.output)


def test_without_ray_the_engine_says_what_to_install(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="scale extra"):
        verify_pairs(replace(config, engine="ray"))


def test_boxes_and_masks_in_files_decide_and_find_the_pairs_of_phase_2(config, capsys):
    around = [25, 15, 70, 62]
    config = with_boxes(config, {"ball": [[*around, 0.9], [0, 0, 9, 9, 0.5]], "bare": [[*BALL, 0.8]], "same": []})
    config = with_masks(config, {"ball": BALL, "bare": BALL, "same": BALL})
    verify_pairs(config)
    assert "No " not in capsys.readouterr().out
    entries = report(config)
    assert entries["ball"]["phase2"] and not entries["bare"]["phase2"]
    # 450 pixels of shadow and the ring that the mask grew by, over the ball's 900 grown to 1080.
    assert 450 / 1080 < entries["ball"]["effect_ratio"] < 0.6 and entries["bare"]["effect_ratio"] == 0
    (sample,) = read_manifest(config.output / "phase2")
    assert sample.name == "ball" and [each.name for each in read_manifest(config.output)] == ["ball", "bare"]
    core = read_mask(sample.mask)[0]
    assert inside(core, BALL).all() and core.sum() == 900


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        ([[*BALL, 0.2]], "nothing_named"),
        ([[0, 70, 20, 90]], "no_match"),
        ([[35, 25, 45, 35]], "background_collapse"),
        ([[30, 20, 60, 33]], "overflow"),
        ([[0, 0, 5, 5, 0.9], [0, 80, 5, 85, 0.8], [80, 80, 85, 85, 0.7], [*BALL, 0.6]], "no_match"),
    ],
)
def test_what_the_instruction_does_not_name_is_rejected(config, boxes, reason):
    verify_pairs(with_boxes(config, {"bare": boxes}))
    assert reasons(config)["bare"] == reason and read_manifest(config.output) == []


def test_scattered_changes_are_rejected(config):
    squares = [(x, y, x + 9, y + 9) for x in (5, 35, 65) for y in (5, 35)]
    add_edit(config.edits, "many", scene((0, 80, 9, 89), *squares), scene())
    crumbs = [(x, y, x + 8, y + 8) for x in (5, 25, 45, 65) for y in (5, 25)]
    add_edit(config.edits, "noise", scene((5, 50, 40, 80), *crumbs), scene())
    add_edit(config.edits, "all", scene(), Image.new("RGB", (SIZE, SIZE)))
    verify_pairs(config)
    found = reasons(config)
    assert (found["many"], found["noise"], found["all"]) == ("too_many_regions", "noise", "overflow")


def test_bad_input_rejects_its_edit_alone_and_is_looked_at_again(config):
    root = config.edits
    add_edit(root, "alone", scene(BALL), None)
    add_edit(root, "mute", scene(BALL), scene(), "  ")
    add_edit(root, "wide", scene(BALL), scene(size=120))
    add_edit(root, "torn", scene(BALL), scene())
    (root / "bg/torn.png").write_bytes((root / "bg/torn.png").read_bytes()[:200])
    verify_pairs(config)
    entries = report(config)
    for name, words in {
        "alone": "no picture alone in bg/",
        "mute": "instruction is empty",
        "wide": "96x96 and 120x120",
        "torn": "torn.png",
    }.items():
        assert entries[name]["reason"] == "input" and words in entries[name]["detail"]
    assert [sample.name for sample in read_manifest(config.output)] == ["ball", "bare"]
    add_edit(root, "torn", scene(BALL), scene())
    verify_pairs(config)
    assert reasons(config)["torn"] is None and len(read_manifest(config.output)) == 3


def test_pictures_of_almost_one_size_pass_and_become_one_size(config):
    add_edit(config.edits, "near", scene(BALL, SHADOW), scene().resize((SIZE - 3, SIZE + 2)))
    verify_pairs(config)
    near = {sample.name: sample for sample in read_manifest(config.output)}["near"]
    assert read_image(near.target).shape == read_image(near.source).shape
    check_data(CheckConfig(config.output))


@pytest.mark.parametrize(("name", "shadow"), [("teapot", (300, 650, 420, 680)), ("book", (380, 352, 440, 362))])
def test_photographs_masks_cover_object_and_shadow(tmp_path, name, shadow):
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    line = {"name": name, "instruction": f"Remove the {name}.", "direction": "remove"}
    for kind in ("before", "after"):
        line[kind] = str(PHOTOS / f"pair_{name}_{kind}.jpg")
    (tmp_path / "edits.jsonl").write_text(json.dumps(line))
    verify_pairs(VerifyConfig(tmp_path / "edits.jsonl", tmp_path / "out", workers=1))
    (sample,) = read_manifest(tmp_path / "out")
    mask = read_mask(sample.mask)[0] > 0.5
    # The object is tinted green in the picture with it.
    before, after = read_image(sample.source)[0], read_image(sample.target)[0]
    tinted = (((before[1] - before[::2]) - (after[1] - after[::2])) > 0.12).all(dim=0)
    # 0.95: beside the person of one pair lies a shoe below the least area.
    assert tinted.sum() > 20_000 and mask[tinted].float().mean() > 0.95 and mask.float().mean() < 0.2
    assert inside(mask, shadow).float().mean() > 0.9


def test_lists_that_cannot_be_used_say_what_is_wrong(config, tmp_path):
    listed = tmp_path / "edits.jsonl"
    line = {"name": "a", "before": "edits/shot/ball.png", "after": "edits/bg/ball.png", "instruction": "the ball"}
    for text, message in (
        ("", "holds no edits"),
        ("{", "line 1 is no JSON"),
        (json.dumps(line | {"name": "../a"}), "line 1 has the name '../a'"),
        (json.dumps(line) + "\n" + json.dumps(line), "line 2 names a again"),
    ):
        listed.write_text(text)
        with pytest.raises(ValueError, match=message):
            verify_pairs(replace(config, edits=listed))
    listed.write_text(json.dumps(line) + "\n" + json.dumps({"name": "b", "instruction": "the ball"}))
    verify_pairs(replace(config, edits=listed))
    details = {name: entry["detail"] for name, entry in report(config).items()}
    assert "direction is None" in details["a"] and "lacks before or after" in details["b"]
    with pytest.raises(FileNotFoundError, match="prompts.json"):
        verify_pairs(replace(config, edits=config.edits / "shot"))
    with pytest.raises(FileNotFoundError, match="There is no"):
        verify_pairs(replace(config, edits=tmp_path / "nowhere"))


def test_a_name_that_no_file_can_have_rejects_its_edit_alone(config, tmp_path):
    listed = tmp_path / "edits.jsonl"
    line = {
        "before": "edits/shot/ball.png",
        "after": "edits/bg/ball.png",
        "instruction": "the ball",
        "direction": "remove",
    }
    names = {"x" * 300: "is 300 bytes long", "a\0b": "holds NUL", "\ud800": "half a character", "good": None}
    listed.write_text("".join(json.dumps(line | {"name": name}) + "\n" for name in names))
    verify_pairs(replace(config, edits=listed))
    for name, words in names.items():
        entry = report(config)[name]
        assert entry["accepted"] if words is None else entry["reason"] == "input" and words in entry["detail"]
    listed.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ValueError, match="edits.jsonl is not UTF-8"):
        verify_pairs(replace(config, edits=listed, output=tmp_path / "other"))


def test_a_set_of_other_settings_is_kept_apart(config):
    verify_pairs(config)
    with pytest.raises(ValueError, match="made with other settings"):
        verify_pairs(replace(config, constants=Constants()))


def test_the_constants_are_options(tmp_path):
    arguments = ["edits", "--output", str(tmp_path), "--heat-threshold", "0.1", "--min-area", "50"]
    config = tyro.cli(VerifyConfig, args=arguments)
    assert config.constants == Constants(heat_threshold=0.1, min_area=50)
