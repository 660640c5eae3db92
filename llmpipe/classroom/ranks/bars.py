"""Ranks at work, shown by the parent alone: a progress bar a rank, or lines."""

from __future__ import annotations

import threading
from typing import Any

from llmpipe.metrics import table


class RankBars:
    """An `on_message` for `run_ranks` that moves a bar a rank; use it in a `with` statement.

    A message has `rows_read`, `rows_to_read` (None where nobody knows) and `ids_per_s`, or that of
    another unit. No bars are drawn where outputs are made or compared, as by `progress`.
    """

    def __init__(self, num_ranks: int, unit: str = "ids") -> None:
        from tqdm.auto import tqdm

        from llmpipe.classroom.notebooks import compared

        # The bars' lock is by default a semaphore, for other processes that draw too: none does.
        tqdm.set_lock(threading.RLock())
        self.unit = unit
        options = {"unit": " rows", "unit_scale": True, "disable": compared()}
        self.bars = [tqdm(desc=f"rank {r}", position=r, **options) for r in range(num_ranks)]

    def __call__(self, rank: int, message: dict) -> None:
        bar = self.bars[rank]
        if bar.total != message["rows_to_read"]:
            bar.reset(message["rows_to_read"])  # a notebook's bar would not see a new `total`
        if rate := message[f"{self.unit}_per_s"]:
            bar.set_postfix_str(rate_in_words(rate, self.unit), refresh=False)
        bar.update(message["rows_read"] - bar.n)

    def write(self, line: str) -> None:
        """Print a line above the bars."""
        type(self.bars[0]).write(line)

    def __enter__(self) -> RankBars:
        return self

    def __exit__(self, *error: Any) -> None:
        for bar in self.bars:
            bar.close()


class Progress:
    """Prints what ranks send, as it arrives, and remembers the last of each.

    A message has the `shape` of a batch, and so far the `batches`, `ids` and `ids_per_s` (0 while
    it warms up); or it is a `line`, to be printed as it is. With `bars`, which take the messages
    too, it prints only lines and each rank's first batch.
    """

    def __init__(self, unit: str = "ids", bars: Any = None) -> None:
        self.last: dict[int, dict] = {}
        self.unit, self.bars = unit, bars

    def __call__(self, rank: int, message: dict) -> None:
        if "line" in message:
            line = f"rank {rank}  {message['line']}"
            print(line, flush=True) if self.bars is None else self.bars.write(line)
            return
        rate = message[f"{self.unit}_per_s"]
        line = (
            f"rank {rank}  batch {message['batches']:>8,}  shape {message['shape']}  "
            f"{message[self.unit]:>12,} {self.unit}  "
            + (rate_in_words(rate, self.unit) if rate else "warm-up")
        )
        if self.bars is None:
            print(line, flush=True)  # in one piece, so that no other process can write into it
        else:
            if rank not in self.last:
                self.bars.write(line)
            self.bars(rank, message)
        self.last[rank] = message

    def table(self) -> str:
        return table(
            [
                {"rank": rank, "batches": last["batches"], self.unit: last[self.unit]}
                for rank, last in sorted(self.last.items())
            ]
        )


def rate_in_words(rate: float, unit: str) -> str:
    """A rate as a line shows it.

    >>> rate_in_words(12_345_678, "ids"), rate_in_words(4321, "samples")
    (' 12.35 M ids/s', '  4,321 samples/s')
    """
    return f"{rate / 1e6:6.2f} M {unit}/s" if unit == "ids" else f"{rate:7,.0f} {unit}/s"
