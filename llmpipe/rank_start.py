"""Starting ranks: what they are told, and a thread that starts them where Ctrl-C cannot cut in."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable
from multiprocessing import spawn

from llmpipe.fork_server import block_interrupts
from llmpipe.rank_process import Rank, RankError


class Starter(threading.Thread):
    """Starts the ranks in a thread, as Ctrl-C interrupts only the main one: no start is torn."""

    def __init__(self, ranks: list[Rank], order: bytes, needs_main: bool) -> None:
        super().__init__(name="llmpipe-starter", daemon=True)
        self.ranks, self.order, self.needs_main = ranks, order, needs_main
        self.started, self.cancelled = threading.Event(), threading.Event()
        self.failure: RankError | None = None

    def run(self) -> None:
        block_interrupts()
        with contextlib.nullcontext() if self.needs_main else _main_left_alone():
            for rank in self.ranks:
                try:
                    if not self.cancelled.is_set():
                        rank.process.start()
                except Exception as error:
                    self.failure = rank.error(f"could not be started: {error!r}")
                    self.cancelled.set()
                rank.writer.close()  # with our copy open, the rank's end would not show as EOF
                rank.order_reader.close()
        self.started.set()
        for rank in self.ranks:
            # BrokenPipeError: the rank is dead, which is for _watch to find and report.
            with rank.order_writer, contextlib.suppress(BrokenPipeError):
                if not self.cancelled.is_set():
                    rank.order_writer.send_bytes(self.order)
        if self.cancelled.is_set():  # and _stop may have given up waiting for a slow start
            for rank in self.ranks:
                if rank.process.pid is not None:
                    rank.process.kill()

    def wait(self) -> None:
        while not self.started.wait(0.1):  # without a limit, Windows would not heed Ctrl-C
            pass
        if self.failure:
            raise self.failure


_MAIN_LOCK = threading.Lock()


@contextlib.contextmanager
def _main_left_alone():
    """Keep this thread's new processes from importing the script again, which they do by default.

    For a job in a module it is of no use, and costs as much as the script's imports: four ranks
    of a script that imports typer started in 0.28 s with it and in 0.04 s without.
    """
    original, thread = spawn.get_preparation_data, threading.current_thread()

    def without_main(name: str) -> dict:
        data = original(name)
        if threading.current_thread() is thread:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    with _MAIN_LOCK:
        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = original


class _Pickler(pickle.Pickler):
    """Pickles as usual, notes what ranks need of `__main__`, and refuses what they cannot get."""

    needs_main = False

    def reducer_override(self, value: object) -> object:
        if isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__":
            main = sys.modules["__main__"]
            spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
            if spec.name.endswith("__main__") if spec else not os.path.isfile(path or ""):
                raise pickle.PicklingError("it is defined where no rank can import it from")
            self.needs_main = True
        return NotImplemented


def pickle_order(job: Callable, args: tuple) -> tuple[bytes, bool]:
    """All that ranks are told, and whether that needs the script's own definitions."""
    if not callable(job):
        raise TypeError(f"job must be a function, got {job!r}")
    parts, needs_main = [], False
    for name, value in [("job", job), *((f"args[{i}]", arg) for i, arg in enumerate(args))]:
        pickler = _Pickler(buffer := io.BytesIO())
        try:
            pickler.dump(value)
        except Exception as error:
            what = getattr(value, "__qualname__", type(value).__qualname__)
            raise TypeError(
                f"{name} ({what}) cannot be sent to a rank: {error}. Functions and classes that "
                "ranks use must be at the top level of a module (a .py file): move them there"
            ) from error
        parts.append(buffer.getvalue())
        needs_main |= pickler.needs_main
    # A fork server keeps the environment of its own start, so ranks are told the present one.
    level = logging.getLogger("llmpipe").getEffectiveLevel()
    return pickle.dumps((dict(os.environ), os.getcwd(), level, parts)), needs_main
