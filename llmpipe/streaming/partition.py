"""Virtual shards: the unit in which a stream is divided among its consumers, and divided again.

The parts of a source are put in order, by number or shuffled, and each is 256 virtual shards: row i
of a part belongs to its shard i * 159 % 256. A consumer's share is a run of virtual shards: whole
parts, and a fraction of one at each end. 159 / 256 is near the golden ratio, so that any run of
shards has its fair share of any run of rows (Knuth, "The Art of Computer Programming", volume 3,
section 6.4): ten rows are enough for eight consumers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from llmpipe.arguments import whole_number
from llmpipe.columns import WINDOW_ROWS
from llmpipe.sharding.world import World, contiguous

PER_PART, STRIDE = 256, 159


class Span(NamedTuple):
    """A run of virtual shards that is still to be read, as a state holds it: a place, and no ids.

    From `first_shard` up to, not including, `stop_shard`; of each part from `window` on and, if
    that is not 0, up to `stop_window`. Where one of the two is not 0 the shards are of one part.
    Of the first window `skip` ids (or rows, where rows are given out) are out already. It is then
    *open*: when it is read again its `digest` must be the same, and in the meantime its `rows` are
    counted as read, and `documents` of them as out to their last id.
    """

    first_shard: int
    stop_shard: int
    window: int = 0
    stop_window: int = 0
    skip: int = 0
    rows: int = 0
    documents: int = 0
    digest: str = ""

    @classmethod
    def from_list(cls, values: Sequence) -> Span:
        """What JSON made of a span. Raises TypeError or ValueError if it is none."""
        *numbers, digest = values
        span = cls(*map(whole_number, numbers), digest=str(digest))
        is_whole = len(values) == len(cls._fields) and bool(span.skip) == bool(span.digest)
        if not is_whole or span.is_empty:
            raise ValueError(f"this is no span: {values}")
        return span

    @property
    def open_window(self) -> Span:
        """Its first window alone.

        >>> Span(0, 256, window=3, skip=7).open_window[:5]
        (0, 256, 3, 4, 7)
        """
        return self._replace(stop_window=self.window + 1)

    def from_window(self, window: int) -> Span:
        """The same shards from this window on, which nobody has read yet."""
        return Span(self.first_shard, self.stop_shard, window, self.stop_window)

    @property
    def is_empty(self) -> bool:
        return self.first_shard >= self.stop_shard or 0 < self.stop_window <= self.window


@dataclass(frozen=True)
class Partition:
    """The virtual shards of one epoch over parts of these weights, numbers of 1 or more such as
    their rows.

    Nothing random has to be saved: the order of parts follows from (seed, epoch), that of rows
    within a window from (seed, epoch, part, window). Where neighbours are alike, as in data sorted
    by label, the shards are cut into `cycle_length` sections of equal weight, each of parts that
    lie near each other: a consumer has its share of every section, and reads from all in turn.
    `counted` says whether the weights are rows.
    """

    weights: tuple[int, ...]
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    cycle_length: int = 1
    counted: bool = True

    @property
    def num_shards(self) -> int:
        return len(self.weights) * PER_PART

    def share(self, world: World) -> list[Span]:
        """What one consumer reads in an epoch from its beginning."""
        everything = [Span(0, self.num_shards)] if self.weights else []
        return self.distribute(everything, world.consumer_index, world.num_consumers)

    def distribute(self, spans: Iterable[Span], index: int, number: int) -> list[Span]:
        """The spans of consumer `index` of `number`, out of all that are left.

        An open window goes whole to one consumer, in turn. Of the weight n of the rest consumer i
        of W gets the run from i * n // W up to (i + 1) * n // W, in the order of the shards; where
        there are sections that holds for each. They are then in an order in which neighbours lie
        far apart.

        >>> left = [Span(0, 4), Span(9, 10, window=7)]
        >>> [[span[:3] for span in Partition((1,)).distribute(left, i, 2)] for i in (0, 1)]
        [[(0, 2, 0)], [(2, 4, 0), (9, 10, 7)]]
        """
        spans = list(spans)
        own = [span.open_window for span in spans if span.skip][index::number]
        rest = [span.from_window(span.window + 1) if span.skip else span for span in spans]
        rest = [span for span in rest if not span.is_empty]
        sections = self.sections(rest).items()
        for _, section in sorted(sections, key=lambda item: item[0] * STRIDE % PER_PART):
            own += self._run(sorted(section), index, number)
        return own

    def _run(self, spans: list[Span], index: int, number: int) -> list[Span]:
        sizes = [self.depth(span.stop_shard) - self.depth(span.first_shard) for span in spans]
        run = contiguous(sum(sizes), index, number)
        start, stop = run.start, run.stop
        own = []
        for span, size in zip(spans, sizes, strict=True):
            shards, base = range(span.first_shard, span.stop_shard), self.depth(span.first_shard)
            first, last = (
                span.first_shard + bisect_left(shards, base + bound, key=self.depth)
                for bound in (start, stop)
            )
            if first < last:
                own.append(span._replace(first_shard=first, stop_shard=last))
            start, stop = start - size, stop - size
        return own

    def depth(self, shard: int) -> int:
        """The weight of all shards before this one, times 256.

        >>> [Partition((1, 5)).depth(shard) for shard in (0, 255, 256, 257, 512)]
        [0, 255, 256, 261, 1536]
        """
        place, number = divmod(shard, PER_PART)
        before, own = self._before[place], self._before[min(place + 1, len(self.weights))]
        return int(before * PER_PART + (own - before) * number)

    def weight_left(self, spans: Iterable[Span]) -> int:
        """About how much is left in spans: rows times 256, or the weights of what nobody opened.

        >>> spans = [Span(0, 256, window=2), Span(256, 384, 0, 1, skip=9, rows=500, documents=300)]
        >>> [Partition((3000, 1), counted=known).weight_left(spans) // 256 for known in (1, 0)]
        [1200, 3000]
        """
        return sum(map(self._weight_of, spans))

    def _weight_of(self, span: Span) -> int:
        weight = self.depth(span.stop_shard) - self.depth(span.first_shard)
        if not self.counted:
            return 0 if span.stop_window else weight
        if span.rows:  # documents are what is out, of rows that are known
            return (span.rows - span.documents) * PER_PART
        window = WINDOW_ROWS * (span.stop_shard - span.first_shard)
        weight -= span.window * window
        if span.stop_window:
            weight = min(weight, (span.stop_window - span.window) * window)
        return max(0, weight - span.skip * PER_PART)

    @cached_property
    def _before(self) -> np.ndarray:
        return np.concatenate(([0], np.cumsum(np.array(self.weights, np.int64)[self.parts])))

    @cached_property
    def parts(self) -> np.ndarray:
        """The parts in reading order, shape (P,): shard s belongs to parts[s // 256].

        >>> Partition((9, 9, 9)).parts.tolist()
        [0, 1, 2]
        """
        order = self.order(len(self.weights))
        if self.cycle_length == 1:
            return order
        section = (np.cumsum(self.weights) - self.weights) * self.cycle_length // sum(self.weights)
        return order[np.argsort(section[order], kind="stable")]

    def sections(self, spans: Iterable[Span]) -> dict[int, list[Span]]:
        """The spans of each section, cut where one ends, in the order in which they come.

        >>> found = Partition((9, 9, 9, 9), cycle_length=2).sections([Span(500, 600), Span(7, 9)])
        >>> {section: [span[:2] for span in spans] for section, spans in found.items()}
        {0: [(500, 512), (7, 9)], 1: [(512, 600)]}
        """
        found: dict[int, list[Span]] = {}
        for span in spans:
            while not span.is_empty:
                section = bisect_right(self._bounds, span.first_shard) - 1
                stop = min(span.stop_shard, self._bounds[section + 1])
                found.setdefault(section, []).append(span._replace(stop_shard=stop))
                span = span._replace(first_shard=stop)
        return found

    @cached_property
    def _bounds(self) -> list[int]:
        """The first shard of each section, and the end. No more sections than parts: within a part
        neighbours stay alike, and to read it in several places would only cost."""
        number, shards = max(1, min(self.cycle_length, len(self.weights))), range(self.num_shards)
        targets = (section * self.depth(self.num_shards) // number for section in range(1, number))
        inner = [bisect_left(shards, target, key=self.depth) for target in targets]
        return [0, *inner, max(self.num_shards, 1)]

    def by_part(self, spans: list[Span]) -> Iterator[tuple[Span, list[Span]]]:
        """The same shards a part at a time, each with the spans that come after it.

        >>> [(span[:2], len(later)) for span, later in Partition((9, 9)).by_part([Span(9, 512)])]
        [((9, 256), 1), ((256, 512), 0)]
        """
        for number, span in enumerate(spans, start=1):
            while not span.is_empty:
                end = span.first_shard - span.first_shard % PER_PART + PER_PART
                part = span._replace(stop_shard=min(end, span.stop_shard))
                span = Span(part.stop_shard, span.stop_shard)
                yield part, [*([] if span.is_empty else [span]), *spans[number:]]

    def shard_of(self, rows: np.ndarray) -> np.ndarray:
        """The virtual shard within its part of each row; rows are counted in the part's order.

        >>> Partition((9,)).shard_of(np.arange(4)).tolist()
        [0, 159, 62, 221]
        """
        return rows * STRIDE % PER_PART

    def order(self, length: int, *place: int) -> np.ndarray:
        """The order of so many things, shape (length,), which follows from their `place`.

        For all parts that is (), for the rows of a window (part, window), for batches that are made
        of rows from one on (part, row, 0).
        """
        if not self.shuffle:
            return np.arange(length)
        # NumPy's seeds ignore zeros at their end, so places count from 1.
        return permutation(length, self.seed, self.epoch, *(number + 1 for number in place))


def permutation(length: int, *seed: int) -> np.ndarray:
    """An order of `length` things that follows from `seed`, the same on every machine: (length,).

    PCG64's raw words and a stable sort are the same everywhere, which `Generator.permutation` need
    not be in the next NumPy.

    >>> sorted(permutation(3, 0, 1).tolist())
    [0, 1, 2]
    """
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable")
