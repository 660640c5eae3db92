"""Columns of text as Arrow strings, and the tables that they are in, whatever library made them.

What is no text is one error that names the row. Tables are told by what they can do: pandas, Polars
and `datasets` are never imported here, and nothing of theirs is left in what is given back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WINDOW_ROWS = 1000  # as many as `datasets` puts into a row group
FEW_ROWS = 100  # a window of no more is read and encoded together with those after it


def text_column(texts: Any, name: str = "text", first_row: int = 0) -> pa.ChunkedArray:
    """Return `texts` as a chunked Arrow array of `large_string`, which has no end at 2 GB.

    Takes one string (one document), a list or tuple of them, a column of a `datasets.Dataset`, or
    an Arrow array, whose text is not copied unless it is a dictionary or a view. `first_row` is
    the number that errors give the first of them.

    >>> text_column(["a", "b"]).to_pylist()
    ['a', 'b']

    Raises TypeError or ValueError naming the row for anything that is not text: a null, a number,
    bytes, a lone surrogate.
    """
    if isinstance(texts, str):
        texts = [texts]
    elif isinstance(texts, (Mapping, Set)) or hasattr(texts, "columns"):
        raise TypeError(f"a {type(texts).__name__} is no column of text; pass one of its columns")
    elif is_dataset_column(texts):
        texts = _from_dataset_column(texts)
    if not isinstance(texts, (pa.Array, pa.ChunkedArray)):
        texts = _from_rows(list(texts), name, first_row)
    if not isinstance(texts, pa.ChunkedArray):
        texts = pa.chunked_array([texts])
    if pa.types.is_dictionary(texts.type):
        texts = decoded(texts)
    if texts.type in (pa.string(), pa.string_view()):  # ends at 2 GB; few of Arrow's functions
        texts = texts.cast(pa.large_string())
    if not len(texts):  # of no rows the type says nothing: pandas calls them numbers
        return pa.chunked_array([], pa.large_string())
    if texts.null_count:
        row = first_row + pc.index(texts.is_null(), True).as_py()
        raise ValueError(
            f"row {row} of column {name!r} is null; drop such rows first, for example "
            f"dataset.filter(lambda row: row[{name!r}] is not None)"
        )
    if texts.type != pa.large_string():
        raise TypeError(
            f"column {name!r} holds {texts.type}, not text (string); choose another or convert it"
        )
    return texts


def decoded(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values behind a dictionary's indices; of text all, though they be more than 2 GB."""
    kind, arrays = texts.type.value_type, []
    if kind in (pa.string(), pa.string_view()):
        kind = pa.large_string()
    for chunk in texts.chunks:
        arrays.append(chunk.dictionary.cast(kind).take(chunk.indices))
    return pa.chunked_array(arrays, kind)


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


def whole_text(texts: Any, column: str, first_row: int) -> pa.ChunkedArray:
    """A column of text, every byte of it; TypeError or ValueError naming the row that is none."""
    texts = text_column(texts, column, first_row)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        to_strings(texts, column, first_row)  # names the row
        raise
    return texts


class NoColumnError(KeyError):
    """The source is well, but has no such column; a KeyError of the source's own is none."""


def check_columns(names: Sequence[str], columns: Collection[str], file: object = "") -> None:
    """Raise NoColumnError naming the columns there are, unless each of these is there once."""
    for column in columns:
        if column not in names:
            where = f" in {file}" if file else ""
            raise NoColumnError(f"no column {column!r}; there are {list(names)}{where}")
        if list(names).count(column) > 1:
            raise ValueError(f"{list(names).count(column)} columns are named {column!r}")


def is_dataset(documents: Any) -> bool:
    """Whether it is a `Dataset` of `datasets`: one split, with all its rows at hand.

    Told by its methods: to import `datasets` only to ask would take each new process 0.5 s.
    """
    return is_split(documents) and hasattr(documents, "num_rows")


def is_iterable_dataset(documents: Any) -> bool:
    """Whether it is an `IterableDataset` of `datasets`: one split, as a stream."""
    return is_split(documents) and not hasattr(documents, "num_rows")


def is_split(documents: Any) -> bool:
    """Whether it is one of these two, and no `DatasetDict`."""
    return can(documents, "with_format") and not isinstance(documents, dict)


def is_source(documents: Any) -> bool:
    """Whether it is what `open_source` gives."""
    return can(documents, "parts") and hasattr(documents, "origin")


def is_in_parts(documents: Any) -> bool:
    """Whether it is `Parts`, such as a `Share`."""
    return can(documents, "windows")


def can(documents: Any, method: str) -> bool:
    """Whether it has a method; of pandas an attribute may be a column that is called so."""
    return callable(getattr(documents, method, None))


def is_dataset_column(texts: Any) -> bool:
    """Whether it is a column of a `Dataset` of `datasets`, as `dataset["text"]`."""
    return hasattr(texts, "column_name") and is_split(getattr(texts, "source", None))


def _from_dataset_column(column: Any) -> pa.ChunkedArray:
    check_split(column.source)
    return column.source.with_format("arrow")[column.column_name][:]


