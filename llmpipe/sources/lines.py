"""Files of text as parts, a file each: `load` and streams both read here, window by window.

So an error can name the line, a column that nobody asked for cannot do harm, and no type is guessed
from the beginning of a file: what is of another type further on is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmpipe.columns import WINDOW_ROWS, array, check_columns, exact_windows, text_column
from llmpipe.sources.files import format_of
from llmpipe.sources.formats import NOT_UTF8, TEXT, TextReader
from llmpipe.sources.guards import DOCUMENT_BYTES, Watched
from llmpipe.sources.parts import unified

BEGINNING_BYTES = 4096  # of a file: by them another is known


class LineParts:
    """The rows of files of text, in order; of `num_rows` rows in all, and one part, if given.

    A line of .txt or .tokens is a row with the one column `text`; of .jsonl an object; .json holds
    objects one after another or in one list; .csv begins with the names of its columns, which hold
    numbers where every value is one, and else strings as they are spelled.

    Text is UTF-8, or what `encoding` says. Raises ValueError for files without a byte, and while
    they are read naming file, line and column: of what is no such text, an object that is none, a
    value of another type than those before it, a line of more than `limit` characters; OSError if
    a file was changed.
    """

    counted, is_local = False, True

    def __init__(
        self,
        files: Sequence[Path],
        identity: str,
        num_rows: int | None = None,
        encoding: str | None = None,
        limit: int = DOCUMENT_BYTES,
    ) -> None:
        self._watched = Watched(files)
        filled = [file for file in files if self._watched.size(file)]
        if not filled:
            raise ValueError(f"no document in {', '.join(map(str, files))}: 0 bytes")
        self._files = filled
        self._num_rows, self._reader = num_rows, TextReader(encoding, limit)
        self._parts = [[file] for file in filled] if num_rows is None else [filled][:num_rows]
        self.weights = [sum(map(self._watched.size, own)) for own in self._parts]
        # By its beginning: a file that is mended further down stays the one that a state is of.
        digest = hashlib.sha256(b"".join(map(_beginning, files))).hexdigest()[:12]
        self.identity = f"{identity}, digest {digest}"
        self.key = [self._watched.contents, num_rows, encoding]
        self._is_text = format_of(filled[0])[0] in TEXT
        self._reader.find_numbers(filled)

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        yield from self._read(self._parts[part], first_window, columns, {})

    def tables(
        self, columns: Sequence[str] | None = None, parts: Iterable[int] | None = None
    ) -> Iterator[pa.Table]:
        """All rows of these parts in order: of a table's columns those that were met so far."""
        types: dict[str, pa.DataType] = {}
        for part in range(len(self._parts)) if parts is None else parts:
            yield from self._read(self._parts[part], 0, columns, types)

    def schema(
        self, columns: Sequence[str] | None = None, tables: Sequence[pa.Table] | None = None
    ) -> pa.Schema:
        """The columns of all rows, with their types: of `tables`, where all rows are at hand."""
        if self._is_text:
            check_columns(["text"], columns or ())
            return pa.schema({"text": pa.string()})
        schemas = [table.schema for table in tables or self.tables(columns)]
        if not schemas:
            raise ValueError(f"no document in {', '.join(map(str, self._files))}")
        return unified(schemas)

    def place(self, part: int, row: int) -> tuple[str, int]:
        """The file of a row of a part, and its number there."""
        for file in self._parts[part][:-1]:
            num_rows = sum(len(rows) for _, rows in self._reader.windows(file))
            if row < num_rows:
                return str(file), row
            row -= num_rows
        return str(self._parts[part][-1]), row

    def _read(
        self, files: list[Path], first_window: int, columns: Any, types: dict
    ) -> Iterator[pa.Table]:
        if len(files) == 1:
            tables = self._file(files[0], first_window, columns, types)
        else:
            whole = (table for file in files for table in self._file(file, 0, columns, types))
            tables = exact_windows(whole, first_window)
        left = None if self._num_rows is None else self._num_rows - first_window * WINDOW_ROWS
        for table in tables:
            yield table.slice(0, left)
            if left is not None:
                left -= table.num_rows
                if left <= 0:
                    return

    def _file(
        self, file: Path, first_window: int, columns: Sequence[str] | None, types: dict
    ) -> Iterator[pa.Table]:
        """A file's windows, each compared with the `types` of those before it."""
        with self._watched.reading(file) as check_unchanged:
            of_many = file if len(self._watched) > 1 else ""
            is_first = not first_window
            for numbers, rows in self._reader.windows(file, first_window * WINDOW_ROWS):
                check_unchanged()
                names = ["text"] if self._is_text else columns
                if names is None or (is_first and not self._is_text):
                    names = list(dict.fromkeys(chain(types, *rows)))
                if columns is not None:
                    if is_first:
                        check_columns(names, columns, of_many)
                    names = columns
                is_first = False
                yield self._table(file, numbers, rows, names, types)
            check_unchanged()

    def _table(
        self, file: Path, numbers: Sequence[int], rows: list, names: Sequence[str], types: dict
    ) -> pa.Table:
        if not names:
            raise ValueError(f"{file} cannot be read: line {numbers[0]} names no column")
        arrays = []
        for name in names:
            values = rows if self._is_text else [row.get(name) for row in rows]
            try:
                arrays.append(_array(values, name, numbers, types.get(name)))
            except ValueError as error:
                raise ValueError(f"{file} cannot be read: {error}") from None
            types[name] = arrays[-1].type
        try:
            return pa.Table.from_arrays(arrays, names=list(names))
        except UnicodeEncodeError:
            where = f"{file} cannot be read: line {numbers[0]} or one after it"
            raise ValueError(f"{where} {NOT_UTF8.format('names a column in no UTF-8')}") from None


def _beginning(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return f"{file.name} ".encode() + stream.read(BEGINNING_BYTES)


def _array(
    values: list, name: str, numbers: Sequence[int], known: pa.DataType | None
) -> pa.Array | pa.ChunkedArray:
    """A column as Arrow's, of the type it was `known` by, or of one that holds both."""
    try:
        if set(map(type, values)) == {str}:
            made = text_column(values).cast(pa.string())  # `pa.array` would import pandas
        elif set(map(type, values)) == {int}:
            made = array(np.array(values, np.int64))
        else:
            made = pa.array(values)
        if known is not None and made.type != known:
            made = made.cast(_joint(known, made.type))
        # Arrow would make one type of some that are not: True beside 1.
        if len(_kinds(values)) < 2 or _kinds(values) == {int, float}:
            return made
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        pass  # found again below, with its line
    known = known or pa.null()
    for number, value in zip(numbers, values, strict=True):
        where = f"line {number}, column {name!r}"
        if isinstance(value, str) and any("\udc80" <= letter <= "\udcff" for letter in value):
            raise ValueError(f"{where} {NOT_UTF8.format('holds broken UTF-8')}")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{where} is not valid text (a lone surrogate); correct it")
        try:
            known = _joint(known, pa.array([value]).type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise ValueError(
                f"{where} holds {value!r:.40} ({type(value).__name__}), where the rows before it "
                f"hold {known}; correct it, or, if nobody needs that column, load(columns=[...]) "
                "leaves it out"
            ) from None
    raise ValueError(
        f"lines {numbers[0]} to {numbers[-1]}, column {name!r}: no type holds them all"
    )


def _kinds(values: list) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _joint(*types: pa.DataType) -> pa.DataType:
    return unified(pa.schema({"": kind}) for kind in types).types[0]
