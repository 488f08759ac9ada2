"""Processes: the number of workers, their threads and their end, and the signals that ask a process to stop."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import FrameType
from typing import Any, Final

#: Environment variables from which numerical libraries read their number of threads when a process begins.
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """Return the number of cores that this process may use: those given by a batch system, not all of the node."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Give processes that start inside one thread each, so that last digits do not depend on the number of cores."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def worker_pool(
    n: int, initializer: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Provide worker processes of one thread each, which end with this process.

    Processes are spawned, because a forked child would inherit the threads of Arrow, uproot and torch in an unknown
    state. Work that has not begun when the block is left, by an error for example, is dropped.

    Parameters
    ----------
    n : int
        Number of processes.
    initializer : callable, optional
        Called with the arguments when a process begins.
    *arguments : Any
        Arguments of the initializer.

    Yields
    ------
    ProcessPoolExecutor
    """
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), _begin, (initializer, *arguments))
    with one_thread_each():
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(initializer: Callable[..., None] | None, *arguments: Any) -> None:
    """Make a worker process end with its parent; otherwise it would wait for work forever."""
    threading.Thread(target=_wait_and_exit, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _wait_and_exit() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def on_stop_signals(act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` with the number of a SIGTERM or SIGINT received inside; outside the main thread do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return

    def handle(number: int, frame: FrameType | None) -> None:
        act(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
