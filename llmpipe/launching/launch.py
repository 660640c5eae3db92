"""Run a job in several processes: start, listen, and fail loudly.

Each rank has a pipe of its own to the parent and is the only one to write there: ranks share no
lock and no semaphore, and one that is killed tears nothing but its own pipe. The parent waits on
all pipes and processes at once, hands on what arrives, and stops every rank once one has failed.
A rank has failed unless its job returned *and* its process then exited with status 0.

Limits: a job that holds the interpreter lock (GIL) inside one native call for longer than
`heartbeat_timeout_s` (sorting a huge list, a runaway regular expression, unpickling gigabytes)
looks like one that hangs, so raise the timeout; nor does it notice before the call returns that
the parent is gone. A Python loop without end gives signs of life and is not found. Processes that
a job starts are the job's to end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import connection

from llmpipe.arguments import check_choice, check_count, check_number
from llmpipe.launching.rank import Rank, RankError
from llmpipe.launching.start import START_METHOD, Starter, make_assignment, set_preload
from llmpipe.sharding.world import World

HEARTBEAT_TIMEOUT_S = 10.0  # a rank that is silent for longer has failed
STOP_GRACE_S = 1.5  # from SIGTERM to SIGKILL
SILENT_END_S = 0.2  # after one rank's error: for another that ended without a word


def run_ranks(
    job: Callable,
    world_size: int,
    *args: object,
    on_message: Callable[[int, object], None] | None = None,
    preload: Iterable[str] = (),
    start_method: str | None = None,
    heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
) -> list:
    """Run `job(world, send, *args)` in `world_size` processes; return the results in rank order.

    `job` and the classes among `args` stand in an importable module or in the script, which calls
    `run_ranks` under `if __name__ == "__main__":`, since each rank imports it again. What a rank
    gives to `send` arrives at `on_message(rank, message)` in the calling thread, a rank's messages
    in their order; `send` waits for a slow parent and drops nothing. Records of a rank's "llmpipe"
    loggers are handled by the parent's, with `record.rank` set.

    `start_method` is "forkserver" (default on Linux) or "spawn" (elsewhere). The fork server
    imports the modules in `preload` once for all ranks; it lives as long as the process, so the
    first call decides, or `start_fork_server`, which starts it sooner. Ranks get the parent's
    present environment and working directory, but what a preloaded module read from the
    environment at its import it does not read again.

    Raises `RankError` if a rank raises, exits early, is killed, or is silent for
    `heartbeat_timeout_s`; TypeError, before anything is started, for what cannot be sent to a
    rank. SIGTERM becomes `SystemExit(143)`. No rank outlives this call, however it ends.

    With `def square_rank(world, send): return world.rank**2` in a module,
    `run_ranks(square_rank, 3)` gives `[0, 1, 4]`.
    """
    check_count("world_size", world_size, 1)
    check_number("heartbeat_timeout_s", heartbeat_timeout_s, 0.1)
    if isinstance(preload, str):
        raise TypeError(f"preload must be a list of module names, got the string {preload!r}")
    start_method = start_method or START_METHOD
    # Not "fork": a forked rank would hold its siblings' pipes open, and find locks held for ever.
    check_choice("start_method", start_method, ("forkserver", "spawn"))
    assignment = make_assignment(job, args)
    context = multiprocessing.get_context(start_method)
    if start_method == "forkserver":
        set_preload(preload)
    heartbeat_s = min(1.0, heartbeat_timeout_s / 5)
    ranks = [Rank(context, World(rank, world_size), heartbeat_s) for rank in range(world_size)]
    starter = Starter(ranks, assignment)
    with _sigterm_as_exit():
        try:
            starter.start()
            starter.wait()
            on_message = on_message or (lambda rank, message: None)
            _watch(ranks, on_message, heartbeat_s, heartbeat_timeout_s)
        finally:
            _stop(ranks, starter)
    return [rank.result for rank in ranks]


def _watch(ranks: list[Rank], on_message: Callable, heartbeat_s: float, timeout_s: float) -> None:
    """Hand on what the ranks send until all have ended well; raise at the first that has not."""
    running, before = list(ranks), time.monotonic()
    while running:
        pipes = [rank.reader for rank in running if not rank.reader.closed]
        sentinels = [rank.process.sentinel for rank in running]
        ready = connection.wait([*pipes, *sentinels], timeout=heartbeat_s)
        # A look counts for one heartbeat at most: a parent that was busy, or stopped together
        # with its ranks (Ctrl-Z), does not take that for their silence.
        now = time.monotonic()
        passed_s, before = min(now - before, heartbeat_s), now
        try:
            for rank in list(running):
                rank.silent_s += passed_s
                if rank.reader in ready:
                    rank.receive(on_message)
                if rank.process.sentinel in ready:
                    rank.check_end(on_message)
                    running.remove(rank)
                else:
                    rank.check_silence(timeout_s)
        except RankError:
            # Ranks that talk to each other fail when one of them dies: tell of that one.
            if silent := _silent_end(running, on_message):
                raise silent from None
            raise


def _silent_end(ranks: list[Rank], on_message: Callable) -> RankError | None:
    """The error of the first rank that ended and told of none: killed, or by `os._exit`.

    It may have ended before those that tell of theirs; the fork server needs a moment to say so.
    """
    deadline = time.monotonic() + SILENT_END_S
    while time.monotonic() < deadline:
        for rank in ranks:
            if rank.process.exitcode is not None and not rank.told:
                try:
                    rank.check_end(on_message)
                except RankError as error:
                    if not rank.told:
                        return error
        time.sleep(0.01)
    return None


def _stop(ranks: list[Rank], starter: Starter) -> None:
    """End what still runs: SIGTERM, then SIGKILL for what ignores it or at a second Ctrl-C."""
    deadline = time.monotonic() + STOP_GRACE_S
    try:
        starter.cancelled.set()
        if starter.is_alive():
            starter.join(0.5)  # more only while a fork server preloads: it has no ranks yet
        alive = [rank.process for rank in ranks if rank.process.pid is not None]
        for process in alive:
            process.terminate()
        while alive and time.monotonic() < deadline:
            timeout = max(0.0, deadline - time.monotonic())
            connection.wait([process.sentinel for process in alive], timeout)
            alive = [process for process in alive if process.exitcode is None]
    finally:
        for rank in ranks:
            rank.reader.close()  # what yet lives finds its pipe broken at its next sign of life
            if rank.process.pid is not None:
                rank.process.kill()
                rank.process.join(STOP_GRACE_S)


@contextlib.contextmanager
def _sigterm_as_exit():
    """Within, SIGTERM raises SystemExit(143), so that `finally` clauses run, ours first."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield  # a thread must not set signals, and a program's own answer stands
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
