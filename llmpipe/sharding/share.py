"""One rank's share of a split, by one of four strategies, and how much it reads for it.

    rows        row i to rank i % world_size, the classic manual shard: every rank reads everything
    batches     the same with each 1,000 rows: every rank reads everything, and picks out less
    parts       part i, such as a row group, to rank i % world_size: a rank reads its own bytes only
    contiguous  one run of rows each, as long as the others' to a row: only its ends read more

Each is disjoint and complete for any world_size; where there are few rows, some shares are empty.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.arguments import check_choice
from llmpipe.columns import WINDOW_ROWS, Parts, exact_windows, mask
from llmpipe.sharding.world import World, contiguous, round_robin
from llmpipe.sources.parts import parts_of

STRATEGIES = ("rows", "batches", "parts", "contiguous")


class Run(NamedTuple):
    """Every `step`-th row of one part from `start` up to, not including, `stop`, or to its end."""

    part: int
    start: int = 0
    stop: int | None = None
    step: int = 1


class Share:
    """What one rank reads of `documents`, in parts: give it to a stream in place of a source.

    `documents` are parts, as `source.parts(split)` gives them, or whatever a stream takes: of a
    source this is its split "train".

    >>> numbers = {"n": list(range(2500))}
    >>> for strategy in STRATEGIES:
    ...     share = Share(numbers, World(rank=1, world_size=2), strategy)
    ...     rows = [n for table in share.tables("n") for n in table["n"].to_pylist()]
    ...     own = f"{len(rows)} rows, {rows[0]} to {rows[-1]}"
    ...     print(f"{strategy}: {own}, of {share.rows_read} read")
    rows: 1250 rows, 1 to 2499, of 2500 read
    batches: 1000 rows, 1000 to 1999, of 2500 read
    parts: 1000 rows, 1000 to 1999, of 1000 read
    contiguous: 1250 rows, 1250 to 2499, of 1500 read

    Where nobody knows before how many rows a part has (`parts.counted` is false, as for lines of
    text or a stream of the hub), "contiguous" gives runs of whole parts. By batches, and there by
    rows too, a share is a single part. Workers of a `DataLoader` divide their rank's share.

    `rows_read` and `bytes_read`, of the columns once unpacked, count all passes in this process.
    A stream's state belongs to its share: it cannot be redistributed to another number of ranks,
    but for the share of `World()`, which is all there is: that the stream itself may divide.

    Raises ValueError for an unknown strategy, and what `llmpipe.sources.parts.parts_of` does.
    """

    def __init__(self, documents: Any, world: World, strategy: str = "parts") -> None:
        check_choice("strategy", strategy, STRATEGIES)
        parts = parts_of(documents)
        self.parts, self.world, self.strategy = parts, world, strategy
        self.counted, self.is_local = parts.counted, getattr(parts, "is_local", False)
        # Where its rows lie is known but for two cases: there it counts, and reads on from row 0.
        self._in_a_row = strategy == "batches" or (strategy == "rows" and not parts.counted)
        self._runs = [] if self._in_a_row else _runs(parts, world, strategy)
        self.weights = (
            _weight_of_batches(parts, world) if self._in_a_row else _weights(parts, self._runs)
        )
        whose = f"rank {world.rank} of {world.world_size}"
        rows = f"{sum(parts.weights)} rows" if parts.counted else "all rows"
        self.identity = f"{parts.identity}, {rows}, by {strategy} for {whose}"
        self.rows_read = self.bytes_read = 0

    @property
    def num_rows(self) -> int | None:
        """How many rows are this rank's; None where nobody knows before they are read."""
        return sum(self.weights) if self.counted else None

    @property
    def rows_to_read(self) -> int | None:
        """How many rows it must read at least for them; None where nobody knows before."""
        everything = self.strategy in ("rows", "batches")
        return sum(self.parts.weights) if self.counted and everything else self.num_rows

    def tables(self, *columns: str) -> Iterator[pa.Table]:
        """All rows of the share in order, in tables of up to 1,000."""
        for part in range(len(self.weights)):
            yield from self.windows(part, 0, *columns)

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        if self._in_a_row:
            tables = self._counted_off(columns)
        else:
            tables = self._run(self._runs[part], columns)
        yield from exact_windows(tables, first_window)

    def place(self, part: int, row: int) -> tuple[str, int] | None:
        """The file of a row of a part, and its number there; None where that is not known."""
        place = getattr(self.parts, "place", None)
        if place is None or (self._in_a_row and not self.counted):
            return None
        if not self._in_a_row:
            run = self._runs[part]
            return place(run.part, run.start + row * run.step)
        window, rest = divmod(row, WINDOW_ROWS)  # by batches: of all rows in a row
        row = (self.world.rank + window * self.world.world_size) * WINDOW_ROWS + rest
        starts = list(accumulate(self.parts.weights, initial=0))
        part = bisect_right(starts, row) - 1
        return place(part, row - starts[part])

    def _counted_off(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        rank, size, first_row = self.world.rank, self.world.world_size, 0
        everything = (
            table
            for part in range(len(self.parts.weights))
            for table in self._read(part, 0, columns)
        )
        for number, table in enumerate(exact_windows(everything)):
            if self.strategy == "rows":
                yield _every(table, (rank - first_row) % size, table.num_rows, size)
            elif number % size == rank:
                yield table
            first_row += table.num_rows

    def _run(self, run: Run, columns: Sequence[str]) -> Iterator[pa.Table]:
        window = run.start // WINDOW_ROWS
        row = window * WINDOW_ROWS
        for table in self._read(run.part, window, columns):
            start = run.start - row if run.start > row else (run.start - row) % run.step
            stop = table.num_rows if run.stop is None else min(table.num_rows, run.stop - row)
            yield _every(table, start, stop, run.step)
            row += table.num_rows
            if row == run.stop or stop < table.num_rows:
                return

    def _read(self, part: int, window: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        for table in self.parts.windows(part, window, *columns):
            self.rows_read += table.num_rows
            self.bytes_read += table.nbytes
            yield table


def _every(table: pa.Table, start: int, stop: int, step: int) -> pa.Table:
    """Its rows from `start` up to `stop`, every `step`-th."""
    if step == 1:
        return table.slice(start, stop - start)
    chosen = np.zeros(table.num_rows, bool)
    chosen[start:stop:step] = True
    return table.filter(mask(chosen))  # chunk by chunk: `take` would join them, up to 2 GB


def _runs(parts: Parts, world: World, strategy: str) -> list[Run]:
    rank, size = world.rank, world.world_size
    if strategy == "parts":
        return list(map(Run, round_robin(len(parts.weights), rank, size)))
    if not parts.counted:
        return list(map(Run, contiguous(len(parts.weights), rank, size)))
    own, runs = contiguous(sum(parts.weights), rank, size), []
    first_rows = accumulate(parts.weights, initial=0)
    for part, (num_rows, first) in enumerate(zip(parts.weights, first_rows, strict=False)):
        if strategy == "rows":
            runs.append(Run(part, (rank - first) % size, num_rows, size))
        else:
            runs.append(Run(part, max(0, own.start - first), min(num_rows, own.stop - first)))
    return [run for run in runs if run.start < run.stop]


def _weights(parts: Parts, runs: list[Run]) -> list[int]:
    whole = parts.weights
    return [
        whole[run.part] if run.stop is None else len(range(run.start, run.stop, run.step))
        for run in runs
    ]


def _weight_of_batches(parts: Parts, world: World) -> list[int]:
    """The one weight of what is counted off: its rows where they are known; none if it is empty."""
    if not parts.counted:
        return [1] if parts.weights else []
    num_rows = sum(parts.weights)
    own = round_robin(-(-num_rows // WINDOW_ROWS), world.rank, world.world_size)
    count = sum(min(WINDOW_ROWS, num_rows - window * WINDOW_ROWS) for window in own)
    return [count] if count else []
