"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_NAME = 200
"""Of a file, in bytes: file systems take 255, and a number and an ending follow."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes the place of `path` when the block ends without an error.

    The file keeps its suffix, by which writers choose a format, and is hidden, so that nothing takes it for finished. A
    block that fails leaves `path` as it was and nothing beside it.

    Raises:
        OSError: it cannot be written, on a full disk for one; the message names `path`.
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error}): make room, or give another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, all of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def name_fault(name: str) -> str | None:
    """Tells why no file can have this name, as the rest of a sentence that begins with it; None where a file can."""
    if name.encode(errors="replace").replace(b"\0", b"?").decode() != name:
        return "holds NUL or half a character"
    length = len(name.encode())
    return f"is {length} bytes long, expected at most {LONGEST_NAME}" if length > LONGEST_NAME else None
