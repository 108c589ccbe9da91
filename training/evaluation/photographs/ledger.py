"""The lines of results.jsonl: one for each picture, method and seed, the last of which counts.

A line is added in one write, so that a stop tears at most the last one, which is cut off when the file is read again.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS, SETS, RUN = "results.jsonl", "sets.jsonl", "run.json"
Key = tuple[str, str, int | None]
"""(picture, method, seed); the seed is None for what is measured over all seeds of a picture."""


@dataclass
class Ledger:
    """The record of the results in a run's folder."""

    path: Path
    lines: dict[Key, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Read a file, or begin one.

        Raises:
            ValueError: it is no file of results.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.truncate(path, len(whole))
        ledger = cls(path)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                ledger.lines[entry["picture"], entry["method"], entry["seed"]] = entry
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number}, is no result ({error!r}): give another folder, or take the line out."
                ) from None
        return ledger

    def add(self, **line: Any) -> None:
        """Add a line; of numbers that JSON does not know, None is written."""
        self.lines[line["picture"], line["method"], line["seed"]] = line
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(finite(line), ensure_ascii=False).encode() + b"\n")

    def good(self, key: Key, settings: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any] | None:
        """The line of a picture that was filled with these settings from these files, and did not fail."""
        line = self.lines.get(key)
        if line is None or line["error"] is not None or (line["settings"], line["inputs"]) != (settings, inputs):
            return None
        return line


def finite(value: Any) -> Any:
    """The same, with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_settings(ledger: Ledger, settings: dict[str, dict[str, Any]]) -> None:
    """Raises a ValueError where a folder holds results of a method with other settings."""
    for (_, method, _), line in ledger.lines.items():
        wanted, before = settings.get(method), line["settings"]
        if wanted is None or line["error"] is not None or before == wanted:
            continue
        changed = [key for key in before | wanted if before.get(key) != wanted.get(key)]
        told = ", ".join(f"{key} was {before.get(key)} and is {wanted.get(key)}" for key in changed)
        raise ValueError(
            f"{ledger.path.parent} holds results of {method} with other settings ({told}): give another folder, or the "
            f"method another name, as METHOD:name=OTHER."
        )
