"""Makes the 24 rendered scenes in rendered/, which `unclutter evaluate photos` runs on when it is given no folder.

    python -m unclutter.tools.make_rendered WORK [COUNT]

WORK receives them as PNG files; a stopped run goes on there. Needs the extra `render`. Pictures become JPEG files of full
colour resolution, whose blocks of 8x8 pixels do not know of each other: where a scene looks the same with and without the
thing, so does the file. Masks stay as they are. Prints how hard the scenes are, and what JPEG does to them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unclutter.adapters.writing import replacing
from unclutter.training.comfyui_server import PACK
from unclutter.training.data.manifest import read_manifest
from unclutter.training.data.rendered.make import render_pairs
from unclutter.training.data.rendered.settings import RenderedConfig
from unclutter.training.data.sample import Sample, write_manifest
from unclutter.training.images.files import read_image, read_mask
from unclutter.training.images.flat_fills import ring_fill

FOLDER = PACK / "rendered"
COUNT, SIZE, SAMPLES, QUALITY = 24, 512, 32, 88
LARGEST = 4_000_000
"""Bytes of all files."""


def main(work: Path, count: int = COUNT) -> None:
    render_pairs(RenderedConfig(work, count=count, size=SIZE, samples=SAMPLES))
    packed = [pack(sample) for sample in read_manifest(work)]
    write_manifest(FOLDER, packed)
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{total / 1e6:.2f} MB in {FOLDER}")
    if total > LARGEST:
        sys.exit(f"expected at most {LARGEST / 1e6:.0f} MB: lower QUALITY.")
    rows = [measure(sample, other) for sample, other in zip(packed, read_manifest(work), strict=True)]
    print("scene   hole, % of the picture   ring median in the hole, dB   outside, dB: JPEG  PNG")
    for sample, row in zip(packed, rows, strict=True):
        print(f"{sample.name}  " + "  ".join(f"{value:8.2f}" for value in row))
    for place, head in enumerate(("hole, %", "ring median, dB", "outside as JPEG, dB", "outside as PNG, dB")):
        column = [row[place] for row in rows]
        print(f"{head}: mean {sum(column) / len(column):.2f}, {min(column):.2f} to {max(column):.2f}")


def pack(sample: Sample) -> Sample:
    """The sample in FOLDER, its pictures as JPEG files."""
    files = {}
    for kind in ("source", "target", "mask", "effect_mask", "instance_masks"):
        lossy = kind in ("source", "target")
        suffix = ".jpg" if lossy else ".png"
        options: dict[str, Any] = {"optimize": True} | ({"quality": QUALITY, "subsampling": 0} if lossy else {})
        files[kind] = FOLDER / kind / f"{sample.name}{suffix}"
        files[kind].parent.mkdir(parents=True, exist_ok=True)
        with Image.open(getattr(sample, kind)) as picture, replacing(files[kind]) as temporary:
            picture.save(temporary, **options)
    return Sample(sample.name, prompt=sample.prompt, **files)


def measure(packed: Sample, rendered: Sample) -> tuple[float, float, float, float]:
    """The hole in percent; PSNR of the ring median in it; PSNR between with and without outside of all that changes, of the
    JPEG files and of the rendered ones."""
    source, target = read_image(packed.source), read_image(packed.target)
    mask, effect = (read_mask(path) > 0.5 for path in (packed.mask, packed.effect_mask or packed.mask))
    filled = ring_fill(source, mask.float())
    raw = psnr(read_image(rendered.source), read_image(rendered.target), ~effect)
    return 100 * float(mask.float().mean()), psnr(filled, target, mask), psnr(source, target, ~effect), raw


def psnr(one: Tensor, other: Tensor, where: Tensor) -> float:
    """In dB, over the pixels of `where` [1, H, W]."""
    squares = (one - other).square().mean(dim=1)[where]
    return float(-10 * torch.log10(squares.mean().clamp(min=1e-10)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
