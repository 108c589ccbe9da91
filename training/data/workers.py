"""Processes that share a long work, and end with the process that began them, however that ends."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def worker_pool(count: int, begin: Callable[..., None] | None = None, *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` processes of one thread each, in each of which `begin(*arguments)` runs first.

    None of them outlives this process, not even where it is killed. An error or Ctrl-C here drops the work that no
    process has begun.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(begin, arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(begin: Callable[..., None] | None, arguments: tuple) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    import torch

    # Sums over several threads may round otherwise than over one.
    torch.set_num_threads(1)
    if begin is not None:
        begin(*arguments)


def _end_with(sentinel: int) -> None:
    """Waits for the end of a process, which the system tells by closing its pipe, and ends this one."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
