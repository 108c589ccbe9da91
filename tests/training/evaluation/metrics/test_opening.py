"""Metrics are opened by name; what is missing is named with the way to get it."""

import pickle
import re

import pytest
import torch

from unclutter.training.evaluation.metrics.facts import METRICS, WITHOUT_WEIGHTS
from unclutter.training.evaluation.metrics.networks import DOWNLOAD, NETWORKS, check_weights
from unclutter.training.evaluation.metrics.opening import open_metrics


def test_every_metric_opens_with_its_weights_and_networks_are_loaded_once(weights):
    names = [name for name, facts in METRICS.items() if not facts.judged]
    opened, gaps = open_metrics(names, weights)
    assert not gaps and [metric.name for metric in opened] == names
    by_name = {metric.name: metric for metric in opened}
    assert by_name["fid"].network is by_name["kid"].network
    assert by_name["clip-score"].network is by_name["consensus"].network is not by_name["cmmd"].network
    assert by_name["remove"].network is by_name["cfd"].sam


def test_without_weights_each_gap_says_what_is_missing_and_how_to_get_it():
    opened, gaps = open_metrics(list(METRICS))
    assert tuple(metric.name for metric in opened) == WITHOUT_WEIGHTS
    assert set(gaps) == set(METRICS) - set(WITHOUT_WEIGHTS)
    assert gaps["clip-score"] == (
        "clip-score needs CLIP ViT-L/14 (MIT): run `hf download openai/clip-vit-large-patch14 --local-dir FOLDER` and give "
        "--weights clip=FOLDER, or --weights clip=download."
    )
    assert re.search(r"fid needs Inception v3 .* get https://\S+\.pth and give --weights inception=FILE", gaps["fid"])


def test_weights_that_do_not_fit_are_a_gap_that_says_so(weights, tmp_path):
    wrong = {
        "inception": weights["alexnet"],
        "alexnet": weights["inception"],
        "clip": weights["dino"] / "nothing",
        "dino": tmp_path,
        "sam": weights["alexnet"],
    }
    opened, gaps = open_metrics(["fid", "lpips", "clip-score", "dino", "remove", "cfd", "psnr"], wrong)
    assert [metric.name for metric in opened] == ["psnr"]
    assert "cannot be loaded" in gaps["fid"] and "inception" in gaps["fid"]
    assert "0 of the 10 tensors of AlexNet" in gaps["lpips"]
    for name in ("clip-score", "dino", "remove", "cfd"):
        assert "cannot be loaded from" in gaps[name] and "--weights" in gaps[name]


def test_a_folder_of_another_network_is_a_gap_and_not_a_random_network(weights):
    swapped = {"clip": weights["dino"], "dino": weights["clip"], "sam": weights["dinov2"]}
    opened, gaps = open_metrics(["clip-score", "dino", "remove"], swapped)
    assert not opened and set(gaps) == {"clip-score", "dino", "remove"}, gaps


def test_a_file_that_holds_code_is_never_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return open, (str(tmp_path / "harm"), "w")

    path = tmp_path / "inception.pth"
    torch.save({"fc.weight": torch.zeros(1)}, path)
    path.write_bytes(pickle.dumps({"fc.weight": Harmful()}))
    _, gaps = open_metrics(["fid", "lpips"], {"inception": path, "alexnet": path})
    assert set(gaps) == {"fid", "lpips"} and not (tmp_path / "harm").exists()


def test_a_download_that_fails_is_a_gap(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    _, gaps = open_metrics(["dino"], {"dino": DOWNLOAD})
    assert "cannot be loaded from download" in gaps["dino"] and "facebook/dino-vitb16" in gaps["dino"]


def test_paths_are_checked_before_anything_is_loaded(weights, tmp_path):
    check_weights({**weights, "sam": DOWNLOAD})
    with pytest.raises(ValueError, match="There is no network vgg .* expected alexnet, inception"):
        check_weights({"vgg": tmp_path})
    with pytest.raises(FileNotFoundError, match=r"nothing at .*clip, the weights of clip: run `hf download"):
        check_weights({"clip": tmp_path / "clip"})


def test_every_network_says_its_licence_and_is_needed():
    assert {name for facts in METRICS.values() for name in facts.networks} == set(NETWORKS)
    assert all(facts.licence and facts.source for facts in NETWORKS.values())
