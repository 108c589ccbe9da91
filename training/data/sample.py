"""One pair to train on, and the file that lists a set of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...adapters.writing import write_text
from ..paths import SUFFIXES as SUFFIXES

MANIFEST = "manifest.jsonl"

REQUIRED = ("source", "target", "mask")

OPTIONAL = ("effect_mask", "instance_masks", "pose", "parsing")


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


def write_manifest(root: Path, samples: Iterable[Sample]) -> None:
    """Write `manifest.jsonl`, all of it or nothing; paths become relative to the folder. A sample whose target is its source
    has none."""
    lines = []
    for sample in sorted(samples, key=lambda sample: sample.name):
        paths = {key: getattr(sample, key) for key in (*REQUIRED, *OPTIONAL)}
        if sample.target == sample.source:
            del paths["target"]
        entry = {key: path.relative_to(root).as_posix() for key, path in paths.items() if path is not None}
        prompt = {} if sample.prompt is None else {"prompt": sample.prompt}
        lines.append(json.dumps({"name": sample.name, **entry, **prompt}))
    write_text(root / MANIFEST, "".join(f"{line}\n" for line in lines))
