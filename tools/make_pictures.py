"""Makes the thumbnails of the templates, before | after, from the weights that ship now.

    python -m unclutter.tools.make_pictures      or: make pictures

Needs a ComfyUI (COMFYUI_PATH). A template whose model does not ship shows the picture and what would be removed instead: it
promises nothing that has not been seen.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unclutter.tools.comfy_page import comfyui_path
from unclutter.tools.templates import APPS, TEMPLATES
from unclutter.training.comfyui_server import PACK, ComfyServer

FOLDER = PACK / "workflows"
WIDTH, HEIGHT, LINE = 512, 384, 4
MODEL_FILES = ("ckpt_name", "unet_name")


def pair(server: ComfyServer, graph: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The picture of a graph in API format and what comes of it, [H,W,3] each."""
    source = next(key for key, node in graph.items() if node["class_type"] in ("LoadImage", "UnclutterExampleScene"))
    if any(name in node["inputs"] for node in graph.values() for name in MODEL_FILES):
        marked = {"image": [source, 0], "mask": [source, 1], "grow_percent": 0.0, "grow_pixels": 0}
        marked |= {"fill_holes": True, "min_area": 0}
        graph = {source: graph[source], "marked": {"class_type": "UnclutterPrepareMask", "inputs": marked}}
        after = "after"
        graph[after] = {"class_type": "PreviewImage", "inputs": {"images": ["marked", 1]}}
    else:
        (after,) = [key for key, node in graph.items() if node["class_type"] == "SaveImage"]
    graph["before"] = {"class_type": "PreviewImage", "inputs": {"images": [source, 0]}}
    outputs = server.post({key: {**node, "_meta": {"title": key}} for key, node in graph.items()})
    return server.images(outputs, "before")[0], server.images(outputs, after)[0]


def side_by_side(before: Tensor, after: Tensor) -> Image.Image:
    """Both pictures cut to half of a thumbnail each, with a white line between."""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for left, picture in ((0, before), (WIDTH // 2 + LINE // 2, after)):
        image = Image.fromarray((picture * 255).round().to(torch.uint8).numpy())
        half = (WIDTH // 2 - LINE // 2, HEIGHT)
        scale = max(half[0] / image.width, half[1] / image.height)
        small = min(image.size) <= 128 or scale > 2
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)),
            Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS,
        )
        x, y = (image.width - half[0]) // 2, (image.height - half[1]) // 2
        canvas.paste(image.crop((x, y, x + half[0], y + half[1])), (left, 0))
    return canvas


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui_path(), Path(folder)) as server:
        for name in TEMPLATES:
            graph = json.loads((FOLDER / "api" / f"{name}.json").read_text())
            thumbnail = side_by_side(*pair(server, graph))
            for file in (name, *([f"{name}.app"] if name in APPS else [])):
                thumbnail.save(FOLDER / f"{file}.jpg", quality=85, optimize=True)
            print(name)


if __name__ == "__main__":
    main()
