"""A split as numbered parts, each read alone, and from any of its windows of 1,000 rows on.

Parts are what a stream is divided by: a row group of a Parquet file, a shard of an
`IterableDataset`, 1,000 rows of a `Dataset`, some thousand rows of the sample. Whoever reads part 7
from window 3 on gets the same rows as who reads all of it; so a state of a stream is a few numbers,
and not a copy of what was read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmpipe.columns import (
    WINDOW_ROWS,
    Check,
    Parts,
    arrow_table,
    check_columns,
    check_split,
    exact_windows,
    is_dataset,
    is_in_parts,
    is_source,
    is_split,
    without_views,
)

IDENTITY_BYTES = 65_536  # of a Parquet file's end, where its index of all pages stands
BEGINNING_BYTES = 4096  # of a file of lines: by them another is known
ENDS_ROWS = 10  # of a Dataset, at both ends: by them another is known
# The steps of a stream that was only opened, by the names that `datasets` gives them in its state.
PLAIN_STREAMS = {"ExamplesIterable", "ArrowExamplesIterable", "RebatchedArrowExamplesIterable"}


def parts_of(
    documents: Any,
    num_rows: int | None = None,
    split: str = "train",
    checks: Mapping[str, Check] | None = None,
) -> Parts:
    """The parts of whatever documents come in: the one way to them for streams, shares and sets.

    `documents` is a source, of which this is `split`; one split as a `Dataset` or
    `IterableDataset` of `datasets`; or a table that is at hand, see `arrow_table`: of pandas,
    Polars or Arrow, a dict of columns, a list of strings. What is in parts already, such as one
    rank's `Share`, is taken as it is. `checks` are of the columns that will be read, if that is
    known; of the first of them a list is taken to be.

    >>> parts_of(["a", "b", "c"], num_rows=2).weights
    [2]

    Raises NoColumnError, TypeError or ValueError as `arrow_table` and `check_split` do, ValueError
    for `num_rows` of parts.
    """
    check_split(documents)
    if is_source(documents):
        return documents.parts(split, num_rows)
    if is_in_parts(documents):
        if num_rows is not None:
            raise ValueError("num_rows is for what is not yet in parts: give it to source.parts")
        return documents
    if not is_split(documents):
        return TableParts(arrow_table(documents, checks), num_rows)
    if documents.column_names:  # None where it is not known, and [] of an empty one
        check_columns(documents.column_names, checks or ())
    if is_dataset(documents):
        return TableParts(documents, num_rows)
    stream = documents if num_rows is None else documents.take(num_rows)
    return StreamParts(stream, f"an IterableDataset, split {documents.split}")


class ParquetParts:
    """Row groups of Parquet files, in order; of `num_rows` rows in all, if that is given.

    A file is a path, or of the hub (`hf://...`). Only the columns that are asked for are read. Page
    checksums are compared where a file has them (`write_page_checksum`); where it has none, a
    changed byte in a page may go unnoticed.

    Raises ValueError naming a file that is no whole Parquet file; OSError, while it is read, if it
    is another by then.
    """

    counted = True

    def __init__(self, files: Sequence[Path | str], num_rows: int | None = None) -> None:
        self._groups: list[tuple[Path | str, int, int]] = []  # file, row group, rows of it
        self._opened: tuple[tuple, pq.ParquetFile] | None = None
        left = num_rows
        for file in files:
            metadata = parquet_metadata(file)
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                rows = rows if left is None else min(rows, left)
                left = left if left is None else left - rows
                if rows:
                    self._groups.append((file, group, rows))
        self._marks = {file: _mark(file) for file in files}
        self.weights = [rows for *_, rows in self._groups]
        digest = hashlib.sha256("".join(self._marks.values()).encode()).hexdigest()
        self.identity = f"{len(files)} Parquet files, digest {digest[:12]}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        file, group, num_rows = self._groups[part]
        left = num_rows - first_window * WINDOW_ROWS
        if left <= 0:
            return
        whole = self._open(file)
        check_columns(whole.schema_arrow.names, columns)
        batches = whole.iter_batches(WINDOW_ROWS, row_groups=[group], columns=columns)
        tables = (pa.Table.from_batches([batch]) for batch in batches)
        for table in exact_windows(tables, first_window):
            yield table.slice(0, left)
            left -= table.num_rows
            if left <= 0:
                return
        if left > 0:
            raise OSError(f"row group {group} of {file} ends {left} rows early")

    def _open(self, file: Path | str) -> pq.ParquetFile:
        """The file, opened once for all its row groups, and anew if it was changed since."""
        stamp = (file,)
        if isinstance(file, Path):
            stat = file.stat()
            stamp = (file, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._opened is None or self._opened[0] != stamp:
            if _mark(file) != self._marks[file]:
                raise OSError(f"{file} is another or shorter than when the stream was made")
            self._opened = stamp, pq.ParquetFile(opened(file), page_checksum_verification=True)
        return self._opened[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}


def parquet_metadata(file: Path | str) -> Any:
    """What the end of a Parquet file tells of it: a `pyarrow.parquet.FileMetaData`.

    Raises ValueError naming a file that is no whole Parquet file.
    """
    with opened(file) as stream:
        try:
            return pq.read_metadata(stream)
        except (pa.ArrowInvalid, OSError) as error:
            if type(error) not in (pa.ArrowInvalid, OSError):
                raise  # these two are Arrow's own; any other is the network's
            raise ValueError(f"{file} is cut short or not a Parquet file: {error}") from error


def opened(file: Path | str) -> Any:
    """The bytes of a file on disk, or of one on the hub (`hf://...`), for Arrow to read.

    Of the hub's each read is one request, for exactly those bytes. `huggingface_hub` tries it six
    times: a hub that is cut off is an error within half a minute, a silent one within 90 s. (By way
    of `datasets` it would be 20 times that.)
    """
    if isinstance(file, Path):
        return pa.OSFile(str(file))
    from huggingface_hub import HfFileSystem

    return HfFileSystem().open(file, cache_type="none")


def _mark(file: Path | str) -> str:
    """What tells a file from another without reading all of it: a digest of name, size and end."""
    with opened(file) as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - IDENTITY_BYTES))
        name = PurePosixPath(file).name
        return hashlib.sha256(f"{name} {size} ".encode() + stream.read(IDENTITY_BYTES)).hexdigest()


class SampleParts:
    """Parts of the built-in sample: made when they are read, the same on every machine."""

    counted = True

    def __init__(self, corpus: str, split: str, num_rows: int) -> None:
        from llmpipe.sample import ROWS_PER_PART, check_names

        check_names(corpus, split)
        self._corpus, self._split, self._num_rows = corpus, split, num_rows
        starts = range(0, num_rows, ROWS_PER_PART)
        self.weights = [min(ROWS_PER_PART, num_rows - start) for start in starts]
        self.identity = f"the sample's {corpus}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        from llmpipe import sample

        table = sample.part(self._corpus, self._split, self._num_rows, part)
        check_columns(table.column_names, columns)
        yield from exact_windows([table.select(columns)], first_window)


class TableParts:
    """A `Dataset` of `datasets` or an Arrow table, a window a part: any row of it is at hand."""

    counted = True

    def __init__(self, table: Any, num_rows: int | None = None) -> None:
        self._table = table.with_format("arrow") if is_dataset(table) else table
        self._num_rows = min(len(table), len(table) if num_rows is None else num_rows)
        starts = range(0, self._num_rows, WINDOW_ROWS)
        self.weights = [min(WINDOW_ROWS, self._num_rows - start) for start in starts]
        ends = [self._rows(0, ENDS_ROWS), self._rows(max(0, len(table) - ENDS_ROWS), len(table))]
        try:
            rows = repr([table.to_pydict() for table in ends])
        except UnicodeDecodeError:
            rows = "broken text"  # whoever reads it is told the row
        digest = hashlib.sha256(rows.encode()).hexdigest()
        kind = "Dataset" if is_dataset(table) else "table"
        self.identity = f"a {kind} of {len(table)} rows, digest {digest[:12]}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        check_columns(self._table.column_names, columns)
        start = part * WINDOW_ROWS
        table = self._rows(start, min(start + WINDOW_ROWS, self._num_rows)).select(columns)
        yield from exact_windows([table], first_window)

    def _rows(self, start: int, stop: int) -> pa.Table:
        if is_dataset(self._table):
            return without_views(self._table[start:stop])
        return without_views(self._table.slice(start, stop - start))


class StreamParts:
    """Shards of an `IterableDataset` of `datasets`: of Parquet, row groups; else files.

    What is made from a stream (`map`, `shuffle`, `take`) has one part, since it depends on all of
    it. To begin at a later window `datasets` reads what is before it, or skips it where it can. For
    a hub that is cut off it waits about nine minutes (`datasets.config` has the figures).
    """

    counted = False

    def __init__(self, stream: Any, identity: str, files: Sequence[Path] = ()) -> None:
        self._sizes = {file: file.stat().st_size for file in files}
        # By its beginning: a file that is mended further down stays the one that a state is of.
        digest = hashlib.sha256(b"".join(map(_beginning, files))).hexdigest()[:12]
        is_plain = _is_only_opened(stream)
        self._stream = stream.reshard() if is_plain else stream
        num_parts = self._stream.num_shards if is_plain else 1
        sizes = [max(1, size) for size in self._sizes.values()]
        self.weights = sizes if len(sizes) == num_parts else [1] * num_parts
        self.identity = f"{identity}, digest {digest}" if files else identity

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        own = self._stream
        if len(self.weights) > 1:
            own = own.shard(len(self.weights), part, contiguous=False)
        if first_window:
            own = own.skip(first_window * WINDOW_ROWS)
        for table in exact_windows(own.with_format("arrow").iter(batch_size=WINDOW_ROWS)):
            check_columns(table.column_names, columns)
            yield table.select(columns)
        for file, size in self._sizes.items():
            if file.exists() and file.stat().st_size < size:  # it ended early, and nothing said so
                raise OSError(f"{file} is shorter than when the stream was made")


def _is_only_opened(stream: Any) -> bool:
    """Whether its shards, read apart, hold the rows of the whole stream.

    What `take`, `skip`, `map`, `shuffle` or `interleave_datasets` make depends on all of it, and
    would come out otherwise for each shard.
    """
    return set(re.findall(r"'type': '(\w+)'", str(stream.state_dict()))) <= PLAIN_STREAMS


def _beginning(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return f"{file.name} ".encode() + stream.read(BEGINNING_BYTES)
