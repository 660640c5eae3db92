"""Starting ranks: a server that has imported what they need, and what each of them is told."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import forkserver, parent_process, resource_tracker

from llmpipe.launching.rank import Rank, RankError

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # of ranks, by default

STREAMING = ("llmpipe.launching.preload",)  # what ranks import that stream, in one module


def start_fork_server(preload: Iterable[str] = STREAMING) -> None:
    """Start the server and return: it imports `preload` while the script opens its data.

    For the first lines of a script; `run_ranks` then finds the server ready, or waits for it. It
    lives as long as this process: only the first call here or of `run_ranks` decides what it
    imports. Where ranks are spawned by default there is no server, and this does nothing.
    """
    if START_METHOD == "forkserver" and parent_process() is None:  # a rank imports its script too
        set_preload(preload)
        with interrupts_blocked():
            forkserver.ensure_running()


def set_preload(preload: Iterable[str]) -> None:
    """Say what the server imports once it is started, by whomever."""
    # The job's module stays out: the server would keep serving its text from before an edit.
    forkserver.set_forkserver_preload(["llmpipe.launching.rank", *preload])


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let all processes that this thread starts inherit a blocked SIGINT.

    A terminal sends Ctrl-C to them too, but it is the parent's to answer.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # first, as its start would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Starter(threading.Thread):
    """Starts the ranks in a thread, as Ctrl-C interrupts only the main one: no start is torn."""

    def __init__(self, ranks: Sequence[Rank], assignment: bytes) -> None:
        super().__init__(name="llmpipe-starter", daemon=True)
        self.ranks, self.assignment = ranks, assignment
        self.started, self.cancelled = threading.Event(), threading.Event()
        self.failure: RankError | None = None

    def run(self) -> None:
        with interrupts_blocked():
            for rank in self.ranks:
                try:
                    if not self.cancelled.is_set():
                        rank.process.start()
                except Exception as error:
                    self.failure = rank.error(f"could not be started: {error!r}")
                    self.cancelled.set()
                rank.writer.close()  # with our copy open, the rank's end would not show as EOF
                rank.assignment_reader.close()
        self.started.set()
        for rank in self.ranks:
            # BrokenPipeError: the rank is dead, which is for `run_ranks` to find and report.
            with rank.assignment_writer, contextlib.suppress(BrokenPipeError):
                if not self.cancelled.is_set():
                    rank.assignment_writer.send_bytes(self.assignment)

    def wait(self) -> None:
        while not self.started.wait(0.1):  # without a limit, Windows would not heed Ctrl-C
            pass
        if self.failure:
            raise self.failure


class _Pickler(pickle.Pickler):
    """Pickles, but refuses what a prompt or a notebook defines: no rank could import it."""

    def reducer_override(self, value: object) -> object:
        if isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__":
            main = sys.modules["__main__"]
            spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
            if spec.name.endswith("__main__") if spec else not os.path.isfile(path or ""):
                raise pickle.PicklingError("it is defined where no rank can import it from")
        return NotImplemented


def make_assignment(job: Callable, args: tuple) -> bytes:
    """All that a rank is told: environment, folder, log level, job and arguments.

    Raises TypeError that names what cannot be sent to another process.
    """
    if not callable(job):
        raise TypeError(f"job must be a function, got {job!r}")
    pickles = []
    for name, value in [("job", job), *((f"args[{i}]", arg) for i, arg in enumerate(args))]:
        try:
            _Pickler(buffer := io.BytesIO()).dump(value)
        except Exception as error:
            what = getattr(value, "__qualname__", type(value).__qualname__)
            raise TypeError(
                f"{name} ({what}) cannot be sent to a rank: {error}. Functions and classes that "
                "ranks use must be at the top level of a module (a .py file): move them there"
            ) from error
        pickles.append(buffer.getvalue())
    # A fork server keeps the environment of its own start, so ranks are told the present one.
    level = logging.getLogger("llmpipe").getEffectiveLevel()
    return pickle.dumps((dict(os.environ), os.getcwd(), level, pickles))
