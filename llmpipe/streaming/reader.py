"""The rows that one consumer has of each part, window by window, with errors that say where."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa

from llmpipe.columns import FEW_ROWS, WINDOW_ROWS, NoColumnError, array
from llmpipe.streaming.partition import PER_PART, Partition, Span
from llmpipe.streaming.processor import Processor


class SourceError(RuntimeError):
    """A source failed while it was read; the message says how far it was read and how to go on."""


class Window:
    """A consumer's rows of one window, in reading order: a column for each that was asked for.

    `span` is what was left of its part from this window on, `later` the spans that come after it;
    `rows` are their numbers in the part, counted in reading order.
    """

    def __init__(
        self, span: Span, later: list[Span], part: int, rows: np.ndarray, columns: list
    ) -> None:
        self.span, self.later, self.part, self.rows, self.columns = span, later, part, rows, columns

    @property
    def after(self) -> list[Span]:
        """What is left once the window is done with."""
        rest = self.span.from_window(self.span.window + 1)
        return self.later if rest.is_empty else [rest, *self.later]

    def left(self, skip: int, rows: int = 0, documents: int = 0) -> list[Span]:
        """What is left once so much of the window is out: see `Span`."""
        if not skip:
            return [self.span, *self.later]
        counts = {"skip": skip, "rows": rows, "documents": documents, "digest": self.digest}
        return [self.span._replace(**counts), *self.later]

    @cached_property
    def digest(self) -> str:
        """What tells these rows from others: of all that stands in them."""
        found = hashlib.blake2b(digest_size=8)
        for column in self.columns:
            found.update("\0".join(map(str, column.to_pylist())).encode())
        return found.hexdigest()


class Reader:
    """Reads spans of a source's parts: the columns that the processor asks for, each checked.

    `rows_read` counts rows, those of earlier passes too, for the words of an error.
    """

    def __init__(self, processor: Processor, partition: Partition, rows_read: int = 0) -> None:
        self.processor, self.partition, self.rows_read = processor, partition, rows_read
        self.parts = processor.parts

    def windows(self, spans: list[Span]) -> Iterator[Window]:
        """The windows in which this consumer has rows, in reading order.

        Raises KeyError naming the columns there are, TypeError or ValueError naming a row that does
        not pass its check, ValueError for a window that is another than when its digest was taken,
        SourceError where the source fails.
        """
        for span, later in self.partition.by_part(spans):
            part = int(self.partition.parts[span.first_shard // PER_PART])
            is_due = bool(span.digest)
            for table in self._tables(part, span):
                rows = np.arange(table.num_rows) + span.window * WINDOW_ROWS
                columns = self._checked(part, table, span.window * WINDOW_ROWS)
                own = self._own(span, rows)
                if self.partition.shuffle or not own.all():
                    taken = array(self.partition.order(len(rows), part, span.window)[own])
                    columns = [column.take(taken) for column in columns]
                window = Window(span, later, part, rows[own], columns)
                if is_due and window.digest != span.digest:
                    break
                is_due = False
                if own.any():
                    yield window
                self.rows_read += len(window.rows)
                span = span.from_window(span.window + 1)
            if is_due:
                raise ValueError(
                    f"window {span.window} of part {part} of {self.parts.identity} is not the one "
                    "that the state was saved in: the source has changed since; start anew, or "
                    "bring it back"
                )

    def _own(self, span: Span, rows: np.ndarray) -> np.ndarray:
        """Which places of a window, in reading order, are in the span: (num_rows,), bool."""
        shard = self.partition.shard_of(rows)
        first = span.first_shard % PER_PART
        return (shard >= first) & (shard < first + span.stop_shard - span.first_shard)

    def _tables(self, part: int, span: Span) -> Iterator[pa.Table]:
        window, last = span.window, None
        try:
            for table in self.parts.windows(part, window, *self.processor.checks):
                if table.num_rows < WINDOW_ROWS:
                    last = table  # given only once it is known that the part ends so, unbroken
                    continue
                yield table
                window += 1
                if window == span.stop_window:
                    return
            if last is not None:
                yield last
        except NoColumnError as error:
            raise KeyError(f"{error.args[0]}{self.processor.hint}") from None
        except Exception as error:  # a source of the user's own may raise anything
            raise SourceError(
                f"part {part} of {self.parts.identity} cannot be read further, from its row "
                f"{window * WINDOW_ROWS:,} on ({type(error).__name__}: {error}){self._file(part)}; "
                f"{self.rows_read:,} rows were read before it. Nothing that was given out is lost: "
                "state_dict() still tells where, and once the source is mended a stream that loads "
                "it goes on from there"
            ) from error

    def _file(self, part: int) -> str:
        found = self._place(part, 0)
        return f", in {found[0]}" if found else ""

    def _place(self, part: int, row: int) -> tuple[str, int] | None:
        """The file of a row of a part, and its number there, where the source tells them."""
        place = getattr(self.parts, "place", None)
        return place(part, row) if place else None

    def _checked(self, part: int, table: pa.Table, first_row: int) -> list[pa.ChunkedArray]:
        checked = []
        for name, check in self.processor.checks.items():
            try:
                checked.append(check(table[name], name, first_row))
            except (TypeError, ValueError) as error:
                raise self._placed(error, part, table[name], name, first_row) from error
        return checked

    def _placed(
        self, error: Exception, part: int, column: pa.ChunkedArray, name: str, first_row: int
    ) -> Exception:
        """The error of a check with the file and the row in it, where the source tells them."""
        where = f"part {part} of {self.parts.identity}"
        for row in range(len(column)):
            found = self._place(part, first_row + row)
            if found is None:
                break
            try:
                self.processor.checks[name](column.slice(row, 1), name, found[1])
            except (TypeError, ValueError) as own:
                return type(own)(f"{where}, {found[0]}: {own}")
        return type(error)(f"{where}: {error}")


def together(windows: Iterator[Window], max_bytes: int) -> Iterator[list[Window]]:
    """Windows of few rows in lists that are worth a call of the tokenizer, others alone.

    A list has up to a window's rows, and about `max_bytes` of text. Those before an error come
    before it.
    """
    waiting: list[Window] = []
    num_rows = num_bytes = 0
    error = None
    while True:
        try:
            window = next(windows, None)
        except Exception as raised:  # what the source raised; raised again below
            window, error = None, raised
        size = window.columns[0].nbytes if window else 0
        if waiting and (
            window is None
            or len(window.rows) > FEW_ROWS
            or num_rows + len(window.rows) > WINDOW_ROWS
            or num_bytes + size > max_bytes
            or window.columns[0].type != waiting[0].columns[0].type
        ):
            yield waiting
            waiting, num_rows, num_bytes = [], 0, 0
        if error:
            raise error
        if window is None:
            return
        if len(window.rows) > FEW_ROWS:
            yield [window]
            continue
        waiting.append(window)
        num_rows, num_bytes = num_rows + len(window.rows), num_bytes + size
