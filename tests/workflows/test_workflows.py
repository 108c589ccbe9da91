"""The shipped workflows without the page: what they offer, and what every graph of the mini model makes in a real ComfyUI.

Whether both formats are the same graph, and whether the page accepts it, is asked in tests/page.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unclutter.kernels import regions
from unclutter.kernels.layers import visible_masks
from unclutter.tools.templates import APPS, TEMPLATES
from unclutter.training.comfyui_server import PACK
from unclutter.training.evaluation.demo import METHODS, demo
from unclutter.training.evaluation.settings import DemoConfig
from unclutter.training.images.files import read_image, read_mask, write_image

FOLDER = PACK / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if not path.stem.endswith(".app"))
TOYS = [name for name in NAMES if name.startswith("Toy model")]
PHOTOS = PACK.parent / "shared" / "photos"
MODELS = ("ckpt_name", "unet_name", "clip_name", "clip_name1", "clip_name2", "vae_name", "lora_name", "file")
FOLDERS = {"checkpoints", "diffusion_models", "text_encoders", "vae", "loras"}


def api_graph(name, **changes):
    """A shipped graph with inputs changed by class: KSampler={"steps": 4}."""
    nodes = json.loads((FOLDER / "api" / f"{name}.json").read_text())
    for node in nodes.values():
        node["inputs"] |= changes.get(node["class_type"], {})
    return nodes


def ui_graph(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def key_of(graph, kind):
    (key,) = [key for key, node in graph.items() if node["class_type"] == kind]
    return key


def quick(name):
    """A toy's graph with few steps, and its result in the size of the scene."""
    steps = {
        kind: {"steps": 4}
        for kind in ("KSampler", "BasicScheduler", "UnclutterLayeredSampler", "UnclutterRemoveObject")
    }
    return api_graph(name, ImageScaleBy={"scale_by": 1.0}, **steps)


def scene_of(server, graph, masks=1):
    """The drawing of a graph's Example Scene: its picture [1,3,H,W], and its mask, or with masks=2 all of them, [N,H,W]."""
    source = key_of(graph, "UnclutterExampleScene")
    nodes = {
        source: graph[source],
        "shown": {"class_type": "PreviewImage", "inputs": {"images": [source, 0]}, "_meta": {}},
        "white": {"class_type": "MaskToImage", "inputs": {"mask": [source, masks]}, "_meta": {}},
        "marked": {"class_type": "PreviewImage", "inputs": {"images": ["white", 0]}, "_meta": {}},
    }
    outputs = server.post(nodes)
    return server.images(outputs, "shown").movedim(-1, 1), (server.images(outputs, "marked")[..., 0] > 0.5).float()


def test_every_template_is_there_in_both_formats():
    assert (
        set(NAMES)
        == set(TEMPLATES)
        == {path.stem for path in (FOLDER / "api").glob("*.json") if "_mini" not in path.stem}
    )
    apps = {path.stem.removesuffix(".app") for path in FOLDER.glob("*.app.json")}
    assert apps == set(APPS) and all(ui_graph(f"{name}.app")["extra"]["linearMode"] for name in apps)


def test_a_newcomer_meets_them_in_a_sensible_order():
    """By the alphabet, A → Z in the browser: no model first, then SDXL; what has to be trained first comes last."""
    ordered = sorted(NAMES, key=str.casefold)
    assert ordered[:2] == ["Remove an object, no model", "Remove an object, SDXL"]
    kinds = [name.split(" ")[0] for name in ordered]
    assert [kind for kind, _ in itertools.groupby(kinds)] == ["Remove", "Steps", "Toy", "Train"]
    assert all(len(name) <= 31 for name in NAMES), "the template browser cuts longer names"


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("Toy")])
def test_a_missing_model_can_be_downloaded_by_a_click(name):
    """All but what nobody offers: such a file has to be trained, and the template's name says so."""
    wanted, offered = set(), set()
    for node in api_graph(name).values():
        wanted |= {value for key, value in node["inputs"].items() if key in MODELS}
    for node in ui_graph(name)["nodes"]:
        for model in node.get("properties", {}).get("models", []):
            assert model["url"].startswith("https://") and model["url"].endswith(f"/{model['name']}")
            assert model["directory"] in FOLDERS
            offered.add(model["name"])
    assert offered <= wanted
    assert {bool(file) for file in wanted - offered} == ({True} if name.startswith("Train first") else set())


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}.app" for name in APPS)])
def test_it_is_listed_with_a_thumbnail_groups_and_a_note(comfy_server, name):
    assert (FOLDER / f"{name}.jpg").stat().st_size < 60_000
    workflow = ui_graph(name)
    assert len(workflow["groups"]) >= 3
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    assert name in comfy_server.get("/api/workflow_templates").json()["ComfyUI-Unclutter"]


@pytest.mark.parametrize("name", [name for name in TOYS if "people" not in name])
def test_a_graph_removes_and_touches_nothing_else(comfy_server, name):
    graph = quick(name)
    after = comfy_server.images(comfy_server.post(graph), key_of(graph, "SaveImage")).movedim(-1, 1)
    before, mask = scene_of(comfy_server, graph)
    # The one-step erasers take the shadow too.
    growth = {"Toy model, remove in one step": {"pixels": 12}, "Toy model, steps of one step": {"percent": 60}}
    hole = mask if name == "Toy model, remove in one step" else regions.fill_holes(mask)
    hole = regions.grow(hole, **growth.get(name, {"percent": 7.5}))
    feather = 8 if name == "Toy model, remove an object" else 2
    outside = ~(regions.feather(hole, feather) > 0)[:, None].expand_as(before)
    assert torch.equal(before[outside], after[outside])
    assert (before - after).abs()[mask[:, None].expand_as(before) > 0].mean() > 0.02


