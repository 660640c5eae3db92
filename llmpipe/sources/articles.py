"""Whole articles out of WikiText's rows, which are lines: joined again, in parts as the rows are.

A heading of level one, ` = Title = ` between two blank rows, begins an article; it goes on to the
next one. Its text is that of its rows, one after the other, blank ones too: all articles together
are all rows together, byte for byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.columns import Parts, check_columns, exact_windows, numbers, text_column, whole_text

COLUMN = "text"


class ArticleParts:
    """The articles of a source that is given in parts of `rows`; of `num_rows` articles in all.

    Part k's articles are those whose heading is in part k of the rows: who reads it reads on to the
    next heading, in whatever part that is. What stands before the first heading of all is an
    article of its own, unless it is blank: then the first article begins with it. How many articles
    a part has is known once it is read. There is one column, "text".

    Raises ValueError if there are rows, and none of them is such a heading.

    >>> from llmpipe.sources.parts import parts_of
    >>> rows = ["", " = Rain = \\n", "", " Wet . \\n", "", " = Wind = \\n", "", " Dry . \\n"]
    >>> for window in ArticleParts(parts_of(rows)).windows(0, 0, "text"):
    ...     print(window["text"].to_pylist())
    [' = Rain = \\n Wet . \\n', ' = Wind = \\n Dry . \\n']
    """

    counted = False

    def __init__(self, rows: Parts, num_rows: int | None = None, name: str = "this source") -> None:
        self._rows = rows
        counts, self._is_blank_before = np.zeros(len(rows.weights), np.int64), True
        for part, texts, begins in self._flagged(0):
            if not counts.any():  # to the first heading
                before = texts.slice(0, int(begins.argmax()) if begins.any() else len(texts))
                self._is_blank_before &= bool(_blank(before).all())
                counts[part] += begins.any() and not self._is_blank_before
            counts[part] += np.count_nonzero(begins)
            if counts.any() and (num_rows is None or counts.sum() >= num_rows):
                break
        else:
            if len(counts) and not counts.any():
                raise ValueError(
                    f"{name} has no articles: none of its rows is a heading of level one, "
                    "' = Title = ' between blank rows, as WikiText's are; take documents='rows'"
                )
        self._first, self._left_of_last = int((counts > 0).argmax()) if len(counts) else 0, None
        self.weights = list(rows.weights)
        if num_rows is not None:
            before = np.cumsum(counts) - counts
            self.weights = self.weights[: int(np.searchsorted(before, num_rows))]
            if self.weights:
                self._left_of_last = num_rows - int(before[len(self.weights) - 1])
        of = "all articles" if num_rows is None else f"the first {num_rows} articles"
        self.identity = f"{of} of {rows.identity}"

    def windows(self, part: int, first_window: int, *columns: str) -> Iterator[pa.Table]:
        check_columns([COLUMN], columns)
        tables = (
            pa.Table.from_arrays([articles], names=[COLUMN]).select(columns)
            for articles in self._own(part)
        )
        yield from exact_windows(tables, first_window)

    def _own(self, part: int) -> Iterator[pa.Array]:
        """A part's articles, no more of the last than were asked for."""
        left = self._left_of_last if part == len(self.weights) - 1 else None
        for articles in self._articles(part):
            yield articles.slice(0, left)
            if left is not None:
                left -= min(left, len(articles))
                if not left:
                    return

    def _articles(self, part: int) -> Iterator[pa.Array]:
        is_first = part == self._first
        opened: list[pa.ChunkedArray] | None = [] if is_first else None  # rows of one not yet ended
        is_one_with_first = is_first and self._is_blank_before
        for number, texts, begins in self._flagged(0 if is_first else part):
            starts = np.flatnonzero(begins)
            if len(starts) and is_one_with_first:
                starts, is_one_with_first = starts[1:], False
            if number > part:
                if opened is None:
                    return
                starts = starts[:1]
            if not len(starts):
                if opened is not None:
                    opened.append(texts)
                continue
            bounds = sum(map(len, opened or [])) + starts
            yield _joined([*(opened or []), texts], bounds if opened is None else [0, *bounds])
            if number > part:
                return
            opened = [texts.slice(int(starts[-1]))]
        if opened:
            yield _joined(opened, [0, sum(map(len, opened))])

    def _flagged(self, first_part: int) -> Iterator[tuple[int, pa.ChunkedArray, np.ndarray]]:
        """Windows of rows from a part on: its number, the rows, and which begin an article."""
        windows, is_after_blank = self._windows(first_part), None
        own = next(windows, None)
        while own is not None:
            part, texts = own
            own = next(windows, None)  # looked at before: its first row may be blank
            is_before_blank = own is None or _blank(own[1].slice(0, 1))
            blank = _blank(texts)
            begins = _titles(texts) & np.append(blank[1:], is_before_blank)
            begins[1:] &= blank[:-1]
            if begins[0]:
                if is_after_blank is None:
                    is_after_blank = self._is_after_blank(first_part)
                begins[0] = is_after_blank
            is_after_blank = blank[-1]
            yield part, texts, begins

    def _is_after_blank(self, part: int) -> bool:
        """Whether the last row before a part is blank; one that is not there is."""
        for before in reversed(range(part)):
            tables = deque(self._rows.windows(before, 0, COLUMN), maxlen=1)
            if tables:
                return bool(_blank(text_column(tables[0][COLUMN]))[-1])
        return True

    def _windows(self, first_part: int) -> Iterator[tuple[int, pa.ChunkedArray]]:
        for part in range(first_part, len(self._rows.weights)):
            first_row = 0
            for table in self._rows.windows(part, 0, COLUMN):
                yield part, whole_text(table[COLUMN], COLUMN, first_row)
                first_row += table.num_rows


