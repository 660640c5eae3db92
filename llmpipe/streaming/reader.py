"""The rows that a consumer has of a part, window by window, and errors that say where it broke."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from llmpipe.sources.parts import WINDOW_ROWS, NoColumnError, Parts
from llmpipe.streaming.partition import PER_PART, Lanes, Piece

Check = Callable[[Any, str, int], pa.ChunkedArray]  # of a column, its name, its first row's number


class SourceError(RuntimeError):
    """A source failed while it was read; the message says how far it was read and how to go on."""


class PartReader:
    """Reads pieces of `parts`; `checks` are the columns to read, each with what it must pass.

    For the words of errors, `rows_done` tells how many rows were done with before, and `hint` what
    to do where a column is not there.
    """

    def __init__(
        self,
        parts: Parts,
        lanes: Lanes,
        checks: Mapping[str, Check],
        rows_done: Callable[[], int],
        hint: str = "",
    ) -> None:
        self.parts, self.lanes, self.checks = parts, lanes, checks
        self.rows_done, self.hint = rows_done, hint
        self._order = lanes.parts()

    def part_of(self, piece: Piece) -> int:
        """The part in which a piece begins."""
        return int(self._order[piece.first_lane // PER_PART])

    def own_rows(self, piece: Piece) -> Iterator[tuple[np.ndarray, list[pa.ChunkedArray]]]:
        """The rows of one part's piece and their columns, window by window, in reading order."""
        lanes, part = self.lanes, self.part_of(piece)
        first = piece.first_lane % PER_PART
        stop = first + piece.stop_lane - piece.first_lane
        # Beginning with the row before, to see that it is there at all.
        window, num_rows = max(0, piece.row - 1) // WINDOW_ROWS, 0
        for number, table in enumerate(self._tables(part, window), start=window):
            start = number * WINDOW_ROWS
            columns = self._checked(part, table, start)
            rows = np.arange(start, start + table.num_rows)
            num_rows = start + table.num_rows
            lane = lanes.lane_of(rows)
            own = (lane >= first) & (lane < stop) & (rows >= piece.row)
            if lanes.shuffle or not own.all():
                taken = pa.array(lanes.rows(part, number, len(rows))[own])
                columns = [column.take(taken) for column in columns]
            if own.any():
                yield rows[own], columns
        if num_rows < piece.row:
            raise self.another(piece)

    def _tables(self, part: int, window: int) -> Iterator[pa.Table]:
        try:
            for table in self.parts.windows(part, window, *self.checks):
                yield table
                window += 1
        except NoColumnError as error:
            raise KeyError(f"{error.args[0]}{self.hint}") from None
        except Exception as error:  # a source of the user's own may raise anything
            raise SourceError(
                f"part {part} of {self.parts.identity} cannot be read further, from its row "
                f"{window * WINDOW_ROWS:,} on ({type(error).__name__}: {error}); "
                f"{self.rows_done():,} rows were read before it. Nothing that was given out is "
                "lost: state_dict() still tells where, and once the source is mended a stream that "
                "loads it goes on from there"
            ) from error

    def _checked(self, part: int, table: pa.Table, first_row: int) -> list[pa.ChunkedArray]:
        try:
            return [check(table[name], name, first_row) for name, check in self.checks.items()]
        except (TypeError, ValueError) as error:
            where = f"part {part} of {self.parts.identity}"
            raise type(error)(f"{where}: {error}") from error

    def another(self, piece: Piece) -> ValueError:
        """The error for a row that is not the one whose digest the piece has."""
        part = self.part_of(piece)
        return ValueError(
            f"row {piece.row} of part {part} of {self.parts.identity} is not the one that the "
            "state was saved at: the source has changed since; start anew, or bring it back"
        )
