"""A split as numbered parts, each read alone and from any of its rows: what a stream deals out.

A part is a row group of a Parquet file, a lane of the sample, or what `datasets` calls a shard.
Its rows come in windows of exactly `WINDOW_ROWS` (the last may be shorter), so that a window is
the same rows however it was reached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from llmpipe import sample
from llmpipe.columns import require_column
from llmpipe.sharding import World, can_deal_parts

WINDOW_ROWS = 1000  # as many as `datasets` puts into a row group
IDENTITY_BYTES = 65_536  # of a Parquet file's end, where its index of all pages stands


class Parts(Protocol):
    """`windows` yields tables with `column`; `identity` tells other data apart in a saved state."""

    num_parts: int
    identity: str

    def windows(self, part: int, first_window: int, column: str) -> Iterator[pa.Table]: ...


class ParquetParts:
    """Row groups of local Parquet files, in order; of `num_rows` rows in all, if that is given.

    Only the column that is asked for is read. Page checksums are compared where a file has them.

    Raises ValueError naming a file that is no whole Parquet file.
    """

    def __init__(self, files: Sequence[Path], num_rows: int | None = None) -> None:
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, rows of it
        digest, left = hashlib.sha256(), num_rows
        for file in files:
            try:
                metadata = pq.read_metadata(file)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{file} is cut short or not a Parquet file: {error}") from error
            digest.update(f"{file.name} {file.stat().st_size} ".encode() + _end_of(file))
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                rows = rows if left is None else min(rows, left)
                left = left if left is None else left - rows
                if rows:
                    self._groups.append((Path(file), group, rows))
        self.num_parts = len(self._groups)
        self.identity = f"{len(files)} Parquet files, digest {digest.hexdigest()[:12]}"

    def windows(self, part: int, first_window: int, column: str) -> Iterator[pa.Table]:
        file, group, num_rows = self._groups[part]
        left = num_rows - first_window * WINDOW_ROWS
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            require_column(pa.table({name: [] for name in opened.schema_arrow.names}), column)
            batches = opened.iter_batches(WINDOW_ROWS, row_groups=[group], columns=[column])
            tables = (pa.Table.from_batches([batch]) for batch in batches)
            for table in exact_windows(tables, first_window):
                if left <= 0:
                    return
                yield table.slice(0, left)
                left -= table.num_rows
        if left > 0:
            raise OSError(f"row group {group} of {file} ends {left} rows early")


class SampleParts:
    """Lanes of the built-in sample: made when they are read, the same on every machine."""

    def __init__(self, corpus: str, split: str, num_rows: int) -> None:
        sample.check_names(corpus, split)
        self._corpus, self._split, self._num_rows = corpus, split, num_rows
        self.num_parts = sample.num_lanes(num_rows)
        self.identity = f"the sample's {corpus}"

    def windows(self, part: int, first_window: int, column: str) -> Iterator[pa.Table]:
        table = sample.lane(self._corpus, self._split, self._num_rows, part)
        require_column(table, column)
        yield from exact_windows([table.select([column])], first_window)


class StreamParts:
    """What `datasets` streams: its shards, or the stream as one part if something worked on it all.

    Reading from row n on skips the n rows before it, as `IterableDataset.skip` does.
    """

    def __init__(self, stream: Any, identity: str) -> None:
        # Whatever was mapped, shuffled or taken from the whole would come out otherwise by shard.
        self._stream, is_plain = stream, can_deal_parts(stream, World())
        self._stream = stream.reshard() if is_plain else stream
        self.num_parts = self._stream.num_shards if is_plain else 1
        self.identity = identity

    def windows(self, part: int, first_window: int, column: str) -> Iterator[pa.Table]:
        own = self._stream
        if self.num_parts > 1:
            own = own.shard(self.num_parts, part, contiguous=False)
        if first_window:
            own = own.skip(first_window * WINDOW_ROWS)
        for table in exact_windows(own.with_format("arrow").iter(batch_size=WINDOW_ROWS)):
            require_column(table, column)
            yield table.select([column])


class DatasetParts:
    """A `Dataset` of `datasets`, a window a part: any row of it is at hand."""

    def __init__(self, dataset: Any, num_rows: int | None = None) -> None:
        self._dataset = dataset.with_format("arrow")
        self._num_rows = min(len(dataset), len(dataset) if num_rows is None else num_rows)
        self.num_parts = -(-self._num_rows // WINDOW_ROWS)
        self.identity = f"a Dataset of {len(dataset)} rows"

    def windows(self, part: int, first_window: int, column: str) -> Iterator[pa.Table]:
        require_column(self._dataset, column)
        start = part * WINDOW_ROWS
        table = self._dataset[start : min(start + WINDOW_ROWS, self._num_rows)]
        yield from exact_windows([table.select([column])], first_window)


def parts_of(dataset: Any, num_rows: int | None = None) -> Parts:
    """The parts of a user's own `Dataset` or `IterableDataset` of `datasets`.

    Raises TypeError for anything else.
    """
    if isinstance(dataset, dict) or not hasattr(dataset, "with_format"):
        raise TypeError(
            "a stream reads a source (open_source), or one split as a Dataset or IterableDataset "
            f"of `datasets`, not a {type(dataset).__name__}"
        )
    if hasattr(dataset, "num_rows"):
        return DatasetParts(dataset, num_rows)
    dataset = dataset if num_rows is None else dataset.take(num_rows)
    return StreamParts(dataset, f"an IterableDataset, split {dataset.split}")


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


def _end_of(file: Path) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(-min(IDENTITY_BYTES, file.stat().st_size), 2)
        return opened.read()
