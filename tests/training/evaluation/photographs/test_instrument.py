"""`unclutter evaluate photos`: what it writes, where it goes on after a stop, and what it does with bad pictures."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from unclutter.training.cli import main
from unclutter.training.evaluation.photographs import fillers
from unclutter.training.evaluation.photographs.contestants import PAINT
from unclutter.training.images.files import read_image, write_image


def run(scenes, out, *more):
    return main(["evaluate", "photos", "--data", str(scenes), "-o", str(out), "--device", "cpu", *more])


def lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def table(out):
    """The report without the columns that no two runs share, without its command, and without OpenCV's shift map, which two
    processes fill otherwise in a few pixels."""
    text = (out / "report.md").read_text().partition("## The table")[2]
    text = re.sub(r"the fastest of them is [^;]*?\)", "", text)
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| ")]
    lines = [line for line in text[text.index("## Against paint") :].splitlines() if "shift map" not in line]
    return lines, [row[:6] for row in rows if "shift map" not in row[0]]


def test_one_command_makes_a_table_a_gallery_and_a_line_for_each_result(scenes, tmp_path):
    out = tmp_path / "run"
    more = [
        "--base",
        "mini",
        "--methods",
        "masg",
        "attentive-eraser:strength=2",
        "--steps",
        "2",
        "--limit",
        "2",
        "--seeds",
        "0",
        "1",
    ]
    assert run(scenes, out, *more) == 0
    results = lines(out)
    names = [*PAINT, "masg", "attentive-eraser, strength 2"]
    expected = {(name, seed) for name in names for seed in (0, 1) if seed == 0 or name not in PAINT or name == "draft"}
    assert {(line["method"], line["seed"]) for line in results} == expected
    assert len(results) == 2 * len(expected)
    for line in results:
        assert line["error"] is None and line["seconds"] >= 0 and line["memory_mb"] > 0
        assert line["inputs"].keys() == {"picture", "mask", "truth", "effects"}
        assert line["metrics"].keys() == {"psnr", "ssim", "hole", "effect", "outside"}
        assert (out / line["output"]["file"]).is_file()
    assert results[-1]["settings"]["strength"] == 2 and results[-1]["settings"]["steps"] == 2
    report = (out / "report.md").read_text()
    assert all(f"| {name} |" in report for name in names)
    command = re.search(r"```bash\n(.*)\n```", report)[1]
    assert shlex.split(command)[:3] == ["unclutter", "evaluate", "photos"]
    before = (out / "results.jsonl").read_bytes()
    assert main(shlex.split(command)[1:]) == 0  # the command in the report is one that runs, and finds all done
    assert (out / "results.jsonl").read_bytes() == before
    page = re.sub(r"data:image/webp;base64,[\w+/=]+", "", (out / "gallery.html").read_text())
    assert "http" not in page and "DATA" not in page and '"name": "a01"' in page


def test_a_number_in_the_table_is_the_mean_of_what_lies_on_the_disk(scenes, tmp_path):
    out = tmp_path / "run"
    assert run(scenes, out, "--metrics", "hole") == 0
    values = []
    for line in lines(out):
        if line["method"] == "grey":
            filled, truth = (
                read_image(out / line["output"]["file"]),
                read_image(scenes / "target" / f"{line['picture']}.png"),
            )
            hole = read_image(scenes / f"{line['picture']}_mask.png")[:, 0] > 0.5
            error = ((filled - truth) ** 2).mean(dim=1)[hole].mean()
            values.append(-10 * error.log10().item())
    row = next(row for row in (out / "report.md").read_text().splitlines() if row.startswith("| grey |"))
    assert f"{sum(values) / len(values):.4g} [" in row


def test_killed_in_the_middle_it_comes_to_the_same(many_scenes, tmp_path):
    scenes, whole, torn = many_scenes(9), tmp_path / "whole", tmp_path / "torn"
    assert run(scenes, whole, "--methods", "draft:grow=20") == 0
    command = [sys.executable, "-m", "unclutter.training", "evaluate", "photos", "--methods", "draft:grow=20"]
    command += ["--data", str(scenes), "-o", str(torn), "--device", "cpu"]
    kills, log = 0, torn / "results.jsonl"
    for _ in range(40):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = (log.read_bytes().count(b"\n") if log.exists() else 0) + 16
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < goal):
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            with log.open("ab") as file:
                file.write(b'{"picture": "a00", "method": "gr')  # as a stop in the middle of a line leaves it
        if process.wait() == 0:
            break
    assert kills >= 2 and process.returncode == 0
    assert table(torn) == table(whole)
    made, unbroken = (
        {(each["picture"], each["method"]): each["output"] for each in lines(out)} for out in (torn, whole)
    )
    assert len(lines(torn)) == len(made) and made.keys() == unbroken.keys()  # nothing was made twice
    assert all(made[key] == unbroken[key] for key in made if key[1] != "shift map")


def test_a_bad_picture_does_not_stop_the_others_and_is_tried_again(scenes, tmp_path, capsys):
    good = (scenes / "a03.png").read_bytes()
    (scenes / "a03.png").write_bytes(good[:500])
    write_image(scenes / "a04_mask.png", torch.zeros(1, 3, 64, 64))
    out = tmp_path / "run"
    assert run(scenes, out) == 1
    told = capsys.readouterr().err
    assert "10 results of 2 pictures failed" in told and "a03, ring median: " in told
    assert {line["picture"] for line in lines(out) if line["error"]} == {"a03", "a04"}
    report = (out / "report.md").read_text()
    missing = report.partition("## What is missing")[2]
    assert "* a03 (ring median, grey, Telea, shift map, draft):" in missing and "a04" in missing
    (scenes / "a03.png").write_bytes(good)
    (scenes / "a04_mask.png").unlink()
    write_image(scenes / "a04_mask.png", read_image(scenes / "a05_mask.png"))
    before = len(lines(out))
    assert run(scenes, out) == 0
    assert {line["picture"] for line in lines(out)[before:]} == {"a03", "a04"}
    assert "Nothing: every method has every picture" in (out / "report.md").read_text()


def test_a_metric_more_is_measured_on_the_pictures_that_are_there(scenes, tmp_path):
    out = tmp_path / "run"
    assert run(scenes, out, "--metrics", "hole") == 0
    made = {path: path.stat().st_mtime_ns for path in out.glob("pictures/*/*.png")}
    assert run(scenes, out, "--metrics", "hole", "psnr") == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("pictures/*/*.png")} == made
    assert all(line["metrics"].keys() == {"hole", "psnr"} for line in lines(out)[len(made) :])
    assert "PSNR, dB ↑ |" in (out / "report.md").read_text()


def test_a_changed_picture_is_filled_again_and_a_lost_result_too(scenes, tmp_path):
    out = tmp_path / "run"
    assert run(scenes, out) == 0
    before = len(lines(out))
    write_image(scenes / "a01.png", torch.rand(1, 3, 64, 64))
    (out / "pictures" / "grey" / "a02_0.png").unlink()
    assert run(scenes, out) == 0
    again = [(line["picture"], line["method"]) for line in lines(out)[before:]]
    assert sorted(again) == sorted([*(("a01", name) for name in PAINT), ("a02", "grey")])


def test_other_settings_are_refused_in_a_folder_with_results(scenes, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(scenes, out, "--limit", "1") == 0
    assert run(scenes, out, "--limit", "1", "--grow", "20") == 1
    assert "grow was 7.5 and is 20.0" in capsys.readouterr().err


def test_what_another_program_made_is_scored_by_its_name(scenes, tmp_path, capsys):
    theirs, out = tmp_path / "lama", tmp_path / "run"
    for row in range(6):
        write_image(theirs / f"a{row:02}.png", read_image(scenes / "target" / f"a{row:02}.png"))
    write_image(theirs / "a01.png", torch.nn.functional.interpolate(read_image(theirs / "a01.png"), size=(32, 32)))
    write_image(theirs / "a02.png", torch.zeros(1, 3, 64, 32))
    (theirs / "a03.png").unlink()
    assert run(scenes, out, "--results", f"LaMa={theirs}") == 1
    told = capsys.readouterr().err
    assert "a02, LaMa: a02.png is 32×64 for a picture of 64×64" in told
    assert "a03, LaMa:" in told and "holds no a03.png" in told
    scores = {line["picture"]: line["metrics"].get("hole") for line in lines(out) if line["method"] == "LaMa"}
    assert scores["a00"] == 100 and 10 < scores["a01"] < 100


def test_a_network_is_loaded_once_for_all_pictures_methods_and_seeds(scenes, tmp_path, monkeypatch):
    loads = []
    opened = fillers.opened
    monkeypatch.setattr(fillers, "opened", lambda *arguments: loads.append(arguments) or opened(*arguments))
    more = ["--base", "mini", "--methods", "masg", "plain", "--steps", "1", "--limit", "2", "--seeds", "0", "1"]
    assert run(scenes, tmp_path / "run", *more) == 0
    assert len(loads) == 1
    assert run(scenes, tmp_path / "run", *more) == 0
    assert len(loads) == 1  # nothing is left to do, so nothing is loaded


def test_side_by_side_a_picture_becomes_what_it_becomes_alone(scenes, tmp_path):
    more = [
        "--base",
        "mini",
        "--methods",
        "attentive-eraser",
        "--steps",
        "2",
        "--seeds",
        "3",
        "--limit",
        "3",
        "--whole",
    ]
    assert run(scenes, tmp_path / "alone", *more) == 0
    assert run(scenes, tmp_path / "batch", *more, "--batch", "3") == 0
    for name in ("a00", "a01", "a02"):
        alone, batch = (
            read_image(tmp_path / run / f"pictures/attentive-eraser/{name}_3.png") for run in ("alone", "batch")
        )
        assert (alone - batch).abs().max() <= 2 / 255


def test_a_base_that_cannot_be_loaded_is_a_gap_and_the_rest_goes_on(scenes, tmp_path, capsys):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    assert run(scenes, tmp_path / "run", "--base", str(broken), "--methods", "sra", "--limit", "1") == 0
    gap = "sra: sra could not be loaded: broken.safetensors is no whole safetensors file"
    assert gap in capsys.readouterr().err and gap in (tmp_path / "run" / "report.md").read_text()


def test_memory_does_not_grow_with_the_pictures(many_scenes, tmp_path):
    assert run(many_scenes(60), tmp_path / "run") == 0
    held = [line["memory_mb"] for line in lines(tmp_path / "run")]
    assert max(held[-30:]) - min(held[60:90]) <= 24


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "mash"], "There is no method mash"),
        (["--methods", "masg"], "masg needs a model"),
        (["--base", "mini", "--methods", "masg:sharpness=3"], "masg has no option sharpness"),
        (["--base", "mini", "--methods", "masg:strength=hard"], "strength is 'hard', expected a number"),
        (["--base", "mini", "--methods", "sra:schedule=linear"], "schedule is a setting of masg"),
        (["--base", "mini", "--methods", "masg", "masg"], "Two rows of the table are called masg"),
        (["--base", "mini", "--methods", "one-step"], "one-step needs an eraser"),
        (["--results", "somewhere"], "expected NAME=FOLDER"),
        (["--square"], "give --size too"),
        (["--seeds", "1", "1"], "give each once"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_sentence(scenes, tmp_path, capsys, more, message):
    assert run(scenes, tmp_path / "run", *more) == 1
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told and not (tmp_path / "run").exists()
