"""Starting ranks: what they are told, and a thread that starts them where Ctrl-C cannot cut in."""

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
from collections.abc import Callable, Iterable
from multiprocessing import forkserver, resource_tracker, spawn

from llmpipe.launching.rank import run_rank
from llmpipe.sharding.world import World

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # of ranks, by default

# What ranks import that stream, so that none has to wait for it.
STREAMING = (
    "llmpipe.streaming.block_stream",
    "llmpipe.classification.stream",
    "llmpipe.launching.distributed",
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
    first, last = (
        ["llmpipe.launching.no_collection", "llmpipe.launching.rank"],
        ["llmpipe.launching.collection_again"],
    )
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


START_TIMEOUT_S = 60.0  # silence allowed before the first sign of life, while a script is imported


class RankError(RuntimeError):
    """Rank `rank`, process `pid`, failed; the text says how, with the traceback if it raised."""

    def __init__(self, rank: int, pid: int | None, how: str) -> None:
        super().__init__(rank, pid, how)
        self.rank, self.pid, self.how = rank, pid, how

    def __str__(self) -> str:
        return f"rank {self.rank} (pid {self.pid}) {self.how}"


class Rank:
    """What the parent knows of a rank: its process, its pipe, and what came out of it."""

    def __init__(self, context, world: World, beat_s: float) -> None:
        self.index = world.rank
        self.reader, self.writer = context.Pipe(duplex=False)
        # Job and arguments follow by a second pipe: a start of a few bytes never blocks.
        self.order_reader, self.order_writer = context.Pipe(duplex=False)
        args = (world, self.writer, self.order_reader, beat_s)
        self.process = context.Process(target=run_rank, args=args, name=f"rank {self.index}")
        self.pieces: list[bytes] = []
        self.heard = self.done = self.told = False
        self.silent_s = 0.0
        self.result: object = None

    def error(self, how: str) -> RankError:
        return RankError(self.index, self.process.pid, how)

    def receive(self, on_message: Callable[[int, object], None]) -> None:
        """Take one piece out of the pipe; act on the message if that was its last piece."""
        try:
            piece = self.reader.recv_bytes()
        except EOFError:  # the process ends; its exit status will say how
            self.reader.close()
            return
        self.heard, self.silent_s = True, 0.0
        self.pieces.append(piece[1:])
        if piece[:1] == b"+":
            return
        try:
            kind, value = pickle.loads(b"".join(self.pieces))
        except Exception as error:
            self.told = True
            raise self.error(f"sent what cannot be unpickled here: {error!r}") from error
        self.pieces.clear()
        if kind == "message":
            on_message(self.index, value)
        elif kind == "log":
            logger = logging.getLogger(value.name)
            if logger.isEnabledFor(value.levelno):
                logger.handle(value)
        elif kind == "result":
            self.result, self.done = value, True
        elif kind == "error":
            self.told = True
            raise self.error(value)

    def check_end(self) -> None:
        """Raise unless the process, which has ended, returned a result and exited with 0."""
        self.process.join()
        status = self.process.exitcode
        if self.done and status == 0:
            return
        how, hint = f"exited with status {status}", ""
        if status < 0:
            names = {-number.value: number.name for number in signal.Signals}
            how = f"was killed by {names.get(status, f'signal {-status}')}"
            hint = " (out of memory?)" if names.get(status) == "SIGKILL" else ""
        elif status == 1 and not self.heard:
            hint = ' while starting (is run_ranks called under `if __name__ == "__main__":`?)'
        raise self.error(f"{how}{hint} {'after' if self.done else 'before'} its job was done")

    def check_silence(self, limit_s: float) -> None:
        """Raise if the rank, which still runs, has been silent for too long."""
        limit_s = limit_s if self.heard else max(limit_s, START_TIMEOUT_S)
        if self.silent_s <= limit_s:
            return
        if self.done:
            how = "finished its job but did not exit: a thread or process of the job still runs"
            raise self.error(f"{how} after {limit_s:g} s")
        import psutil

        pid = self.process.pid
        state = psutil.Process(pid).status() if psutil.pid_exists(pid) else "gone"
        raise self.error(
            f"gave no sign of life for {limit_s:g} s (process state: {state}): it is stopped, or "
            "one native call holds the interpreter lock; if so, raise heartbeat_timeout_s"
        )


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
