"""gallery.html: before and after under a slider, in one file that works from the disk, sorted by where methods differ most."""

from __future__ import annotations

import base64
import heapq
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ....adapters.writing import write_text
from ....kernels.regions import grow
from ...data.public.cases import PhotoCase
from ...images.files import read_image
from ..metrics.metric import Metric
from .contestants import Contestant
from .ledger import Ledger
from .pictures import Picture, read_picture
from .settings import PhotosConfig

PAGE = Path(__file__).with_name("gallery.html")
LONGEST = 560
"""Pixels of the longer side of a picture on the page."""
PLAIN = ("grey",)
"""Rows whose difference to the others says nothing of the picture."""


def write_gallery(
    config: PhotosConfig,
    rows: Sequence[Contestant],
    cases: Sequence[PhotoCase],
    metrics: Sequence[Metric],
    ledger: Ledger,
    first: str | None,
) -> None:
    """Write the page, of the first seed's results; `first` is the method that is shown before another is chosen."""
    seed = config.seeds[0]
    found = []
    for case in tqdm(cases, desc="gallery"):
        lines = {row.name: ledger.lines.get((case.name, row.name, seed)) for row in rows}
        good = {name: line for name, line in lines.items() if line is not None and line["error"] is None}
        if good:
            found.append((spread(config.out, good), case.name, case, good))
    chosen = heapq.nlargest(config.gallery, found, key=lambda each: (each[0], each[1]))
    labels = {metric.name: metric.label for metric in metrics if metric.kind == "picture"}
    data = {
        "about": (
            f"The {len(chosen)} pictures of {len(found)} on which methods differ most. Drag the line, or the slider; seed {seed}. "
            "Around the hole where a picture is larger than the page."
        ),
        "command": config.command(),
        "first": first,
        "methods": [row.name for row in rows if any(row.name in good for *_, good in chosen)],
        "pictures": [shown(config, case, good, labels, far) for far, _, case, good in chosen],
    }
    # A "</script>" in a name would end the data.
    text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    write_text(config.out / "gallery.html", PAGE.read_text(encoding="utf-8").replace("DATA", text, 1))


def spread(out: Path, lines: dict[str, dict[str, Any]]) -> float:
    """How much the pictures of several methods differ: their standard deviation, mean over the pixels in which any differs."""
    pictures = [read_image(out / line["output"]["file"])[0] for name, line in lines.items() if name not in PLAIN]
    if len(pictures) < 2:
        return 0.0
    deviation = torch.stack(pictures).std(dim=0).mean(dim=0)
    differs = deviation > 2 / 255
    return deviation[differs].mean().item() if differs.any() else 0.0


def shown(
    config: PhotosConfig, case: PhotoCase, lines: dict[str, dict[str, Any]], labels: dict[str, str], far: float
) -> dict[str, Any]:
    """One picture as the page has it."""
    picture = read_picture(case, config.size, config.square)
    part = part_of(picture)
    results = {}
    for name, line in lines.items():
        values = {label: line["metrics"].get(metric) for metric, label in labels.items()}
        told = {label: f"{value:.4g}" for label, value in values.items() if value is not None}
        results[name] = {
            "image": address(read_image(config.out / line["output"]["file"])[0][(slice(None), *part)]),
            "values": {**told, "seconds": f"{line['seconds']:.3g}"},
        }
    before = small(picture.before[0][(slice(None), *part)])
    return {
        "name": case.name,
        "spread": far,
        "height": before.shape[-2],
        "width": before.shape[-1],
        "before": address(before),
        "truth": None if picture.truth is None else address(picture.truth[0][(slice(None), *part)]),
        "mask": outline(picture.mask[0][part]),
        "results": results,
    }


def part_of(picture: Picture) -> tuple[slice, slice]:
    """All of a picture that the page has room for, else the surroundings of its hole."""
    height, width = picture.mask.shape[-2:]
    if max(height, width) <= 2 * LONGEST:
        return slice(0, height), slice(0, width)
    rows, columns = (picture.mask[0].any(dim=axis).nonzero() for axis in (1, 0))
    sides = [(int(places.min()), int(places.max()) + 1) for places in (rows, columns)]
    margin = max(LONGEST // 2, *(last - first for first, last in sides))
    top, left = (slice(max(0, first - margin), last + margin) for first, last in sides)
    return top, left


def small(picture: Tensor) -> Tensor:
    """A picture [C, H, W] of at most `LONGEST` pixels on its longer side."""
    scale = LONGEST / max(picture.shape[-2:])
    if scale >= 1:
        return picture
    return F.interpolate(picture[None], scale_factor=scale, mode="bicubic", antialias=True)[0].clamp(0, 1)


def address(picture: Tensor) -> str:
    """A picture [3, H, W] in 0..1 as the address of itself."""
    pixels = (rearrange(small(picture), "c h w -> h w c") * 255).round().byte().numpy()
    return encoded(Image.fromarray(pixels), quality=82)


def outline(mask: Tensor) -> str:
    """The border of a mask [H, W], red on nothing."""
    inside = small(mask[None])[0].round()[None]
    border = (grow(inside, pixels=1.5) - inside)[0].numpy()
    pixels = np.zeros((*border.shape, 4), np.uint8)
    pixels[border > 0] = (255, 40, 40, 255)
    return encoded(Image.fromarray(pixels), lossless=True)


def encoded(picture: Image.Image, **options: Any) -> str:
    held = io.BytesIO()
    picture.save(held, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"
