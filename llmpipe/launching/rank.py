"""The life of one rank, inside its process: signs of life, its job, and the result.

Beside the job two threads run: one gives a sign of life every second, one ends the rank when the
parent is gone.
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
from multiprocessing import connection

from tqdm import tqdm

from llmpipe.launching.long_turns import take_long_turns
from llmpipe.sharding.world import World

# Messages travel in pieces that a pipe takes whole or not at all (5 bytes frame each), so that a
# rank stopped in the middle of a message never leaves the parent blocked inside a read.
PIECE_BYTES = getattr(select, "PIPE_BUF", 65536) - 5


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
                for start in range(0, len(data), PIECE_BYTES):
                    mark = b"+" if start + PIECE_BYTES < len(data) else b"."
                    self.writer.send_bytes(mark + data[start : start + PIECE_BYTES])
        except OSError:  # the parent is gone, or has given this rank up
            os._exit(1)


class _PipeHandler(logging.handlers.QueueHandler):
    """Passes records on to the parent, whose handlers write them: no line is torn."""

    def __init__(self, outlet: _Outlet, rank: int) -> None:
        super().__init__(outlet)
        self.rank = rank

    def emit(self, record: logging.LogRecord) -> None:
        record.rank = self.rank
        if os.getpid() == self.queue.pid:
            super().emit(record)
        elif record.levelno >= logging.WARNING:  # forked from the rank: no pipe of its own
            logging.lastResort.handle(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.post("log", record)


def run_rank(world: World, writer, order_reader, beat_s: float) -> None:
    """The life of a rank: its two threads first, then its order, its job, and the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outlet, finished = _Outlet(writer), threading.Event()

    def end_with_parent() -> None:
        # This pipe's other end is the real parent's, also where a fork server made this process.
        connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    def beat() -> None:
        outlet.post("beat")
        while not finished.wait(beat_s):
            outlet.post("beat")

    threading.Thread(target=end_with_parent, daemon=True).start()
    threading.Thread(target=beat, daemon=True).start()
    take_long_turns()
    try:
        with order_reader:
            environ, directory, level, parts = pickle.loads(order_reader.recv_bytes())
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(directory)
        logger = logging.getLogger("llmpipe")
        logger.handlers, logger.propagate = [_PipeHandler(outlet, world.rank)], False
        logger.setLevel(level)
        # The lock of progress bars is by default a semaphore, which a rank that is stopped leaves
        # behind. They need none here: no other process draws with this one.
        tqdm.set_lock(threading.RLock())
        job, *args = map(pickle.loads, parts)
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
