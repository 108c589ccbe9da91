"""Sets whose masks or pictures lie packed: in run lengths, in CSV files with masks of another size, in parquet files."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...images.files import open_picture
from .public_case import PublicCase

BRUSHBENCH_SIDE = 512
SEGMENTATIONS = "*annotations-object-segmentation*.csv"
AREA = (0.03, 0.70)
"""Of the object, as a share of the picture: the papers leave out smaller and larger ones."""
OBER = ("input", "gt", "object_mask", "object_effect_mask")


def is_brushbench(folder: Path) -> bool:
    return (folder / "mapping_file.json").is_file()


def read_brushbench(folder: Path) -> Iterator[PublicCase]:
    """mapping_file.json: number -> image, caption and inpainting_mask in run lengths; there is no truth."""
    entries = json.loads((folder / "mapping_file.json").read_text(encoding="utf-8"))
    for name, entry in entries.items():
        mask = functools.partial(run_length_mask, entry["inpainting_mask"], BRUSHBENCH_SIDE)
        yield PublicCase(name, folder / entry["image"], mask, caption=entry.get("caption"))


def run_length_mask(runs: Sequence[int], side: int) -> Image.Image:
    """A square mask from pairs of a first pixel, counted row by row from 1, and a number of pixels."""
    if len(runs) % 2:
        raise ValueError(f"A mask has {len(runs)} run lengths, expected pairs of a start and a length.")
    flat = np.zeros(side * side, np.uint8)
    for start, length in zip(map(int, runs[::2]), map(int, runs[1::2]), strict=True):
        if start < 1 or length < 0 or start - 1 + length > flat.size:
            raise ValueError(f"A run of {length} pixels begins at {start}, expected it in {side}x{side} pixels.")
        flat[start - 1 : start - 1 + length] = 255
    return Image.fromarray(flat.reshape(side, side))


def is_openimages(folder: Path) -> bool:
    return any(folder.glob(SEGMENTATIONS))


def read_openimages(folder: Path, seed: int = 0, ids: Sequence[str] | None = None) -> Iterator[PublicCase]:
    """One object of each picture that covers 3 to 70 % of it, in an order that the seed decides.

    The folder holds CSV files of segmentations as published, PNG masks and JPEG pictures anywhere below it, and the CSV
    file of class names where the captions are wanted.

    Args:
        ids: names of masks, without .png, of an earlier list: these objects, in this order, whatever they cover.
    """
    rows = {Path(row["MaskPath"]).stem: row for path in sorted(folder.glob(SEGMENTATIONS)) for row in _rows(path)}
    masks = {path.stem: path for path in sorted(folder.rglob("*.png"))}
    pictures = {path.stem: path for path in sorted(folder.rglob("*.jpg"))}
    words = {row[0]: row[1] for path in sorted(folder.glob("*class-descriptions*.csv")) for row in _lines(path)}
    names = [name for name in sorted(rows) if name in masks and rows[name]["ImageID"] in pictures]
    if not names:
        raise ValueError(f"{folder} holds no object with its mask (PNG) and its picture (JPEG): download these too.")
    if ids is not None:
        if missing := [name for name in ids if name not in rows or name not in masks]:
            raise ValueError(f"{folder} lacks {missing[0]} and {len(missing) - 1} more of the list: download them.")
        order = list(ids)
    else:
        order = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    used: set[str] = set()
    for name in order:
        picture = rows[name]["ImageID"]
        if ids is None and (picture in used or not AREA[0] <= _share(masks[name]) <= AREA[1]):
            continue
        used.add(picture)
        mask = functools.partial(_as_large, masks[name], pictures[picture])
        yield PublicCase(name, pictures[picture], mask, caption=words.get(rows[name]["LabelName"]))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := {"MaskPath", "ImageID", "LabelName"} - set(reader.fieldnames or ()):
            raise ValueError(f"{path} has no column {sorted(missing)[0]}, expected OpenImages' segmentations.")
        yield from reader


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from (row for row in csv.reader(file) if len(row) >= 2)


def _share(path: Path) -> float:
    return float((np.asarray(open_picture(path).convert("L")) > 127).mean())


def _as_large(mask: Path, picture: Path) -> Image.Image:
    """The mask at the size of its picture: those of OpenImages are smaller than many pictures."""
    return open_picture(mask).convert("L").resize(open_picture(picture).size, Image.Resampling.NEAREST)


def is_ober(folder: Path) -> bool:
    return set(OBER) <= columns_of(folder)


def read_ober(folder: Path, split: str = "test") -> Iterator[PublicCase]:
    """Parquet files of input, gt, object_mask and object_effect_mask; names are those of the subset and the file.

    Args:
        split: test or train.
    """
    for number, row in enumerate(parquet_rows(folder, [*OBER, "subset", "split"])):
        if str(row["split"] or split).lower() == split:
            stem = Path(row["input"].get("path") or f"{number:06}").stem
            picture, truth, mask, effects = (
                functools.partial(unpacked, row[key]) if row[key] else None for key in OBER
            )
            if picture is not None and mask is not None:
                yield PublicCase(f"{row['subset']}-{stem}", picture, mask, truth, effects)


def columns_of(folder: Path) -> set[str]:
    """The columns of a folder's first parquet file; none where it holds none."""
    files = parquet_files(folder)
    if not files:
        return set()
    from pyarrow import parquet

    return set(parquet.read_schema(files[0]).names)


def parquet_rows(folder: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of all parquet files of a folder, a few in memory at a time."""
    from pyarrow import parquet

    for path in parquet_files(folder):
        file = parquet.ParquetFile(path)
        present = [column for column in columns if column in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=8, columns=present):
            yield from ({**dict.fromkeys(columns), **row} for row in batch.to_pylist())


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files of a folder and of data/ in it."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def unpacked(cell: dict[str, Any]) -> Image.Image:
    """The picture of a cell as the datasets library writes it: its bytes, and the name that its file had."""
    return Image.open(io.BytesIO(cell["bytes"]))
