"""The shipped workflows: both formats agree, and every graph of the mini model runs in a real ComfyUI."""

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
from unclutter.training.comfyui import PACK
from unclutter.training.demo import METHODS, demo
from unclutter.training.pictures import read_image, read_mask, write_image

FOLDER = PACK / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
MINI = [name for name in NAMES if name.endswith("_mini")]
PHOTOS = PACK.parent / "shared" / "photos"
MODELS = ("ckpt_name", "unet_name", "clip_name1", "clip_name2", "vae_name")
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def api_graph(name):
    return json.loads((FOLDER / "api" / f"{name}.json").read_text())


def ui_graph(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def to_api(workflow, info):
    """What ComfyUI's page sends for a workflow, from the node schemas the server publishes."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        schema = info[node["type"]]
        linked = {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        values, inputs = list(node["widgets_values"]), {}
        for section in ("required", "optional"):
            for key in schema["input_order"].get(section, []):
                kind, *options = schema["input"][section][key]
                if isinstance(kind, list) or kind in WIDGETS:
                    inputs[key] = values.pop(0)
                    extra = options[0] if options else {}
                    for _ in ("control_after_generate", "image_upload"):
                        if extra.get(_):
                            values.pop(0)
                if key in linked:
                    inputs[key] = linked[key]
        assert not values, f"{node['title']} has values that no widget takes: {values}"
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node["title"]}}
    return graph


def test_every_method_has_its_graphs():
    methods = ("masg", "attentive_eraser", "sra", "lrnr", "eradiff", "osor", "osor_sampler", "mild")
    expected = {f"{method}_{size}" for method in methods for size in ("mini", "sdxl")} | {"osor_flux"}
    assert set(NAMES) == expected == {path.stem for path in (FOLDER / "api").glob("*.json")}


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_are_the_same_graph(comfy_server, name):
    assert to_api(ui_graph(name), comfy_server.object_info()) == api_graph(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_one_the_server_takes(comfy_server, name):
    info = comfy_server.object_info()
    for node in api_graph(name).values():
        schema = info[node["class_type"]]["input"]
        known = schema.get("required", {}) | schema.get("optional", {})
        assert set(schema.get("required", {})) <= set(node["inputs"]) <= set(known)
        for key, value in node["inputs"].items():
            kind, *options = known[key]
            choices = kind if isinstance(kind, list) else (options[0] if options else {}).get("options")
            # Pictures are the user's, and beyond the mini model so are checkpoints and adapters.
            own = ("image",) if name in MINI else ("image", *MODELS, "lora_name", "file")
            if choices and not isinstance(value, list) and key not in own:
                assert value in choices


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MINI])
def test_a_missing_model_can_be_downloaded_by_a_click(name):
    wanted, offered = set(), set()
    for node in api_graph(name).values():
        wanted |= {value for key, value in node["inputs"].items() if key in MODELS}
    for node in ui_graph(name)["nodes"]:
        for model in node.get("properties", {}).get("models", []):
            assert model["url"].startswith("https://") and model["url"].endswith(model["name"])
            assert model["directory"] in ("checkpoints", "diffusion_models", "text_encoders", "vae")
            offered.add(model["name"])
    assert offered == wanted and wanted


@pytest.mark.parametrize("name", NAMES)
def test_it_is_listed_with_a_thumbnail_groups_and_a_note(comfy_server, name):
    assert (FOLDER / f"{name}.jpg").stat().st_size < 60_000
    workflow = ui_graph(name)
    assert len(workflow["groups"]) >= 3
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    assert name in comfy_server.get("/api/workflow_templates").json()["ComfyUI-Unclutter"]


@pytest.fixture
def inputs(comfy_server):
    for picture in FOLDER.glob("example_*.png"):
        comfy_server.upload(picture)


@pytest.mark.parametrize("name", MINI)
def test_a_graph_removes_and_touches_nothing_else(comfy_server, inputs, name):
    graph = api_graph(name)
    for node in graph.values():
        if "steps" in node["inputs"] and not isinstance(node["inputs"]["steps"], list):
            node["inputs"]["steps"] = 4
    after = comfy_server.images(comfy_server.post(graph), "18").movedim(-1, 1)
    scene, marked = ("crowd", "crowd_3") if name == "mild_mini" else ("scene", "mask")
    before, mask = read_image(FOLDER / f"example_{scene}.png"), read_mask(FOLDER / f"example_{marked}.png")
    # The one-step erasers take the shadow too.
    growth = {"osor_mini": {"pixels": 12}, "osor_sampler_mini": {"percent": 60}}.get(name, {"percent": 7.5})
    hole = regions.grow(mask if name == "osor_mini" else regions.fill_holes(mask), **growth)
    band = regions.feather(hole, 2) > 0
    outside = ~band[:, None].expand_as(before)
    assert torch.equal(before[outside], after[outside])
    assert (before - after).abs()[mask[:, None].expand_as(before) > 0].mean() > 0.02


def test_every_subset_of_a_crowd_comes_from_one_sampling(comfy_server, inputs):
    graph, sampler = api_graph("mild_mini"), "13"
    graph[sampler]["inputs"]["seed"] = 7  # no other test has sampled this
    graph = {key: node for key, node in graph.items() if key not in ("15", "16", "17", "19", "20")}
    (before,) = read_image(FOLDER / "example_crowd.png")
    masks = torch.cat([read_mask(FOLDER / f"example_crowd_{number}.png") for number in (1, 2, 3)])
    holes = regions.grow(masks, percent=graph[sampler]["inputs"]["grow_percent"])
    sampled = []
    for gone in [set(chosen) for count in range(4) for chosen in itertools.combinations(range(3), count)]:
        graph["14"]["inputs"]["remove"] = ", ".join(str(k + 1) for k in gone) or "none"
        running = comfy_server.submit(graph)
        (after,) = comfy_server.images(comfy_server.wait(running), "18").movedim(-1, 1)
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
        ground = regions.feather(holes[sorted(gone)].sum(dim=0, keepdim=True), graph["14"]["inputs"]["feather"])[0] == 0
        assert torch.equal(before[:, ground], after[:, ground])
    assert sampled == [True] + 7 * [False]


def test_a_photo_goes_through_a_graph(comfy_server, tmp_path):
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    before = read_image(PHOTOS / "bench.jpg")
    write_image(tmp_path / "bench.png", before)  # ComfyUI decodes a JPEG by another library, to other pixels
    graph = api_graph("sra_mini")
    for node in graph.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = comfy_server.upload(tmp_path / "bench.png")
        if node["class_type"] == "LoadImageMask":
            node["inputs"]["image"] = comfy_server.upload(PHOTOS / "bench_mask.png")
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 3
    after = comfy_server.images(comfy_server.post(graph), "18").movedim(-1, 1)
    mask = read_mask(PHOTOS / "bench_mask.png")
    assert after.shape == before.shape
    grown = regions.grow(regions.fill_holes(mask), percent=7.5)
    far = (regions.feather(grown, 2) == 0)[:, None].expand_as(before)
    assert torch.equal(before[far], after[far]) and not torch.equal(before, after)


@pytest.mark.parametrize("name", ["masg", "attentive_eraser", "sra"])
def test_a_graph_runs_through_comfy_cli(comfy_server, inputs, tmp_path, name):
    comfy = shutil.which("comfy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert comfy, "comfy-cli is part of the dev extra: pip install -e '.[dev]'"
    graph = api_graph(f"{name}_mini")
    (scheduled,) = [node["inputs"] for node in graph.values() if "steps" in node["inputs"]]
    scheduled["steps"] = 2
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
    assert set((comfy_server.base_directory / "output" / "unclutter").glob(f"{name}_*.png")) - before


def test_the_demo_runs_every_method_in_comfyui_as_in_diffusers(comfyui_path, tmp_path):
    scores = demo(tmp_path / "comfyui.png", scenes=1, steps=2, comfyui=comfyui_path)
    assert list(scores) == list(METHODS) and all(score.outside == 0 for score in scores.values())
    in_diffusers = demo(tmp_path / "diffusers.png", scenes=1, steps=2)
    for name, score in scores.items():
        assert abs(score.hole_psnr - in_diffusers[name].hole_psnr) < 0.5, name