def check_split(documents: Any) -> None:
    """Raise TypeError for several splits, ValueError for one with a transform of its own.

    Rows pass such a transform when they are looked at. What reads the table beneath would give
    other text than the user sees.
    """
    kind = type(documents).__name__
    if isinstance(documents, dict) and hasattr(documents, "with_format"):
        splits = list(documents)
        way_out = f"pass one of them, as documents[{splits[0]!r}]" if splits else "and has none"
        raise TypeError(f"a {kind} is a dict of splits, {splits}: {way_out}")
    if is_split(documents):
        formatting = getattr(documents, "_formatting", None)
        own = getattr(documents, "format", {}).get("type", getattr(formatting, "format_type", None))
        if own == "custom":
            raise ValueError(
                f"this {kind} has a transform (set_transform or with_transform), which is applied "
                "to rows when they are looked at, and not to the table that is read here. Put it "
                "into the table: dataset.with_format(None).map(transform, batched=True)"
            )


Check = Callable[[Any, str, int], pa.ChunkedArray]  # of a column, its name, its first row's number


def arrow_table(documents: Any, checks: Mapping[str, Check] | None = None) -> pa.Table:
    """A table that is at hand as Arrow's: the columns that have a check, or all without `checks`.

    Takes frames of pandas (the index is no column) and Polars, whatever has Arrow's C stream
    interface, a dict of columns, and one column: a list of strings, an array, a series. That is
    the first of `checks`, or "text". Python's own values become Arrow's by their check; others are
    not looked at, and not copied where they are Arrow's already.

    >>> arrow_table(["a", "b"]).to_pydict()
    {'text': ['a', 'b']}

    Raises NoColumnError naming the columns there are, TypeError for what is no table, TypeError or
    ValueError naming a column, and if it can the row, that Arrow cannot hold.
    """
    check_split(documents)
    checks = checks or {}
    names, column = _named_columns(documents, next(iter(checks), "text"))
    if len(names) == 1 and len(checks) > 1 and column(names[0]) is documents:
        raise TypeError(
            f"a {type(documents).__name__} is one column, of {names[0]!r}; {list(checks)} are due: "
            f"pass a dict of columns, {{{', '.join(f'{name!r}: [...]' for name in checks)}}}"
        )
    check_columns(names, checks or names)
    columns = [_as_arrow(column(name), name, checks.get(name)) for name in checks or names]
    lengths = {name: len(each) for name, each in zip(checks or names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns are not of one length: {lengths}")
    return pa.Table.from_arrays(columns, names=list(lengths))


def _named_columns(documents: Any, name: str) -> tuple[list[str], Callable[[str], Any]]:
    """The columns' names, and what gives a column by its name."""
    if isinstance(documents, Mapping):
        return list(documents), documents.__getitem__
    if hasattr(documents, "iloc") and hasattr(documents, "columns"):  # of pandas
        names = list(map(str, documents.columns))
        return names, lambda name: documents.iloc[:, names.index(name)]
    if can(documents, "get_column"):  # of Polars
        return list(documents.columns), documents.get_column
    is_column = isinstance(documents, (list, tuple, np.ndarray, pa.Array, pa.ChunkedArray))
    if is_column or is_dataset_column(documents) or can(documents, "to_frame"):  # a series
        return [name], lambda _: documents
    if not isinstance(documents, pa.Table):
        if not hasattr(documents, "__arrow_c_stream__"):
            raise TypeError(
                f"a {type(documents).__name__} is no table of documents: pass what open_source "
                "gives, one split as a Dataset or IterableDataset of `datasets`, a table of "
                "pandas, Polars or Arrow, a dict of columns, or a list of strings"
            )
        found = pa.chunked_array(documents)
        if not pa.types.is_struct(found.type):
            return [name], lambda _: found
        documents = pa.Table.from_struct_array(found)
    return documents.column_names, lambda name: documents.column(documents.column_names.index(name))


def _as_arrow(values: Any, name: str, check: Check | None) -> pa.ChunkedArray:
    if is_dataset_column(values):
        values = _from_dataset_column(values)
    try:
        if isinstance(values, pa.ChunkedArray):
            return values
        if isinstance(values, pa.Array):
            return pa.chunked_array([values])
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        rows = list(values)
        if check is None and not (rows and isinstance(rows[0], str)):
            return pa.chunked_array([pa.array(rows)])
    except (pa.ArrowException, TypeError, ValueError) as error:
        if check is None:
            raise TypeError(
                f"column {name!r} is none that Arrow can hold, leave it out or convert it: {error}"
            ) from error
    return (check or text_column)(list(values), name, 0)  # which names the row


def without_views(table: pa.Table) -> pa.Table:
    """The same table with `large_string` for `string_view`, of which Arrow can take no rows yet."""
    for index, field in enumerate(table.schema):
        if field.type == pa.string_view():
            column = table.column(index).cast(pa.large_string())
            table = table.set_column(index, field.name, column)
    return table


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
