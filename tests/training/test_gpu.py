"""`unclutter gpu` goes on where it stopped, and what does not end in time is saved."""

import pytest
import torch

from unclutter.training.gpu import GpuConfig, finished, run_on_gpu, stages

TINY = [
    "train",
    "mini",
    "cpu",
    "--size",
    "32",
    "--unet-channels",
    "32",
    "32",
    "--transformer-depth",
    "1",
    "1",
    "--resume",
]
TINY += ["--text-width", "32", "--batch", "2", "--sample-every", "0", "--save-every", "1000000", "--steps", "1000000"]


def test_stages_that_are_done_are_passed_over(tmp_path, capsys):
    for name in stages(tmp_path, True, None):
        if name != "pairs":
            (tmp_path / f"{name}.done").touch()
    run_on_gpu(GpuConfig(tmp_path, dry=True))
    assert (tmp_path / "pairs" / "manifest.jsonl").is_file()
    printed = capsys.readouterr().out
    assert printed.startswith("pairs: unclutter data drawn") and "All is done" in printed
    run_on_gpu(GpuConfig(tmp_path, dry=True))
    assert "unclutter data drawn" not in capsys.readouterr().out


def test_without_time_it_says_what_is_left(tmp_path, capsys):
    run_on_gpu(GpuConfig(tmp_path, minutes=0, dry=True))
    assert "Still to do: precision, attention-float16" in capsys.readouterr().out


def test_a_training_that_is_not_done_in_time_is_saved(tmp_path):
    assert not finished([*TINY, "--output", str(tmp_path / "mini")], tmp_path / "log", seconds=30)
    step = torch.load(tmp_path / "mini" / "state.pt", weights_only=True)["step"]
    assert step > 0 and f"Stopped at step {step}, and saved" in (tmp_path / "log").read_text()


def test_a_stage_that_fails_says_where_to_look(tmp_path):
    with pytest.raises(ChildProcessError, match="failed with exit code 1: see .*log"):
        finished(["bench", "layers", "--people", "0"], tmp_path / "log", seconds=100)
