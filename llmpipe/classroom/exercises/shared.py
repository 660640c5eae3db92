"""What exercises of several labs have in common: small inputs, padded rows, shards of all ranks."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

from llmpipe.classroom.exercises.exercise import Exercise, plain


def small_lists(values: Iterable[int], longest: int, *options: Iterable[int]) -> list[tuple]:
    """Inputs to begin with: every list of up to `longest` of `values`, with each of the options.

    The shortest and those of the smallest numbers come first.

    >>> small_lists(range(1, 3), 1, (1, 2))
    [([], 1), ([], 2), ([1], 1), ([1], 2), ([2], 1), ([2], 2)]
    """
    counts, values = range(longest + 1), tuple(values)
    lists = [list(one) for count in counts for one in itertools.product(values, repeat=count)]
    inputs = itertools.product(lists, *options)
    return sorted(inputs, key=lambda data: len(data[0]) + sum(data[0]) + sum(data[1:]))


def numbered(lengths: list[int]) -> list[list[int]]:
    """Documents of these lengths, ids counted on from 1: one lost or duplicated can be seen.

    >>> numbered([2, 0, 1])
    [[1, 2], [], [3]]
    """
    ids = itertools.count(1)
    return [list(itertools.islice(ids, length)) for length in lengths]


class PaddedExercise(Exercise):
    """The answer gives rows of ids, all of one length, and their attention mask."""

    rows_name: str

    def padded(self, rows: list[list[int]], length: int, pad_id: int) -> list:
        gaps = [length - len(row) for row in rows]
        filled = [row + [pad_id] * gap for row, gap in zip(rows, gaps, strict=True)]
        return [filled, [[1] * (length - gap) + [0] * gap for gap in gaps]]

    def shown_output(self, value: Any) -> str:
        if isinstance(value, list) and len(value) == 2:
            return f"{self.rows_name} {value[0]}, attention_mask {value[1]}"
        return repr(value)


class ShardsExercise(Exercise):
    """The answer gives one rank's shard; it is asked for those of all ranks, which are judged.

    An input is (items, world_size). An output is the promise itself if the shards keep it, else
    the shards and what is wrong with them.
    """

    promise: str

    def fault(self, shards: list[list], items: list) -> str | None:
        """What is wrong with the shards of all ranks, or None."""
        raise NotImplementedError

    def example(self, items: list, world_size: int) -> list[list]:
        """Shards that are right, by rank."""
        raise NotImplementedError

    def output(self, answer: Any, items: list, world_size: int) -> str:
        shards = []
        for rank in range(world_size):
            shard = answer(copy.copy(items), rank, world_size)
            shards.append(list(shard) if isinstance(shard, range) else plain(shard))
            if not isinstance(shards[-1], list):
                return f"rank {rank} gets {shard!r}, not a list"
        fault = self.fault(shards, items)
        return f"{shards}: {fault}" if fault else self.promise

    def due(self, items: list, world_size: int) -> tuple[str, str]:
        return self.promise, f"for example {self.example(items, world_size)}"

    def shown(self, items: list, world_size: int) -> str:
        return f"{self.name}({items}, rank, world_size={world_size}) of each rank"

    def shown_output(self, value: str) -> str:
        return value


def said_times(what: str, times: int) -> str:
    """How often something is read, where that is not once.

    >>> said_times("row 3", 0), said_times("row 3", 2)
    ('row 3 is read by no rank', 'row 3 is read 2 times')
    """
    return f"{what} is read {times} times" if times else f"{what} is read by no rank"
