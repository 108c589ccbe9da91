"""Sets whose pictures and masks lie in folders as files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..sample import SUFFIXES
from .public_case import PublicCase

RORD = ("img", "gt", "mask")
SPLITS = ("", "train", "val", "test")
CORNE = (
    ("shot_m_list.txt", "bg_m_list.txt", "mask_sam_list.txt", "mask-check_m_list.txt"),
    ("shot_list.txt", "bg_list.txt", "mask_list.txt", "mask_list.txt"),
)
"""Lists of the pictures, the backgrounds, the objects' masks and those of all they change: phase II, else phase I."""
HQ_SAM = (
    ("DIS5K/DIS-TR/im", "DIS5K/DIS-TR/gt"),
    ("DIS5K/DIS-VD/im", "DIS5K/DIS-VD/gt"),
    *(
        (f"cascade_psp/{name}", f"cascade_psp/{name}")
        for name in ("DUTS-TE", "DUTS-TR", "ecssd", "fss_all", "MSRA_10K")
    ),
    *((f"thin_object_detection/{name}/images", f"thin_object_detection/{name}/masks") for name in ("COIFT", "HRSOD")),
    *(
        (f"thin_object_detection/ThinObject5K/images_{part}", f"thin_object_detection/ThinObject5K/masks_{part}")
        for part in ("train", "test")
    ),
)


def is_rord(folder: Path) -> bool:
    return any(all((folder / split / kind).is_dir() for kind in RORD) for split in SPLITS)


def read_rord(folder: Path) -> Iterator[PublicCase]:
    """img/, gt/ and mask/, here or in train/ and val/, with or without a folder a scene; the masks are PNG files."""
    for split in SPLITS:
        root = folder / split
        if not all((root / kind).is_dir() for kind in RORD):
            continue
        truths, masks = (_by_name(root / kind) for kind in ("gt", "mask"))
        for name, picture in _by_name(root / "img").items():
            yield PublicCase(
                f"{split}-{name}" if split else name,
                picture,
                _of(masks, name, root / "mask"),
                _of(truths, name, root / "gt"),
            )


def is_rorem(folder: Path) -> bool:
    return any(_rorem_entries(path) is not None for path in sorted(folder.glob("*.json")))


def read_rorem(folder: Path) -> Iterator[PublicCase]:
    """JSON lists of objects with source, GT and mask, which are paths from the list's folder."""
    for path in sorted(folder.glob("*.json")):
        for number, entry in enumerate(_rorem_entries(path) or []):
            picture, truth, mask = (folder / entry[key] for key in ("source", "GT", "mask"))
            yield PublicCase(f"{path.stem}-{number:06}", picture, mask, truth)


def _rorem_entries(path: Path) -> list[dict[str, str]] | None:
    with path.open("rb") as file:
        if file.read(1) != b"[":
            return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): get it again.") from None
    whole = all(isinstance(entry, dict) and {"source", "GT", "mask"} <= entry.keys() for entry in entries)
    return entries if entries and whole else None


def is_osor(folder: Path) -> bool:
    has_mask = any((folder / kind).is_dir() for kind in ("mask_sam", "mask_eff", "mask"))
    return (folder / "shot").is_dir() and (folder / "bg").is_dir() and has_mask


def read_osor(folder: Path) -> Iterator[PublicCase]:
    """shot/, bg/, mask_sam/ (the object) and mask_eff/ (all it changes); TextEraseBench has one mask."""
    truths = _by_name(folder / "bg")
    kinds = {kind: _by_name(folder / kind) for kind in ("mask_sam", "mask_eff", "mask") if (folder / kind).is_dir()}
    masks = kinds.get("mask_sam") or kinds.get("mask") or kinds["mask_eff"]
    effects = kinds.get("mask_eff", {})
    for name, picture in _by_name(folder / "shot").items():
        yield PublicCase(
            name, picture, _of(masks, name, folder / "mask_sam"), _of(truths, name, folder / "bg"), effects.get(name)
        )


def is_corne(folder: Path) -> bool:
    return any((folder / lists[0]).is_file() for lists in CORNE)


def read_corne(folder: Path) -> Iterator[PublicCase]:
    """Text files with a path a line, whose lines belong together."""
    lists = next(lists for lists in CORNE if (folder / lists[0]).is_file())
    if missing := [name for name in lists if not (folder / name).is_file()]:
        raise ValueError(f"{folder} has {lists[0]} and no {missing[0]}: expected {', '.join(dict.fromkeys(lists))}.")
    columns = [_paths(folder, name) for name in lists]
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{len(column)} in {name}" for name, column in zip(lists, columns, strict=True))
        raise ValueError(f"The lists of {folder} differ in length ({counts}), expected a line a picture in each.")
    for number, (picture, truth, mask, effects) in enumerate(zip(*columns, strict=True)):
        yield PublicCase(f"{number:06}-{picture.stem}", picture, mask, truth, effects)


def _paths(folder: Path, name: str) -> list[Path]:
    return [folder / line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines() if line.strip()]


def is_hq_sam(folder: Path) -> bool:
    return any((folder / pictures).is_dir() for pictures, _ in HQ_SAM)


def read_hq_sam(folder: Path) -> Iterator[PublicCase]:
    """Pictures as JPEG and masks as PNG files, in two folders or in one; there is no truth."""
    for pictures, masks in HQ_SAM:
        if (folder / pictures).is_dir():
            found = {path.stem: path for path in sorted((folder / masks).glob("*.png"))}
            for picture in sorted((folder / pictures).glob("*.jpg")):
                if picture.stem in found:
                    yield PublicCase(f"{pictures.split('/')[1]}-{picture.stem}", picture, found[picture.stem])


def _by_name(folder: Path) -> dict[str, Path]:
    """The pictures in a folder and in those below it, by their paths without a suffix."""
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _of(files: dict[str, Path], name: str, folder: Path) -> Path:
    if name not in files:
        raise ValueError(f"{folder} has no picture for {name}: get the set again, or leave that one out.")
    return files[name]
