"""`unclutter evaluate starts`: what each method begins from, and when a difference is no more than noise."""

import json

import pytest

from unclutter.training.cli import main
from unclutter.training.evaluation.settings import StartsConfig
from unclutter.training.evaluation.starts import Row, evaluate_starts, show


def test_every_start_is_compared_with_the_authors_on_the_same_scenes(tmp_path, capsys):
    sheet, rows = tmp_path / "sheet.png", tmp_path / "rows.jsonl"
    table = evaluate_starts(
        StartsConfig(("sra", "attentive-eraser"), 3, (0.5,), steps=2, sheet=sheet, rows=rows, markdown=True)
    )
    starts = ["picture", "noise", "draft", "draft, shown too", "draft alone"]
    assert [(row.method, row.start) for row in table] == [
        (method, start) for method in ("sra", "attentive-eraser") for start in starts
    ]
    assert all(row.gain_low <= row.gain_db <= row.gain_high and row.scenes == 3 for row in table)
    authors, *others = table[:5]
    assert authors.gain_db == authors.gain_low == authors.gain_high == 0
    assert all(row.gain_db == pytest.approx(row.hole_db - authors.hole_db, abs=1e-4) for row in others)
    assert table[4].hole_db == table[9].hole_db and table[0].denoise == 1 and table[5].denoise == 0.8
    assert [json.loads(line)["hole_db"] for line in rows.read_text().splitlines()] == [row.hole_db for row in table]
    assert sheet.stat().st_size > 5_000
    assert "| sra | picture | 1 |" in capsys.readouterr().out


def test_a_gain_whose_interval_holds_0_is_called_noise(capsys):
    show([Row("sra", "draft", 0.5, 9, 20.0, 1.0, 0.3, low, 0.8) for low in (-0.2, 0.1)], "title", markdown=True)
    unsure, sure = capsys.readouterr().out.splitlines()[-2:]
    assert "+0.30 [-0.20, +0.80], noise" in unsure and "noise" not in sure


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scenes", "1"], "expected at least 2 scenes"),
        (["--denoise", "0"], "denoise is 0.0: expected values above 0"),
    ],
)
def test_bad_values_are_one_sentence(more, message, capsys):
    assert main(["evaluate", "starts", *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
