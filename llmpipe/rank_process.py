"""What the parent knows of one rank: its process, its pipe, and whether it ended well."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable

from llmpipe.rank import run_rank
from llmpipe.sharding import World

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
