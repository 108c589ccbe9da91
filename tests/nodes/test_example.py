"""Example Scene in a real ComfyUI: what its outputs hold, and that a graph with it runs with nothing loaded."""

from __future__ import annotations

import pytest
import torch

from unclutter.adapters import mini
from unclutter.training.base_models.mini import load_mini
from unclutter.training.evaluation.measures import decibels, error

DIFFICULTIES = ["objects", "smooth", "texture", "clutter", "crowd", "people"]


def drawn(server, **inputs):
    """The outputs of the node, as ComfyUI saves them: image, mask, masks, truth, pose, parsing."""
    nodes = {"1": {"class_type": "UnclutterExampleScene", "inputs": {"seed": 1, "difficulty": "objects", **inputs}}}
    for index, kind in enumerate(("image", "mask", "mask", "image", "image", "image")):
        source = ["1", index]
        if kind == "mask":
            nodes[f"m{index}"] = {"class_type": "MaskToImage", "inputs": {"mask": source}}
            source = [f"m{index}", 0]
        save = {"images": source, "filename_prefix": f"example/{index}"}
        nodes[f"s{index}"] = {"class_type": "SaveImage", "inputs": save}
    outputs = server.post(nodes)
    return [server.images(outputs, f"s{index}") for index in range(6)]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_truth_differs_from_the_scene_where_the_mask_is(comfy_server, difficulty):
    image, mask, masks, truth, pose, parsing = drawn(comfy_server, difficulty=difficulty, size=96)
    assert image.shape == truth.shape == mask.shape == pose.shape == parsing.shape == (1, 96, 96, 3)
    assert any(torch.equal(mask[0], one) for one in masks) and masks.sum(dim=0).max() <= 1
    change = (image - truth).abs().amax(dim=-1)
    inside = mask[..., 0] > 0.5
    assert change[inside].mean() > 5 * change[~inside].mean() and change[inside].mean() > 0.1
    assert (pose.amax(dim=-1) > 0).any() and set((parsing * 255).round().unique().tolist()) <= {0, 1, 2, 3, 4}
    assert len(masks) == 3 if difficulty in ("crowd", "people") else 3 <= len(masks) <= 7


def test_another_seed_draws_another_scene_and_the_largest_one_is_taken(comfy_server):
    first, second = drawn(comfy_server, seed=1)[0], drawn(comfy_server, seed=2)[0]
    assert not torch.equal(first, second)
    assert drawn(comfy_server, seed=0xFFFFFFFFFFFFFFFF)[0].shape == first.shape


def test_as_it_comes_it_draws_what_the_mini_model_was_trained_on(comfy_server):
    info = comfy_server.object_info()["UnclutterExampleScene"]["input"]
    difficulty = info["required"]["difficulty"][1]
    size = info["optional"]["size"][1]
    assert difficulty["default"] == mini.DIFFICULTY and size["default"] == load_mini().native_size


def test_a_removal_graph_runs_with_nothing_loaded(comfy_server):
    nodes = {
        "1": {"class_type": "UnclutterExampleScene", "inputs": {"seed": 3, "difficulty": mini.DIFFICULTY}},
        "2": {"class_type": "UnclutterLoadMini", "inputs": {}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 1], "text": ""}},
        "4": {
            "class_type": "UnclutterRemovalConditioning",
            "inputs": {
                **{"positive": ["3", 0], "negative": ["3", 0], "vae": ["2", 2], "image": ["1", 0], "mask": ["1", 1]},
                **{"condition_image": "masked grey", "mask_pooling": "max", "keep_background": True},
            },
        },
        "5": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["2", 0], "positive": ["4", 0], "negative": ["4", 1], "latent_image": ["4", 2]},
                **{"seed": 0, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["2", 2]}},
    }
    for name, source in {"scene": ["1", 0], "result": ["6", 0], "truth": ["1", 3]}.items():
        nodes[name] = {"class_type": "SaveImage", "inputs": {"images": source, "filename_prefix": f"example/{name}"}}
    nodes["7"] = {"class_type": "MaskToImage", "inputs": {"mask": ["1", 1]}}
    nodes["mask"] = {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "example/mask"}}
    outputs = comfy_server.post(nodes)
    saved = {name: comfy_server.images(outputs, name) for name in ("scene", "result", "truth", "mask")}
    scene, result, truth = (saved[name].movedim(-1, 1) for name in ("scene", "result", "truth"))
    mask = saved["mask"][..., 0]
    assert decibels(error(result, truth, mask)).item() > 5 and not torch.equal(result, scene)
