"""Ranks of unequal length: go on, end with the shortest, or pad, by one vote of all ranks a batch.

Ranks that train together exchange gradients after every batch, and a rank that has no batch left
keeps the others waiting for ever. How many batches a share makes is not known before it was read,
so the ranks ask each other: each puts 1 in if it has a batch and 0 if not, and sees the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from llmpipe.items import IGNORED

UNEVEN = ("go on", "shortest", "pad")


class Evened:
    """The batches of one rank, made as many as those of all others in the way of `uneven`.

    "go on" leaves them as they are, for ranks that do not wait for each other. "shortest" ends all
    ranks with the first that has no batch left; a batch that was read and is not given out is
    `withheld`. "pad" goes on to the end of the longest: a rank that has none left gives copies of
    `padding`, which a loss leaves out; `num_padding` counts them.

    `vote(has_batch)` is called by all ranks as often and gives how many of them have one. In one
    process everything is even:

    >>> list(Evened([1, 2], "shortest", vote=int, padding=0))
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
        if uneven not in UNEVEN:
            raise ValueError(f"uneven must be one of {', '.join(UNEVEN)}, got {uneven!r}")
        self.batches, self.uneven, self.vote, self.padding = batches, uneven, vote, padding
        self.world_size = world_size
        self.num_padding, self.withheld = 0, None

    def __iter__(self) -> Iterator[Any]:
        if self.uneven == "go on":
            yield from self.batches
            return
        batches, none = iter(self.batches), object()
        while True:
            batch = next(batches, none)
            num_ranks = self.vote(batch is not none)
            if self.uneven == "shortest" and num_ranks < self.world_size:
                self.withheld = None if batch is none else batch
                return
            if not num_ranks:
                return
            self.num_padding += batch is none
            yield self.padding if batch is none else batch


def padding_batch(batch_size: int, block_size: int, pad_id: int) -> dict:
    """A batch of nothing: ids that pad, a mask of 0, labels of -100; int64, (B, T) each.

    >>> {name: tensor.tolist() for name, tensor in padding_batch(1, 2, pad_id=7).items()}
    {'input_ids': [[7, 7]], 'labels': [[-100, -100]], 'attention_mask': [[0, 0]]}
    """
    shape = (batch_size, block_size)
    return {
        "input_ids": torch.full(shape, pad_id),
        "labels": torch.full(shape, IGNORED),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
    }


def torch_vote(has_batch: bool) -> int:
    """The vote of all processes of `torch.distributed`, about 0.1 ms on one machine."""
    number = torch.tensor(int(has_batch))
    torch.distributed.all_reduce(number)
    return int(number)
