"""Rank x worker arithmetic: who reads what, disjoint and complete."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmpipe.arguments import check_count


@dataclass(frozen=True)
class World:
    """One consumer's place among all: worker `worker_id` of `num_workers` in each of the ranks.

    >>> World(rank=1, world_size=4).consumer_index
    1
    >>> World(rank=1, world_size=4, worker_id=1, num_workers=2).consumer_index
    3

    Raises TypeError or ValueError for an index that is not in [0, its number).
    """

    rank: int = 0
    world_size: int = 1
    worker_id: int = 0
    num_workers: int = 1

    def __post_init__(self) -> None:
        check_count("world_size", self.world_size, 1)
        check_count("num_workers", self.num_workers, 1)
        check_count("rank", self.rank, 0, self.world_size)
        check_count("worker_id", self.worker_id, 0, self.num_workers)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> World | None:
        """The place that `torchrun` gave this process; None where nothing started it as a rank.

        >>> World.from_environment({"RANK": "5", "WORLD_SIZE": "8"}).rank
        5

        Raises ValueError where one of RANK and WORLD_SIZE is missing, or one is no such number.
        """
        found = {name: environment.get(name) for name in ("RANK", "WORLD_SIZE")}
        if found["RANK"] is None and found["WORLD_SIZE"] is None:
            return None
        try:
            return cls(int(found["RANK"]), int(found["WORLD_SIZE"]))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the environment names no place in a world: {found} ({error}); start with "
                "torchrun, or unset RANK and WORLD_SIZE"
            ) from error

    @property
    def num_consumers(self) -> int:
        return self.world_size * self.num_workers

    @property
    def consumer_index(self) -> int:
        return self.rank * self.num_workers + self.worker_id


def round_robin(num_items: int, index: int, number: int) -> range:
    """The items of consumer `index` of `number`: index, index + number, index + 2 number, ...

    Consumer i has ceil((num_items - i) / number) of them: no two differ by more than one.

    >>> [list(round_robin(5, i, 2)) for i in range(2)]
    [[0, 2, 4], [1, 3]]
    """
    check_count("index", index, 0, check_count("number", number, 1))
    return range(index, num_items, number)


def contiguous(num_items: int, index: int, number: int) -> range:
    """The items of consumer i: one run, from i * num_items // number to where the next begins.

    >>> [list(contiguous(5, i, 2)) for i in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    check_count("index", index, 0, check_count("number", number, 1))
    return range(index * num_items // number, (index + 1) * num_items // number)


def apportion(num_items: int, weights: Sequence[int], index: int, batch_size: int = 1) -> int:
    """How many items are due from consumer `index`, in proportion to its one of `weights`.

    Whole batches are apportioned, so that of all only one is short. Consumers of equal weights get
    what `contiguous` would give them, and so all workers of a rank together, however many, as much.

    >>> [apportion(9, [1, 1], i, batch_size=2) for i in (0, 1)], apportion(9, [0, 3], 1)
    ([4, 5], 9)
    """
    num_batches, total = -(-num_items // batch_size), max(1, sum(weights))
    start, stop = (
        min(num_items, num_batches * sum(weights[:end]) // total * batch_size)
        for end in (index, index + 1)
    )
    return stop - start
