"""The papers' tables: each runs as far as its checkpoints are given, and tells the rest."""

import json
import shutil
from pathlib import Path

import pytest

from unclutter.adapters import mini
from unclutter.training.cli import main
from unclutter.training.evaluation.metrics.facts import METRICS
from unclutter.training.evaluation.photographs.contestants import Sampled
from unclutter.training.evaluation.photographs.reproduce_settings import ReproduceConfig
from unclutter.training.evaluation.photographs.tables.registry import TABLES

DOCS = Path(__file__).resolve().parents[4] / "docs" / "reproducing.md"


def stand_in(folder, table):
    """The mini model's adapters, as the output folder of a training, or as the file of an eraser."""
    if table.startswith("osor"):
        return mini.FOLDER / "loras" / "unclutter-mini-osor.safetensors"
    recipe = next((name for name in ("mild", "eradiff") if table.startswith(name)), "lrnr")
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    kind = "layered" if recipe == "mild" else "lora"
    shutil.copy(mini.FOLDER / "loras" / f"unclutter-mini-{recipe}.safetensors", folder / f"{kind}.safetensors")
    if recipe == "lrnr":
        shutil.copy(mini.FOLDER / "embeddings" / "unclutter-mini-lrnr.safetensors", folder / "prompt.safetensors")
    return folder


def given(table, folder):
    bases = tuple(f"{base.name}=mini" for base in table.bases)
    return bases, tuple(f"{each.name}={stand_in(folder, table.name)}" for each in table.adapters)


@pytest.mark.parametrize("name", TABLES)
def test_with_all_that_it_asks_for_every_row_of_a_table_runs(name, scenes, tmp_path):
    table = TABLES[name]
    bases, adapters = given(table, tmp_path / "adapters")
    config = ReproduceConfig(name, scenes, tmp_path / "run", base=bases, adapters=adapters)
    config.check()
    if table.elsewhere:
        return
    rows = {row.name: row for row in config.photos(table).contestants() if isinstance(row, Sampled)}
    assert list(rows) == [row.paper for row in table.rows if row.method is not None]
    assert set(config.photos(table).metrics) <= METRICS.keys()
    for row in table.rows:
        assert len(row.values) in (0, len(table.columns)), row.paper


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_row_in_the_docs(name):
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


def test_without_checkpoints_a_table_tells_what_each_row_needs(capsys):
    assert main(["evaluate", "reproduce", "lrnr-1", "--plan"]) == 0
    told = capsys.readouterr().out
    assert "left out: LRNR, which needs --base sdxl-inpainting and --adapters lrnr." in told
    assert 'left out: LaMa, another program; give its pictures as --results "LaMa=FOLDER".' in told
    assert "not as in the paper: The LRNR test set of 200 cluttered scenes is not released" in told


def test_a_table_is_run_and_the_papers_numbers_stand_beside(scenes, tmp_path, capsys):
    for row in range(6):
        (tmp_path / "lama").mkdir(exist_ok=True)
        shutil.copy(scenes / "target" / f"a{row:02}.png", tmp_path / "lama")
    bases, adapters = given(TABLES["eradiff-main"], tmp_path / "adapters")
    more = ["--base", "mini", "--adapters", *adapters, "--results", f"LaMa={tmp_path / 'lama'}", "--metrics", "hole"]
    try_it = ["--limit", "1", "--size", "64", "--steps", "1", "--device", "cpu"]
    command = [
        "evaluate",
        "reproduce",
        "eradiff-main",
        "--data",
        str(scenes),
        "-o",
        str(tmp_path / "run"),
        *more,
        *try_it,
    ]
    assert main(command) == 1  # the pictures have no captions, which one row asks for
    told = capsys.readouterr()
    assert "runs: EraDiff." in told.out and "left out: PowerPaint, which needs --base powerpaint." in told.out
    assert "SD2-Inpaint with prompt: It has no caption" in told.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    settings = {line["method"]: line["settings"] for line in lines}
    assert settings["EraDiff"]["method"] == "sra" and settings["EraDiff"]["start"] == "noise"
    report = (tmp_path / "run" / "report.md").read_text()
    numbers = report.partition("## The paper's numbers")[2]
    assert "| EraDiff | 6.54 | 0.192 | 3.799 |" in numbers and "| LaMa | **100 [100, 100]**" in report


def test_what_a_table_does_not_take_is_told(scenes, tmp_path, capsys):
    more = ["--data", str(scenes), "-o", str(tmp_path / "run")]
    assert main(["evaluate", "reproduce", "eradiff-main", *more, "--base", "sdxl=mini"]) == 1
    assert "eradiff-main has no base called sdxl: expected sd2-inpainting, powerpaint." in capsys.readouterr().err
    assert main(["evaluate", "reproduce", "lrnr-1", "--data", str(scenes)]) == 1
    assert "give a folder as -o" in capsys.readouterr().err
    assert main(["evaluate", "reproduce"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name} " in listed for name in TABLES)


def test_a_mask_is_given_as_the_table_says(scenes, tmp_path):
    """OSOR's Table 1 gives the object's mask, and that of the object with its shadow, which removes more."""
    bases, adapters = given(TABLES["osor-1-corne"], tmp_path / "adapters")
    command = ["evaluate", "reproduce", "osor-1-corne", "--data", str(scenes), "-o", str(tmp_path / "run")]
    command += ["--base", bases[0], "--adapters", adapters[0], "--metrics", "hole", "--limit", "1", "--device", "cpu"]
    assert main([*command, "--steps", "1"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    masks = {line["method"]: line["settings"]["mask"] for line in lines}
    assert masks["OSOR(SDXL) by object mask"] == "object" and masks["OSOR(SDXL) by effect mask"] == "effect"
    outputs = {line["method"]: line["output"]["digest"] for line in lines}
    assert outputs["OSOR(SDXL) by object mask"] != outputs["OSOR(SDXL) by effect mask"]
