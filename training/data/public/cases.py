"""Cases to test a removal on: a picture, what is to go, and what is known of the truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..folders import by_stem, pictures_in
from ..manifest import read_manifest
from ..sample import MANIFEST, SUFFIXES, Sample
from .layouts import PUBLIC, recognised
from .public_case import Source

COMPANIONS = ("mask", "target", "effect_mask", "instance_masks")
"""Of a photo a.jpg in a plain folder: a_mask.png or mask/a.png, and so on. Only the mask is needed."""


@dataclass(frozen=True)
class PhotoCase:
    """One picture to remove something from.

    Attributes:
        name: unique in its set, and safe as the stem of a file.
        picture: with the object.
        mask: white is what goes.
        truth: the picture without the object, of the same size.
        effects: white is all that the object changes, its shadow and its reflection, and the object itself.
        instances: its grey values number the objects.
        caption: what is in the picture, or what stays in it.
    """

    name: str
    picture: Path
    mask: Path
    truth: Path | None = None
    effects: Path | None = None
    instances: Path | None = None
    caption: str | None = None


def read_cases(source: Path, layout: str | None = None) -> list[PhotoCase]:
    """The cases of a folder, sorted by name.

    Args:
        source: a folder of pairs (`manifest.jsonl`, shards, or folders source/ and mask/), its manifest itself, or a folder
            of photos in which a.jpg goes with a_mask.png or mask/a.png, and with target/a.png, effect_mask/a.png and
            a.txt (a caption) where these exist.
        layout: "manifest", "photos", or the name of a public set (`layouts.PUBLIC`); None recognises it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no case in it, or a photo has no mask or several.
    """
    if source.name == MANIFEST and source.is_file():
        source = source.parent
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder {source}: give a folder of pictures and masks.")
    layout = layout or layout_of(source)
    if layout not in LAYOUTS | PUBLIC:
        raise ValueError(f"The layout is {layout}, expected one of {', '.join(LAYOUTS | PUBLIC)}.")
    cases = LAYOUTS[layout](source) if layout in LAYOUTS else public_cases(source, layout)
    if not cases:
        raise ValueError(f"{source} holds no cases: expected pictures with masks.")
    return cases


def layout_of(folder: Path) -> str:
    """The layout that a folder's files tell."""
    if (folder / MANIFEST).is_file():
        return "manifest"
    if public := recognised(folder):
        return public
    is_set = all((folder / kind).is_dir() for kind in ("source", "mask")) or any(folder.glob("*.tar"))
    return "manifest" if is_set else "photos"


def manifest_cases(folder: Path) -> list[PhotoCase]:
    """The cases of a set of pairs; a sample without a target has no truth."""
    samples = read_manifest(folder, targets=False)
    stems = safe_names([sample.name for sample in samples])
    return [_of_sample(sample, name) for sample, name in zip(samples, stems, strict=True)]


def _of_sample(sample: Sample, name: str) -> PhotoCase:
    truth = None if sample.target == sample.source else sample.target
    return PhotoCase(
        name, sample.source, sample.mask, truth, sample.effect_mask, sample.instance_masks, caption=sample.prompt
    )


def public_cases(folder: Path, name: str) -> list[PhotoCase]:
    """The cases of a public set whose files can be used as they lie."""
    if not PUBLIC[name].ready:
        raise ValueError(
            f"{folder} is {PUBLIC[name].title}, which has no masks as files: run `unclutter data cases {name} {folder} "
            "OUTPUT` and give its OUTPUT."
        )
    found = list(PUBLIC[name].read(folder))
    stems = safe_names([case.name for case in found])
    cases = []
    for case, stem in zip(found, stems, strict=True):
        picture, mask, truth, effects = (_file(each) for each in (case.picture, case.mask, case.truth, case.effects))
        assert picture is not None and mask is not None
        cases.append(PhotoCase(stem, picture, mask, truth, effects, caption=case.caption))
    return sorted(cases, key=lambda case: case.name)


def _file(source: Source | None) -> Path | None:
    assert source is None or isinstance(source, Path)
    return source


def photo_cases(folder: Path) -> list[PhotoCase]:
    """The photos of a folder with their masks, paired by their stems."""
    listed = pictures_in(folder)
    known = {kind: by_stem(folder, kind) for kind in COMPANIONS}
    stems = {path.stem for path in listed}
    photos = [path for path in listed if not _belongs_to_another(path.stem, stems)]
    if not photos:
        raise ValueError(f"{folder} holds no photos: expected files that end in {', '.join(sorted(SUFFIXES))}.")
    if twice := [stem for stem, count in Counter(path.stem for path in photos).items() if count > 1]:
        raise ValueError(f"{folder} holds two pictures called {twice[0]}: rename one, or call it {twice[0]}_mask.")
    return [_of_photo(photo, known) for photo in photos]


def _belongs_to_another(stem: str, stems: set[str]) -> bool:
    return any(stem.removesuffix(f"_{kind}") in stems - {stem} for kind in COMPANIONS)


def _of_photo(photo: Path, known: dict[str, dict[str, list[Path]]]) -> PhotoCase:
    found = {kind: _companion(photo, kind, files) for kind, files in known.items()}
    mask = found["mask"]
    if mask is None:
        stem = photo.stem
        raise ValueError(f"{photo} has no mask: expected {stem}_mask.png or mask/{stem}.png beside it.")
    note = photo.with_suffix(".txt")
    caption = " ".join(note.read_text(encoding="utf-8").split()) if note.is_file() else None
    return PhotoCase(
        photo.stem, photo, mask, found["target"], found["effect_mask"], found["instance_masks"], caption or None
    )


def _companion(photo: Path, kind: str, files: dict[str, list[Path]]) -> Path | None:
    others = [path for path in files.get(photo.stem, []) if path != photo]
    if len(others) > 1:
        raise ValueError(f"{photo} has {' and '.join(path.name for path in others)} for its {kind}: keep one.")
    return others[0] if others else None


def safe_names(names: list[str]) -> list[str]:
    """Names that serve as stems of files, as unique as they were: folders in a name become dashes.

    Raises:
        ValueError: two would be the same.
    """
    safe = ["".join(each if each.isalnum() or each in "._- " else "-" for each in name).strip(". ") for name in names]
    if twice := [name for name, count in Counter(safe).items() if count > 1 or not name]:
        raise ValueError(f"Two cases would be called {twice[0]!r}: rename one.")
    return safe


LAYOUTS = {"manifest": manifest_cases, "photos": photo_cases}
