"""One row of each pile in turn: one consumer's labelled rows, mixed though the source is sorted.

Whose turn it is needs no place of its own in a state: what is left is listed pile by pile, from the
one whose turn is next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from llmpipe.classification.encoding import Encoding, Rows
from llmpipe.streaming.partition import Piece
from llmpipe.streaming.reader import PartReader


class OpenPile:
    """What one consumer has of a pile: the part that is open, and the pieces that come after it.

    `number` tells apart the pieces that were opened, of this pile and of others. Of the `rows` of
    the window that is read `taken` were taken.
    """

    def __init__(
        self, pile: int, pieces: list[Piece], reader: PartReader, encoding: Encoding
    ) -> None:
        self.pile, self.later = pile, pieces
        self._reader, self._encoding = reader, encoding
        self._windows: Iterator = iter(())
        self.number, self.piece = -1, None
        self.rows, self.encoded, self.taken = np.zeros(0, np.int64), encoding.no_rows, 0

    @property
    def waiting(self) -> int:
        return len(self.rows) - self.taken

    def fill(self, numbers: Iterator[int]) -> bool:
        """Read on if no row waits, the next piece if need be; False at the end of them all."""
        while not self.waiting:
            window = next(self._windows, None)
            if window is not None:
                self.rows, (texts, labels) = window
                self.encoded, self.taken = self._encoding.rows(texts, labels), 0
                known = self.piece.digest if self.rows[0] == self.piece.row else ""
                if known and known != digest(self.encoded, 0):
                    raise self._reader.another(self.piece)
                continue
            following = next(self._reader.lanes.by_part(self.later), None)
            if following is None:
                return False
            self.piece, self.later = following
            self.number, self._windows = next(numbers), self._reader.own_rows(self.piece)
        return True

    def take(self, count: int) -> tuple[np.ndarray, Rows]:
        own = slice(self.taken, self.taken + count)
        self.taken += count
        return self.rows[own], self.encoded.take(own)

    @property
    def left(self) -> Piece:
        """The open piece without the rows that were taken of it."""
        if self.waiting:
            return self.piece.beyond(int(self.rows[self.taken]), digest(self.encoded, self.taken))
        return self.piece.beyond(int(self.rows[-1]) + 1, "")


class End(NamedTuple):
    """What is left of a pile after some rows: of the open piece, and the pieces after it."""

    number: int
    piece: Piece
    later: list[Piece]


@dataclass(frozen=True)
class Mixed:
    """Rows in their order: row i is row `rows[i]` of the piece that was opened as `opened[i]`.

    `pieces` has of each that occurs its pile and itself. From row `regular` on each open pile comes
    once in a round; `ends` says what is left of them after the last row, in turn.
    """

    encoded: Rows
    opened: np.ndarray
    rows: np.ndarray
    pieces: dict[int, tuple[int, Piece]]
    regular: int
    ends: dict[int, End]

    def __len__(self) -> int:
        return len(self.rows)

    def done(self, start: int, stop: int) -> np.ndarray:
        """Which of these rows were done before this pass, out of turn: (stop - start,), bool."""
        opened, found = self.opened[start:stop], np.zeros(stop - start, bool)
        for number, (_, piece) in self.pieces.items():
            if piece.ahead:
                own = opened == number
                found[own] = piece.is_ahead(self.rows[start:stop][own])
        return found

    def left(self, start: int, done_from_there: np.ndarray | None = None) -> list[Piece]:
        """What is left to read from row `start` on, without those that are done further on."""
        left: dict[int, dict[int, Piece]] = {}  # of a pile, in turn: of a piece that was opened
        stop = min(len(self), max(start, self.regular) + len(self.ends))
        for index, number in enumerate(self.opened[start:stop].tolist(), start):
            pile, piece = self.pieces[number]
            if number not in left.setdefault(pile, {}):
                known = digest(self.encoded, index)
                left[pile][number] = piece.beyond(int(self.rows[index]), known)
        for pile, end in self.ends.items():
            left.setdefault(pile, {}).setdefault(end.number, end.piece)
        if done_from_there is not None:
            opened, rows = (a[start:][: len(done_from_there)] for a in (self.opened, self.rows))
            for number in np.unique(opened[done_from_there]).tolist():
                pile, own = self.pieces[number][0], done_from_there & (opened == number)
                left[pile][number] = left[pile][number].with_ahead(rows[own].tolist())
        return [
            piece
            for pile, pieces in left.items()
            for piece in (*pieces.values(), *(self.ends[pile].later if pile in self.ends else ()))
        ]

    def rest(self, start: int) -> Mixed:
        """The rows from `start` on, and no ids of others."""
        numbers = np.unique(self.opened[start:]).tolist()
        return Mixed(
            self.encoded.take(slice(start, None)).packed(),
            self.opened[start:].copy(),
            self.rows[start:].copy(),
            {number: self.pieces[number] for number in numbers},
            max(0, self.regular - start),
            self.ends,
        )

    def then(self, other: Mixed) -> Mixed:
        """These rows and those that come after them."""
        return Mixed(
            Rows.join([self.encoded, other.encoded]),
            np.concatenate((self.opened, other.opened)),
            np.concatenate((self.rows, other.rows)),
            {**self.pieces, **other.pieces},
            len(self) + other.regular,
            other.ends,
        )


def mixed(reader: PartReader, pieces: list[Piece], encoding: Encoding) -> Iterator[Mixed]:
    """All rows of `pieces`, of each pile in turn, as many rounds at once as can be."""
    piles = reader.lanes.piles(pieces)
    opened = [OpenPile(pile, own, reader, encoding) for pile, own in piles.items()]
    numbers = count()
    while opened := [pile for pile in opened if pile.fill(numbers)]:
        rounds = min(pile.waiting for pile in opened)
        rows, encoded = zip(*(pile.take(rounds) for pile in opened), strict=True)
        in_turn = np.arange(rounds * len(opened)).reshape(-1, rounds).T.ravel()
        yield Mixed(
            Rows.join(encoded).take(in_turn),
            np.tile([pile.number for pile in opened], rounds),
            np.concatenate(rows)[in_turn],
            {pile.number: (pile.pile, pile.piece) for pile in opened},
            0,
            {pile.pile: End(pile.number, pile.left, pile.later) for pile in opened},
        )


def digest(encoded: Rows, row: int) -> str:
    """What tells a row from another: of its ids as far as they are used, and its label."""
    start, length = int(encoded.starts[row]), int(encoded.lengths[row])
    ids = encoded.ids[start : start + length].astype(np.uint32)
    key = int(encoded.labels[row]).to_bytes(8, "little")
    return hashlib.blake2b(ids.tobytes(), digest_size=8, key=key).hexdigest()
