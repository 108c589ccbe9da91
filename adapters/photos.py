"""The photographs that come with the pack, each with a mask of what to remove: `photographs/README.md` says whose they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "photographs"
NAMES = ("rocket", "camera", "coffee")


@dataclasses.dataclass(frozen=True)
class Photo:
    """`image` [1,3,H,W] in 0..1, and `mask` [1,H,W], 1 where something is to be removed."""

    image: Tensor
    mask: Tensor


def load(name: str) -> Photo:
    """One of `NAMES`."""
    if name not in NAMES:
        raise ValueError(f"There is no example photograph {name!r}: choose {', '.join(NAMES)}.")
    image = _pixels(FOLDER / f"{name}.jpg", "RGB").movedim(-1, 0)[None]
    return Photo(image, _pixels(FOLDER / f"{name}_mask.png", "L")[None])


def _pixels(path: Path, mode: str) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(numpy.array(picture.convert(mode))).float() / 255
