"""A split as numbered parts, each read alone and from any of its rows: what a stream deals out.

A part is a row group of a Parquet file, a lane of the sample, or what `datasets` calls a shard.
Its rows come in windows of exactly `WINDOW_ROWS` (the last may be shorter), so that a window is
the same rows however it was reached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from llmpipe import sample
from llmpipe.columns import require_column

WINDOW_ROWS = 1000  # as many as `datasets` puts into a row group
IDENTITY_BYTES = 65_536  # of a Parquet file's end, where its index of all pages stands


class NoColumnError(KeyError):
    """The source is well, but has no such column; a KeyError of the source's own is none."""


class Parts(Protocol):
    """`windows` yields tables of `columns`; `identity` tells other data apart in a saved state.

    `weights` are numbers of 1 or more, one a part, by which they are dealt: if `counted` its rows.
    """

    weights: list[int]
    counted: bool
    identity: str

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]: ...


class ParquetParts:
    """Row groups of local Parquet files, in order; of `num_rows` rows in all, if that is given.

    Only the columns that are asked for are read. Page checksums are compared where a file has them
    (`write_page_checksum`); where it has none, a changed byte in a page may go unnoticed.

    Raises ValueError naming a file that is no whole Parquet file; OSError, while it is read, if it
    is another by then.
    """

    counted = True

    def __init__(self, files: Sequence[Path], num_rows: int | None = None) -> None:
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, rows of it
        self._marks: dict[Path, str] = {}
        self._opened: tuple[tuple, pq.ParquetFile] | None = None
        left = num_rows
        for file in files:
            try:
                metadata = pq.read_metadata(file)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{file} is cut short or not a Parquet file: {error}") from error
            self._marks[Path(file)] = _mark(file)
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                rows = rows if left is None else min(rows, left)
                left = left if left is None else left - rows
                if rows:
                    self._groups.append((Path(file), group, rows))
        self.weights = [rows for *_, rows in self._groups]
        digest = hashlib.sha256("".join(self._marks.values()).encode()).hexdigest()
        self.identity = f"{len(files)} Parquet files, digest {digest[:12]}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        file, group, num_rows = self._groups[part]
        left = num_rows - first_window * WINDOW_ROWS
        opened = self._open(file)
        check_columns(pa.Table.from_batches([], opened.schema_arrow), columns)
        batches = opened.iter_batches(WINDOW_ROWS, row_groups=[group], columns=columns)
        tables = (pa.Table.from_batches([batch]) for batch in batches)
        for table in exact_windows(tables, first_window):
            if left <= 0:
                return
            yield table.slice(0, left)
            left -= table.num_rows
        if left > 0:
            raise OSError(f"row group {group} of {file} ends {left} rows early")

    def _open(self, file: Path) -> pq.ParquetFile:
        """The file, opened once for all its row groups, and anew if it was changed since."""
        stat = file.stat()
        stamp = (file, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._opened is None or self._opened[0] != stamp:
            if _mark(file) != self._marks[file]:
                raise OSError(f"{file} is another or shorter than when the stream was made")
            self._opened = stamp, pq.ParquetFile(file, page_checksum_verification=True)
        return self._opened[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}


class SampleParts:
    """Lanes of the built-in sample: made when they are read, the same on every machine."""

    counted = True

    def __init__(self, corpus: str, split: str, num_rows: int) -> None:
        sample.check_names(corpus, split)
        self._corpus, self._split, self._num_rows = corpus, split, num_rows
        starts = range(0, num_rows, sample.ROWS_PER_LANE)
        self.weights = [min(sample.ROWS_PER_LANE, num_rows - start) for start in starts]
        self.identity = f"the sample's {corpus}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        table = sample.lane(self._corpus, self._split, self._num_rows, part)
        check_columns(table, columns)
        yield from exact_windows([table.select(columns)], first_window)


def exact_windows(tables: Any, first_window: int = 0) -> Iterator[pa.Table]:
    """Cut tables of any lengths into windows of `WINDOW_ROWS` rows, without those before the first.

    >>> [t.num_rows for t in exact_windows([pa.table({"text": ["a"] * 1700})] * 2, first_window=1)]
    [1000, 1000, 400]
    """
    skip, waiting = first_window * WINDOW_ROWS, []
    for table in chain(tables, [None]):
        if table is not None:
            skipped = min(skip, table.num_rows)
            skip -= skipped
            waiting.append(table.slice(skipped))
        ready = sum(each.num_rows for each in waiting)
        if ready >= WINDOW_ROWS or (table is None and ready):
            whole = pa.concat_tables(waiting) if len(waiting) > 1 else waiting[0]
            cut = ready if table is None else ready // WINDOW_ROWS * WINDOW_ROWS
            for start in range(0, cut, WINDOW_ROWS):
                yield whole.slice(start, WINDOW_ROWS)
            waiting = [whole.slice(cut)]


def check_columns(table: Any, columns: Iterable[str]) -> None:
    """Raise NoColumnError naming the columns there are, unless `table` has all of these."""
    try:
        for column in columns:
            require_column(table, column)
    except KeyError as error:
        raise NoColumnError(*error.args) from None


def _mark(file: Path) -> str:
    """What tells a file from another without reading all of it: a digest of name, size and end."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        opened.seek(-min(IDENTITY_BYTES, size), 2)
        return hashlib.sha256(f"{file.name} {size} ".encode() + opened.read()).hexdigest()
