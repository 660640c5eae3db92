"""Ranks at work, shown by the parent alone: a progress bar a rank, or lines."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from llmpipe.metrics import table


class RankBars(ExitStack):
    """An `on_message` for `run_ranks` that moves a bar a rank; use it in a `with` statement.

    Messages are those of `go_through`, with `tokens_per_s` or that of another unit; or they are a
    `line` to print. No bars are drawn where outputs are made or compared, as by `progress`.
    """

    def __init__(self, num_ranks: int, unit: str = "tokens") -> None:
        from tqdm.auto import tqdm

        from llmpipe.classroom.notebooks import compared

        super().__init__()
        # The bars' lock is by default a semaphore, for other processes that draw too: none does.
        tqdm.set_lock(threading.RLock())
        self.unit = unit
        options = {"unit": " rows", "unit_scale": True, "disable": compared()}
        self.bars = [tqdm(desc=f"rank {r}", position=r, **options) for r in range(num_ranks)]
        for bar in reversed(self.bars):
            self.enter_context(bar)  # closed from the first to the last

    def __call__(self, rank: int, message: dict) -> None:
        if "line" in message:
            self.write(f"rank {rank}  {message['line']}")
            return
        bar = self.bars[rank]
        if bar.total != message["rows_to_read"]:
            bar.reset(message["rows_to_read"])  # a notebook's bar would not see a new `total`
        if rate := message[f"{self.unit}_per_s"]:
            bar.set_postfix_str(rate_in_words(rate, self.unit), refresh=False)
        bar.update(message["rows_read"] - bar.n)

    def write(self, line: str) -> None:
        """Print a line above the bars."""
        type(self.bars[0]).write(line)


class Progress:
    """Prints what ranks send, as it arrives, and remembers the last of each.

    With `bars`, which take the messages too, it prints only lines and each rank's first batch.
    """

    def __init__(self, unit: str = "tokens", bars: RankBars | None = None) -> None:
        self.last: dict[int, dict] = {}
        self.unit, self.bars = unit, bars

    def __call__(self, rank: int, message: dict) -> None:
        # A whole line at once, so that no other process can write into it.
        write = self.bars.write if self.bars else lambda line: print(line, flush=True)
        if "line" in message:
            write(f"rank {rank}  {message['line']}")
            return
        self.last[rank] = message
        rate = message[f"{self.unit}_per_s"]
        if message["batches"] == 1 or (message["batches"] and not self.bars):
            write(
                f"rank {rank}  batch {message['batches']:>8,}  shape {message['shape']}  "
                f"{message[self.unit]:>11,} {self.unit}  "
                + (rate_in_words(rate, self.unit) if rate else "warm-up")
            )
        if self.bars:
            self.bars(rank, message)

    def table(self) -> str:
        names = ("batches", self.unit)
        told = sorted(self.last.items())
        return table(
            [{"rank": rank, **{name: last[name] for name in names}} for rank, last in told]
        )


def rate_in_words(rate: float, unit: str) -> str:
    """A rate as a line shows it.

    >>> rate_in_words(12_345_678, "tokens"), rate_in_words(4321, "samples")
    (' 12.35 M tokens/s', '  4,321 samples/s')
    """
    return f"{rate / 1e6:6.2f} M {unit}/s" if unit == "tokens" else f"{rate:7,.0f} {unit}/s"
