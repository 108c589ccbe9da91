"""Pairs for training: which picture goes with which, in one format for every recipe.

A folder holds `manifest.jsonl`, one object a line with `source`, `target`, `mask` and optionally `effect_mask`,
`instance_masks`, `pose`, `parsing` (paths relative to the folder), `prompt` and `name` (else the source's path without
its suffix); or it holds webdataset shards (`shards.py`); or folders of these names whose files pair up by their stems.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.jsonl"
REQUIRED = ("source", "target", "mask")
OPTIONAL = ("effect_mask", "instance_masks", "pose", "parsing")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True)
class Sample:
    """One pair: a picture with an object, the same without it, and where it was.

    Attributes:
        name: stands for the sample in messages and file names.
        source, target, mask: pictures of one size; white in the mask is the object.
        effect_mask: all that the object changes, shadow and reflection included.
        instance_masks: one picture whose grey values number the objects.
        pose, parsing: of people, for MILD.
        prompt: what is in the picture.
    """

    name: str
    source: Path
    target: Path
    mask: Path
    effect_mask: Path | None = None
    instance_masks: Path | None = None
    pose: Path | None = None
    parsing: Path | None = None
    prompt: str | None = None


def read_manifest(root: Path) -> list[Sample]:
    """All samples of a folder, sorted by name.

    Raises:
        FileNotFoundError: there is no such folder, no manifest and no folders of pairs in it.
        ValueError: a line is no sample, or names a file outside the folder; the message gives the line.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}: give a folder of pairs.")
    if (root / MANIFEST).is_file():
        samples = _from_lines(root)
    elif any(root.glob("*.tar")):
        from .shards import read_shards

        samples = read_shards(root)
    else:
        samples = _from_folders(root)
    for name, count in Counter(sample.name for sample in samples).most_common(1):
        if count > 1:
            raise ValueError(f"{root} names {name} more than once, expected each name once: rename one.")
    return sorted(samples, key=lambda sample: sample.name)


def write_manifest(root: Path, samples: Iterable[Sample]) -> None:
    """Write `manifest.jsonl`, all of it or nothing; paths become relative to the folder."""
    lines = []
    for sample in sorted(samples, key=lambda sample: sample.name):
        paths = {key: getattr(sample, key) for key in (*REQUIRED, *OPTIONAL)}
        entry = {key: path.relative_to(root).as_posix() for key, path in paths.items() if path is not None}
        prompt = {} if sample.prompt is None else {"prompt": sample.prompt}
        lines.append(json.dumps({"name": sample.name, **entry, **prompt}))
    temporary = root / f".{MANIFEST}.part"
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(temporary, root / MANIFEST)


def _from_lines(root: Path) -> list[Sample]:
    samples = []
    # Not splitlines: JSON's text may hold U+2028, which is a line's end there.
    for number, line in enumerate((root / MANIFEST).read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{root / MANIFEST}, line {number}"
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where} is no JSON ({error}): expected one object a line.") from None
        if not isinstance(entry, dict) or (missing := [key for key in REQUIRED if entry.get(key) is None]):
            what = f"lacks {', '.join(missing)}" if isinstance(entry, dict) else "is no object"
            raise ValueError(f"{where} {what}: expected source, target and mask.")
        if unknown := entry.keys() - {"name", "prompt", *REQUIRED, *OPTIONAL}:
            raise ValueError(f"{where} has {', '.join(sorted(unknown))}, expected {', '.join((*REQUIRED, *OPTIONAL))}.")
        if not isinstance(prompt := entry.get("prompt"), str | None):
            raise ValueError(f"{where} has {prompt!r} for a prompt, expected text.")
        paths = {key: _inside(root, entry[key], where) for key in (*REQUIRED, *OPTIONAL) if entry.get(key) is not None}
        name = os.path.splitext(entry["source"])[0] if entry.get("name") is None else str(entry["name"])
        samples.append(Sample(name, prompt=prompt, **paths))
    return samples


def _inside(root: Path, value: object, where: str) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} has {value!r} for a path, expected text.")
    path = root / value
    # realpath, as resolve raises on links in a circle.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise ValueError(f"{where} names {value}, which is outside of the folder: keep all files inside of it.")
    return path


def _from_folders(root: Path) -> list[Sample]:
    if missing := [kind for kind in REQUIRED if not (root / kind).is_dir()]:
        raise FileNotFoundError(
            f"{root} has no {MANIFEST} and no folder {', '.join(missing)}: expected a manifest, or folders source, target "
            "and mask whose files have the same names."
        )
    files = {kind: _by_stem(root, root / kind) for kind in (*REQUIRED, *OPTIONAL) if (root / kind).is_dir()}
    names = set().union(*(files[kind] for kind in REQUIRED))
    for kind in REQUIRED:
        if alone := sorted(names - files[kind].keys()):
            raise ValueError(
                f"{root / kind} has no picture for {alone[0]} ({len(alone)} such): add it, or remove the others."
            )
    return [
        Sample(name, prompt=None, **{kind: paths[name] for kind, paths in files.items() if name in paths})
        for name in sorted(names)
    ]


def _by_stem(root: Path, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # Hidden files are what a stopped run or macOS left.
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(
                f"{folder} holds {found[path.stem].name} and {path.name}, expected one of them: remove one."
            )
        found[path.stem] = _inside(root, path.relative_to(root).as_posix(), str(folder))
    return found
