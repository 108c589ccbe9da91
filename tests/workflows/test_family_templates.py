"""The templates of FLUX.2 Klein, Qwen-Image-Edit, Z-Image and Stable Diffusion 3.5, each on tiny files of its family in a
real server: nothing of the graph is changed but the size at which it works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unclutter.kernels import regions
from unclutter.training.comfyui_server import PACK, PACK_FOLDER, ComfyServer

GRAPHS = PACK / "workflows" / "api"
TEMPLATES = {
    "Remove by asking, FLUX.2 Klein": ("Flux2", "4 steps from noise, removal scale 1, at"),
    "Remove by asking, Qwen Edit": ("QwenImage", "20 steps from noise, removal scale 1 and guidance 2.5, at"),
    "Remove by attention, Z-Image": ("Lumina2", "8 steps from the draft at denoise 0.8, removal scale 1, at"),
    "Remove by attention, SD 3.5": ("SD3", "28 steps from the draft at denoise 0.8, removal scale 1, at"),
}
"""The network that ComfyUI has to load, and what the node has to say."""


@pytest.fixture(scope="module")
def server(comfy, comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    from unclutter.tests.nodes import tiny_family_files

    folder = tmp_path_factory.mktemp("families")
    server = ComfyServer(comfyui_path, folder, ("--whitelist-custom-nodes", PACK_FOLDER, "tiny_family_files"))
    (folder / "custom_nodes" / "tiny_family_files").symlink_to(PACK / "tests" / "nodes" / "tiny_family_files")
    tiny_family_files.write(folder / "models")
    with server:
        yield server


def run(server: ComfyServer, graph: dict) -> tuple[dict, str]:
    """The outputs of a graph, and all that its nodes say to the page meanwhile."""
    import websocket

    events = websocket.create_connection(f"ws://{server.address}/ws?clientId={server.client_id}", timeout=120)
    running, words = server.submit(graph), b""
    while True:
        message = events.recv()
        if isinstance(message, bytes):
            kind, rest = int.from_bytes(message[:4], "big"), message[4:]
            words += rest if kind == 3 else b""  # text; else a preview
            continue
        event = json.loads(message)
        if event["type"] in ("execution_success", "execution_error") and event["data"]["prompt_id"] == running:
            events.close()
            return server.wait(running), words.decode(errors="replace")


def ernie(graph: dict) -> dict:
    """Z-Image's template with the loaders that ERNIE-Image asks for; its text encoder is another one, which stands in."""
    keys = {node["class_type"]: key for key, node in graph.items()}
    graph[keys["UNETLoader"]]["inputs"]["unet_name"] = "ernie-image-turbo.safetensors"
    graph[keys["VAELoader"]]["inputs"]["vae_name"] = "flux2-vae.safetensors"
    graph[keys["UnclutterRemoveObject"]]["inputs"] |= {"model": [keys["UNETLoader"], 0], "steps": 0}
    del graph[keys["ModelSamplingAuraFlow"]]
    return graph


@pytest.mark.parametrize("name", [*TEMPLATES, "ERNIE-Image"])
def test_a_template_runs_on_files_of_its_family(server, name):
    network, said = TEMPLATES.get(name, ("ErnieImage", "8 steps from the draft at denoise 0.8, removal scale 1, at"))
    graph = json.loads((GRAPHS / f"{name if name in TEMPLATES else 'Remove by attention, Z-Image'}.json").read_text())
    graph = graph if name in TEMPLATES else ernie(graph)
    keys = {node["class_type"]: key for key, node in graph.items()}
    remove, load = graph[keys["UnclutterRemoveObject"]]["inputs"], keys["LoadImage"]
    remove["resolution"] = 128
    graph |= {
        "white": {"class_type": "MaskToImage", "inputs": {"mask": [load, 1]}},
        "picture": {"class_type": "PreviewImage", "inputs": {"images": [load, 0]}},
        "marked": {"class_type": "PreviewImage", "inputs": {"images": ["white", 0]}},
    }
    read = len(server.log())
    outputs, words = run(server, graph)
    log = server.log()[read:]
    before, after = (server.images(outputs, key).movedim(-1, 1) for key in ("picture", keys["SaveImage"]))
    mask = (server.images(outputs, "marked")[..., 0] > 0.5).float()
    hole = regions.feather(regions.grow(regions.fill_holes(mask), percent=7.5), remove["feather"])
    outside = (hole == 0)[:, None].expand_as(before)
    assert outside.float().mean() > 0.3 and torch.equal(before[outside], after[outside])
    assert (before - after).abs().mean(1)[mask > 0].mean() > 0.05
    assert f"Requested to load {network}\n" in log
    assert said in words and "auto took Attentive Eraser" in words
    assert not re.findall(r".*(?:not loaded|missing|unexpected|left over|NaN|invalid value).*", log)
