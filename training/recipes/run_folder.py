"""The folder of a training: one training at a time writes into it, and what it writes is whole or not there."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Collection, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ...adapters.writing import replacing
from ..data.sample import Sample
from ..paths import STATE, read_settings
from .recipe import Recipe


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
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = "--resume continues from the last checkpoint, which is whole" if path.exists() else "begin anew"
        raise OSError(f"Step {state['step']} could not be saved to {path} ({error}): make room, and {kept}.") from error


def read_state(folder: Path, holds: Collection[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state that `write_state` wrote, which `holds` these parts at least.

    Raises:
        ValueError: it is damaged, or something else.
    """
    path = folder / STATE
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged pickle makes the reader fail in any way
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}), so the training cannot go on from it: get it back from a copy, or "
            "begin anew in another folder. The adapters beside it are files of their own."
        ) from error
    if not isinstance(state, dict) or not {*holds} <= state.keys():
        raise ValueError(f"{path} is no state of a training: get it back from a copy, or begin anew in another folder.")
    return state


def fingerprint(samples: list[Sample]) -> str:
    """Names the pairs that a training learns from, wherever their folder lies."""
    names = [sample.name for sample in samples]
    return f"{len(names)} pairs, {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]}"


def check_output(recipe: Recipe, settings: dict[str, Any]) -> None:
    """Raises ValueError where the output folder holds a training that is not to be resumed, none to resume, or one of other
    settings than `settings`."""
    state = recipe.output / STATE
    if not recipe.resume:
        if state.exists():
            raise ValueError(f"{recipe.output} holds a training: add --resume to continue it, or give another folder.")
        return
    if not state.exists():
        raise ValueError(f"{recipe.output} holds no {STATE} to resume from: leave --resume out, or give its folder.")
    before = read_settings(recipe.output)
    check_same(recipe.output, before, settings, recipe.may_change)


def check_same(folder: Path, before: dict[str, Any], now: dict[str, Any], may_change: Set[str]) -> None:
    """Raises ValueError where a training that is resumed had other settings, but for those that may change."""
    changed = [
        f"{key} {before.get(key)} -> {value}"
        for key, value in now.items()
        if key not in may_change and before.get(key) != value
    ]
    if changed:
        raise ValueError(f"The training in {folder} had other settings ({', '.join(changed)}): resume with those.")
