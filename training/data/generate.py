"""Sets of pairs that are made: in parallel, gone on with after a stop, the same bytes whatever the number of workers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ...adapters.writing import replacing, write_text
from ..images.files import read_image
from ..images.sheets import contact_sheet
from .sample import MANIFEST, Sample, write_manifest
from .workers import worker_pool

Draw = Callable[[int], Mapping[str, Tensor | str]]
"""Makes triplet number i: by kind (source, target, mask, ...) pictures [3, H, W] and masks [1, H, W] in 0..1, and
PROMPT where only the drawing tells it. The workers must be able to import it."""
PROMPT = "prompt"
SETTINGS = "settings.json"
SHOWN = 8


def generate(
    output: Path,
    draw: Draw,
    settings: dict[str, object],
    kinds: tuple[str, ...],
    prompts: list[str | None],
    workers: int | None,
) -> None:
    """Write a triplet for each of `prompts`, manifest.jsonl and sheet.png; what is there from a stopped run is kept.

    Args:
        output: folder that receives a folder for each kind.
        settings: all that decides the pictures; kept beside them, so that no folder mixes two sets.
        kinds: what `draw` makes; the sheet shows them in this order.
        workers: processes; None for one a core.

    Raises:
        ValueError: the output holds another set.
    """
    keep_settings(output, settings)
    files = [{kind: output / kind / f"{index:06}.png" for kind in kinds} for index in range(len(prompts))]
    missing = [index for index, paths in enumerate(files) if not all(path.exists() for path in paths.values())]
    with tqdm(total=len(files), initial=len(files) - len(missing), unit="picture", desc="making") as progress:
        for _ in _run(draw, output, missing, workers or os.cpu_count() or 1):
            progress.update()
    told = [output / PROMPT / f"{index:06}.txt" for index in range(len(prompts))]
    prompts = [
        path.read_text(encoding="utf-8") if path.exists() else prompt
        for path, prompt in zip(told, prompts, strict=True)
    ]
    samples = [Sample(f"{index:06}", prompt=prompt, **files[index]) for index, prompt in enumerate(prompts)]
    write_manifest(output, samples)
    contact_sheet(
        output / "sheet.png", [[shown(kind, path) for kind, path in paths.items()] for paths in files[:SHOWN]]
    )
    rate = len(missing) / max(progress.format_dict["elapsed"], 1e-9)
    pace = f"{rate:.1f} a second" if rate >= 1 or not missing else f"{1 / rate:.0f} seconds each"
    print(f"{len(missing)} new of {len(files)} triplets in {output}, {pace}. Look at sheet.png.")


def keep_settings(output: Path, settings: dict[str, object]) -> None:
    """Write all that decides a set's pictures beside them, so that no folder mixes two sets.

    Raises:
        ValueError: the output holds another set.
    """
    output.mkdir(parents=True, exist_ok=True)
    note, text = output / SETTINGS, json.dumps(settings, indent=2, default=str) + "\n"
    if note.exists() and note.read_text(encoding="utf-8") != text:
        raise ValueError(f"{output} holds a set made with other settings ({SETTINGS}): give another folder.")
    if not note.exists() and ((output / MANIFEST).exists() or (output / "source").exists()):
        raise ValueError(f"{output} holds a set made elsewhere (there is no {SETTINGS}): give another folder.")
    write_text(note, text)


def shown(kind: str, path: Path) -> tuple[str, Tensor]:
    """A picture on the sheet; the numbers of instances as greys that can be told apart."""
    picture = read_image(path)
    return kind, picture / picture.max().clamp(min=1 / 255) if kind == "instance_masks" else picture


class _Work:
    """Set in every process once: sent with every index, the lists of files would take longer than a picture."""

    draw: Draw
    output: Path


def _run(draw: Draw, output: Path, indices: list[int], workers: int) -> Iterator[None]:
    if workers == 1:
        threads = torch.get_num_threads()
        try:
            _begin(draw, output)
            yield from map(_make, indices)
        finally:
            torch.set_num_threads(threads)
        return
    with worker_pool(workers, _begin, draw, output) as pool:
        yield from pool.map(_make, indices)


def _begin(draw: Draw, output: Path) -> None:
    torch.set_num_threads(1)  # as in the processes of a pool
    _Work.draw, _Work.output = staticmethod(draw), output


def _make(index: int) -> None:
    drawn = dict(_Work.draw(index))
    if isinstance(prompt := drawn.pop(PROMPT, None), str):
        # Before the pictures, by which a later run knows that this one is finished.
        (_Work.output / PROMPT).mkdir(exist_ok=True)
        write_text(_Work.output / PROMPT / f"{index:06}.txt", prompt)
    for kind, layer in drawn.items():
        assert isinstance(layer, Tensor)
        path = _Work.output / kind / f"{index:06}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = rearrange((layer.clamp(0, 1) * 255).round().byte(), "c h w -> h w c").numpy()
        picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
        with replacing(path) as temporary:
            # Pillow's own choice takes four times as long, for files a tenth smaller.
            picture.save(temporary, compress_level=1)
