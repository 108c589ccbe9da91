"""Makes the thumbnails of the templates, before | after, from the weights that ship now.

    python -m unclutter.tools.make_pictures [NAME ...]      or: make pictures

Needs a ComfyUI (COMFYUI_PATH). A template whose model does not ship shows the picture and what would be removed instead, with
the model's name, and the words or the box by which the object is found: it promises nothing that has not been seen.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unclutter.adapters import photos
from unclutter.tools.comfy_page import comfyui_path
from unclutter.tools.templates import APPS, TEMPLATES
from unclutter.training.comfyui_server import PACK, ComfyServer

FOLDER = PACK / "workflows"
WIDTH, HEIGHT, LINE = 512, 384, 4
FONT, MARGIN, FRAME = 26, 8, "#ffd400"
MODEL_FILES = ("ckpt_name", "unet_name")


def needs_a_model(graph: dict[str, Any]) -> bool:
    return any(name in node["inputs"] for node in graph.values() for name in MODEL_FILES)


def pair(server: ComfyServer, graph: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The picture of a graph in API format and what comes of it, [H,W,3] each."""
    source = next(key for key, node in graph.items() if node["class_type"] in ("LoadImage", "UnclutterExampleScene"))
    if needs_a_model(graph):
        marked = {"image": [source, 0], "mask": [source, 1], "grow_percent": 0.0, "grow_pixels": 0}
        marked |= {"fill_holes": True, "min_area": 0}
        photo = str(graph[source]["inputs"].get("image", "")).partition(".")[0].removeprefix("unclutter_")
        of_words = photos.FOLDER / f"{photo}_{asked_for(graph)[0]}.png"
        graph = {source: graph[source], "marked": {"class_type": "UnclutterPrepareMask", "inputs": marked}}
        if of_words.is_file():  # another object of the photograph than the one that its own mask marks
            marked["mask"] = ["named", 0]
            named = {"image": server.upload(of_words), "channel": "red"}
            graph["named"] = {"class_type": "LoadImageMask", "inputs": named}
        after = "after"
        graph[after] = {"class_type": "PreviewImage", "inputs": {"images": ["marked", 1]}}
    else:
        (after,) = [key for key, node in graph.items() if node["class_type"] == "SaveImage"]
    graph["before"] = {"class_type": "PreviewImage", "inputs": {"images": [source, 0]}}
    outputs = server.post({key: {**node, "_meta": {"title": key}} for key, node in graph.items()})
    return server.images(outputs, "before")[0], server.images(outputs, after)[0]


def asked_for(graph: dict[str, Any]) -> tuple[str, list[dict[str, int]]]:
    """The words and the boxes (x, y, width, height, in pixels of the picture) by which the graph finds what goes."""
    words, boxes = "", []
    for node in graph.values():
        inputs = node["inputs"]
        boxes += inputs.get("editor_state", {}).get("__value__", [])
        if node["class_type"] == "SAM3_Detect" and "conditioning" in inputs:
            words = graph[inputs["conditioning"][0]]["inputs"]["text"].partition(":")[0]
    return words, boxes


def side_by_side(
    before: Tensor, after: Tensor, words: str = "", boxes: Sequence[dict[str, int]] = (), model: str = ""
) -> Image.Image:
    """Both pictures cut to half of a thumbnail each around what differs, with a white line between; the boxes and the words
    stand on the first, the model's name on the second."""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
    factor = len(after) // len(before)  # a toy's result is enlarged
    before = before.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    columns = ((before - after).abs().amax(dim=(0, 2)) > 0.1).nonzero().float()
    middle = columns.mean().item() / before.shape[1] if len(columns) else 0.5
    for left, picture, text in ((0, before, words), (WIDTH // 2 + LINE // 2, after, model)):
        image = Image.fromarray((picture * 255).round().to(torch.uint8).numpy())
        for box in boxes if left == 0 else ():
            corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
            ImageDraw.Draw(image).rectangle(corners, outline=FRAME, width=max(image.width // 120, 1))
        half = (WIDTH // 2 - LINE // 2, HEIGHT)
        scale = max(half[0] / image.width, half[1] / image.height)
        small = min(image.size) <= 128 or scale > 2
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)),
            Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS,
        )
        x = min(max(round(middle * image.width - half[0] / 2), 0), image.width - half[0])
        y = (image.height - half[1]) // 2
        canvas.paste(image.crop((x, y, x + half[0], y + half[1])), (left, 0))
        if text:
            label(canvas, text, left)
    return canvas


def label(canvas: Image.Image, text: str, left: int) -> None:
    """Writes a text into the lower left corner of the half that begins at `left`."""
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    top = HEIGHT - FONT - 3 * MARGIN
    draw.rectangle((left, top, left + font.getlength(text) + 2 * MARGIN, HEIGHT), fill="black")
    draw.text((left + MARGIN, top + MARGIN), text, fill="white", font=font)


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(comfyui_path(), Path(folder)) as server:
        for name in names or TEMPLATES:
            graph = json.loads((FOLDER / "api" / f"{name}.json").read_text())
            model = "SDXL, to be trained" if name.startswith("Train") else name.partition(", ")[2]
            model = model if needs_a_model(graph) else ""
            thumbnail = side_by_side(*pair(server, graph), *asked_for(graph), model)
            for file in (name, *([f"{name}.app"] if name in APPS else [])):
                thumbnail.save(FOLDER / f"{file}.jpg", quality=85, optimize=True)
            print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
