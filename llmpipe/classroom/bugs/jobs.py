"""What the ranks of Lab 3's bugs run, and the switches in it.

They have a module that can be imported, since a function of a notebook cannot be sent to a rank.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from llmpipe.sharding.world import World, round_robin

PRELOAD = ("torch",)  # imported once, by the fork server: a rank for itself takes seconds for it
MEET_S = 60.0  # how long ranks wait for one another to start and to end


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


def batches_to_train(
    batches: Iterable, everyone_has: Callable[[bool], bool], *, broken: bool = False
) -> Iterator:
    """The batches that a rank takes steps on, one a step.

    Before each step the ranks ask one another, with `everyone_has`, whether all of them have a
    batch, and stop together where one has none. Broken, nobody asks: a rank goes on to its own end.

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
    world: World,
    send: Callable,
    folder: str,
    num_batches: list[int],
    wait_s: float,
    broken: bool,
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
    dist.init_process_group(
        "gloo",
        store=store,
        rank=world.rank,
        world_size=world.world_size,
        timeout=timedelta(seconds=MEET_S),
    )
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
