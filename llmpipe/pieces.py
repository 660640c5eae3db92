"""A run of lanes that is still to be read, as a state holds it: a place, and no ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from llmpipe.account import whole_number


class Piece(NamedTuple):
    """A run of lanes still to be read: from `first_lane` up to, not including, `stop_lane`.

    Where `row` or `id` is not 0, the lanes are of one part, whose rows before `row`, and the first
    `id` ids of the document in `row`, are done; `digest` tells that document from another. `ahead`
    holds rows from there on that are done too: bit i of this hexadecimal number is row `row` + i.
    """

    first_lane: int
    stop_lane: int
    row: int = 0
    id: int = 0
    digest: str = ""
    ahead: str = ""

    def to_list(self) -> list:
        """The values, for JSON; `ahead` only where there is something in it."""
        return list(self if self.ahead else self[:-1])

    @classmethod
    def from_list(cls, values: Sequence) -> Piece:
        """Raises TypeError or ValueError if it is not what `to_list` gives."""
        *numbers, digest, ahead = values if len(values) == len(cls._fields) else [*values, ""]
        if len(numbers) != 4 or (len(values) == len(cls._fields) and int(ahead, 16) < 1):
            raise ValueError(f"this is no piece: {values}")
        return cls(*map(whole_number, numbers), str(digest), ahead)

    def is_ahead(self, rows: np.ndarray) -> np.ndarray:
        """Which of these rows, in rising order, are among `ahead`: (num_rows,), bool.

        >>> Piece(0, 256, row=10, ahead="5").is_ahead(np.arange(9, 14)).tolist()
        [False, True, False, True, False]
        """
        if not self.ahead:
            return np.zeros(len(rows), bool)
        bits = np.frombuffer(int(self.ahead, 16).to_bytes(len(self.ahead), "little"), np.uint8)
        bits = np.flatnonzero(np.unpackbits(bits, bitorder="little")) + self.row
        return np.isin(rows, bits)

    def with_ahead(self, rows: Iterable[int]) -> Piece:
        """The piece with these rows too, none before `row`, done out of turn."""
        bits = int(self.ahead or "0", 16)
        for row in rows:
            bits |= 1 << (row - self.row)
        return self._replace(ahead=f"{bits:x}" if bits else "")

    def beyond(self, row: int, digest: str) -> Piece:
        """The piece from this row on, whose digest that is.

        >>> Piece(0, 256, row=10, ahead="5").beyond(12, "").ahead
        '1'
        """
        bits = int(self.ahead or "0", 16) >> (row - self.row)
        return self._replace(row=row, digest=digest, ahead=f"{bits:x}" if bits else "")
