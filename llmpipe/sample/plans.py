"""The sample's plans: which strings may stand where, so that making a part only takes rolling dice.

A unit of a corpus (a page of whole articles, or one review) is a list of rows, a row a list of
segments, and a segment a place with the strings of the pool that may fill it:

    string index = base + VARIANTS * (random below width) + (random & mask) + term[slot]

`width` counts the templates to choose from and `mask` the strings of one fact sheet, less one.
`slot` says what to add for the article the segment is in: nothing (0), its sheet, its name. `back`
makes a segment use the random number of an earlier one, as the second half of a sentence must, or a
row that repeats another.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.sample.lexicon import Dice
from llmpipe.sample.text import DRAWS


class Segment(NamedTuple):
    base: int
    width: int = 1
    mask: int = 0
    slot: int = 0
    back: int = 0


class Corpus(NamedTuple):
    """A pool of strings and the plans that draw on it: flat arrays over segments, rows, units."""

    pool: pa.StringArray  # the first string is empty
    segments: np.ndarray  # (5, num_segments) int64, the fields of `Segment`
    segment_starts: np.ndarray  # (num_units + 1,) int64, where each unit's segments start
    row_lengths: np.ndarray  # (num_units * rows_per_unit,) int64, segments in each row
    rows_per_unit: int
    subjects_per_unit: int  # articles on a page at most; 1 for a review


class Builder:
    """Collects the strings of a pool and the rows of its plans."""

    def __init__(self) -> None:
        self.strings = [""]
        self.segments: list[Segment] = []
        self.row_lengths: list[int] = []
        self.segment_starts = [0]
        self.constants: dict[str, Segment] = {}

    def add(self, strings: list[str]) -> int:
        """Where the strings start in the pool."""
        base = len(self.strings)
        self.strings += strings
        return base

    def constant(self, text: str) -> Segment:
        if text not in self.constants:
            self.constants[text] = Segment(self.add([text]))
        return self.constants[text]

    def row(self, segments: list[Segment]) -> None:
        self.segments += segments
        self.row_lengths.append(len(segments))

    def repeat_row(self, segments: list[Segment]) -> None:
        """The same row again: the one that was just written."""
        self.row([segment._replace(back=segment.back + len(segments)) for segment in segments])

    def end_unit(self) -> None:
        self.segment_starts.append(len(self.segments))

    def corpus(self, subjects_per_unit: int) -> Corpus:
        return Corpus(
            string_array(self.strings),
            np.array(list(chain.from_iterable(self.segments)), dtype=np.int64)
            .reshape(-1, 5)
            .T.copy(),
            np.array(self.segment_starts, dtype=np.int64),
            np.array(self.row_lengths, dtype=np.int64),
            len(self.row_lengths) // (len(self.segment_starts) - 1),
            subjects_per_unit,
        )


def string_array(strings: list[str]) -> pa.StringArray:
    encoded = list(map(str.encode, strings))
    offsets = np.concatenate([[0], np.cumsum(list(map(len, encoded)))]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(strings), buffers)


def number_array(numbers: np.ndarray) -> pa.Array:
    """As `pa.array(numbers)`, but that imports pandas where it can: a fifth of a second."""
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)]
    )


def sentence(base: int, width: int, slot: int, back: int = 0) -> Segment:
    """A sentence from one of `width` templates, in one of the draws of the sheet at `slot`."""
    return Segment(base, width, DRAWS - 1, slot, back)


def spread(count: int, first: int, num_templates: int) -> list[tuple[int, int]]:
    """`count` ranges (first template, width), in order and disjoint: no template serves twice.

    >>> spread(3, 10, 7)
    [(10, 2), (12, 2), (14, 3)]
    """
    edges = [first + place * num_templates // count for place in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def divide(dice: Dice, total: int, most: list[int]) -> list[int]:
    """`total` divided at random over places, each at least 1 and at most its `most`.

    Raises ValueError if it does not fit. divide(dice, 5, [4, 4, 4]) may give [1, 2, 2].
    """
    if not len(most) <= total <= sum(most):
        raise ValueError(f"total must be between {len(most)} and {sum(most)}, got {total}")
    shares = [1] * len(most)
    room = [place for place, limit in enumerate(most) for _ in range(limit - 1)]
    for _ in range(total - len(most)):
        shares[room.pop(dice.one(len(room)))] += 1
    return shares