def _blank(texts: pa.ChunkedArray) -> np.ndarray:
    return numbers(pc.binary_length(pc.utf8_trim_whitespace(texts))) == 0


def _titles(texts: pa.ChunkedArray) -> np.ndarray:
    """Which rows have the shape of a heading of level one: exactly one `=` on each side."""
    texts = pc.utf8_trim_whitespace(texts)
    is_heading = pc.and_(pc.starts_with(texts, "= "), pc.ends_with(texts, " ="))
    is_deeper = pc.or_(pc.starts_with(texts, "= ="), pc.ends_with(texts, "= ="))
    return numbers(is_heading) & ~numbers(is_deeper)


def _joined(rows: list[pa.ChunkedArray], bounds: Any) -> pa.Array:
    """Rows that stand one after the other, joined between each two of `bounds`: (D,) of (D + 1,).

    They lie so in memory already, and only the bounds between them are left out.
    """
    chunks = [chunk for column in rows for chunk in column.chunks]
    whole = pa.concat_arrays(chunks) if len(chunks) > 1 else chunks[0]
    _, offsets, data = whole.buffers()
    ends = np.frombuffer(offsets, np.int64)[whole.offset :][np.asarray(bounds)]
    buffers = [None, pa.py_buffer(ends), data or pa.py_buffer(b"")]
    return pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers)


def article_dataset(rows: Any, num_rows: int | None, name: str) -> Any:
    """The articles of a `Dataset` of rows, as one."""
    from datasets import Dataset
    from datasets.fingerprint import Hasher
    from datasets.table import InMemoryTable

    from llmpipe.sources.parts import TableParts

    parts = ArticleParts(TableParts(rows), num_rows, name)
    texts = [table[COLUMN] for table in _all_windows(parts, range(len(parts.weights)))]
    column = pa.chunked_array([c for each in texts for c in each.chunks], pa.large_string())
    if column.nbytes < 2**31:  # the type that `datasets` itself gives to text
        column = column.cast(pa.string())
    # Without a fingerprint of ours `datasets` would hash every byte to make one.
    fingerprint = Hasher.hash([rows._fingerprint, "articles", num_rows])
    table = InMemoryTable(pa.Table.from_arrays([column], names=[COLUMN]))
    return Dataset(table, split=rows.split, fingerprint=fingerprint)


def article_stream(parts: ArticleParts, split: str) -> Any:
    """The articles of parts as an `IterableDataset`, of as many shards as there are parts."""
    from datasets import Features, IterableDataset, NamedSplit, Value

    options = {"features": Features({COLUMN: Value("string")}), "split": NamedSplit(split)}
    if not parts.weights:
        return IterableDataset.from_generator(list, **options)
    numbers_of_parts = list(range(len(parts.weights)))
    kwargs = {"parts": parts, "chosen": numbers_of_parts}
    return IterableDataset.from_generator(_article_rows, gen_kwargs=kwargs, **options)


def _article_rows(parts: ArticleParts, chosen: list[int]) -> Iterator[dict]:
    for table in _all_windows(parts, chosen):
        yield from table.to_pylist()


def _all_windows(parts: ArticleParts, chosen: Any) -> Iterator[pa.Table]:
    for part in chosen:
        yield from parts.windows(part, 0, COLUMN)
