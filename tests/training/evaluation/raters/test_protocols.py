"""Answers are read strictly, and the instructions are the papers'."""

import json
import re
from pathlib import Path

import pytest

from unclutter.training.evaluation.raters.protocols import PROTOCOLS

PAPERS = Path(__file__).resolve().parents[5] / "shared" / "papers"
LRNR, MILD = PROTOCOLS["lrnr"], PROTOCOLS["mild"]
SCORES = {"naturalness": 8, "semantic_consistency": 7, "visual_harmony": 10, "artifact_suppression": 1, "success": True}


@pytest.mark.parametrize(
    "answer",
    ['{"success": true}', ' \n{"success": true}\n', '```json\n{"success": true}\n```', '```\n{"success":true}```'],
)
def test_what_was_asked_for_is_read(answer):
    assert LRNR.parse(answer) == {"success": True}


@pytest.mark.parametrize(
    "answer",
    [
        "Success",
        'The object is gone: {"success": true}',
        '{"success": "true"}',
        '{"success": 1}',
        '{"success": null}',
        '{"Success": true}',
        '{"success": true, "reason": "clean"}',
        '{"success": true, "success": false}',
        '[{"success": true}]',
        "{}",
        "",
        "```",
        "[" * 100_000,
    ],
)
def test_anything_else_is_not(answer):
    assert LRNR.parse(answer) is None


def test_scores_are_whole_numbers_from_1_to_10():
    assert MILD.parse(json.dumps(SCORES)) == SCORES
    for wrong in (0, 11, 7.5, "7", True, None):
        assert MILD.parse(json.dumps(SCORES | {"naturalness": wrong})) is None
    assert MILD.parse('{"success": true}') is None


def test_the_question_names_every_key_that_is_read():
    assert LRNR.question().endswith('{"success": <true or false>}')
    assert all(f'"{name}": <integer 1 to 10>' in MILD.question() for name in MILD.scores)
    assert "picture 2 is the original picture with the object to be removed in red" in LRNR.question()


@pytest.mark.parametrize(("name", "first"), [("lrnr", "You will be shown"), ("mild", "Whether the filled region")])
def test_the_instructions_stand_in_the_paper(name, first):
    if not PAPERS.is_dir():
        pytest.skip(f"no papers in {PAPERS}")

    def words(text):
        # Line numbers, marks, and words cut at the end of a line.
        return re.findall(r"[a-z]{3,}", re.sub(r"-\s+(\d+ )?", "", text.lower()))

    paper = " ".join(words((PAPERS / f"{name}.txt").read_text()))
    instructions = PROTOCOLS[name].instructions
    sentences = [each for each in re.split(r"[.:]\s", instructions[instructions.index(first) :]) if len(each) > 40]
    ours = [each for each in sentences if not each.startswith(("Then decide", "a successful"))]
    assert len(ours) >= 4
    for each in ours:
        assert " ".join(words(each)) in paper, each
