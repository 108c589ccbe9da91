"""Large sets as webdataset shards: tar files whose members `NAME.source.png`, `NAME.target.png`, ... are one pair.

webdataset and other trainings read them; here they are read by their place in the tar, so that order, augmentation and
resuming are those of a folder.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .sample import OPTIONAL, REQUIRED


class Part(io.RawIOBase):
    """A range of a file's bytes, read as they are asked for: a picture's size costs its header alone."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self.file, self.offset, self.size, self.place = path.open("rb"), offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.offset + self.place)
        count = self.file.readinto(memoryview(buffer)[: max(0, self.size - self.place)])
        self.place += count
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


@dataclass(frozen=True)
class Member:
    """A file inside a tar; opens as a path does."""

    tar: Path
    name: str
    offset: int
    size: int

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def open(self) -> io.BufferedReader:
        return io.BufferedReader(Part(self.tar, self.offset, self.size))

    def read_bytes(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"


def read_shards(root: Path, required: tuple[str, ...] = REQUIRED) -> tuple[list[dict[str, Any]], list[str]]:
    """The pairs in all tars of a folder, as the values of a Sample, and a sentence about each tar that is damaged, each
    description that cannot be read and each pair that lacks one of the `required` kinds."""
    entries, faults = [], []
    for path in sorted(root.glob("*.tar")):
        if not path.is_file():
            faults.append(f"{path} is no file: remove it.")
            continue
        try:
            with tarfile.open(path, "r:") as tar:
                found = _read_shard(path, tar, faults)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            faults.append(f"{path} is no whole tar file ({error}): pack the set again.")
            continue
        for name, entry in found.items():
            if missing := [kind for kind in required if kind not in entry]:
                faults.append(f"{path} lacks {', '.join(missing)} of {name}: pack the set again.")
            else:
                entries.append(entry)
    return entries, faults


def _read_shard(path: Path, tar: tarfile.TarFile, faults: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    length = path.stat().st_size
    for member in tar:
        if not member.isfile():
            continue
        if member.offset_data + member.size > length:
            faults.append(
                f"{path}/{member.name} claims {member.size} bytes, more than the tar has: pack the set again."
            )
            continue
        folder, _, file = member.name.removeprefix("./").rpartition("/")
        stem, _, kind = file.partition(".")
        name = f"{folder}/{stem}".lstrip("/")
        kind = kind.partition(".")[0]
        entry = found.setdefault(name, {"name": name})
        content = Member(path, member.name, member.offset_data, member.size)
        if kind in (*REQUIRED, *OPTIONAL):
            entry[kind] = content
        elif kind == "json":
            try:
                entry |= _description(content)
            except ValueError as error:
                faults.append(f"{content} {error}: pack the set again.")
    return found


def _description(content: Member) -> dict[str, str]:
    try:
        values = json.loads(content.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from None
    if not isinstance(values, dict) or not all(isinstance(values.get(k), str | None) for k in ("name", "prompt")):
        raise ValueError("is no object with the texts name and prompt")
    return {key: values[key] for key in ("name", "prompt") if values.get(key) is not None}
