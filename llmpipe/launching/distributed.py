"""Ranks as one process group of `torch.distributed`: to vote, and to be started by `torchrun`.

The group is made with gloo, which needs no GPU. Ranks of `run_ranks` meet at a port that their
parent opens; those that `torchrun` started find each other by its environment variables. torch is
imported inside functions: the parent of ranks does without it, and starts a second sooner.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llmpipe.arguments import check_choice, check_count
from llmpipe.sharding.world import World

UNEVEN = ("continue", "shortest", "pad")
LOCALHOST = "127.0.0.1"


class EvenBatches:
    """The batches of one rank, made as many as those of all others in the way of `uneven`.

    "continue" leaves them as they are, for ranks that do not wait for each other. "shortest" ends
    all ranks with the first that has no batch left; a batch that was read and is not yielded is
    `withheld`. "pad" ends with the longest: a rank that has none left yields copies of `padding`,
    which a loss leaves out; `num_padding` counts them.

    `vote(has_batch)` is called by all ranks as often and gives how many of them have one. In one
    process everything is even:

    >>> list(EvenBatches([1, 2], "shortest", vote=int, padding=0))
    [1, 2]

    Raises ValueError for another `uneven`.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        uneven: str,
        vote: Callable[[bool], int],
        padding: Any,
        world_size: int = 1,
    ) -> None:
        check_choice("uneven", uneven, UNEVEN)
        self.batches, self.uneven, self.vote, self.padding = batches, uneven, vote, padding
        self.world_size = world_size
        self.num_padding, self.withheld = 0, None

    def __iter__(self) -> Iterator[Any]:
        if self.uneven == "continue":
            yield from self.batches
            return
        batches, least = iter(self.batches), self.world_size if self.uneven == "shortest" else 1
        while self.vote((batch := next(batches, None)) is not None) >= least:
            self.num_padding += batch is None
            yield self.padding if batch is None else batch
        self.withheld = batch


def padding_batch(batch_size: int, block_size: int, pad_id: int) -> dict:
    """A batch of nothing: ids that pad, a mask of 0, labels of -100; int64, (B, T) each.

    >>> {name: tensor.tolist() for name, tensor in padding_batch(1, 2, pad_id=7).items()}
    {'input_ids': [[7, 7]], 'labels': [[-100, -100]], 'attention_mask': [[0, 0]]}
    """
    import torch

    from llmpipe.chunking.dataset import IGNORED

    check_count("pad_id", pad_id, 0, 2**32)
    shape = (batch_size, block_size)
    return {
        "input_ids": torch.full(shape, pad_id),
        "labels": torch.full(shape, IGNORED),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
    }


def torch_vote(has_batch: bool) -> int:
    """The vote of all processes of `torch.distributed`, about 0.1 ms on one machine."""
    import torch

    number = torch.tensor(int(has_batch))
    torch.distributed.all_reduce(number)
    return int(number)


@contextmanager
def meeting_point() -> Iterator[int]:
    """In the parent of ranks: a free port of this machine where they meet, open until the end."""
    from torch.distributed import TCPStore

    # A socket of our own, since a store would listen to the whole network.
    with socket.create_server((LOCALHOST, 0)) as listening:
        port = listening.getsockname()[1]
        options = {"is_master": True, "wait_for_workers": False}
        store = TCPStore(LOCALHOST, port, **options, master_listen_fd=listening.detach())
    yield store.port  # open as long as the store lives


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
    rank 0, None in the others; what the job raises, `torchrun` sees, and stops the other ranks.
    """
    import torch.distributed as dist

    with process_group(world):
        dist.barrier()
        result = job(world, partial(on_message, world.rank), *args)
        results = [None] * world.world_size if world.rank == 0 else None
        dist.gather_object(result, results)
        dist.barrier()  # a rank that leaves while another still talks to it would abort that one
    return results
