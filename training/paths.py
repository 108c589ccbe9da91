"""Names of files in output folders, and checks of the paths that a command is given.

Nothing here imports PyTorch: a command tells of a missing file before it imports what it would need for the work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..adapters.header import kind_of
from ..adapters.methods import LAYERS, ONE_STEP, TRAINED_FOR

MINI, RANDOM_SDXL = Path("mini"), Path("random-sdxl")
"""Names in place of a checkpoint's path: the mini model in the pack, and a network of SDXL's real size with random weights."""
RECIPE, STATE = "recipe.json", "state.pt"
"""In the output folder of a training: its recipe and settings, and the state that a resumed training continues from."""

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
"""Endings of the pictures that are looked for in folders."""
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Endings of pictures that are written here, and what Pillow calls their formats."""


def check_picture(path: Path) -> None:
    """Raises FileNotFoundError where no file lies at the path of a picture."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture at {path}: give the path of a PNG or JPEG file.")


def check_checkpoint(path: Path) -> None:
    """Raises FileNotFoundError where neither a file nor a folder lies at the path of a checkpoint."""
    if not path.exists():
        raise FileNotFoundError(f"There is no checkpoint at {path}: give a diffusers folder or a .safetensors file.")


def check_pairs(folder: Path) -> None:
    """Raises FileNotFoundError where there is no folder of pairs."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give a folder of pairs.")


def check_folder(folder: Path, contents: str) -> None:
    """Raises FileNotFoundError where there is no folder of `contents`, which the message names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give a folder of {contents}.")


def check_file(path: Path, kind: str) -> None:
    """Raises FileNotFoundError where there is no file; `kind` says which one to give."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give {kind}.")


def check_comfyui(folder: Path | None) -> None:
    """Raises FileNotFoundError where a folder is given that holds no ComfyUI."""
    if folder is not None and not (folder / "main.py").is_file():
        raise FileNotFoundError(f"There is no ComfyUI in {folder}: give the folder that holds its main.py.")


def check_writable(path: Path, *inputs: Path) -> None:
    """Raises ValueError where no picture can be written to `path`, or where one of the inputs lies there: before hours of
    work, and not after."""
    if path.is_dir() or path.suffix.lower() not in WRITABLE:
        raise ValueError(
            f"{path} is no name of a picture that is written here: give one that ends in {', '.join(WRITABLE)}, such as "
            f"{path.stem}.png."
        )
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {path.parent} to write {path.name} into: make it, or give another.")
    if path.resolve() in [each.resolve() for each in inputs]:
        raise ValueError(f"{path} is what is read here, and would be lost: give another name for the result.")


def recipe_of(adapters: Path) -> str:
    """The recipe that trained what lies in an output folder of `unclutter train`; a file that does not say that it is a
    layered eraser is taken for a one-step eraser.

    Raises:
        FileNotFoundError, ValueError: there is no training in it, or a damaged one.
    """
    if adapters.is_file():
        held = LAYERS if kind_of(adapters) == "layered" else ONE_STEP
        return next(recipe for recipe, method in TRAINED_FOR.items() if method == held)
    return read_settings(adapters)["recipe"]


def read_settings(folder: Path) -> dict[str, Any]:
    """The recipe's name, under "recipe", and the settings of the training in an output folder.

    Raises:
        FileNotFoundError: there is no training in it.
        ValueError: the file is damaged.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise FileNotFoundError(f"There is no training in {folder}: give the output folder of `unclutter train`.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): get it back from a copy, or begin anew in another folder."
        ) from None
    if not isinstance(settings, dict) or not isinstance(settings.get("recipe"), str):
        raise ValueError(f"{path} names no recipe: get it back from a copy, or begin anew in another folder.")
    return settings
