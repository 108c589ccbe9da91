"""The command line's help, and its answers to somebody who mistypes, has not installed all, or names a wrong folder."""

import sys

import pytest

from unclutter.training.cli import COMMANDS, main
from unclutter.training.data.drawn import draw_pairs
from unclutter.training.data.settings import DrawnConfig


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_tells_of_every_command(arguments, capsys):
    assert main(arguments) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert not output.err
    assert all(any(line.startswith(f"  {name} ") and len(line.split()) > 4 for line in lines) for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["train", "--help"], ["--help", "train"], ["train", "-h"]])
def test_help_of_a_group_tells_of_its_commands_alone(arguments, capsys):
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "train lrnr" in output and "train mini" in output and "data" not in output


def test_a_group_is_no_command(capsys):
    assert main(["data", "--count", "5"]) == 2
    assert "data store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trian lrnr --data x", "train lrnr"),
        ("data stroe --count 5", "data store"),
        ("evalute crowds", "evaluate crowds"),
        ("remvoe photo.jpg mask.png", "remove"),
        ("bnech", "bench"),
    ],
)
def test_a_typo_is_told_with_what_was_meant(typed, meant, capsys):
    assert main(typed.split()) == 2
    error = capsys.readouterr().err
    unknown = " ".join(typed.split()[: len(meant.split())])
    assert f'unknown command "{unknown}", did you mean "{meant}"?' in error and error.count("\n") == 1


def test_a_word_like_no_other_is_told_with_all_that_there_is(capsys):
    assert main(["data", "upload"]) == 2
    error = capsys.readouterr().err
    assert 'unknown command "data upload"' in error and "did you mean" not in error
    assert "data store" in error and "train lrnr" not in error


@pytest.mark.parametrize(("command", "extra"), [("train lrnr", "train"), ("data drawn", "train"), ("remove", "demo")])
def test_a_command_without_its_packages_says_how_to_install_them(command, extra, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert main([*command.split(), "--help"]) == 1
    assert f'pip install -e ".[{extra}]"' in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_evaluate_names_a_folder_without_a_training(tmp_path, capsys):
    assert main(["evaluate", "--scenes", "2", "--adapters", str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert f"There is no training in {tmp_path / 'nowhere'}: give the output folder" in error


def test_drawing_tells_what_it_wrote_and_counts_what_was_asked_for(tmp_path, capsys):
    assert main(["data", "drawn", str(tmp_path / "pairs"), "-n", "3", "--size", "32"]) == 0
    output = capsys.readouterr()
    assert f"3 pairs of 32x32 pixels in {tmp_path / 'pairs'}" in output.out and "3/3" in output.err
    assert len(list((tmp_path / "pairs" / "source").iterdir())) == 3


def test_a_folder_keeps_the_set_that_is_in_it(tmp_path):
    draw_pairs(DrawnConfig(tmp_path / "pairs", count=2, size=32))
    before = (tmp_path / "pairs" / "source" / "000000.png").read_bytes()
    for other in ({"seed": 1}, {"size": 48}, {"crowd": True}):
        with pytest.raises(ValueError, match="made with other settings"):
            draw_pairs(DrawnConfig(tmp_path / "pairs", **{"count": 2, "size": 32, **other}))
    draw_pairs(DrawnConfig(tmp_path / "pairs", count=3, size=32))
    assert (tmp_path / "pairs" / "source" / "000000.png").read_bytes() == before
    (tmp_path / "mine" / "source").mkdir(parents=True)
    with pytest.raises(ValueError, match="made elsewhere"):
        draw_pairs(DrawnConfig(tmp_path / "mine", count=1, size=32))
