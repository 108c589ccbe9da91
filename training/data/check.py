"""`unclutter data check`: everything that is wrong with a folder of pairs, before a training finds it."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from ..pictures import contact_sheet, read_image, read_mask
from .manifest import Sample, read_manifest

CHANGE = 8 / 255
"""A pixel whose colour differs by more between source and target has changed."""
MISSED = 0.5
"""Largest share of the changed pixels that may lie outside of the mask: shadows do, objects do not."""
SHOWN = 8


def check_data(folder: tyro.conf.Positional[Path], sheet: Path | None = None) -> None:
    """Read every picture of a folder of pairs and report what a training would stumble over.

    Args:
        folder: a manifest.jsonl, or folders source, target and mask.
        sheet: write a contact sheet of the first samples that can be read.

    Raises:
        ValueError: something is wrong; every problem was printed.
    """
    samples = read_manifest(folder)
    faults, rows = 0, []
    for sample in tqdm(samples, desc="checking"):
        try:
            layers = read_layers(sample)
            problems = faults_of(layers)
        except (ValueError, OSError) as error:
            layers, problems = {}, [str(error)]
        for problem in problems:
            tqdm.write(f"{sample.name}: {problem}")
        faults += bool(problems)
        if sheet and layers and len(rows) < SHOWN:
            rows.append([(f"{sample.name} {kind}", as_picture(layer)) for kind, layer in layers.items()])
    if sheet and rows:
        contact_sheet(sheet, rows)
    if faults or not samples:
        raise ValueError(f"{faults} of {len(samples)} samples in {folder} have something wrong: mend or remove them.")
    print(f"{len(samples)} samples in {folder}, all in order.")


def read_layers(sample: Sample) -> dict[str, Tensor]:
    layers = {"source": read_image(sample.source), "target": read_image(sample.target), "mask": read_mask(sample.mask)}
    if sample.effect_mask:
        layers["effect_mask"] = read_mask(sample.effect_mask)
    for kind in ("instance_masks", "pose", "parsing"):
        if path := getattr(sample, kind):
            layers[kind] = read_image(path)
    return layers


def faults_of(layers: dict[str, Tensor]) -> list[str]:
    """What is wrong with one sample's pictures, in sentences."""
    height, width = layers["source"].shape[-2:]
    other = [
        f"{kind} is {layer.shape[-1]}x{layer.shape[-2]}, expected {width}x{height} as its source"
        for kind, layer in layers.items()
        if layer.shape[-2:] != (height, width)
    ]
    if other:
        return other
    mask = layers["mask"][0] > 0.5
    if not mask.any():
        return ["the mask is empty, expected white where the object is"]
    if mask.all():
        return ["the mask is full, expected black around the object"]
    changed = (layers["source"] - layers["target"]).abs().amax(dim=1)[0] > CHANGE
    if not changed.any():
        return ["source and target are the same picture, expected the object to be gone in the target"]
    allowed = mask if "effect_mask" not in layers else mask | (layers["effect_mask"][0] > 0.5)
    missed = (changed & ~allowed).sum() / changed.sum()
    if missed > MISSED:
        return [f"{missed:.0%} of what changes between source and target is outside of the mask: it misses the object"]
    return []


def as_picture(layer: Tensor) -> Tensor:
    return layer if layer.ndim == 4 else layer[:, None].expand(-1, 3, *torch.Size(layer.shape[-2:]))
