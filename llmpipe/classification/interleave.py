"""One row of each section in turn: a consumer's labelled rows, mixed though the source is sorted.

Whose turn it is needs no place of its own in a state: what is left is listed section by section,
from the one whose turn is next, each with the window it stands in and the rows of it that are out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from llmpipe.classification.encoding import Rows
from llmpipe.streaming.partition import Span
from llmpipe.streaming.reader import Reader, Window

Encode = Callable[[Window], Rows]


class OpenSection:
    """What one consumer has of a section: the window that is open, and those that come after it.

    Of its `rows` so many are `taken`.
    """

    def __init__(self, spans: list[Span], reader: Reader, encode: Encode) -> None:
        self._windows, self._encode = reader.windows(spans), encode
        self.window: Window | None = None
        self.rows, self.taken = None, 0

    @property
    def num_waiting(self) -> int:
        return len(self.rows.labels) - self.taken if self.window else 0

    def fill(self) -> bool:
        """Read the next window if no row waits; False at the end of them all."""
        while not self.num_waiting:
            self.window = next(self._windows, None)
            if self.window is None:
                return False
            self.rows, self.taken = self._encode(self.window), self.window.span.skip
        return True

    def take(self, count: int) -> Rows:
        self.taken += count
        return self.rows.take(slice(self.taken - count, self.taken))


@dataclass(frozen=True)
class Turns:
    """Where `num_rows` rows come from: row i is of `windows[i % n]`.

    Of each window so many rows were `taken` before them.
    """

    num_rows: int
    windows: list[Window]
    taken: list[int]

    def beyond(self, num_given: int) -> Turns:
        """The same without the first rows."""
        rounds, first = divmod(num_given, len(self.windows))
        taken = [skip + rounds + (turn < first) for turn, skip in enumerate(self.taken)]
        windows = [*self.windows[first:], *self.windows[:first]]
        return Turns(self.num_rows - num_given, windows, [*taken[first:], *taken[:first]])

    @property
    def left(self) -> list[Span]:
        """What is left to read from the first row on."""
        left = []
        for window, skip in zip(self.windows, self.taken, strict=True):
            left += window.left(skip) if skip < len(window.rows) else window.after
        return left

    @property
    def first_row(self) -> tuple[int, int]:
        """The part of the first row, and its place there."""
        return self.windows[0].part, int(self.windows[0].rows[self.taken[0]])


def interleaved(reader: Reader, spans: list[Span], encode: Encode) -> Iterator[tuple[Rows, Turns]]:
    """All rows of `spans`, of each section in turn, as many rounds at once as can be."""
    sections = reader.partition.sections(spans).values()
    opened = [OpenSection(own, reader, encode) for own in sections]
    while opened := [section for section in opened if section.fill()]:
        rounds = min(section.num_waiting for section in opened)
        num_rows = rounds * len(opened)
        windows, taken = [s.window for s in opened], [s.taken for s in opened]
        rows = Rows.join([section.take(rounds) for section in opened])
        in_turn = np.arange(num_rows).reshape(-1, rounds).T.ravel()
        yield rows.take(in_turn), Turns(num_rows, windows, taken)
