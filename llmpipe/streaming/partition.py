"""Lanes: the unit in which a stream is dealt to consumers, and dealt again to another number.

The parts of a source are put in order, by number or shuffled, and each is cut into 256 lanes: row i
of a part belongs to its lane i * 159 % 256. A consumer's share is a run of lanes: whole parts, and
a fraction of one at each end. 159 / 256 is near the golden ratio, so that any run of lanes has its
fair share of any run of rows (Knuth, "The Art of Computer Programming", volume 3, section 6.4):
ten rows are enough for eight consumers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from llmpipe.arguments import whole_number
from llmpipe.sharding.world import World


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


PER_PART, STRIDE = 256, 159


@dataclass(frozen=True)
class Lanes:
    """The lanes of one epoch over parts of these weights, numbers of 1 or more such as their rows.

    Nothing random has to be saved: the order of parts follows from (seed, epoch), that of rows
    within a window from (seed, epoch, part, window). Where neighbours are alike, as in data sorted
    by label, the lanes are cut into `num_piles` piles of equal weight, each of parts that lie near
    each other: a consumer has its share of every pile, and can read from all of them in turn.
    """

    weights: tuple[int, ...]
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    num_piles: int = 1

    @property
    def num_lanes(self) -> int:
        return len(self.weights) * PER_PART

    @property
    def all(self) -> list[Piece]:
        """Everything, as one piece; no piece where there is no part."""
        return [Piece(0, self.num_lanes)] if self.weights else []

    def share(self, world: World) -> list[Piece]:
        """What one consumer reads in an epoch from its beginning."""
        return self.deal(self.all, world.consumer_index, world.num_consumers)

    def deal(self, pieces: Iterable[Piece], index: int, number: int) -> list[Piece]:
        """The pieces of consumer `index` of `number`: a run of all their lanes, in order.

        Of the weight n of them all consumer i of W gets what lies from i * n // W up to
        (i + 1) * n // W; a piece in the middle of a part is cut between two. Where there are piles
        that holds for each of them. They are then in an order in which neighbours lie far apart.

        >>> left = [Piece(0, 4), Piece(9, 10, row=7)]
        >>> [[piece[:3] for piece in Lanes((1,)).deal(left, index, 2)] for index in (0, 1)]
        [[(0, 2, 0)], [(2, 4, 0), (9, 10, 7)]]
        """
        if self.num_piles == 1:
            return self._deal(pieces, index, number)
        piles = sorted(self.piles(pieces).items(), key=lambda item: item[0] * STRIDE % PER_PART)
        return [own for _, pile in piles for own in self._deal(pile, index, number)]

    def _deal(self, pieces: Iterable[Piece], index: int, number: int) -> list[Piece]:
        pieces = sorted(pieces)
        sizes = [self.depth(piece.stop_lane) - self.depth(piece.first_lane) for piece in pieces]
        start, stop = (i * sum(sizes) // number for i in (index, index + 1))
        own = []
        for piece, size in zip(pieces, sizes, strict=True):
            lanes, base = range(piece.first_lane, piece.stop_lane), self.depth(piece.first_lane)
            first, last = (
                piece.first_lane + bisect_left(lanes, base + bound, key=self.depth)
                for bound in (start, stop)
            )
            if first < last:
                own.append(piece._replace(first_lane=first, stop_lane=last))
            start, stop = start - size, stop - size
        return own

    def depth(self, lane: int) -> int:
        """The weight of all lanes before this one, times 256.

        >>> [Lanes((1, 5)).depth(lane) for lane in (0, 255, 256, 257, 512)]
        [0, 255, 256, 261, 1536]
        """
        place, number = divmod(lane, PER_PART)
        before, own = self._before[place], self._before[min(place + 1, len(self.weights))]
        return int(before * PER_PART + (own - before) * number)

    @cached_property
    def _before(self) -> np.ndarray:
        return np.concatenate(([0], np.cumsum(np.array(self.weights, np.int64)[self.parts()])))

    def parts(self) -> np.ndarray:
        """The parts in reading order, shape (P,): lane l belongs to parts()[l // 256].

        >>> Lanes((9, 9, 9)).parts().tolist()
        [0, 1, 2]
        """
        order = self._order(len(self.weights))
        if self.num_piles == 1:
            return order
        before = np.cumsum(self.weights) - self.weights
        return order[np.argsort(before[order] * self.num_piles // sum(self.weights), kind="stable")]

    def piles(self, pieces: Iterable[Piece]) -> dict[int, list[Piece]]:
        """The pieces of each pile, cut where one ends, in the order in which they come.

        >>> piles = Lanes((9, 9, 9, 9), num_piles=2).piles([Piece(500, 600), Piece(7, 9)])
        >>> {pile: [piece[:2] for piece in pieces] for pile, pieces in piles.items()}
        {0: [(500, 512), (7, 9)], 1: [(512, 600)]}
        """
        found: dict[int, list[Piece]] = {}
        for piece in pieces:
            while piece.first_lane < piece.stop_lane:
                pile = bisect_right(self._pile_bounds, piece.first_lane) - 1
                stop = min(piece.stop_lane, self._pile_bounds[pile + 1])
                found.setdefault(pile, []).append(piece._replace(stop_lane=stop))
                piece = piece._replace(first_lane=stop)
        return found

    @cached_property
    def _pile_bounds(self) -> list[int]:
        """The first lane of each pile, and the end. No more piles than parts: within a part
        neighbours stay alike, and to read it in several places would only cost."""
        number, lanes = max(1, min(self.num_piles, len(self.weights))), range(self.num_lanes)
        targets = (pile * self.depth(self.num_lanes) // number for pile in range(1, number))
        inner = [bisect_left(lanes, target, key=self.depth) for target in targets]
        return [0, *inner, max(self.num_lanes, 1)]

    def rows(self, part: int, window: int, num_rows: int) -> np.ndarray:
        """The rows of one window in reading order, shape (num_rows,), counted within the window."""
        return self._order(num_rows, part, window)

    def batches(self, part: int, row: int, num_batches: int) -> np.ndarray:
        """The order of the batches that are made of rows from this one on, shape (num_batches,)."""
        return self._order(num_batches, part, row, 0)

    def lane_of(self, rows: np.ndarray) -> np.ndarray:
        """The lane within its part of each row; rows are counted in reading order.

        >>> Lanes((9,)).lane_of(np.arange(4)).tolist()
        [0, 159, 62, 221]
        """
        return rows * STRIDE % PER_PART

    def by_part(self, pieces: list[Piece]) -> Iterator[tuple[Piece, list[Piece]]]:
        """The same lanes a part at a time, each with the pieces that come after it.

        >>> [(part[:2], len(later)) for part, later in Lanes((9, 9)).by_part([Piece(9, 512)])]
        [((9, 256), 1), ((256, 512), 0)]
        """
        for number, piece in enumerate(pieces, start=1):
            while piece.first_lane < piece.stop_lane:
                end = piece.first_lane - piece.first_lane % PER_PART + PER_PART
                part = piece._replace(stop_lane=min(end, piece.stop_lane))
                piece = Piece(part.stop_lane, piece.stop_lane)
                rest = [piece] if piece.first_lane < piece.stop_lane else []
                yield part, [*rest, *pieces[number:]]

    def _order(self, length: int, *place: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(length)
        # PCG64's raw words and a stable sort are the same everywhere, which `Generator.permutation`
        # need not be in the next NumPy. A key ends in no 0, which PCG64 would not see.
        key = [self.seed, self.epoch, *(number + 1 for number in place)]
        return np.argsort(np.random.PCG64(key).random_raw(length), kind="stable")
