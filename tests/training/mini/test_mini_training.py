import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from unclutter.adapters import mini as files
from unclutter.training.base_models.mini import load_mini
from unclutter.training.cli import main
from unclutter.training.evaluation import demo as demo_module
from unclutter.training.evaluation.demo import METHODS, demo
from unclutter.training.evaluation.settings import DemoConfig
from unclutter.training.mini.config import CPU, GPU
from unclutter.training.mini.network import PlainAttention, build_unet
from unclutter.training.mini.train import train_mini
from unclutter.training.sampling import adapters as adapters_module
from unclutter.training.sampling.methods import Plain
from unclutter.training.sampling.sampler import remove

SMALL = {"size": 32, "unet_channels": (32, 32), "transformer_depth": (1, 1), "text_width": 32}
TINY = replace(CPU, **SMALL, steps=3, batch=2, sample_every=0)


def log_of(folder):
    return [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]


def same_weights(one, other):
    first, second = files.load(one), files.load(other)
    return all(
        torch.equal(value, second.weights[part][key])
        for part in ("unet", "text_encoder")
        for key, value in first.weights[part].items()
    )


@pytest.mark.parametrize("vae_channels", [None, (32, 32, 32, 32)], ids=["patches", "vae"])
def test_training_writes_a_model_that_fills_holes(tmp_path, vae_channels):
    train_mini(replace(TINY, vae_channels=vae_channels, vae_steps=2, vae_batch=2, output=tmp_path))
    last = log_of(tmp_path)[-1]
    assert last["step"] == 3 and last["samples"] == 6 and last["loss"] > 0
    base = load_mini(tmp_path)
    assert base.inpaints and base.native_size == 32
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:20, 8:20] = 1
    picture = torch.rand(1, 3, 32, 32)
    out = remove(base, picture, mask, Plain(), steps=2)
    assert out.shape == picture.shape and out.isfinite().all()
    assert not torch.equal(out, remove(base, picture, mask, Plain(), steps=2, seed=1))
    assert not list(tmp_path.glob("*.part"))


def test_a_model_that_is_there_is_not_trained_over(tmp_path, capsys):
    assert all(files.FOLDER not in (preset.output.resolve(), *preset.output.resolve().parents) for preset in (CPU, GPU))
    train_mini(replace(TINY, output=tmp_path))
    assert str(files.FOLDER) in capsys.readouterr().out.splitlines()[-1]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds a model: give another folder"):
        train_mini(replace(TINY, output=tmp_path, seed=1))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_demo_takes_a_new_models_size_and_leaves_the_old_ones_adapters_out(tmp_path, capsys, monkeypatch):
    train_mini(replace(TINY, output=tmp_path))
    for module in (demo_module, adapters_module):  # as though it had been copied into the pack
        monkeypatch.setattr(module, "load_mini", lambda: load_mini(tmp_path))
    scores = demo(DemoConfig(tmp_path / "sheet.png", scenes=1, steps=1))
    assert scores.keys() == METHODS.keys() - {"lrnr"}
    out = " ".join(capsys.readouterr().out.split())
    assert "lrnr is left out: 0 of the LoRA's" in out and "made for another model." in out


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(tmp_path):
    for run, seed in {"a": 0, "b": 0, "c": 1}.items():
        train_mini(replace(TINY, output=tmp_path / run, seed=seed))
    assert same_weights(tmp_path / "a", tmp_path / "b") and not same_weights(tmp_path / "a", tmp_path / "c")


COMMAND = ["train", "mini", "cpu", "--resume", "--size", "32"]
COMMAND += ["--unet-channels", "32", "32", "--transformer-depth", "1", "1", "--text-width", "32", "--batch", "2"]
COMMAND += ["--save-every", "5", "--sample-every", "0", "--steps", "40"]


def test_a_training_that_is_killed_goes_on_and_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*COMMAND, "--output", str(whole)]) == 0
    # The bits of a sum depend on the number of threads: one, as in this process.
    run = [sys.executable, "-m", "unclutter.training", *COMMAND, "--output", str(killed)]
    process = subprocess.Popen(run, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (killed / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    step = torch.load(killed / "state.pt", weights_only=True)["step"]
    assert 5 <= step < 40
    assert main([*COMMAND, "--output", str(killed)]) == 0
    assert same_weights(whole, killed)
    steps = [entry["step"] for entry in log_of(killed) if "loss" in entry]
    assert steps == sorted(steps) and steps[-1] == 40
    assert [entry["step"] for entry in log_of(killed) if entry.get("event") == "start"][-1] == step


def test_a_training_goes_on_with_more_steps_but_not_with_another_network(tmp_path):
    train_mini(replace(TINY, output=tmp_path))
    with pytest.raises(ValueError, match=r"had other settings \(batch 2 -> 4\): resume with those"):
        train_mini(replace(TINY, output=tmp_path, batch=4, resume=True))
    train_mini(replace(TINY, output=tmp_path, steps=5, resume=True))
    assert log_of(tmp_path)[-1]["step"] == 5


def test_a_training_may_start_from_the_weights_of_another(tmp_path):
    train_mini(replace(TINY, output=tmp_path / "first"))
    slow = {"steps": 1, "learning_rate": 1e-12, "seed": 5}
    train_mini(replace(TINY, output=tmp_path / "second", initial=tmp_path / "first", **slow))
    assert same_weights(tmp_path / "first", tmp_path / "second")
    read = [(tmp_path / run / "vae.safetensors").read_bytes() for run in ("first", "second")]
    assert read[0] == read[1]


def test_unseen_holes_are_filled_measured_and_drawn_along_the_way(tmp_path):
    train_mini(replace(TINY, output=tmp_path, sample_every=3, difficulties=("objects",)))
    measured = log_of(tmp_path)[-1]
    assert 0 < measured["hole_db"] < 60 and 10 < measured["ring_db"] < 30
    assert (tmp_path / "samples" / "step_000003.png").stat().st_size > 1000


def test_weights_are_stored_in_half_precision_and_are_the_average(tmp_path):
    train_mini(replace(TINY, output=tmp_path))
    weights = files.load(tmp_path).weights["unet"]
    assert {value.dtype for value in weights.values()} == {torch.float16}
    last = torch.load(tmp_path / "state.pt", weights_only=True)["unet"]
    assert any(not torch.equal(last[key].half(), value) for key, value in weights.items())


def test_the_learning_rate_warms_up_stays_and_falls():
    config = replace(CPU, steps=10_000, learning_rate=1.0, decay=0.2)
    rates = [config.learning_rate_at(step) for step in (0, 299, 5000, 7999, 9000, 9999)]
    assert rates == pytest.approx([1 / 300, 1, 1, 1, 0.5, 1 / 2000])


def test_plain_attention_is_diffusers_attention():
    network = build_unet(replace(CPU, **SMALL)).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 97, 4, 4, generator=generator), torch.tensor([3, 900])
    text = torch.randn(2, 77, 32, generator=generator)
    expected = network(*inputs, text).sample
    network.set_attn_processor(PlainAttention())
    torch.testing.assert_close(network(*inputs, text).sample, expected, atol=1e-5, rtol=1e-4)


def test_a_missing_or_foreign_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="unclutter train mini"):
        files.load(tmp_path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "unet.safetensors")
    with pytest.raises(ValueError, match=r"expected mini\.unet"):
        files.load(tmp_path)


@pytest.mark.parametrize("wrong", [{"size": 36}, {"unet_channels": (64, 96)}, {"transformer_depth": (1,)}])
def test_a_network_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(CPU, **wrong)
