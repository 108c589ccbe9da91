"""The header of a file of ours: how its contents were trained, and how they want to be used.

Files of others say nothing of this, or not all, so that every property has a default or is None; the defaults stand here
alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import methods

PREFIX = "unclutter."
LARGEST_HEADER = 100_000_000
"""Bytes; safetensors itself takes no more."""


@dataclass(frozen=True)
class Header:
    """The metadata of a safetensors file, as typed values."""

    metadata: Mapping[str, str]

    def stated(self, name: str) -> str | None:
        """The text under a name, without `unclutter.`; None where the file does not say."""
        return self.metadata.get(f"{PREFIX}{name}")

    @property
    def method(self) -> str | None:
        """The recipe that trained it: lrnr, eradiff, osor or mild."""
        return self.stated("method")

    @property
    def base(self) -> str:
        """The name of the base model that it was trained on."""
        return self.stated("base") or "another model"

    @property
    def training(self) -> str | None:
        """All settings of the training as JSON; files of one training have the same."""
        return self.stated("recipe")

    @property
    def condition_image(self) -> str | None:
        """The picture that an inpainting network was shown: "masked grey" or "full"."""
        return self.stated("condition_image")

    @property
    def mask_pooling(self) -> str | None:
        """How the mask became the network's mask channel: max, nearest, or none where it is shown every pixel."""
        return self.stated("mask_pooling")

    @property
    def pooling(self) -> str:
        """How to pool a mask to cells, max where the file says nothing or every pixel of the mask is shown."""
        return "nearest" if self.mask_pooling == "nearest" else "max"

    @property
    def timestep(self) -> int:
        """The timestep of a one-step eraser."""
        return int(self.stated("timestep") or methods.ONE_STEP_TIMESTEP)

    @property
    def prompt(self) -> str:
        """The prompt of a one-step eraser."""
        return self.stated("prompt") or methods.ONE_STEP_PROMPT

    @property
    def corrects(self) -> bool:
        """Whether a one-step eraser predicts the clean latent as a correction to the shown one, instead of the noise."""
        return self.prediction == "correction"

    @property
    def prediction(self) -> str:
        """The prediction of a one-step eraser: "noise" or "correction"."""
        return self.stated("prediction") or "noise"

    @property
    def phase(self) -> int | None:
        """The phase of OSOR's training."""
        return {"1": 1, "2": 2}.get(self.stated("phase") or "")

    @property
    def resolution(self) -> int | None:
        """The side of the training's pictures in pixels."""
        value = self.stated("resolution")
        return None if value is None else int(value)

    @property
    def prompts(self) -> tuple[str, str]:
        """The prompts of a layered eraser's people and background."""
        value = self.stated("prompts")
        if value is None:
            return methods.PERSON_PROMPT, methods.BACKGROUND_PROMPT
        person, background = json.loads(value)
        return person, background

    @property
    def background_morphology(self) -> bool:
        """Whether the background of a layered eraser was trained with pose and parsing."""
        return self.stated("background_morphology") == "true"

    @property
    def enhancers(self) -> tuple[str, ...]:
        """The words that a removal prompt was trained beside."""
        return tuple(json.loads(self.stated("enhancers") or "[]"))

    @property
    def prompt_first(self) -> bool:
        """Whether a removal prompt stands before these words."""
        return self.stated("prompt_first") in (None, "true")


def kind_of(path: Path) -> str | None:
    """The kind that a safetensors file says it is ("layered", "one-step"), read without its tensors; None where it says nothing
    or is no such file, of which whoever reads its tensors tells."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, LARGEST_HEADER)))
        kind = header["__metadata__"][f"{PREFIX}kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return kind if isinstance(kind, str) else None


class WithHeader:
    """An adapter that was read from a file with `metadata`."""

    metadata: dict[str, str]

    @property
    def header(self) -> Header:
        return Header(self.metadata)
