"""Several parts open at a time, and rows taken from them in turn: one consumer's labelled rows.

Data sorted by label comes mixed that way. Whose turn it is needs no place of its own in a state:
the open parts are listed from the one whose turn is next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmpipe.labelled import Encoding, Rows
from llmpipe.lanes import Lanes, Piece
from llmpipe.part_reading import PartReader


class OpenPart:
    """A piece that is being read: its window of rows, of which `taken` were taken."""

    def __init__(self, number: int, piece: Piece, reader: PartReader, encoding: Encoding) -> None:
        self.number, self.piece = number, piece
        self._reader, self._encoding = reader, encoding
        self._windows = reader.own_rows(piece)
        self.rows, self.encoded, self.taken = np.zeros(0, np.int64), encoding.no_rows, 0

    @property
    def waiting(self) -> int:
        return len(self.rows) - self.taken

    def fill(self) -> bool:
        """Read on if no row waits; False at the end of the piece."""
        while not self.waiting:
            window = next(self._windows, None)
            if window is None:
                return False
            self.rows, (texts, labels) = window
            self.encoded, self.taken = self._encoding.rows(texts, labels), 0
            known = self.piece.digest if self.rows[0] == self.piece.row else ""
            if known and known != digest(self.encoded, 0):
                raise self._reader.another(self.piece)
        return True

    def take(self, count: int) -> tuple[np.ndarray, Rows]:
        own = slice(self.taken, self.taken + count)
        self.taken += count
        return self.rows[own], self.encoded.take(own)

    @property
    def left(self) -> Piece:
        """The piece without the rows that were taken."""
        if self.waiting:
            row, known = int(self.rows[self.taken]), digest(self.encoded, self.taken)
            return self.piece.beyond(row, known)
        return self.piece.beyond(int(self.rows[-1]) + 1, "") if len(self.rows) else self.piece


@dataclass(frozen=True)
class Mixed:
    """Rows in their order: row i is row `rows[i]` of the piece that was opened as `opened[i]`.

    From row `regular` on each of the open pieces comes once in a round. `ends` are they and what is
    left of them after the last row, in turn; `later` is what is still to be opened.
    """

    encoded: Rows
    opened: np.ndarray
    rows: np.ndarray
    pieces: dict[int, Piece]
    regular: int
    ends: list[tuple[int, Piece]]
    later: list[Piece]

    def __len__(self) -> int:
        return len(self.rows)

    def done(self, start: int, stop: int) -> np.ndarray:
        """Which of these rows were done before this pass, out of turn: (stop - start,), bool."""
        opened, found = self.opened[start:stop], np.zeros(stop - start, bool)
        for number, piece in self.pieces.items():
            if piece.ahead:
                own = opened == number
                found[own] = piece.is_ahead(self.rows[start:stop][own])
        return found

    def left(self, start: int, done_from_there: np.ndarray | None = None) -> list[Piece]:
        """What is left to read from row `start` on, without those that are done further on.

        The open pieces come first, in the order in which their next rows come.
        """
        left = {}
        for index in range(start, min(len(self), max(start, self.regular) + len(self.ends))):
            number = int(self.opened[index])
            if number not in left:
                row = int(self.rows[index])
                left[number] = self.pieces[number].beyond(row, digest(self.encoded, index))
        for number, piece in self.ends:
            left.setdefault(number, piece)
        if done_from_there is not None:
            stop = start + len(done_from_there)
            for number in np.unique(self.opened[start:stop][done_from_there]).tolist():
                own = done_from_there & (self.opened[start:stop] == number)
                left[number] = left[number].with_ahead(self.rows[start:stop][own].tolist())
        return [*left.values(), *self.later]

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
            self.later,
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
            other.later,
        )


def mixed(
    reader: PartReader, lanes: Lanes, pieces: list[Piece], encoding: Encoding, num_open: int
) -> Iterator[Mixed]:
    """All rows of `pieces`, of up to `num_open` of them in turn, as many rounds at once as can be.

    A piece that ends gives its place to the next one.
    """
    later, number = pieces, 0

    def open_next() -> OpenPart | None:
        nonlocal later, number
        for piece, rest in lanes.by_part(later):
            later, number = rest, number + 1
            return OpenPart(number, piece, reader, encoding)
        return None

    opened = [part for part in (open_next() for _ in range(num_open)) if part]
    while True:
        for place, part in enumerate(opened):
            while part and not part.fill():
                part = open_next()
            opened[place] = part
        opened = [part for part in opened if part]
        if not opened:
            return
        rounds = min(part.waiting for part in opened)
        rows, encoded = zip(*(part.take(rounds) for part in opened), strict=True)
        in_turn = np.arange(rounds * len(opened)).reshape(-1, rounds).T.ravel()
        yield Mixed(
            Rows.join(encoded).take(in_turn),
            np.tile([part.number for part in opened], rounds),
            np.concatenate(rows)[in_turn],
            {part.number: part.piece for part in opened},
            0,
            [(part.number, part.left) for part in opened],
            later,
        )


def digest(encoded: Rows, row: int) -> str:
    """What tells a row from another: of its ids as far as they are used, and its label."""
    start, length = int(encoded.starts[row]), int(encoded.lengths[row])
    ids = encoded.ids[start : start + length].astype(np.uint32)
    key = int(encoded.labels[row]).to_bytes(8, "little")
    return hashlib.blake2b(ids.tobytes(), digest_size=8, key=key).hexdigest()
