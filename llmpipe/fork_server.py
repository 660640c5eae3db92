"""The fork server: one process that imports once what all ranks need; each rank is a copy of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from multiprocessing import forkserver, resource_tracker

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # of ranks, by default

# What ranks import that stream, so that none has to wait for it.
STREAMING = (
    "llmpipe.streaming",
    "llmpipe.classification_stream",
    "llmpipe.uneven",
    "llmpipe.process_group",
    "gigatoken",
    "awkward",
    "nanotoken",
    "psutil",
)


def start_fork_server(preload: Iterable[str] = STREAMING) -> None:
    """Have the server started, and go on at once: it imports `preload` in the meantime.

    For the first lines of a script: while the server imports torch, the script opens its data, and
    `run_ranks` finds the server ready or waits for it. The server lives as long as this process.
    Only the first call here or of `run_ranks` decides what it imports. Where ranks are spawned by
    default there is no server, and this does nothing.
    """
    if START_METHOD == "forkserver":
        set_preload(preload)
        # Ctrl-C interrupts only the main thread: no start is torn.
        threading.Thread(target=_start, name="llmpipe-fork-server").start()


def set_preload(preload: Iterable[str]) -> None:
    """Say what the server imports once it is started, by whomever."""
    # The job's module stays out: the server would go on serving its text from before an edit.
    first, last = ["llmpipe.no_collection", "llmpipe.rank"], ["llmpipe.collection_again"]
    forkserver.set_forkserver_preload([*first, *preload, *last])


def block_interrupts() -> None:
    """Let all processes that this thread starts inherit a blocked SIGINT.

    A terminal sends Ctrl-C to them too, but it is the parent's to answer. The resource tracker,
    when it starts, would unblock it: it is started first.
    """
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _start() -> None:
    block_interrupts()
    forkserver.ensure_running()
