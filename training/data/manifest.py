"""Pairs for training: which picture goes with which, in one format for every recipe.

A folder holds `manifest.jsonl`, one object a line with `source`, `target`, `mask` and optionally `effect_mask`,
`instance_masks`, `pose`, `parsing` (paths relative to the folder), `prompt` and `name` (else the source's path without
its suffix); or it holds webdataset shards (`shards.py`); or folders of these names whose files pair up by their stems.
"""

from __future__ import annotations

import codecs
import functools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from .sample import MANIFEST, OPTIONAL, REQUIRED, SUFFIXES, Sample
from .shards import read_shards


def read_manifest(root: Path, targets: bool = True) -> list[Sample]:
    """All samples of a folder, sorted by name.

    Args:
        targets: where False, a sample needs no target: without one, its source is taken for the target too.

    Raises:
        FileNotFoundError: there is no such folder, no manifest and no folders of pairs in it.
        ValueError: a line is no sample, or names a file outside the folder; the message gives the first such line.
    """
    samples, faults = scan_manifest(root, targets)
    if faults:
        others = f" {len(faults) - 1} more such: `unclutter data check` lists them." if len(faults) > 1 else ""
        raise ValueError(faults[0] + others)
    return samples


def scan_manifest(root: Path, targets: bool = True) -> tuple[list[Sample], list[str]]:
    """As `read_manifest`: the samples that can be used, and a sentence about each line, file or shard that cannot."""
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}: give a folder of pairs.")
    required = tuple(kind for kind in REQUIRED if targets or kind != "target")
    if (root / MANIFEST).is_file():
        entries, faults = _from_lines(root, required)
    elif any(root.glob("*.tar")):
        entries, faults = read_shards(root, required)
    else:
        entries, faults = _from_folders(root, required)
    samples = [Sample(**{"target": entry["source"], **entry}) for entry in entries]
    for name, count in Counter(sample.name for sample in samples).items():
        if count > 1:
            faults.append(f"{root} names {name} more than once, expected each name once: rename one.")
    return sorted(samples, key=lambda sample: sample.name), faults


def _from_lines(root: Path, required: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[str]]:
    entries, faults, inside = [], [], _Root(root)
    content = (root / MANIFEST).read_bytes().removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            entries.append(_from_line(inside, line, required))
        except ValueError as error:
            faults.append(f"{root / MANIFEST}, line {number} {error}")
    return entries, faults


def _from_line(inside: _Root, line: bytes, required: tuple[str, ...]) -> dict[str, Any]:
    try:
        entry = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error}): expected one object a line.") from None
    if not isinstance(entry, dict) or (missing := [key for key in required if entry.get(key) is None]):
        what = f"lacks {', '.join(missing)}" if isinstance(entry, dict) else "is no object"
        raise ValueError(f"{what}: expected {', '.join(required)}.")
    if unknown := entry.keys() - {"name", "prompt", *REQUIRED, *OPTIONAL}:
        raise ValueError(f"has {', '.join(sorted(unknown))}, expected {', '.join((*REQUIRED, *OPTIONAL))}.")
    if not isinstance(prompt := entry.get("prompt"), str | None):
        raise ValueError(f"has {prompt!r} for a prompt, expected text.")
    paths = {key: inside(entry[key]) for key in (*REQUIRED, *OPTIONAL) if entry.get(key) is not None}
    name = os.path.splitext(entry["source"])[0] if entry.get("name") is None else str(entry["name"])
    return {"name": name, "prompt": prompt, **paths}


class _Root:
    """A folder of pairs, whose files have to lie inside of it. Each of its folders is resolved once."""

    def __init__(self, path: Path) -> None:
        self.path, self.real = path, os.path.realpath(str(path))
        # realpath, as resolve raises on links in a circle.
        self.real_folder = functools.cache(lambda folder: os.path.realpath(str(folder)))

    def __call__(self, value: object) -> Path:
        """The path of a file that is named relative to the folder.

        Raises:
            ValueError: no text, or a file outside of the folder, also by a link.
        """
        if not isinstance(value, str) or not value:
            raise ValueError(f"has {value!r} for a path, expected text.")
        path = self.path / value
        real = (
            os.path.realpath(str(path)) if path.name == ".." or os.path.islink(path) else self.real_folder(path.parent)
        )
        if real != self.real and not real.startswith(self.real + os.sep):
            raise ValueError(f"names {value}, which is outside of the folder: keep all files inside of it.")
        return path


def _from_folders(root: Path, required: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[str]]:
    if missing := [kind for kind in required if not (root / kind).is_dir()]:
        raise FileNotFoundError(
            f"{root} has no {MANIFEST} and no folder {', '.join(missing)}: expected a manifest, or folders "
            f"{', '.join(required)} whose files have the same names."
        )
    faults: list[str] = []
    inside = _Root(root)
    files = {kind: _by_stem(inside, kind, faults) for kind in (*REQUIRED, *OPTIONAL) if (root / kind).is_dir()}
    names = set().union(*(files[kind] for kind in required))
    for kind in required:
        alone = sorted(names - files[kind].keys())
        faults += [f"{root / kind} has no picture for {name}: add it, or remove the others." for name in alone]
    whole = sorted(name for name in names if all(name in files[kind] for kind in required))
    entries = [
        {"name": name, **{kind: paths[name] for kind, paths in files.items() if name in paths}} for name in whole
    ]
    return entries, faults


def _by_stem(inside: _Root, kind: str, faults: list[str]) -> dict[str, Path]:
    folder = inside.path / kind
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # Hidden files are what a stopped run or macOS left.
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            faults.append(f"{folder} holds {found[path.stem].name} and {path.name}, expected one of them: remove one.")
            continue
        try:
            found[path.stem] = inside(f"{kind}/{path.name}")
        except ValueError as error:
            faults.append(f"{folder} {error}")
    return found
