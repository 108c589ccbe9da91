import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

import unclutter.training.bench.one_step as bench_onestep_module
import unclutter.training.bench.train as bench_train_module
from unclutter.training.base_models.mini import load_mini
from unclutter.training.bench.attention import SETTINGS, bench_attention
from unclutter.training.bench.draft import bench_draft, photo_cases, round_hole, sample_cases
from unclutter.training.bench.guider import bench_guider
from unclutter.training.bench.layers import bench_layers, calls
from unclutter.training.bench.settings import (
    AttentionBenchConfig,
    DraftBenchConfig,
    GuiderBenchConfig,
    LayersBenchConfig,
    OneStepBenchConfig,
    TrainBenchConfig,
)
from unclutter.training.bench.train import bench_train
from unclutter.training.cli import main
from unclutter.training.images.files import read_image, write_image
from unclutter.training.sampling.layered import fresh_adapter


def test_attention_table_compares_every_method(capsys):
    rows = bench_attention(
        AttentionBenchConfig(tokens=(64,), masked=(0.1, 0.6), heads=2, width=8, repeats=1, markdown=True)
    )
    assert [row["masked"] for row in rows] == ["10%", "60%"]
    for row in rows:
        assert row["SDPA"] == 1 and {*SETTINGS, "dense mask", "plain formula"} <= set(row)
        assert all(math.isfinite(value) and value > 0 for value in row.values() if isinstance(value, float))
    assert "| N | masked |" in capsys.readouterr().out


def test_attention_table_by_the_shapes_of_families(monkeypatch):
    monkeypatch.setattr("unclutter.training.bench.attention.FAMILIES", {"Qwen-Image": (2, 8, 7)})
    monkeypatch.setattr("unclutter.training.bench.attention.PICTURE", 64)
    (row,) = bench_attention(AttentionBenchConfig(masked=(0.3,), repeats=1, families=True))
    assert row["family"] == "Qwen-Image" and row["heads"] == "2 of 8" and row["N"] == "71"


def test_guider_table_comes_from_a_real_server(comfyui_path):
    masg, sarg = bench_guider(GuiderBenchConfig(comfyui_path, size=64, steps=1, repeats=1))
    assert masg["step"].startswith("MASG") and sarg["step"].startswith("SARG")
    assert all(math.isfinite(row["ratio"]) for row in (masg, sarg))


def test_training_table_compares_the_recipes_with_the_example(capsys, monkeypatch):
    encoded = []

    def load(*_):
        base = load_mini()
        encoded.append(0)

        def encode(picture):
            encoded[-1] += 1
            return base.encode(picture)

        return replace(base, encode=encode)

    monkeypatch.setattr(bench_train_module, "load_base", load)
    example, *ours = bench_train(TrainBenchConfig(batch=2, repeats=1, markdown=True))
    assert encoded == [3 * 1, 3 * 2, 3 * 3]  # pictures that the help says, at each of three steps
    assert [row["step"] for row in ours] == ["LRNR", "EraDiff"]
    # The example adapts the output projection as well.
    assert all(row["trained, M"] < example["trained, M"] for row in ours)
    assert all(row["forward passes"] > 1 and math.isfinite(row["time of the example"]) for row in ours)
    assert "64×64 pixels, batch 2" in capsys.readouterr().out


def test_layers_table_takes_each_part_of_the_eraser_in_turn(capsys):
    rows = bench_layers(LayersBenchConfig(people=1, repeats=1, rank=2, markdown=True))
    assert [row["adapter"] for row in rows] == ["LoRAs", "LoRAs, SMA", "LoRAs, SMA, HMG"]
    for row in rows:
        assert all(math.isfinite(value) and value > 0 for value in row.values() if isinstance(value, float))
    assert "1 people, rank 2" in capsys.readouterr().out
    with pytest.raises(ValueError, match="people is 0"):
        bench_layers(LayersBenchConfig(people=0))


@torch.inference_mode()
def test_the_layered_network_of_the_bench_computes_what_the_plain_one_does():
    base = load_mini()
    plain, layered = calls(base, fresh_adapter(base.network, 2), 2, 64)
    for rows in (1, 3):
        torch.testing.assert_close(layered(rows), plain(rows), atol=1e-5, rtol=1e-5)


def test_onestep_table_compares_the_whole_with_its_parts_and_with_sampling(capsys, monkeypatch):
    calls_by_channels = Counter()

    def load(*_):
        base = load_mini()
        base.network.register_forward_hook(lambda _, inputs, output: calls_by_channels.update([output.sample.shape[1]]))
        return base

    monkeypatch.setattr(bench_onestep_module, "load_base", load)
    (row,) = bench_onestep_module.bench_onestep(OneStepBenchConfig(repeats=1, markdown=True))
    assert list(row) == ["VAE encode", "one call", "VAE decode", "whole", "sampling faster"]
    assert all(math.isfinite(value) and value > 0 for value in row.values())
    # Each way runs twice: 25 steps of two calls without an alpha; the parts, one call, the whole and one step with it.
    assert calls_by_channels == {12: 2 * 50, 13: 2 * 4}
    assert "64×64 pixels" in capsys.readouterr().out
    for wrong in ({"repeats": 0}, {"size": 65}):
        with pytest.raises(ValueError, match="must be"):
            bench_onestep_module.bench_onestep(OneStepBenchConfig(**wrong))


@pytest.mark.parametrize("command", ["layers", "onestep", "train"])
def test_the_base_of_a_bench_may_be_a_word(command, capsys):
    assert main(["bench", command, "--base", "mini", "--size", "64", "--repeats", "1", "--device", "cpu"]) == 0
    assert "mini" in capsys.readouterr().out


def test_the_draft_is_compared_with_the_fills_of_others(tmp_path, capsys):
    pytest.importorskip("cv2")
    picture, sheet = torch.rand(1, 3, 64, 72), tmp_path / "sheet.png"
    bright = picture.clone()
    bright[:, :, 20:40, 30:50] += 0.5
    write_image(tmp_path / "a_before.png", bright)
    write_image(tmp_path / "a_after.png", picture)
    (case,) = photo_cases(tmp_path)
    assert case.name == "a" and case.mask[0, 22:38, 32:48].all() and not case.mask[0, :5].any()
    (row,) = bench_draft(DraftBenchConfig(photos=tmp_path, sheet=sheet, slow=True, markdown=True, samples=()))
    assert set(row) == {"picture", "hole", "draft", "SHIFTMAP", "Telea", "object-remove"}
    assert "times SHIFTMAP's" in capsys.readouterr().out and read_image(sheet).shape[-1] > 6 * 240
    with pytest.raises(ValueError, match="NAME_mask.png"):
        photo_cases(tmp_path / "none")


def test_another_seed_makes_other_holes_and_an_unknown_picture_is_told():
    (case,), (again,), (other,) = (sample_cases(("moon",), seed) for seed in (0, 0, 1))
    assert torch.equal(case.mask, again.mask) and not torch.equal(case.mask, other.mask)
    assert torch.equal(case.image, other.truth)
    with pytest.raises(ValueError, match="no sample picture 'mona_lisa': choose from brick"):
        DraftBenchConfig(samples=("mona_lisa",)).check()


def test_round_holes_mark_a_twentieth_of_the_picture():
    for seed in range(5):
        assert round_hole(200, 300, seed).mean().item() == pytest.approx(0.05, rel=0.2)
