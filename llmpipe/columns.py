"""Columns of text as Arrow strings, or one error that names the row; tables read in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WINDOW_ROWS = 1000  # as many as `datasets` puts into a row group
FEW_ROWS = 100  # a window of no more is read and encoded together with those after it


def text_column(texts: Any, name: str = "text", first_row: int = 0) -> pa.ChunkedArray:
    """Return `texts` as a chunked Arrow array of strings, without a copy where it is Arrow already.

    Takes one string (one document), a list or tuple of them, a column of a `datasets.Dataset`, or
    an Arrow array. `first_row` is the number that errors give the first of them.

    >>> text_column(["a", "b"]).to_pylist()
    ['a', 'b']

    Raises TypeError or ValueError naming the row for anything that is not text: a null, a number,
    bytes, a lone surrogate.
    """
    if isinstance(texts, str):
        texts = [texts]
    elif isinstance(texts, (Mapping, Set)):
        raise TypeError(f"a {type(texts).__name__} is no column of text; pass one of its columns")
    elif hasattr(texts, "source") and hasattr(texts, "column_name"):  # a datasets.Column
        texts = texts.source.with_format("arrow")[texts.column_name][:]
    if not isinstance(texts, (pa.Array, pa.ChunkedArray)):
        texts = _from_rows(list(texts), name, first_row)
    if not isinstance(texts, pa.ChunkedArray):
        texts = pa.chunked_array([texts])
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    if pa.types.is_string_view(texts.type):  # which most of Arrow's functions do not take yet
        texts = texts.cast(pa.string())
    if pa.types.is_null(texts.type) and len(texts) == 0:
        return texts.cast(pa.string())
    if texts.null_count:
        row = first_row + pc.index(texts.is_null(), True).as_py()
        raise ValueError(
            f"row {row} of column {name!r} is null; drop such rows first, for example "
            f"dataset.filter(lambda row: row[{name!r}] is not None)"
        )
    if texts.type not in (pa.string(), pa.large_string()):
        raise TypeError(
            f"column {name!r} holds {texts.type}, not text (string); choose another or convert it"
        )
    return texts


def _from_rows(rows: list, name: str, first_row: int) -> pa.Array:
    for index, row in enumerate(rows, first_row):
        if not isinstance(row, str):
            what = "null" if row is None else f"of type {type(row).__name__} ({row!r:.40})"
            raise TypeError(f"row {index} of column {name!r} is {what}, not text (str)")
    try:
        encoded = list(map(str.encode, rows))
    except UnicodeEncodeError:
        for index, row in enumerate(rows, first_row):
            if any("\ud800" <= character <= "\udfff" for character in row):
                raise ValueError(_not_unicode(index, name)) from None
        raise
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(rows)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(rows), buffers)


# Arrow imports pandas as soon as it makes an array of a list or of NumPy's, or gives one to it:
# 0.3 s in every new process. What is here reads and writes the memory itself.


def array(numbers: np.ndarray) -> pa.Array:
    """NumPy's numbers (N,) as Arrow's, without a copy.

    >>> array(np.array([3, 1])).to_pylist()
    [3, 1]
    """
    own = np.ascontiguousarray(numbers)
    kind = pa.from_numpy_dtype(own.dtype)
    return pa.Array.from_buffers(kind, len(own), [None, pa.py_buffer(own)])


def mask(flags: np.ndarray) -> pa.BooleanArray:
    """NumPy's booleans (N,) as Arrow's.

    >>> mask(np.array([True, False])).to_pylist()
    [True, False]
    """
    bits = pa.py_buffer(np.packbits(flags, bitorder="little"))
    return pa.BooleanArray.from_buffers(pa.bool_(), len(flags), [None, bits])


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Arrow's numbers or booleans without nulls as NumPy's, (N,); not for writing to.

    >>> numbers(pa.chunked_array([[True], [False, True]])).tolist()
    [True, False, True]
    """
    is_bool = pa.types.is_boolean(column.type)
    dtype = np.dtype(bool if is_bool else str(column.type))
    arrays = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        _, data = chunk.buffers()
        values, stop = np.frombuffer(data or b"", np.uint8), chunk.offset + len(chunk)
        if is_bool:
            values = np.unpackbits(values, count=stop, bitorder="little").view(bool)
        else:
            values = values[: stop * dtype.itemsize].view(dtype)
        arrays.append(values[chunk.offset : stop])
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.zeros(0, dtype), *arrays])


