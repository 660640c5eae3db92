"""Ranks as one process group of `torch.distributed`: to vote, and to be started by `torchrun`.

The group is made with gloo, which needs no GPU. Ranks of `run_ranks` meet at a port that their
parent opens; those that `torchrun` started find each other by its environment variables.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llmpipe.sharding import World

LOCALHOST = "127.0.0.1"


@contextmanager
def meeting_point() -> Iterator[int]:
    """In the parent of ranks: a free port of this machine where they meet, open until the end."""
    from torch.distributed import TCPStore

    # A socket of our own, since a store would listen to the whole network.
    with socket.socket() as listening:
        listening.bind((LOCALHOST, 0))
        listening.listen()
        port = listening.getsockname()[1]
        own = listening.detach()
    options = {"is_master": True, "wait_for_workers": False, "master_listen_fd": own}
    store = TCPStore(LOCALHOST, port, **options)  # open as long as this lives
    yield store.port


@contextmanager
def process_group(world: World, port: int | None = None) -> Iterator[None]:
    """In each rank: all of them as the default process group; without a port, those of `torchrun`.

    Raises RuntimeError if a rank is missing for 30 minutes, which is gloo's patience.
    """
    import torch.distributed as dist

    place: dict[str, Any] = {"rank": world.rank, "world_size": world.world_size}
    store = {} if port is None else {"store": dist.TCPStore(LOCALHOST, port)}
    dist.init_process_group("gloo", **place, **store)
    yield
    # Not after an error: the others would fail at once, and be heard before the rank that began.
    dist.destroy_process_group()


def run_under_torchrun(
    job: Callable,
    world: World,
    *args: object,
    on_message: Callable[[int, object], None] = lambda rank, message: None,
) -> list | None:
    """As `run_ranks`, in a process that is one of the ranks already: `world` says which.

    All begin together. Messages are handled by the rank that sends them. Returns the results in
    rank order in rank 0, None in the others; what the job raises is for `torchrun` to see, which
    then stops the other ranks.
    """
    import torch.distributed as dist

    with process_group(world):
        dist.barrier()
        result = job(world, partial(on_message, world.rank), *args)
        results = [None] * world.world_size if world.rank == 0 else None
        dist.gather_object(result, results)
        dist.barrier()  # a rank that leaves while another still talks to it would abort that one
    return results
