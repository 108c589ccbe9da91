"""The folder of a training: one training at a time writes into it, and what it writes is whole or not there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

STATE = "state.pt"


@contextmanager
def only_training_in(folder: Path) -> Iterator[None]:
    """Holds a lock that the system takes back when the process ends, however it ends."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"Another training writes into {folder}: wait for it, or give another output folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that the step in hand is finished and saved."""
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Everything a resumed training needs, with its `step`, all of it or nothing.

    Raises:
        OSError: it cannot be written; the state before it is whole.
    """
    path = folder / STATE
    temporary = path.with_suffix(".part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"Step {state['step']} could not be saved to {path} ({error}): make room, and --resume continues from the last "
            "checkpoint, which is whole."
        ) from error


def write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)
