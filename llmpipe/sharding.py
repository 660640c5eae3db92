"""Rank x worker arithmetic: who reads what, disjoint and complete."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

# The steps of a stream that was only opened, by the names that `datasets` gives them in its state.
PLAIN_STREAMS = {"ExamplesIterable", "ArrowExamplesIterable", "RebatchedArrowExamplesIterable"}

logger = logging.getLogger(__name__)


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
        _check_index("rank", self.rank, "world_size", self.world_size)
        _check_index("worker_id", self.worker_id, "num_workers", self.num_workers)

    @property
    def num_consumers(self) -> int:
        return self.world_size * self.num_workers

    @property
    def consumer_index(self) -> int:
        return self.rank * self.num_workers + self.worker_id


def _check_index(name: str, index: int, of_name: str, number: int) -> None:
    for label, value in ((name, index), (of_name, number)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{label} must be an integer, got {value!r}")
    if number < 1:
        raise ValueError(f"{of_name} must be 1 or more, got {number}")
    if not 0 <= index < number:
        raise ValueError(f"{name} must be in [0, {number}), got {index}")


def round_robin(num_items: int, index: int, number: int) -> range:
    """The items of consumer `index` of `number`: index, index + number, index + 2 number, ...

    Consumer i has ceil((num_items - i) / number) of them: no two differ by more than one.

    >>> [list(round_robin(5, i, 2)) for i in range(2)]
    [[0, 2, 4], [1, 3]]
    """
    _check_index("index", index, "number", number)
    return range(index, num_items, number)


def contiguous(num_items: int, index: int, number: int) -> range:
    """The items of consumer i: one run, from i * num_items // number to where the next begins.

    >>> [list(contiguous(5, i, 2)) for i in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    _check_index("index", index, "number", number)
    return range(index * num_items // number, (index + 1) * num_items // number)


def shard_stream(stream: Any, world: World, batch_size: int = 1000) -> Iterator[pa.Table]:
    """What one consumer reads of an `IterableDataset`: its parts, or its rows if parts are few."""
    shard = shard_parts if can_deal_parts(stream, world) else shard_rows
    logger.info("rank %d reads by %s", world.rank, shard.__name__)
    return shard(stream, world, batch_size)


def shard_rows(stream: Any, world: World, batch_size: int = 1000) -> Iterator[pa.Table]:
    """Deal the rows of an `IterableDataset` round-robin: each consumer reads all, keeps its own.

    Yields Arrow tables. It works for any stream that every consumer sees alike (a shuffle needs a
    seed), and any number of consumers, also above the number of rows; each pays for all reading.
    """
    first_row = 0
    for table in stream.with_format("arrow").iter(batch_size=batch_size):
        # The first of this table's rows whose number in the stream is ours.
        offset = (world.consumer_index - first_row) % world.num_consumers
        yield table.take(np.arange(offset, table.num_rows, world.num_consumers))
        first_row += table.num_rows


def shard_parts(stream: Any, world: World, batch_size: int = 1000) -> Iterator[pa.Table]:
    """Deal the parts of an `IterableDataset` round-robin: a consumer reads its own bytes only.

    A part is what `datasets` calls a shard: a row group of a Parquet file, a lane of the sample, a
    whole file of other formats. Raises ValueError if there are fewer parts than consumers, or if
    more was done to the stream than to open it (`can_deal_parts`).
    """
    if not can_deal_parts(stream, world):
        raise ValueError(
            f"this stream cannot be dealt to {world.num_consumers} consumers by its "
            f"{stream.reshard().num_shards} parts: they are too few, or take(), map() or the like "
            "worked on the whole; deal rows instead (shard_rows)"
        )
    own = stream.reshard().shard(world.num_consumers, world.consumer_index, contiguous=False)
    yield from own.with_format("arrow").iter(batch_size=batch_size)


def can_deal_parts(stream: Any, world: World) -> bool:
    """Whether `shard_parts` would read every row once: parts enough, and nothing across them.

    What `take`, `skip`, `map`, `shuffle` or `interleave_datasets` make depends on the whole stream,
    and would come out otherwise for each part; such streams are dealt by rows.
    """
    kinds = set(re.findall(r"'type': '(\w+)'", str(stream.state_dict())))
    return kinds <= PLAIN_STREAMS and stream.reshard().num_shards >= world.num_consumers
