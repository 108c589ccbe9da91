"""`unclutter data check`: everything that is wrong with a folder of pairs, before a training finds it."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..images.files import read_image, read_labels, read_mask
from ..images.sheets import contact_sheet
from .manifest import scan_manifest
from .sample import MANIFEST, OPTIONAL, REQUIRED, SUFFIXES, Sample
from .settings import CheckConfig

READ = {"mask": read_mask, "effect_mask": read_mask, "instance_masks": read_labels, "parsing": read_labels}
"""Readers of the pictures that are no colour pictures, as a training reads them."""
CHANGE = 8 / 255
"""A pixel whose colour differs by more between source and target has changed, in pictures without noise."""
NOISE = 3
"""... and in two photographs of one view, by more than this many times the median difference around the mask."""
MISSED = 0.5
"""Largest share of the changed pixels that may lie outside of the mask: shadows do, objects do not."""
NAMED = 3
"""Of the files that no sample uses, these many are named."""
LEAST = 0.01
"""Least share of the mask that changes: a box around a thin object is mostly background."""
SHOWN, SIDE = 8, 192
"""Samples on the sheet, and the side of a picture on it in pixels."""


def check_data(config: CheckConfig) -> None:
    """Read every picture of a folder of pairs and report what a training would stumble over.

    Raises:
        ValueError: something is wrong; every problem was printed.
    """
    samples, unusable = scan_manifest(config.folder)
    for fault in unusable:
        print(fault)
    if not samples and not unusable:
        raise ValueError(
            f"{config.folder} holds no pairs, expected at least one: add pictures, or give another folder."
        )
    faults, rows = 0, []
    for sample in tqdm(samples, desc="checking"):
        layers, problems = read_layers(sample)
        problems = problems or faults_of(layers)
        for problem in problems:
            tqdm.write(f"{sample.name}: {problem}")
        faults += bool(problems)
        if config.sheet and layers and len(rows) < SHOWN:
            rows.append([(f"{sample.name} {kind}", thumbnail(layer)) for kind, layer in layers.items()])
    if config.sheet and rows:
        contact_sheet(config.sheet, rows, SIDE)
    if unlisted := unlisted_sources(config.folder, samples):
        names = ", ".join(unlisted[:NAMED]) + (", ..." if len(unlisted) > NAMED else "")
        print(
            f"{config.folder / MANIFEST} leaves out {len(unlisted)} of the pictures in source/ ({names}): no training sees them."
        )
    wrong = []
    if faults:
        wrong.append(f"{faults} of {len(samples)} samples {'has' if faults == 1 else 'have'} something wrong")
    if unusable:
        fault = "is 1 fault" if len(unusable) == 1 else f"are {len(unusable)} faults"
        wrong.append(f"there {fault} of the manifest or the files' names")
    if wrong:
        raise ValueError(f"In {config.folder} {' and '.join(wrong)}: mend them, or leave these samples out.")
    print(f"{len(samples)} samples in {config.folder}, all in order.")


def unlisted_sources(folder: Path, samples: list[Sample]) -> list[str]:
    """Names of the pictures in source/ that no sample of the manifest uses: of an older set, or of a larger one."""
    if not (folder / MANIFEST).is_file():
        return []
    used = {sample.source for sample in samples}
    files = sorted(path for path in (folder / "source").glob("[!.]*") if path.suffix.lower() in SUFFIXES)
    return [path.name for path in files if path not in used]


def read_layers(sample: Sample) -> tuple[dict[str, Tensor], list[str]]:
    """The sample's pictures that can be read, and a sentence about each that cannot."""
    layers, problems = {}, []
    for kind in (*REQUIRED, *OPTIONAL):
        if (path := getattr(sample, kind)) is None:
            continue
        try:
            layers[kind] = READ.get(kind, read_image)(path)
        except (ValueError, OSError, DecompressionBombError) as error:
            problems.append(f"{kind}: {error}")
    return layers, problems


def faults_of(layers: dict[str, Tensor]) -> list[str]:
    """The faults of one sample's pictures, in sentences."""
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
    if "instance_masks" in layers and not layers["instance_masks"].any():
        return ["instance_masks is black, expected the numbers 1, 2, ... where the persons are: number them"]
    change = (layers["source"] - layers["target"]).abs().amax(dim=1)[0]
    if not (change > CHANGE).any():
        return ["source and target are the same picture, expected the object to be gone in the target"]
    changed = change > max(CHANGE, NOISE * float(change[~mask].median()))
    if changed[mask].float().mean() < LEAST:
        return ["next to nothing changes in the mask between source and target: it misses the object"]
    allowed = mask if "effect_mask" not in layers else mask | (layers["effect_mask"][0] > 0.5)
    missed = (changed & ~allowed).sum() / changed.sum()
    if missed > MISSED:
        return [f"{missed:.0%} of what changes between source and target is outside of the mask: it misses the object"]
    return []


def thumbnail(layer: Tensor) -> Tensor:
    picture = layer if layer.ndim == 4 else (layer / layer.amax().clamp(min=1))[:, None].repeat(1, 3, 1, 1)
    return F.interpolate(picture, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
