"""Files of tensors: read without running what may be in them, each fault one sentence, and written whole or not at all."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .writing import replacing

LARGEST = 65504.0
"""The largest number of fp16. No trained weight comes near it, and a network that is given more gives black pictures."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the header of a file; tensors of 8-bit floats as fp16, which holds them exactly.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, or a truncated one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {key: _computable(value) for key, value in tensors.items()}, file.metadata() or {}
    # Beside its own error the library raises others for offsets and types that it did not expect.
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path.name} is no whole safetensors file ({_short(error)}): get it again, or convert it if it is a pickle "
            "(pickles can run code and are not opened)."
        ) from error


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file, all of it or nothing; equal tensors and metadata give equal bytes.

    Raises:
        OSError: it cannot be written, on a full disk for one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # of ordinary files here; safetensors lets nobody else read
        try:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        _sort_header(temporary)
        temporary.chmod(mode)


def unpickle(path: Path) -> Any:
    """Read what torch.save wrote, without running anything that is in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds code, or tensors that claim more than the file has.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give the path of a .safetensors or .pth file.")
    try:
        # Mapped, three gigabytes stay on disk until they are used; pickles of before 2020 cannot be.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged pickle makes the reader fail in any way
        raise ValueError(
            f"{path.name} is no whole file of tensors ({type(error).__name__}): it is truncated, or holds code, which is not "
            "run; get it again."
        ) from error


def tensors_of(held: Any, name: str) -> dict[str, Tensor]:
    """The tensors that the pickle `name` holds, by their names.

    Raises:
        ValueError: it holds something else, or tensors that have no values of their own.
    """
    if not isinstance(held, dict):
        raise ValueError(f"{name} holds {_named(held)}, expected tensors by name: give a file of weights.")
    if wrong := [(key, value) for key, value in held.items() if not isinstance(key, str) or not _is_whole(value)]:
        key, value = wrong[0]
        raise ValueError(
            f"{name} holds {_named(value)} under {key!r}, expected tensors by name: give the file of the release."
        )
    return {key: _computable(value) for key, value in held.items()}


def check_numbers(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises a ValueError where a tensor of the file `name` has NaN, infinity or more than any training gives."""
    for key, value in tensors.items():
        if value.is_floating_point() and value.numel():
            low, high = torch.aminmax(value)
            if not (float(low) >= -LARGEST and float(high) <= LARGEST):  # false for NaN, too
                raise ValueError(
                    f"{name} has NaN or infinite values, or larger ones than any training gives, in {key}: its training failed "
                    "or the file is damaged, get it again or take an earlier checkpoint."
                )


def json_value(text: str, kind: type, what: str) -> Any:
    """The value of a JSON text that is expected to be a `kind` (dict, list); `what` begins the sentence about another.

    Raises:
        ValueError: it is no JSON, or the JSON of something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no JSON ({_short(error)}): get the file again.") from None
    if not isinstance(value, kind):
        raise ValueError(f"{what} is {_named(value)}, expected a {kind.__name__}: get the file again.")
    return value


def check_whole_numbers(path: Path, metadata: dict[str, str], limits: dict[str, tuple[int, int]]) -> None:
    """Raises a ValueError unless the header's numbers of these keys, where there are any, are whole and in their limits."""
    for key, (low, high) in limits.items():
        text = metadata.get(key, str(low))
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise ValueError(
                f"{path.name} says {key} = {text[:40]!r}, expected a whole number from {low} to {high}: get the file again."
            )


def check_choice(path: Path, metadata: dict[str, str], key: str, choices: tuple[str, ...]) -> None:
    """Raises a ValueError unless the header's value of a key, where there is one, is one of `choices`."""
    if (text := metadata.get(key, choices[0])) not in choices:
        raise ValueError(
            f"{path.name} says {key} = {text[:40]!r}, expected {' or '.join(choices)}: it needs a newer version of the pack, or "
            "is damaged."
        )


def _computable(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.dtype.is_floating_point and value.itemsize == 1 else value


def _is_whole(value: Any) -> bool:
    """Whether it is a tensor whose values all lie in the file; one that repeats a single value may claim terabytes."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.itemsize <= value.untyped_storage().nbytes()


def _named(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dictionary with {', '.join(map(repr, list(value)[:3])) or 'nothing'}"
    return f"a {type(value).__name__}"


def _short(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _sort_header(path: Path) -> None:
    """Sorts the metadata of a file just written: the library writes it in an order that differs from run to run."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(length))
