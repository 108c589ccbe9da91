"""Files of tensors, read and written whole or not at all.

The command line reads the facts of these modules before it knows that it will need a network, so PyTorch is imported
inside the functions that need it.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes the place of `path` when the block ends without an error.

    The file keeps its suffix, by which writers choose a format, and is hidden, so that nothing takes it for finished. A
    block that fails leaves `path` as it was and nothing beside it.
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, all of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors and the header of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, or a truncated one.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no whole safetensors file ({error}): get it again, or convert it if it is a pickle (pickles can run "
            "code and are not opened)."
        ) from error


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file, all of it or nothing.

    Raises:
        OSError: it cannot be written, on a full disk for one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # of ordinary files here; safetensors lets nobody else read
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary, metadata)
            temporary.chmod(mode)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written ({error}): make room, or give another folder.") from error


def unpickle(path: Path) -> Any:
    """Read what torch.save wrote, without running anything that is in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, or holds code.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give the path of a .safetensors or .pth file.")
    try:
        # Mapped, three gigabytes stay on disk until they are used; pickles of before 2020 cannot be.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path.name} is no whole file of tensors ({type(error).__name__}): it is truncated, or holds code, which is not "
            "run; get it again."
        ) from error
