"""The fork server: one process that imports once what all ranks need; each rank is a copy of it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable
from multiprocessing import forkserver, resource_tracker

# What ranks import that stream blocks, so that none has to wait for it.
STREAMING = (
    "llmpipe.streaming",
    "llmpipe.uneven",
    "llmpipe.process_group",
    "gigatoken",
    "awkward",
    "nanotoken",
    "psutil",
)


def start_fork_server(preload: Iterable[str] = STREAMING) -> None:
    """Start the server and return at once: it imports `preload` while this process goes on.

    For a script's first lines, before it opens its data; `run_ranks` then finds the server ready,
    or waits for it. The server lives as long as this process, and only the first call decides what
    it imports. Does nothing on systems that have none.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    # The job's module stays out: the server would go on serving its text from before an edit.
    forkserver.set_forkserver_preload(["llmpipe.no_collection", "llmpipe.rank", *preload])
    # Ranks inherit a blocked SIGINT: a terminal sends Ctrl-C to them too, but it is the parent's to
    # answer. The tracker, when it starts, would unblock it: start it first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
