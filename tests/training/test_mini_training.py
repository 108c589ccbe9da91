import json
from dataclasses import replace

import pytest
import torch

from unclutter.adapters import mini as files
from unclutter.training import adapt
from unclutter.training import demo as demo_module
from unclutter.training.demo import METHODS, demo
from unclutter.training.mini.config import CPU, GPU
from unclutter.training.mini.train import train_mini
from unclutter.training.sampling import Plain, load_mini, remove

TINY = replace(CPU, size=32, unet_channels=(32, 32), transformer_depth=(1, 1), steps=3, batch=2, text_width=32)


@pytest.mark.parametrize("vae_channels", [None, (32, 32, 32, 32)], ids=["patches", "vae"])
def test_training_writes_a_model_that_fills_holes(tmp_path, vae_channels):
    train_mini(replace(TINY, vae_channels=vae_channels, vae_steps=2, vae_batch=2, output=tmp_path))
    log = [json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "unet" and log[-1]["step"] == 3
    base = load_mini(tmp_path)
    assert base.inpaints and base.native_size == 32
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:20, 8:20] = 1
    picture = torch.rand(1, 3, 32, 32)
    out = remove(base, picture, mask, Plain(), steps=2)
    assert out.shape == picture.shape and out.isfinite().all()
    assert not torch.equal(out, remove(base, picture, mask, Plain(), steps=2, seed=1))
    assert not list(tmp_path.glob(".*"))


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
    for module in (demo_module, adapt):  # as though it had been copied into the pack
        monkeypatch.setattr(module, "load_mini", lambda: load_mini(tmp_path))
    scores = demo(tmp_path / "sheet.png", scenes=1, steps=1)
    assert scores.keys() == METHODS.keys() - {"lrnr"}
    out = " ".join(capsys.readouterr().out.split())
    assert "lrnr is left out: 0 of the LoRA's" in out and "made for another model." in out


def test_the_same_seed_trains_the_same_weights(tmp_path):
    for run in ("a", "b"):
        train_mini(replace(TINY, output=tmp_path / run))
    first, second = files.load(tmp_path / "a"), files.load(tmp_path / "b")
    assert all(torch.equal(value, second.weights["unet"][key]) for key, value in first.weights["unet"].items())


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
