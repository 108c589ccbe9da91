"""`unclutter remove` on a folder of photos: what goes with what, stops, and photos that fail."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from unclutter.training.cli import main
from unclutter.training.images.files import read_image, write_image

NAMES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def folders(tmp_path):
    """Photos, masks called in three ways, and where the results go."""
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    (masks / "mask").mkdir(parents=True)
    photos.mkdir()
    generator = torch.Generator().manual_seed(0)
    for index, name in enumerate(NAMES):
        write_image(photos / f"{name}.png", torch.rand(1, 3, 64, 80, generator=generator))
        mask = torch.zeros(1, 3, 64, 80)
        mask[..., 20:32, 8 + index : 30] = 1
        where = (f"{name}.png", f"{name}_mask.png", f"mask/{name}.png")[index % 3]
        write_image(masks / where, mask)
    (photos / "notes.txt").write_text("no photo")
    return photos, masks, tmp_path / "out"


def command(folders, *more):
    photos, masks, out = map(str, folders)
    return ["remove", photos, masks, "-o", out, *more]


def results(out):
    return {path.name: path.read_bytes() for path in out.glob("[!.]*.png")}


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_every_photo_becomes_what_it_becomes_alone(folders, tmp_path):
    photos, masks, out = folders
    assert main(command(folders)) == 0
    assert sorted(results(out)) == [f"{name}.png" for name in NAMES]
    alone = ["remove", str(photos / "b.png"), str(masks / "b_mask.png"), "-o", str(tmp_path / "b.png")]
    assert main(alone) == 0
    assert results(out)["b.png"] == (tmp_path / "b.png").read_bytes()
    lines = log(out)
    assert [line["file"] for line in lines] == [f"{name}.png" for name in NAMES]
    assert all(line["error"] is None and line["seconds"] > 0 and line["seed"] == 0 for line in lines)
    assert lines[0]["settings"]["method"] == "draft" and lines[0]["settings"]["grow"] == 7.5


def test_photos_and_masks_may_lie_in_one_folder(folders, tmp_path):
    photos, masks, out = folders
    for name in "ad":
        shutil.move(masks / f"{name}.png", photos / f"{name}_mask.png")
    for name in "be":
        shutil.move(masks / f"{name}_mask.png", photos / f"{name}_mask.png")
    shutil.move(masks / "mask", photos / "mask")
    assert main(command((photos, photos, out))) == 0
    assert sorted(results(out)) == [f"{name}.png" for name in NAMES]


@pytest.mark.parametrize("more", [(), ("--base", "mini", "--method", "plain", "--steps", "3")], ids=["draft", "model"])
def test_a_run_that_was_killed_goes_on_to_the_same_files(folders, tmp_path, more):
    photos, masks, out = folders
    for name in "ghij":  # enough that the stop comes in the middle
        shutil.copy(photos / "c.png", photos / f"{name}.png")
        shutil.copy(masks / "mask" / "c.png", masks / f"{name}.png")
    whole = (photos, masks, tmp_path / "whole")
    assert main(command(whole, *more)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "unclutter.training", *command(folders, *more)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and len(results(out)) < 2:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert 2 <= len(finished) < 10
    logged = [line["out"] for line in log(out)]
    assert main(command(folders, *more)) == 0
    assert results(out) == results(tmp_path / "whole")
    assert sorted(path.name for path in out.iterdir()) == sorted([*results(out), "log.jsonl"])
    assert all((out / name).stat().st_mtime_ns == finished[name] for name in logged)
    assert sorted(line["out"] for line in log(out)) == sorted(results(out))


def test_control_c_stops_with_one_line(folders):
    process = subprocess.Popen(
        [sys.executable, "-m", "unclutter.training", *command(folders, "--base", "mini", "--steps", "20")],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not (folders[2] / "a.png").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in error
    assert error.splitlines()[-1] == "unclutter remove: stopped."


def test_what_a_stop_left_half_written_is_made_again(folders):
    photos, masks, out = folders
    assert main(command(folders)) == 0
    expected = results(out)
    text = (out / "log.jsonl").read_bytes()
    (out / "log.jsonl").write_bytes(text[: -len(text.splitlines(keepends=True)[-1]) // 2])
    (out / "f.png").unlink()
    (out / ".f.part.png").write_bytes(b"half a picture")
    assert main(command(folders)) == 0
    assert results(out) == expected and not (out / ".f.part.png").exists()
    assert {line["out"] for line in log(out)} == set(expected)


def test_what_is_finished_is_skipped_and_what_has_changed_is_not(folders, capsys):
    photos, masks, out = folders
    assert main(command(folders)) == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert main(command(folders)) == 0
    assert "All 6 photos are finished" in capsys.readouterr().err
    mask = torch.zeros(1, 3, 64, 80)
    mask[..., 40:50, 40:60] = 1
    write_image(masks / "b_mask.png", mask)
    assert main(command(folders)) == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert [name for name in after if after[name] != before[name]] == ["b.png"]


def test_a_photo_that_fails_is_told_and_does_not_stop_the_others(folders, capsys):
    photos, masks, out = folders
    (photos / "b.png").write_bytes(b"no picture")
    write_image(masks / "mask" / "c.png", torch.zeros(1, 3, 64, 80))
    (masks / "d.png").unlink()
    shutil.copy(masks / "e_mask.png", masks / "e.png")
    assert main(command(folders)) == 1
    error = capsys.readouterr().err
    assert sorted(results(out)) == ["a.png", "f.png"] and "Traceback" not in error
    told = {line["file"]: line["error"] for line in log(out)}
    assert told["a.png"] is None and "cannot be read as a picture" in told["b.png"] and "empty" in told["c.png"]
    assert "has no mask: expected d.png, d_mask.png or mask/d.png" in told["d.png"]
    assert "has 2 masks, e.png and e_mask.png: keep one" in told["e.png"]
    assert all(told[name] in error for name in ("b.png", "c.png", "d.png", "e.png"))
    assert "4 of 6 photos failed" in error
    write_image(photos / "b.png", torch.rand(1, 3, 64, 80))
    assert main(command(folders)) == 1
    assert sorted(results(out)) == ["a.png", "b.png", "f.png"]


def test_other_settings_want_another_folder(folders, capsys):
    photos, masks, out = folders
    assert main(command(folders)) == 0
    before = results(out)
    assert main(command(folders, "--seed", "1")) == 1
    assert "holds results of other settings (seed was 0, and is 1): give another folder" in capsys.readouterr().err
    assert main(command(folders, "--base", "mini", "--method", "plain", "--steps", "1")) == 1
    assert "method was draft, and is plain" in capsys.readouterr().err
    assert results(out) == before
    (out / "log.jsonl").write_text("{}\n")
    assert main(command(folders)) == 1
    assert "is no log of this command" in capsys.readouterr().err


def test_nothing_of_the_user_is_written_over(folders, capsys):
    photos, masks, out = folders
    out.mkdir()
    write_image(out / "a.png", read_image(photos / "a.png"))
    mine = (out / "a.png").read_bytes()
    for target, message in (
        (out, "no log.jsonl that tells of it"),
        (photos, "is what is read here"),
        (masks, "read here"),
    ):
        assert main(command((photos, masks, target))) == 1
        assert message in capsys.readouterr().err
    assert (out / "a.png").read_bytes() == mine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda photos, masks, out: (photos, masks / "a.png", out), "give a folder of pictures"),
        (lambda photos, masks, out: (masks, photos / "nowhere", out), "give a folder of pictures"),
        (lambda photos, masks, out: (photos, masks, out.with_suffix(".png")), "the name of one picture"),
        (lambda photos, masks, out: (photos, out.parent, out), "No photo in"),
    ],
)
def test_folders_that_do_not_fit_are_one_sentence(folders, capsys, change, message):
    assert main(command(change(*folders))) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not folders[2].exists()


def test_two_photos_of_one_name_are_told(folders, capsys):
    photos, masks, out = folders
    Image.new("RGB", (80, 64)).save(photos / "a.jpg")
    assert main(command(folders)) == 1
    assert "holds a.jpg and a.png: rename one" in capsys.readouterr().err


def test_a_folder_keeps_the_format_of_its_photos_where_it_can(folders):
    photos, masks, out = folders
    for old, new in (("a", "a.jpg"), ("b", "b.tif")):
        with Image.open(photos / f"{old}.png") as picture:
            picture.save(photos / new)
        (photos / f"{old}.png").unlink()
    assert main(command(folders)) == 0
    assert {"a.jpg", "b.png", "c.png"} <= {path.name for path in out.iterdir()}
