"""The parts of what `datasets` holds: of its streams, and of its data sets in memory or mapped."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    """Parts of the built-in sample: made when they are read, the same on every machine."""

    counted = True

    def __init__(self, corpus: str, split: str, num_rows: int) -> None:
        sample.check_names(corpus, split)
        self._corpus, self._split, self._num_rows = corpus, split, num_rows
        starts = range(0, num_rows, sample.ROWS_PER_PART)
        self.weights = [min(sample.ROWS_PER_PART, num_rows - start) for start in starts]
        self.identity = f"the sample's {corpus}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        table = sample.part(self._corpus, self._split, self._num_rows, part)
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


BEGINNING_BYTES = 4096  # of a file of lines: by them another is known
ENDS_ROWS = 10  # of a Dataset, at both ends: by them another is known
# The steps of a stream that was only opened, by the names that `datasets` gives them in its state.
PLAIN_STREAMS = {"ExamplesIterable", "ArrowExamplesIterable", "RebatchedArrowExamplesIterable"}
HUB_ROUNDS = 1  # of half a minute, in which a connection that broke is tried six times


class StreamParts:
    """What `datasets` streams: its shards, or the stream as one part if something worked on it all.

    Reading from row n on skips the n rows before it, as `IterableDataset.skip` does. `files` are
    those that it reads: one that was cut since is an error, and no early end. A hub that is
    cut off is tried for half a minute, a silent one for 90 s; `datasets` would for 20 times that.
    """

    counted = False

    def __init__(self, stream: Any, identity: str, files: Sequence[Path] = ()) -> None:
        self._sizes = {file: file.stat().st_size for file in files}
        # By its beginning: a file that is mended further down stays the one that a state is of.
        digest = hashlib.sha256(b"".join(map(_beginning, files))).hexdigest()[:12]
        self._stream, is_plain = stream, _only_opened(stream)
        with _few_retries():
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
        tables = own.with_format("arrow").iter(batch_size=WINDOW_ROWS)
        for table in exact_windows(_impatient(tables)):
            check_columns(table, columns)
            yield table.select(columns)
        for file, size in self._sizes.items():
            if file.exists() and file.stat().st_size < size:  # it ended early, and nothing said so
                raise OSError(f"{file} is shorter than when the stream was made")


class DatasetParts:
    """A `Dataset` of `datasets`, a window a part: any row of it is at hand."""

    counted = True

    def __init__(self, dataset: Any, num_rows: int | None = None) -> None:
        self._dataset = dataset.with_format("arrow")
        self._num_rows = min(len(dataset), len(dataset) if num_rows is None else num_rows)
        starts = range(0, self._num_rows, WINDOW_ROWS)
        self.weights = [min(WINDOW_ROWS, self._num_rows - start) for start in starts]
        ends = [self._dataset[:ENDS_ROWS], self._dataset[max(0, len(dataset) - ENDS_ROWS) :]]
        digest = hashlib.sha256(repr([table.to_pydict() for table in ends]).encode()).hexdigest()
        self.identity = f"a Dataset of {len(dataset)} rows, digest {digest[:12]}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        check_columns(self._dataset, columns)
        start = part * WINDOW_ROWS
        table = self._dataset[start : min(start + WINDOW_ROWS, self._num_rows)]
        yield from exact_windows([table.select(columns)], first_window)


def _only_opened(stream: Any) -> bool:
    """Whether its shards, read apart, hold the rows of the whole stream.

    What `take`, `skip`, `map`, `shuffle` or `interleave_datasets` make depends on all of it, and
    would come out otherwise for each shard.
    """
    return set(re.findall(r"'type': '(\w+)'", str(stream.state_dict()))) <= PLAIN_STREAMS


def _beginning(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return f"{file.name} ".encode() + opened.read(BEGINNING_BYTES)


def parts_of(dataset: Any, num_rows: int | None = None) -> Parts:
    """The parts of a user's own `Dataset` or `IterableDataset` of `datasets`.

    What is in parts already, such as one rank's `Share`, is taken as it is. Raises TypeError for
    anything else, ValueError for `num_rows` of parts.
    """
    if hasattr(dataset, "windows"):
        if num_rows is not None:
            raise ValueError("num_rows is for what is not yet in parts: give it to source.parts")
        return dataset
    if isinstance(dataset, dict) or not hasattr(dataset, "with_format"):
        raise TypeError(
            "a stream reads a source (open_source), or one split as a Dataset or IterableDataset "
            f"of `datasets`, not a {type(dataset).__name__}"
        )
    if hasattr(dataset, "num_rows"):
        return DatasetParts(dataset, num_rows)
    dataset = dataset if num_rows is None else dataset.take(num_rows)
    return StreamParts(dataset, f"an IterableDataset, split {dataset.split}")


def _impatient(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    tables = iter(tables)
    while True:
        with _few_retries():
            table = next(tables, None)
        if table is None:
            return
        yield table


_retries_lock, _retries_before = threading.Lock(), []


@contextmanager
def _few_retries() -> Iterator[None]:
    """Within, `datasets` goes through `HUB_ROUNDS` of the retries of `huggingface_hub`, not 20."""
    from datasets import config

    names = ("STREAMING_READ_MAX_RETRIES", "STREAMING_OPEN_MAX_RETRIES")
    with _retries_lock:
        _retries_before.append({name: getattr(config, name) for name in names})
        vars(config).update({name: min(HUB_ROUNDS, getattr(config, name)) for name in names})
    try:
        yield
    finally:
        with _retries_lock:  # the last of several threads to leave puts back what the first found
            first = _retries_before[0]
            _retries_before.pop()
            if not _retries_before:
                vars(config).update(first)
