"""One rank, from both ends of its pipe: what happens in its process, and what its parent knows.

`run_rank` is the life of the process. Beside the job two threads run there: one sends a heartbeat
every second, one ends the process when the parent is gone. `Rank`, in the parent, takes what the
process sends and says how it ended.
"""

from __future__ import annotations

import functools
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import connection

from tqdm import tqdm

from llmpipe.sharding.world import World

# Messages travel in packets that a pipe takes whole or not at all (5 bytes frame each), so that a
# rank stopped in the middle of a message never leaves the parent blocked inside a read.
PACKET_BYTES = getattr(select, "PIPE_BUF", 65536) - 5
START_TIMEOUT_S = 60.0  # silence allowed before the first sign of life, while a script is imported


class _Outlet:
    """The rank's end of its pipe: takes whole messages, from any of the rank's threads."""

    def __init__(self, writer: connection.Connection) -> None:
        self.writer, self.lock, self.pid = writer, threading.Lock(), os.getpid()

    def post(self, kind: str, value: object = None) -> None:
        if os.getpid() != self.pid:  # a second writer, such as a forked worker, would tear it
            raise RuntimeError(f"send works in the rank itself ({self.pid}), not in its children")
        try:
            data = pickle.dumps((kind, value))
        except Exception as error:
            what = type(value).__qualname__
            raise TypeError(f"a {kind} of type {what} cannot be pickled: {error}") from error
        try:
            with self.lock:
                for start in range(0, len(data), PACKET_BYTES):
                    mark = b"+" if start + PACKET_BYTES < len(data) else b"."
                    self.writer.send_bytes(mark + data[start : start + PACKET_BYTES])
        except OSError:  # the parent is gone, or has given this rank up
            os._exit(1)

    def put_nowait(self, record: logging.LogRecord) -> None:
        """For a `QueueHandler`: the parent's handlers write the record, so that no line is torn."""
        if os.getpid() == self.pid:
            self.post("log", record)
        elif record.levelno >= logging.WARNING:  # forked from the rank: no pipe of its own
            logging.lastResort.handle(record)


def run_rank(world: World, writer, assignment_reader, heartbeat_s: float) -> None:
    """The life of a rank: its two threads first, then its assignment, its job, and the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outlet, finished = _Outlet(writer), threading.Event()

    def end_with_parent() -> None:
        # This pipe's other end is the real parent's, also where a fork server made this process.
        connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    def beat() -> None:
        outlet.post("heartbeat")
        while not finished.wait(heartbeat_s):
            outlet.post("heartbeat")

    threading.Thread(target=end_with_parent, daemon=True).start()
    threading.Thread(target=beat, daemon=True).start()
    try:
        with assignment_reader:
            environ, folder, level, pickles = pickle.loads(assignment_reader.recv_bytes())
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        logger = logging.getLogger("llmpipe")
        logger.handlers, logger.propagate = [logging.handlers.QueueHandler(outlet)], False
        logger.setLevel(level)
        # The lock of progress bars is by default a semaphore, which a rank that is stopped leaves
        # behind. They need none here: no other process draws with this one.
        tqdm.set_lock(threading.RLock())
        job, *args = map(pickle.loads, pickles)
        outlet.post("result", job(world, functools.partial(outlet.post, "message"), *args))
    except BaseException as error:
        how = f"raised {type(error).__qualname__}"
        if isinstance(error, SystemExit):  # None is status 0, a text is status 1
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
            how = f"exited with status {status} before its job was done"
        outlet.post("error", f"{how}\n\n{traceback.format_exc()}")
        sys.exit(1)
    finally:
        finished.set()  # silent from here on, so that a rank that cannot exit is noticed


class RankError(RuntimeError):
    """Rank `rank`, process `pid`, failed; the text says how, with the traceback if it raised."""

    def __init__(self, rank: int, pid: int | None, how: str) -> None:
        super().__init__(rank, pid, how)
        self.rank, self.pid, self.how = rank, pid, how

    def __str__(self) -> str:
        return f"rank {self.rank} (pid {self.pid}) {self.how}"


class Rank:
    """What the parent knows of a rank: its process, its pipes, and what came out of it."""

    def __init__(self, context, world: World, heartbeat_s: float) -> None:
        self.index = world.rank
        self.reader, self.writer = context.Pipe(duplex=False)
        # Job and arguments follow by a second pipe: a start of a few bytes never blocks.
        self.assignment_reader, self.assignment_writer = context.Pipe(duplex=False)
        args = (world, self.writer, self.assignment_reader, heartbeat_s)
        self.process = context.Process(target=run_rank, args=args, name=f"rank {self.index}")
        self.packets: list[bytes] = []
        # heard: a first sign of life; done: the result; told: why it failed, by itself
        self.heard = self.done = self.told = False
        self.result, self.silent_s = None, 0.0

    def error(self, how: str) -> RankError:
        return RankError(self.index, self.process.pid, how)

    def receive(self, on_message: Callable[[int, object], None]) -> None:
        """Take one packet out of the pipe; act on the message if that was its last packet."""
        try:
            packet = self.reader.recv_bytes()
        except EOFError:  # the process ends; its exit status will say how
            self.reader.close()
            return
        self.heard, self.silent_s = True, 0.0
        self.packets.append(packet[1:])
        if packet[:1] == b"+":
            return
        try:
            kind, value = pickle.loads(b"".join(self.packets))
        except Exception as error:
            self.told = True
            raise self.error(f"sent what cannot be unpickled here: {error!r}") from error
        self.packets.clear()
        if kind == "message":
            on_message(self.index, value)
        elif kind == "log":
            value.rank, logger = self.index, logging.getLogger(value.name)
            if logger.isEnabledFor(value.levelno):
                logger.handle(value)
        elif kind == "result":
            self.result, self.done = value, True
        elif kind == "error":
            self.told = True
            raise self.error(value)

    def check_end(self, on_message: Callable[[int, object], None]) -> None:
        """Raise unless the process, which has ended, returned a result and exited with 0."""
        while not self.reader.closed and self.reader.poll():
            self.receive(on_message)
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
            hint = " while starting (is run_ranks called in a file, under "
            hint += '`if __name__ == "__main__":`?)'
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
