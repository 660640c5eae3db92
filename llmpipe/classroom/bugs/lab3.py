"""The bugs of Lab 3: ranks that read the same, ranks without rows, ranks that wait for ever.

What a rank runs stands here too: a function of a notebook cannot be sent to another process.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmpipe.arguments import check_count
from llmpipe.classroom.bugs.bug import Bug
from llmpipe.launching.launch import run_ranks
from llmpipe.sharding.world import World, round_robin

PRELOAD = ("torch",)  # imported once, by the fork server: a rank for itself takes seconds for it
MEET_S = 60.0  # how long ranks wait for one another to start and to end
WAIT_S = 2.0  # after which the lab's ranks give up; those of a cluster wait for half an hour


def world_of(variables: Mapping[str, str], *, broken: bool = False) -> World:
    """A process's place among all, from what its launcher put into the environment.

    Broken, its rank is taken from LOCAL_RANK, which counts anew on every machine.

    >>> second_machine = {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    >>> world_of(second_machine).rank, world_of(second_machine, broken=True).rank
    (1, 0)

    Raises KeyError if a variable is missing, and what `World` raises.
    """
    rank = int(variables["LOCAL_RANK" if broken else "RANK"])
    return World(rank, int(variables["WORLD_SIZE"]))


def read_documents(world: World, send: Callable, num_documents: int, broken: bool) -> list[int]:
    """The numbers of the documents that a rank reads, launched as if alone on its machine."""
    launched = {"RANK": world.rank, "LOCAL_RANK": 0, "WORLD_SIZE": world.world_size}
    place = world_of({name: str(value) for name, value in launched.items()}, broken=broken)
    return list(round_robin(num_documents, place.rank, place.world_size))


def documents_read(num_documents: int, world_size: int = 4, *, broken: bool = True) -> np.ndarray:
    """How many times each rank, a process of its own, reads each document.

    An int64 array of shape (num_documents, world_size). A document is read once if its row sums
    to 1. The ranks are launched as if each were alone on its machine.

    >>> documents_read(4, world_size=2).tolist()
    [[1, 1], [0, 0], [1, 1], [0, 0]]
    >>> documents_read(4, world_size=2, broken=False).tolist()
    [[1, 0], [0, 1], [1, 0], [0, 1]]

    Raises what `check_count` and `run_ranks` raise.
    """
    check_count("num_documents", num_documents)
    shares = run_ranks(read_documents, world_size, num_documents, broken, preload=PRELOAD)
    counts = [np.bincount(np.array(share, np.int64), minlength=num_documents) for share in shares]
    return np.stack(counts, axis=1)


def _ranks_matter(broken: bool) -> str | None:
    num_documents, world_size = 12, 3
    times = documents_read(num_documents, world_size, broken=broken).sum(axis=1)
    if (times == 1).all():
        return None
    return (
        f"{num_documents} documents, {world_size} ranks: {(times == 0).sum()} documents are read "
        f"by none, {(times > 1).sum()} by up to {times.max()}"
    )


def rows_kept(
    shard_sizes: Sequence[int], rank: int, world_size: int, *, broken: bool = False
) -> np.ndarray:
    """The numbers of the rows that a rank keeps, (num_kept,), of files that hold so many rows.

    Distributed are rows, round-robin; broken, whole files: rank r has files r, r + world_size, ...

    >>> [rows_kept([2, 3], rank, 3).tolist() for rank in range(3)]
    [[0, 3], [1, 4], [2]]
    >>> [rows_kept([2, 3], rank, 3, broken=True).tolist() for rank in range(3)]
    [[0, 1], [2, 3, 4], []]

    Raises ValueError if a size is negative, and TypeError or ValueError if `rank` is not in
    [0, world_size).
    """
    if min(shard_sizes, default=0) < 0:
        raise ValueError(f"a shard has 0 rows or more, got sizes {list(shard_sizes)}")
    ends = np.cumsum([0, *shard_sizes])
    if not broken:
        return np.array(round_robin(int(ends[-1]), rank, world_size), np.int64)
    shards = round_robin(len(shard_sizes), rank, world_size)
    rows = [np.arange(ends[shard], ends[shard + 1]) for shard in shards]
    return np.concatenate([np.zeros(0, np.int64), *rows])


class RowsByRank(NamedTuple):
    """How many rows each rank reads, and how many of them it keeps: int64 (world_size,) each."""

    read: np.ndarray
    kept: np.ndarray


def rows_by_rank(
    shard_sizes: Sequence[int], world_size: int = 4, *, broken: bool = True
) -> RowsByRank:
    """What the ranks do with files of so many rows, which can only be read whole.

    Divided by rows, no rank is idle; the price is that every rank reads all, and keeps a part.

    >>> rows_by_rank([6, 6], world_size=3)
    RowsByRank(read=array([6, 6, 0]), kept=array([6, 6, 0]))
    >>> rows_by_rank([6, 6], world_size=3, broken=False)
    RowsByRank(read=array([12, 12, 12]), kept=array([4, 4, 4]))

    Raises what `rows_kept` raises.
    """
    ranks = range(world_size)
    kept = np.array([rows_kept(shard_sizes, r, world_size, broken=broken).size for r in ranks])
    return RowsByRank(kept.copy() if broken else np.full(world_size, sum(shard_sizes)), kept)


def _files_matter(broken: bool) -> str | None:
    shard_sizes, world_size = [10, 10, 10], 4
    kept = rows_by_rank(shard_sizes, world_size, broken=broken).kept
    if kept.max() - kept.min() <= 1:
        return None
    return (
        f"{sum(shard_sizes)} rows in {len(shard_sizes)} files for {world_size} ranks: "
        f"{(kept == 0).sum()} of them has nothing to do, others have {kept.max()} rows"
    )


def batches_to_train(
    batches: Iterable, everyone_has: Callable[[bool], bool], *, broken: bool = False
) -> Iterator:
    """The batches that a rank takes steps on, one a step.

    Before each step the ranks ask one another, with `everyone_has`, whether all of them have a
    batch, and stop together where one has none. Broken, nobody asks: a rank reads to its own end.

    >>> list(batches_to_train("abc", lambda have: False, broken=True))
    ['a', 'b', 'c']
    >>> list(batches_to_train("abc", lambda have: False))
    []
    """
    end = object()
    own = iter(batches)
    while True:
        have = (batch := next(own, end)) is not end
        if not (have if broken else everyone_has(have)):
            return
        yield batch


class RankEnd(NamedTuple):
    """How a rank ended: steps done, batches that were left, and "done" or where it waited."""

    num_steps: int
    num_left: int
    how: str


def take_steps(
    world: World, send: Callable, folder: str, num_batches: list[int], wait_s: float, broken: bool
) -> RankEnd:
    """Train on this rank's batches: a step ends with a sum over all ranks, as of gradients.

    The sum is `all_reduce` of torch.distributed; a rank gives up after waiting `wait_s` seconds.
    The ranks meet through a file in `folder`.
    """
    import torch
    import torch.distributed as dist

    # By default they speak to the address of the host's name, which not every machine has.
    for _, name in socket.if_nameindex():
        if name in ("lo", "lo0"):
            os.environ["GLOO_SOCKET_IFNAME"] = name
    store = dist.FileStore(str(Path(folder, "ranks")), world.world_size)
    place = {"store": store, "rank": world.rank, "world_size": world.world_size}
    dist.init_process_group("gloo", timeout=timedelta(seconds=MEET_S), **place)
    group = dist.new_group(timeout=timedelta(seconds=wait_s))

    def everyone_has(have: bool) -> bool:
        dist.all_reduce(answer := torch.tensor(int(have)), dist.ReduceOp.MIN, group)
        return bool(answer)

    num_steps, how = 0, "done"
    try:
        for _ in batches_to_train(range(num_batches[world.rank]), everyone_has, broken=broken):
            dist.all_reduce(torch.ones(1), group=group)
            num_steps += 1
    except RuntimeError:  # the time is up, or another rank that waited has closed the connection
        how = f"waited in vain at step {num_steps + 1}"
    # A rank that left would close its connections, which ends the others' waiting. On a cluster
    # it stays, to evaluate or to save, and they wait until the time is up.
    dist.barrier()
    dist.destroy_process_group()
    return RankEnd(num_steps, num_batches[world.rank] - num_steps, how)


def steps_by_rank(
    num_batches: Sequence[int] = (3, 2), *, broken: bool = True, wait_s: float = WAIT_S
) -> list[RankEnd]:
    """Train with one rank, a process of its own, for each of `num_batches`; how each of them ended.

    A step ends with a sum over all ranks. Repaired, they ask one another before each step. Broken,
    a rank gives up after waiting `wait_s` seconds.

    >>> for end in steps_by_rank((2, 1), wait_s=0.5):
    ...     print(end)
    RankEnd(num_steps=1, num_left=1, how='waited in vain at step 2')
    RankEnd(num_steps=1, num_left=0, how='done')

    Raises ValueError if a number is negative or there is none, and what `run_ranks` raises.
    """
    if not num_batches or min(num_batches) < 0:
        raise ValueError(
            f"num_batches must be 0 or more for each rank, at least one, got {list(num_batches)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, list(num_batches), wait_s if broken else MEET_S, broken)
        return run_ranks(take_steps, len(num_batches), *arguments, preload=PRELOAD)


def _lengths_matter(broken: bool) -> str | None:
    num_batches = (3, 2)
    ends = steps_by_rank(num_batches, broken=broken, wait_s=1.0)
    if all(end.how == "done" for end in ends):
        return None
    waiting = next(rank for rank, end in enumerate(ends) if end.how != "done")
    return (
        f"ranks with {num_batches[0]} and {num_batches[1]} batches: rank {waiting} "
        f"{ends[waiting].how}, as no other took it"
    )


BUGS = (
    Bug(
        name="same_shard",
        story="LOCAL_RANK counts the processes of one machine: divided by it instead of by RANK, "
        "the same shard goes to every machine, and the others to nobody; on one machine the two "
        "are equal, so it is not seen there.",
        invariant="Every document is read once, by one rank.",
        thread="https://github.com/vllm-project/speculators/pull/619",
        switch=world_of,
        violation=_ranks_matter,
    ),
    Bug(
        name="more_ranks_than_shards",
        story="Distributing whole files leaves the ranks above their number without a row (in "
        "the thread, one file and several processes: those that have rows then wait for ever for "
        "those that have none).",
        invariant="No two ranks differ by more than one row, however the rows lie in files.",
        thread="https://github.com/webdataset/webdataset/issues/188",
        switch=rows_kept,
        violation=_files_matter,
    ),
    Bug(
        name="unequal_ranks",
        story="Each step of training ends with a sum over all ranks; where a filter leaves one "
        "rank a batch more than another, its last sum waits for a rank that has gone, for ever or "
        "until a time-out.",
        invariant="Every rank takes as many steps as the others, and none waits in vain.",
        thread="https://github.com/huggingface/datasets/issues/6719",
        switch=batches_to_train,
        violation=_lengths_matter,
    ),
)
