"""Edited pictures with their instructions, as NHR-Edit and its like are unpacked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.nn import functional as F

from ...adapters.writing import name_fault
from ..images.files import read_image
from .differences import Rejection
from .sample import SUFFIXES


@dataclass(frozen=True)
class Edit:
    """A picture with an object, the same without it, and the instruction that made one from the other.

    Attributes:
        fault: why the edit cannot be used at all.
    """

    name: str
    shot: Path | None
    background: Path | None
    instruction: str
    fault: str | None = None


def list_edits(path: Path) -> list[Edit]:
    """The edits of a folder with shot/, bg/ and prompts.json, or of a JSONL file, sorted by name.

    An edit that lacks something is in the list with its fault: one of 680,000 must not stop the others.

    Raises:
        FileNotFoundError: there is no such folder or file, or a part of the folder is missing.
        ValueError: the list as a whole cannot be read, is empty, or names an edit twice.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {path}: give a folder with shot/, bg/ and prompts.json, or a JSONL file of edits."
        )
    edits = _from_folder(path) if path.is_dir() else _from_lines(path)
    if not edits:
        raise ValueError(f"{path} holds no edits, expected at least one: give another folder or file.")
    return sorted(edits, key=lambda edit: edit.name)


def read_edit(edit: Edit, size_tolerance: int) -> tuple[Tensor, Tensor]:
    """The shot and the background, [1, 3, H, W] in 0..1; a background of almost the same size is resized to the shot's.

    Raises:
        Rejection: the edit has a fault, a picture cannot be read, or their sizes differ.
    """
    if edit.fault or edit.shot is None or edit.background is None:
        raise Rejection("input", edit.fault or "a picture is missing")
    with input_at_fault():
        shot, background = read_image(edit.shot), read_image(edit.background)
    (height, width), (other_height, other_width) = shot.shape[-2:], background.shape[-2:]
    if max(abs(height - other_height), abs(width - other_width)) > size_tolerance:
        raise Rejection(
            "input",
            f"the pictures are {width}x{height} and {other_width}x{other_height}, expected one size, or {size_tolerance} "
            "pixels more or less",
        )
    if (height, width) != (other_height, other_width):
        background = F.interpolate(background, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return shot, background


@contextmanager
def input_at_fault() -> Iterator[None]:
    """A file that is missing or cannot be read rejects its edit alone."""
    try:
        yield
    except (OSError, ValueError, DecompressionBombError) as error:
        raise Rejection("input", str(error)) from None


def _from_folder(root: Path) -> list[Edit]:
    if missing := [part for part in ("shot", "bg", "prompts.json") if not (root / part).exists()]:
        raise FileNotFoundError(f"{root} has no {', '.join(missing)}: expected shot/, bg/ and prompts.json.")
    try:
        prompts = json.loads(text_of(root / "prompts.json"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{root / 'prompts.json'} is no JSON ({error}): expected file stems with instructions."
        ) from None
    if not isinstance(prompts, dict):
        raise ValueError(f"{root / 'prompts.json'} is no object, expected file stems with instructions.")
    shots, backgrounds = (
        {
            path.stem: path
            for path in sorted((root / part).iterdir())
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        }
        for part in ("shot", "bg")
    )
    edits = []
    for name in shots.keys() | backgrounds.keys():
        lacking = [part for part, files in (("shot", shots), ("bg", backgrounds)) if name not in files]
        fault = f"there is no picture {name} in {lacking[0]}/" if lacking else None
        edits.append(_edit(name, shots.get(name), backgrounds.get(name), prompts.get(name), fault))
    return edits


def _from_lines(path: Path) -> list[Edit]:
    edits: dict[str, Edit] = {}
    # Not splitlines: JSON's text may hold U+2028, which is a line's end there.
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no JSON ({error}): expected one object a line.") from None
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or name.startswith(".") or any(mark in name for mark in "/\\"):
            raise ValueError(f"{path}, line {number} has the name {name!r}, expected text that may be a file's name.")
        if name in edits:
            raise ValueError(f"{path}, line {number} names {name} again, expected each name once: rename one.")
        edits[name] = _from_entry(path.parent, name, entry)
    return list(edits.values())


def text_of(path: Path) -> str:
    """A list's text.

    Raises:
        FileNotFoundError: it is no file.
        ValueError: it is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give a list of edits.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start} is not): save it as UTF-8.") from None


def _from_entry(root: Path, name: str, entry: dict) -> Edit:
    before, after = (entry.get(key) for key in ("before", "after"))
    if not (isinstance(before, str) and isinstance(after, str)):
        return _edit(name, None, None, entry.get("instruction"), "it lacks before or after, expected two paths")
    if (direction := entry.get("direction")) not in ("add", "remove"):
        return _edit(
            name, None, None, entry.get("instruction"), f"its direction is {direction!r}, expected add or remove"
        )
    shot, background = (after, before) if direction == "add" else (before, after)
    return _edit(name, root / shot, root / background, entry.get("instruction"), None)


def _edit(name: str, shot: Path | None, background: Path | None, instruction: object, fault: str | None) -> Edit:
    text = instruction.strip() if isinstance(instruction, str) else ""
    return Edit(
        name,
        shot,
        background,
        text,
        (name_fault(name) and f"its name {name_fault(name)}")
        or fault
        or (None if text else "its instruction is empty"),
    )
