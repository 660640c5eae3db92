"""A split as numbered parts, each read alone, and from any of its windows of 1,000 rows on.

Parts are what a stream is divided by: a row group of a Parquet file, a shard of an
`IterableDataset`, 1,000 rows of a `Dataset`, some thousand rows of the sample. Whoever reads part 7
from window 3 on gets the same rows as who reads all of it; so a state of a stream is a few numbers,
and not a copy of what was read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmpipe.columns import (
    FEW_ROWS,
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
from llmpipe.sources.guards import (
    DOCUMENT_BYTES,
    IDENTITY_BYTES,
    Watched,
    check_lengths,
    check_pages,
    check_stamp,
    stamp,
)

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

    A file is a path, or of the hub (`hf://...`). Only the columns that are asked for are read, and
    only they must be of one kind in all files: string beside large_string is, and int32 beside
    int64. Page checksums are compared where a file has them (`write_page_checksum`); where it has
    none, a changed byte in a page may go unnoticed.

    Raises ValueError naming a file that is no whole Parquet file and, while it is read, a page or a
    document of more than `limit` bytes; OSError if it is another file by then.
    """

    counted = True

    def __init__(
        self,
        files: Sequence[Path | str],
        num_rows: int | None = None,
        limit: int = DOCUMENT_BYTES,
    ) -> None:
        self._groups: list[tuple[Path | str, int, int, int]] = []  # file, row group, rows, first
        self._schemas: dict[Path | str, pa.Schema] = {}
        self._types: dict[tuple[str, ...], pa.Schema] = {}
        self._opened: tuple[tuple, pq.ParquetFile] | None = None
        self._ahead: tuple[int | None, dict] = (None, {})  # the last part, and what was read on
        self._limit, left = limit, num_rows
        for file in files:
            metadata = parquet_metadata(file)
            self._schemas[file] = plain(metadata.schema.to_arrow_schema())
            sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            for group, first in enumerate(accumulate(sizes[:-1], initial=0) if sizes else ()):
                rows = sizes[group] if left is None else min(sizes[group], left)
                left = left if left is None else left - rows
                if rows:
                    self._groups.append((file, group, rows, first))
        self.is_local = all(isinstance(file, Path) for file in files)
        self._marks = {file: _mark(file) for file in files}
        self.weights = [rows for _, _, rows, _ in self._groups]
        digest = hashlib.sha256("".join(self._marks.values()).encode()).hexdigest()
        self.identity = f"{len(files)} Parquet files, digest {digest[:12]}"
        self._num_rows = num_rows

    @property
    def key(self) -> list:
        """What tells the rows that are loaded from others."""
        return [Watched(list(self._schemas)).contents, self._num_rows]

    def schema(self, columns: Sequence[str] | None = None, _: Any = None) -> pa.Schema:
        """These columns, or all, as they are in all files; ValueError where two files differ."""
        found: dict[pa.Schema, Path | str] = {}
        for file, own in self._schemas.items():
            if columns is not None:
                check_columns(own.names, columns, file if len(self._schemas) > 1 else "")
                own = pa.schema([own.field(name) for name in columns], own.metadata)
            found.setdefault(own, file)
        first, *others = found
        whole = first
        for own in others:
            try:
                whole = unified([whole, own])
            except pa.ArrowException:
                raise ValueError(
                    f"{found[own]} has the columns {dict(zip(own.names, own.types, strict=True))}, "
                    f"but {found[first]} has {dict(zip(first.names, first.types, strict=True))}; "
                    "load(columns=[...]) leaves out what nobody needs"
                ) from None
        return whole

    def tables(
        self, columns: Sequence[str] | None = None, parts: Iterable[int] | None = None
    ) -> Iterator[pa.Table]:
        """All rows of these parts in order: of these columns those that a table's file has."""
        numbers = range(len(self._groups)) if parts is None else parts
        for file, own in groupby(numbers, key=lambda part: self._groups[part][0]):
            try:
                yield from self._rows(list(own), columns or self._schemas[file].names)
            except (pa.ArrowException, OSError, MemoryError) as error:
                raise ValueError(f"{file} cannot be read: {error}") from error

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        if columns not in self._types:
            self._types[columns] = self.schema(columns)
        for table in self._windows(part, first_window, columns):
            own = self._types[columns]
            yield table if table.schema.equals(own) else table.cast(own)

    def place(self, part: int, row: int) -> tuple[str, int]:
        """The file of a row of a part, and its number there."""
        file, _, _, first = self._groups[part]
        return str(file), first + row

    def _windows(self, part: int, first_window: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        num_rows = self._groups[part][2]
        if num_rows <= first_window * WINDOW_ROWS:
            return
        if num_rows <= FEW_ROWS and self.is_local:
            yield self._read_ahead(part, columns)
        else:
            yield from exact_windows(self._rows([part], columns), first_window)

    def _read_ahead(self, part: int, columns: Sequence[str]) -> pa.Table:
        """A small part; where parts are read in a row, up to 1,000 rows are read with it."""
        file, _, num_rows, _ = self._groups[part]
        last, waiting = self._ahead
        if (key := (part, tuple(columns), self._open(file)[2])) not in waiting:
            own, rows = [part], num_rows
            if last == part - 1:
                for other in range(part + 1, len(self._groups)):
                    rows += self._groups[other][2]
                    if self._groups[other][0] != file or rows > WINDOW_ROWS:
                        break
                    own.append(other)
            try:
                whole = pa.concat_tables(self._rows(own, columns))
            except Exception:  # maybe of a part that is not yet due
                own = [part]
                whole = pa.concat_tables(self._rows(own, columns))
            waiting, first = {}, 0
            for other in own:
                waiting[(other, *key[1:])] = whole.slice(first, self._groups[other][2])
                first += self._groups[other][2]
        table = waiting.pop(key)
        self._ahead = part, waiting
        return table

    def _rows(self, parts: Sequence[int], columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of parts of one file that follow each other, up to 1,000 at a time."""
        file, _, _, first_row = self._groups[parts[0]]
        groups = [self._groups[part][1] for part in parts]
        left = sum(self._groups[part][2] for part in parts)
        whole, check_unchanged, _ = self._open(file)
        if isinstance(file, Path):
            for group in groups:
                try:
                    check_pages(file, whole.metadata.row_group(group), columns, self._limit)
                except ValueError as error:
                    raise ValueError(f"{file}, row group {group}: {error}") from None
        for batch in whole.iter_batches(WINDOW_ROWS, row_groups=groups, columns=list(columns)):
            check_unchanged()
            table = pa.Table.from_batches([batch.slice(0, left)]).select(columns)
            if table.schema != (own := plain(table.schema)):
                table = table.cast(own)
            for name in columns:
                self._check_lengths(table[name], file, first_row, name)
            yield table
            first_row, left = first_row + table.num_rows, left - table.num_rows
            if not left:
                return
        raise OSError(f"{file} ends {left} rows early, in row group {groups[-1]} or before")

    def _check_lengths(self, column: pa.ChunkedArray, file: Any, first_row: int, name: str) -> None:
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if is_text and column.nbytes > self._limit:
            try:
                check_lengths(pc.binary_length(column), first_row, name, self._limit)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None

    def _open(self, file: Path | str) -> tuple[pq.ParquetFile, Callable[[], Any], tuple]:
        """The file, opened once for all its row groups, and anew if it was changed since; what
        raises OSError if it was changed by then; and what it was stamped with."""
        now = stamp(file) if isinstance(file, Path) else ()
        if self._opened is None or self._opened[0] != (file, *now):
            if _mark(file) != self._marks[file]:
                raise OSError(f"{file} is another or shorter than when the stream was made")
            reader = pq.ParquetFile(opened(file), page_checksum_verification=True)
            self._opened = (file, *now), reader
        return self._opened[1], lambda: now and check_stamp(file, now), now

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None, "_ahead": (None, {})}


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema with text as strings, however a file holds it: as dictionaries, or views."""
    for index, field in enumerate(schema):
        kind = field.type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        kind = pa.string() if pa.types.is_string_view(kind) else kind
        if kind != field.type:
            schema = schema.set(index, field.with_type(kind))
    return schema


def unified(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """One schema with the columns of all, of types that hold theirs: int64 for int32 and int64.

    Raises pa.ArrowException where there is none.
    """
    return pa.unify_schemas(list(dict.fromkeys(schemas)), promote_options="permissive")


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

    def place(self, part: int, row: int) -> tuple[str, int]:
        return self.identity.split(" of ")[0], part * WINDOW_ROWS + row


class StreamParts:
    """Shards of an `IterableDataset` of `datasets`: of Parquet, row groups; else files.

    What is made from a stream (`map`, `shuffle`, `take`) has one part, since it depends on all of
    it. To begin at a later window `datasets` reads what is before it, or skips it where it can. For
    a hub that is cut off it waits about nine minutes (`datasets.config` has the figures).
    """

    counted = False

    def __init__(self, stream: Any, identity: str) -> None:
        is_plain = _is_only_opened(stream)
        self._stream = stream.reshard() if is_plain else stream
        self.weights = [1] * (self._stream.num_shards if is_plain else 1)
        self.identity = identity

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        own = self._stream
        if len(self.weights) > 1:
            own = own.shard(len(self.weights), part, contiguous=False)
        if first_window:
            own = own.skip(first_window * WINDOW_ROWS)
        for table in exact_windows(own.with_format("arrow").iter(batch_size=WINDOW_ROWS)):
            check_columns(table.column_names, columns)
            yield table.select(columns)


def _is_only_opened(stream: Any) -> bool:
    """Whether its shards, read apart, hold the rows of the whole stream.

    What `take`, `skip`, `map`, `shuffle` or `interleave_datasets` make depends on all of it, and
    would come out otherwise for each shard.
    """
    return set(re.findall(r"'type': '(\w+)'", str(stream.state_dict()))) <= PLAIN_STREAMS