def test_every_subset_of_a_crowd_comes_from_one_sampling(comfy_server):
    graph = quick("Toy model, remove people")
    sampler, saved = key_of(graph, "UnclutterLayeredSampler"), key_of(graph, "SaveImage")
    composer = next(key for key, node in graph.items() if node["_meta"]["title"] == "Without person 3")
    graph[sampler]["inputs"]["seed"] = 7  # no other test has sampled this
    wanted = {saved, composer, sampler, *(key for key in graph if graph[key]["class_type"] == "ImageScaleBy")}
    drop = {"PreviewImage", "MaskPreview", "UnclutterSaveLayers", "UnclutterComposeLayers"}
    graph = {key: node for key, node in graph.items() if key in wanted or node["class_type"] not in drop}
    (before,), masks = scene_of(comfy_server, graph, masks=2)
    holes = regions.grow(masks, percent=graph[sampler]["inputs"]["grow_percent"])
    sampled = []
    for gone in [set(chosen) for count in range(4) for chosen in itertools.combinations(range(3), count)]:
        graph[composer]["inputs"]["remove"] = ", ".join(str(k + 1) for k in gone) or "none"
        running = comfy_server.submit(graph)
        (after,) = comfy_server.images(comfy_server.wait(running), saved).movedim(-1, 1)
        messages = dict(comfy_server.get(f"/history/{running}").json()[running]["status"]["messages"])
        sampled.append(sampler not in messages["execution_cached"]["nodes"])
        changed = ((before - after).abs() > 2 / 255).any(dim=0)
        # What is filled is wider than a removed person, and so covers the very edge of those behind them.
        filled = torch.stack([holes[k] if k in gone else masks[k] for k in range(3)])
        for k, seen in enumerate(visible_masks(masks)):
            if k in gone:
                assert changed[seen > 0].float().mean() > 0.5, f"person {k + 1} of {gone} is still there"
            else:
                own = (seen * visible_masks(filled)[k] > 0).expand_as(before)
                assert own.sum() > 0.5 * 3 * seen.sum() and torch.equal(before[own], after[own])
        feather = graph[composer]["inputs"]["feather"]
        ground = regions.feather(holes[sorted(gone)].sum(dim=0, keepdim=True), feather)[0] == 0
        assert torch.equal(before[:, ground], after[:, ground])
    assert sampled == [True] + 7 * [False]


def test_a_photo_goes_through_a_graph(comfy_server, tmp_path):
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    before = read_image(PHOTOS / "bench.jpg")
    write_image(tmp_path / "bench.png", before)  # ComfyUI decodes a JPEG by another library, to other pixels
    graph = api_graph("Toy model, remove by SRA", KSampler={"steps": 3}, ImageScaleBy={"scale_by": 1.0})
    source = key_of(graph, "UnclutterExampleScene")
    picture, painted = comfy_server.upload(tmp_path / "bench.png"), comfy_server.upload(PHOTOS / "bench_mask.png")
    graph["photo"] = {"class_type": "LoadImage", "inputs": {"image": picture}, "_meta": {}}
    graph["painted"] = {"class_type": "LoadImageMask", "inputs": {"image": painted, "channel": "red"}, "_meta": {}}
    for node in graph.values():
        for key, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == source:
                node["inputs"][key] = ["photo", 0] if value[1] == 0 else ["painted", 0]
    after = comfy_server.images(comfy_server.post(graph), key_of(graph, "SaveImage")).movedim(-1, 1)
    mask = read_mask(PHOTOS / "bench_mask.png")
    assert after.shape == before.shape
    grown = regions.grow(regions.fill_holes(mask), percent=7.5)
    far = (regions.feather(grown, 2) == 0)[:, None].expand_as(before)
    assert torch.equal(before[far], after[far]) and not torch.equal(before, after)


@pytest.mark.parametrize(
    ("name", "prefix"), [("Toy model, remove by MASG", "masg"), ("Remove an object, no model", "draft")]
)
def test_a_graph_runs_through_comfy_cli(comfy_server, tmp_path, name, prefix):
    """With nothing copied: the example picture too, which lies in ComfyUI's temporary folder."""
    comfy = shutil.which("comfy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert comfy, "comfy-cli is part of the dev extra: pip install -e '.[dev]'"
    graph = quick(name)
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph))
    before = set((comfy_server.base_directory / "output" / "unclutter").glob("*"))
    host, port = comfy_server.address.split(":")
    done = subprocess.run(
        [comfy, "--skip-prompt", "run", "--workflow", str(file), "--where", "local", "--wait"]
        + ["--host", host, "--port", port, "--timeout", "120"],
        env={**os.environ, "DO_NOT_TRACK": "1", "COMFY_NO_WATCH": "1", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set((comfy_server.base_directory / "output" / "unclutter").glob(f"{prefix}_*.png")) - before


def test_the_demo_runs_every_method_in_comfyui_as_in_diffusers(comfyui_path, tmp_path):
    scores = demo(DemoConfig(tmp_path / "comfyui.png", scenes=1, steps=2, comfyui=comfyui_path))
    assert list(scores) == list(METHODS) and all(score.outside == 0 for score in scores.values())
    in_diffusers = demo(DemoConfig(tmp_path / "diffusers.png", scenes=1, steps=2))
    for name, score in scores.items():
        assert abs(score.hole_psnr - in_diffusers[name].hole_psnr) < 0.5, name
