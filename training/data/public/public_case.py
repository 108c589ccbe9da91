"""A case of a public set, before it is written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

Source = Path | Callable[[], Image.Image]
"""A file that can be used as it lies, or what opens or makes the picture."""


@dataclass(frozen=True)
class PublicCase:
    """A picture, its mask (white is what goes), and the truth and all that the object changes where these are known."""

    name: str
    picture: Source
    mask: Source
    truth: Source | None = None
    effects: Source | None = None
    caption: str | None = None
