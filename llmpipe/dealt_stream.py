"""Streams over lanes: each worker of each rank reads its own, and gives out items of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
from torch.utils.data import get_worker_info

from llmpipe.account import Counts
from llmpipe.lanes import Lanes, Piece
from llmpipe.lasting import Lasting, failing
from llmpipe.recipe import check_count
from llmpipe.sharding import World
from llmpipe.stateful_stream import StatefulStream
from llmpipe.stream_state import State

# mimalloc, Arrow's own pool, gives its pages back and takes new ones at every window. With the
# system's a stream is 1.2 to 1.5 times as fast and holds 25 MB less. A variable of Arrow's decides.
_is_default = pa.default_memory_pool().backend_name == "mimalloc"
if _is_default and "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
    pa.set_memory_pool(pa.system_memory_pool())


class StreamPass(Protocol):
    """One consumer's pass: items, each with a function that gives what is left and done after it.

    At the end `done` counts all.
    """

    done: Counts

    def given_out(self) -> Iterator[tuple[dict, Callable[[], tuple[list[Piece], Counts]]]]: ...


class DealtStream(StatefulStream):
    """A stream whose lanes are dealt to the workers of all ranks, and can be dealt again.

    A subclass says what is done with the rows (`recipe`: its `parts`, and `made_with`, by which a
    state knows it), makes a pass over pieces of lanes (`_pass`), and tells how its account, of the
    class `counts`, becomes a ledger (`_ledger`).
    """

    def __init__(
        self,
        recipe: Any,
        *,
        batch_size: int | None,
        shuffle: bool,
        seed: int,
        rank: int,
        world_size: int,
        num_piles: int = 1,
    ) -> None:
        if batch_size is not None:
            check_count("batch_size", batch_size, 1)
        check_count("seed", seed, 0)
        self.recipe, self.batch_size = recipe, batch_size
        self.shuffle, self.seed, self.num_piles = shuffle, seed, num_piles
        self._check_place(rank, world_size)
        made_with = {**recipe.made_with, "shuffle": f"seed {seed}" if shuffle else None}
        super().__init__(made_with, rank, world_size)

    def _pass(self, lanes: Lanes, pieces: list[Piece], done: Any) -> StreamPass:
        raise NotImplementedError

    def __iter__(self) -> Iterator[dict]:
        # No generator: a state that was loaded is taken up now, not at the first block.
        world = self._world()
        try:
            taken = self._handover.take(world, self._lanes)
        except ValueError as error:
            if get_worker_info() is None:
                raise
            return failing(error)  # here a worker would die of it, and its words with it
        epoch, pieces, done = taken or (self.epoch, *self._beginning(world))
        if pieces and epoch != self.epoch:
            # Told at the first block, for a StatefulDataLoader whose state is from the end of an
            # epoch begins a pass with it only to begin another.
            return failing(
                ValueError(
                    f"the state is in epoch {epoch}, but set_epoch({self.epoch}) was called: call "
                    f"set_epoch({epoch}), and load the state after it"
                )
            )
        this_pass = self._pass(self._lanes(epoch), pieces, done)
        state_at = partial(self._state_at, epoch, world)
        self._state_here = partial(state_at, pieces, done)
        return Lasting(self._items(this_pass, state_at))

    def _items(self, this_pass: StreamPass, state_at: Callable[..., State]) -> Iterator[dict]:
        for item, place in this_pass.given_out():
            self._state_here = lambda place=place: state_at(*place())
            yield item
        self._state_here = partial(state_at, [], this_pass.done)

    def _beginning(self, world: World) -> tuple[list[Piece], Counts]:
        return self._lanes(self.epoch).share(world), self.counts()

    def _lanes(self, epoch: int) -> Lanes:
        return Lanes(
            tuple(self.recipe.parts.weights), self.shuffle, self.seed, epoch, self.num_piles
        )

    def _world(self) -> World:
        worker = get_worker_info()
        if worker is None:
            return World(self.rank, self.world_size)
        return World(self.rank, self.world_size, worker.id, worker.num_workers)

    def _check_place(self, rank: int, world_size: int) -> None:
        """Raise unless `rank` is one of `world_size`, and nothing would be dealt twice."""
        World(rank, world_size)
        share_of = getattr(self.recipe.parts, "world", None)
        if share_of and world_size > 1:
            raise ValueError(
                f"the documents are the share of rank {share_of.rank} of {share_of.world_size} "
                "already: leave rank and world_size of the stream as they are, or give it the "
                "source"
            )