def to_strings(texts: pa.Array, name: str = "text", first_row: int = 0) -> list[str]:
    """Arrow strings as Python's; ValueError naming the row where a file held broken UTF-8."""
    try:
        return texts.to_pylist()
    except UnicodeDecodeError:
        for index in range(len(texts)):
            try:
                texts[index].as_py()
            except UnicodeDecodeError:
                raise ValueError(_not_unicode(first_row + index, name)) from None
        raise


def _not_unicode(row: int, name: str) -> str:
    return (
        f"row {row} of column {name!r} is not valid text (a lone surrogate or broken UTF-8); "
        "read its source with errors='replace', or drop the row"
    )


def is_dataset(documents: Any) -> bool:
    """Whether it is a `Dataset` of `datasets`: one split, with all its rows at hand.

    Told by its methods: to import `datasets` only to ask would take each new process 0.5 s.
    """
    return _is_split(documents) and hasattr(documents, "num_rows")


def is_iterable_dataset(documents: Any) -> bool:
    """Whether it is an `IterableDataset` of `datasets`: one split, as a stream."""
    return _is_split(documents) and not hasattr(documents, "num_rows")


def _is_split(documents: Any) -> bool:
    return hasattr(documents, "with_format") and not isinstance(documents, dict)  # no DatasetDict


def require_column(table: Any, name: str, hint: str = "") -> None:
    """Raise KeyError naming the columns there are, unless `table` has a column `name`."""
    if table.column_names is not None and name not in table.column_names:
        raise KeyError(f"no column {name!r}; there are {list(table.column_names)}{hint}")


def whole_text(texts: Any, column: str, first_row: int) -> pa.ChunkedArray:
    """A column of text, every byte of it; TypeError or ValueError naming the row that is none."""
    texts = text_column(texts, column, first_row)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        to_strings(texts, column, first_row)  # names the row
        raise
    return texts


def slices(texts: pa.ChunkedArray, num_bytes: int) -> Iterator[tuple[int, int]]:
    """Where to cut a column, so that each slice has about so many bytes, or one document of more.

    >>> list(slices(pa.chunked_array([["a" * 9, "b", "c"]]), num_bytes=9))
    [(0, 1), (1, 3)]
    """
    if texts.nbytes <= num_bytes:
        bounds = [0, len(texts)]
    else:
        ends = np.cumsum(numbers(pc.binary_length(texts)).astype(np.int64))
        cuts = np.flatnonzero(np.diff((ends - 1) // num_bytes)) + 1
        bounds = [0, *cuts.tolist(), len(texts)]
    yield from (pair for pair in pairwise(bounds) if pair[0] < pair[1])


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
            if skipped < table.num_rows:  # an empty slice would keep the whole table
                waiting.append(table.slice(skipped))
        ready = sum(each.num_rows for each in waiting)
        if ready >= WINDOW_ROWS or (table is None and ready):
            whole = pa.concat_tables(waiting) if len(waiting) > 1 else waiting[0]
            cut = ready if table is None else ready // WINDOW_ROWS * WINDOW_ROWS
            for start in range(0, cut, WINDOW_ROWS):
                yield whole.slice(start, WINDOW_ROWS)
            waiting = [whole.slice(cut)] if cut < ready else []


class Parts(Protocol):
    """`windows` yields tables of `columns`; `identity` tells other data apart in a saved state.

    `weights` are numbers of 1 or more, one a part, by which parts are divided: if `counted` its
    rows. It may have a method `place`: `place(part, row)` gives the file of a row and its number
    there, for errors. And `is_local`: to read some windows more than are due costs nothing then.
    """

    weights: list[int]
    counted: bool
    identity: str

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]: ...
