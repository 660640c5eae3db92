"""Exercises that deal items to ranks: any way is right whose shards keep what the task promises."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from itertools import product
from string import ascii_lowercase
from typing import Any

from llmpipe.kit.exercise import Exercise, alike, plain


class ShardRoundRobin(Exercise):
    name = "shard_round_robin"
    signature = "shard_round_robin(items: list, rank: int, world_size: int) -> list"
    task = (
        "**Exercise 1: deal them out.** Write `shard_round_robin(items, rank, world_size)`: the "
        "list of items that rank `rank` reads when they are dealt as cards are, one to each rank "
        "in turn, beginning at rank 0. Ranks that get no item have an empty list. Two items may "
        "be equal."
    )

    def inputs(self) -> Iterator[tuple]:
        for count, world_size in product(range(8), range(1, 6)):
            for rank in range(world_size):
                yield list(ascii_lowercase[:count]), rank, world_size
        for count, world_size in product(range(2, 8), range(2, 5)):
            for rank in range(world_size):
                yield ["a"] * count, rank, world_size

    def allowed(self, items: list[str], rank: int, world_size: int) -> bool:
        return rank < world_size and all(items)

    def due(self, items: list[str], rank: int, world_size: int) -> list[str]:
        return [item for index, item in enumerate(items) if index % world_size == rank]

    def why(self, items: list[str], rank: int, world_size: int) -> str:
        positions = [index for index in range(len(items)) if index % world_size == rank]
        return f"positions {positions}" if positions else "more ranks than items"

    def shown(self, items: list[str], rank: int, world_size: int) -> str:
        return f"{self.name}({items}, rank={rank}, world_size={world_size})"


class ShardsExercise(Exercise):
    """The answer gives one rank's shard; it is asked for those of all ranks, which are judged.

    An input is (items, world_size). An output is the promise itself if the shards keep it, else
    the shards and what is wrong with them.
    """

    promise: str
    items_name: str

    def fault(self, shards: list[list], items: list) -> str | None:
        """What is wrong with the shards of all ranks, or None."""
        raise NotImplementedError

    def example(self, items: list, world_size: int) -> list[list]:
        """Shards that are right, by rank."""
        raise NotImplementedError

    def allowed(self, items: list, world_size: int) -> bool:
        return world_size >= 1

    def output(self, answer: Any, items: list, world_size: int) -> str:
        shards = []
        for rank in range(world_size):
            shard = answer(copy.copy(items), rank, world_size)
            shards.append(list(shard) if isinstance(shard, range) else plain(shard))
            if not isinstance(shards[-1], list):
                return f"rank {rank} gets {shard!r}, not a list"
        fault = self.fault(shards, items)
        return f"{shards}: {fault}" if fault else self.promise

    def due(self, items: list, world_size: int) -> str:
        return self.promise

    def why(self, items: list, world_size: int) -> str:
        return f"for example {self.example(items, world_size)}"

    def shown(self, items: list, world_size: int) -> str:
        return f"{self.name}({items}, rank, world_size={world_size}) of each rank"

    def shown_output(self, value: str) -> str:
        return value


class ShardContiguous(ShardsExercise):
    name = "shard_contiguous"
    signature = "shard_contiguous(items: list, rank: int, world_size: int) -> list"
    task = (
        "**Exercise 2: one run each.** Write `shard_contiguous(items, rank, world_size)`: each "
        "rank reads one run of neighbours. Joined from rank 0 on, the runs are `items`: none is "
        "lost, doubled or moved. Their lengths differ by at most one; which ranks have the longer "
        "runs, or none where items are few, is up to you."
    )
    promise = "every item once, in order, in runs whose lengths differ by at most one"

    def inputs(self) -> Iterator[tuple]:
        sizes = sorted(product(range(11), range(1, 8)), key=sum)
        for count, world_size in sizes:
            yield list(ascii_lowercase[:count]), world_size

    def allowed(self, items: list[str], world_size: int) -> bool:
        return world_size >= 1 and all(items)

    def fault(self, shards: list[list], items: list[str]) -> str | None:
        joined = [item for shard in shards for item in shard]
        lengths = [len(shard) for shard in shards]
        if alike(joined, items):
            return f"lengths {lengths}" if max(lengths) - min(lengths) > 1 else None
        for item in items:
            if joined.count(item) != 1:
                return said_times(repr(item), joined.count(item))
        return "not in order"

    def example(self, items: list[str], world_size: int) -> list[list]:
        cuts = [rank * len(items) // world_size for rank in range(world_size + 1)]
        return [items[cuts[rank] : cuts[rank + 1]] for rank in range(world_size)]


class BalancedPlan(ShardsExercise):
    """The items are labels, and what ranks get is the numbers of their rows."""

    name = "balanced_plan"
    signature = "balanced_plan(labels: list[int], rank: int, world_size: int) -> list[int]"
    task = (
        "**Exercise 4: every class on every rank.** Row `i` has label `labels[i]`; labels come in "
        "any order: sorted, as IMDB's, or alternating, too. Write "
        "`balanced_plan(labels, rank, world_size)`: the indices of the rows this rank reads. Over "
        "all ranks, each row is read once; of each class, the ranks' counts differ by at most one."
    )
    promise = "every row once; of each class, counts that differ by at most one"

    def inputs(self) -> Iterator[tuple]:
        small = [
            (list(labels), world_size)
            for count in range(7)
            for labels in product(range(2 + (count < 5)), repeat=count)
            for world_size in range(1, 5)
        ]
        yield from sorted(small, key=lambda data: len(data[0]) + data[1])
        yield [0] * 12 + [1] * 13, 4
        yield [0, 1] * 12, 4

    def fault(self, shards: list[list], items: list[int]) -> str | None:
        for rank, shard in enumerate(shards):
            for row in shard:
                if type(row) is not int or not 0 <= row < len(items):
                    return f"rank {rank} has {row!r}, which is no row"
        times = Counter(row for shard in shards for row in shard)
        for row in range(len(items)):
            if times[row] != 1:
                return said_times(f"row {row}", times[row])
        for label in sorted(set(items)):
            counts = [sum(items[row] == label for row in shard) for shard in shards]
            if max(counts) - min(counts) > 1:
                return f"rows of class {label} by rank: {counts}"
        return None

    def example(self, items: list[int], world_size: int) -> list[list]:
        by_label = sorted(range(len(items)), key=lambda row: items[row])
        return [by_label[rank::world_size] for rank in range(world_size)]


def said_times(what: str, times: int) -> str:
    """How often something is read, where that is not once.

    >>> said_times("row 3", 0), said_times("row 3", 2)
    ('row 3 is read by no rank', 'row 3 is read 2 times')
    """
    return f"{what} is read {times} times" if times else f"{what} is read by no rank"
