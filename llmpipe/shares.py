"""One rank's share of a split, by one of four strategies, and how much it reads for it.

    rows        row i to rank i % world_size, the classic manual shard: every rank reads everything
    batches     the same with every 1,000 rows: every rank reads everything, and picks out less
    parts       part i, such as a row group, to rank i % world_size: a rank reads its own bytes only
    contiguous  one run of rows each, as long as the others' to a row: only its ends read more

Each is disjoint and complete for any world_size; where there are few rows, some shares are empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.parts import WINDOW_ROWS, Parts, exact_windows
from llmpipe.sharding import World, contiguous, round_robin

STRATEGIES = ("rows", "batches", "parts", "contiguous")


class Run(NamedTuple):
    """Rows of one part, from `start` up to, not including, `stop`; to its end if that is None."""

    part: int
    start: int = 0
    stop: int | None = None


class Share:
    """What one rank reads of `parts`, in parts itself: give it to a stream in place of a source.

    >>> from datasets import Dataset
    >>> from llmpipe.dataset_parts import parts_of
    >>> numbers = parts_of(Dataset.from_dict({"n": list(range(2500))}))
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
    text or a stream of the hub), "contiguous" deals runs of whole parts. By rows or batches, a
    share is a single part. Workers of a `DataLoader` divide their rank's share among them.

    `rows_read` and `bytes_read`, of the columns once unpacked, count all passes in this process.
    A stream's state belongs to its share: it cannot be dealt to another number of ranks.

    Raises ValueError for an unknown strategy.
    """

    def __init__(self, parts: Parts, world: World, strategy: str = "parts") -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        self.parts, self.world, self.strategy = parts, world, strategy
        self.counted = parts.counted
        self._runs: list[Run] = []  # of the strategies that need not read everything
        if strategy == "parts":
            own = round_robin(len(parts.weights), world.rank, world.world_size)
            self._runs, self.weights = list(map(Run, own)), [parts.weights[part] for part in own]
        elif strategy == "contiguous":
            self._runs, self.weights = _contiguous_runs(parts, world)
        else:
            self.weights = _dealt_weights(parts, world, 1 if strategy == "rows" else WINDOW_ROWS)
        whose = f"rank {world.rank} of {world.world_size}"
        self.identity = f"{parts.identity}, by {strategy} for {whose}"
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
        if self.strategy == "rows":
            tables = self._every_row(columns)
        elif self.strategy == "batches":
            tables = self._every_window(columns)
        else:
            tables = self._run(self._runs[part], columns)
        yield from exact_windows(tables, first_window)

    def _every_row(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        first_row = 0
        for table in self._everything(columns):
            # The first of this table's rows whose number in the split is the rank's.
            first = (self.world.rank - first_row) % self.world.world_size
            yield table.take(np.arange(first, table.num_rows, self.world.world_size))
            first_row += table.num_rows

    def _every_window(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for number, table in enumerate(exact_windows(self._everything(columns))):
            if number % self.world.world_size == self.world.rank:
                yield table

    def _everything(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for part in range(len(self.parts.weights)):
            yield from self._read(part, 0, columns)

    def _run(self, run: Run, columns: Sequence[str]) -> Iterator[pa.Table]:
        window = run.start // WINDOW_ROWS
        row = window * WINDOW_ROWS
        for table in self._read(run.part, window, columns):
            stop = table.num_rows if run.stop is None else min(table.num_rows, run.stop - row)
            yield table.slice(max(0, run.start - row), stop - max(0, run.start - row))
            row += table.num_rows
            if row == run.stop or stop < table.num_rows:
                return

    def _read(self, part: int, window: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        for table in self.parts.windows(part, window, *columns):
            self.rows_read += table.num_rows
            self.bytes_read += table.nbytes
            yield table


def _contiguous_runs(parts: Parts, world: World) -> tuple[list[Run], list[int]]:
    if not parts.counted:
        own = contiguous(len(parts.weights), world.rank, world.world_size)
        return list(map(Run, own)), [parts.weights[part] for part in own]
    rows = contiguous(sum(parts.weights), world.rank, world.world_size)
    first_rows = accumulate(parts.weights, initial=0)
    runs = [
        Run(part, max(0, rows.start - first_row), min(size, rows.stop - first_row))
        for part, (size, first_row) in enumerate(zip(parts.weights, first_rows, strict=False))
    ]
    own = [run for run in runs if run.start < run.stop]
    return own, [run.stop - run.start for run in own]


def _dealt_weights(parts: Parts, world: World, run_rows: int) -> list[int]:
    """The one weight of a share of every `world_size`-th run of `run_rows` rows; none if empty."""
    if not parts.counted:
        return [1] if parts.weights else []
    num_rows = sum(parts.weights)
    own = round_robin(-(-num_rows // run_rows), world.rank, world.world_size)
    count = sum(min(run_rows, num_rows - run * run_rows) for run in own)
    return [count] if count else []
