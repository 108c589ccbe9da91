"""The files that `data verify` leaves: pictures of the pairs that passed, their manifests, the report, and a sheet to look at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...adapters.writing import replacing, write_text
from ..images.files import picture_size, read_mask, write_image
from ..images.sheets import contact_sheet
from .differences import changed_mask, heat_map
from .edits import Edit, read_edit
from .sample import Sample, write_manifest
from .settings import Constants

KINDS = ("source", "target", "mask", "effect_mask")
SHOWN, SIDE = 6, 256
"""Pairs on the sheet, of those that passed and of those that did not, and the side of a picture in pixels."""


def read_report(path: Path) -> list[dict]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    # A run that was killed may have left half a line, without the newline after it.
    try:
        return [entry for line in lines[:-1] if isinstance(entry := json.loads(line), dict) and "name" in entry]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no report of this command ({error}): give another folder.") from None


def write_report(output: Path, entries: Iterable[dict]) -> None:
    write_text(output / "report.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))


def is_done(output: Path, entry: dict | None) -> bool:
    # Files may have been mended since: edits whose input was at fault are looked at again.
    return (
        bool(entry) and entry["reason"] != "input" and all((output / file).exists() for file in entry["files"].values())
    )


def write_sets(output: Path, entries: list[dict]) -> None:
    samples = [
        (entry["phase2"], Sample(entry["name"], **{kind: output / file for kind, file in entry["files"].items()}))
        for entry in entries
        if entry["accepted"]
    ]
    write_manifest(output, [sample for _, sample in samples])
    if effects := [sample for phase2, sample in samples if phase2]:
        write_manifest(output / "phase2", effects)


def write_pair(
    output: Path, folder: str, edit: Edit, background: Tensor, mask: np.ndarray, core: np.ndarray | None
) -> dict[str, str]:
    """Write a pair that passed into a folder of the output ("" or "phase2/").

    Args:
        core: the object's mask; where it is unknown or empty, the effect-aware one stands for it.

    Returns:
        the files' paths by their kind, relative to the output.
    """
    assert edit.shot is not None and edit.background is not None
    same_size = picture_size(edit.background) == tuple(background.shape[-2:])
    suffixes = {"source": edit.shot.suffix, "target": edit.background.suffix if same_size else ".png"}
    files = {kind: f"{folder}{kind}/{edit.name}{suffixes.get(kind, '.png')}" for kind in KINDS}
    link_or_copy(edit.shot, output / files["source"])
    if same_size:
        link_or_copy(edit.background, output / files["target"])
    else:
        write_image(output / files["target"], background)
    core = core if core is not None and core.any() else mask
    for kind, layer in (("mask", core), ("effect_mask", mask)):
        write_image(output / files[kind], as_picture(layer))
    return files


def link_or_copy(path: Path, target: Path) -> None:
    """A hard link where the file system has them: the pictures of a large corpus need not lie there twice."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        # Renaming a link onto a link to the same file leaves both.
        for old in (temporary, target):
            old.unlink(missing_ok=True)
        try:
            os.link(os.path.realpath(path), temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def write_sheet(
    output: Path, edits: list[Edit], entries: list[dict], constants: Constants, size_tolerance: int
) -> None:
    """Write sheet.jpg: the first pairs that passed, and the first that did not."""
    rows = []
    for accepted in (True, False):
        chosen = [
            pair for pair in zip(edits, entries, strict=True) if pair[1]["accepted"] == accepted and pair[1]["size"]
        ]
        rows += [sheet_row(output, *pair, constants, size_tolerance) for pair in chosen[:SHOWN]]
    if rows:
        contact_sheet(output / "sheet.jpg", rows, SIDE)


def sheet_row(
    output: Path, edit: Edit, entry: dict, constants: Constants, size_tolerance: int
) -> list[tuple[str, Tensor]]:
    shot, background = read_edit(edit, size_tolerance)
    heat = heat_map(shot, background, constants)
    if entry["accepted"]:
        core, mask = (read_mask(output / entry["files"][kind])[0].numpy() > 0.5 for kind in ("mask", "effect_mask"))
        ratio = "mask over it" if entry["effect_ratio"] is None else f"effects {entry['effect_ratio']:.2f} of object"
        captions = ("heat", "mask", f"{ratio}, phase 2" if entry["phase2"] else ratio)
    else:
        mask = changed_mask(heat, constants)
        core = np.zeros_like(mask)
        captions = ("heat", "changed", f"rejected: {entry['reason']}")
    if entry["effect_ratio"] is None:
        core = np.zeros_like(mask)
    # The object green, its effects red; the root of the heat, or its threshold would be as good as black.
    tint = torch.from_numpy(np.stack([mask & ~core, core, np.zeros_like(mask)])).float()
    shown = torch.lerp(shot, tint[None], 0.5 * torch.from_numpy(mask).float())
    pictures = (shot, background, as_picture(heat**0.5), as_picture(mask), shown)
    return [*zip((edit.name, "without", *captions), map(boxed, pictures), strict=True)]


def boxed(picture: Tensor) -> Tensor:
    """A picture [1, 3, H, W] as large as fits a square of the sheet, white beside it."""
    height, width = picture.shape[-2:]
    scale = SIDE / max(height, width)
    sides = [max(1, round(height * scale)), max(1, round(width * scale))]
    small = F.interpolate(picture, sides, mode="bilinear", antialias=True)
    return F.pad(small, (0, SIDE - sides[1], 0, SIDE - sides[0]), value=1.0)


def as_picture(layer: np.ndarray) -> Tensor:
    return torch.from_numpy(layer.astype(np.float32)).expand(1, 3, -1, -1)
