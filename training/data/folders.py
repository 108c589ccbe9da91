"""Pictures of a folder, and the masks that belong to them by their names."""

from __future__ import annotations

from pathlib import Path

from .sample import SUFFIXES


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, sorted by name. Hidden files are what a stopped run or macOS left."""
    if not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in paths if path.is_file())


def by_stem(folder: Path, kind: str = "mask") -> dict[str, list[Path]]:
    """The pictures of a folder and of the folder `kind` in it, by the stem of the photo that they belong to: a.png and
    a_mask.png belong to a.jpg."""
    known: dict[str, list[Path]] = {}
    for path in [*pictures_in(folder), *pictures_in(folder / kind)]:
        known.setdefault(path.stem.removesuffix(f"_{kind}"), []).append(path)
        if path.stem.endswith(f"_{kind}"):  # of a photo that is called so itself
            known.setdefault(path.stem, []).append(path)
    return known
