"""Streams over lanes: each worker of each rank reads its own, and gives out items of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from torch.utils.data import IterableDataset, get_worker_info

from llmpipe.arguments import check_count
from llmpipe.ledger import Ledger
from llmpipe.sharding.world import World
from llmpipe.streaming.partition import Lanes, Piece
from llmpipe.streaming.state import Counts, State, check_made_with, check_pieces, collect
from llmpipe.streaming.workers import Handover


class Lasting:
    """The items of `iterator`, and then its error as often as one asks.

    >>> lasting = Lasting(map(int, ["1", "x"]))
    >>> for _ in range(3):
    ...     try:
    ...         print(next(lasting))
    ...     except ValueError as error:
    ...         print(error)
    1
    invalid literal for int() with base 10: 'x'
    invalid literal for int() with base 10: 'x'
    """

    def __init__(self, iterator: Iterator[Any], error: Exception | None = None) -> None:
        self._iterator, self._error = iterator, error

    def __iter__(self) -> Lasting:
        return self

    def __next__(self) -> Any:
        if self._error:
            raise self._error
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise


def failing(error: Exception) -> Lasting:
    """An iterator that has nothing but an error."""
    return Lasting(iter(()), error)


class StatefulStream(IterableDataset):
    """A stream that can tell where it stands, and go on from there.

    A subclass gives the items, and keeps in `_state_here` what tells where its last pass is. It
    says which lanes there are (`_lanes`), which of them a consumer begins with (`_beginning`), who
    it is itself (`_world`), and how an account, of the class `counts`, becomes a ledger.
    """

    counts: ClassVar[type[Counts]] = Counts

    def __init__(self, made_with: dict[str, Any], rank: int, world_size: int) -> None:
        self.made_with, self.rank, self.world_size = made_with, rank, world_size
        self._handover = Handover()
        self._state_here: Callable[[], State] | None = None  # of the pass that was asked last

    def _lanes(self, epoch: int) -> Lanes:
        raise NotImplementedError

    def _beginning(self, world: World) -> tuple[list[Piece], Counts]:
        raise NotImplementedError

    def _world(self) -> World:
        raise NotImplementedError

    def _check_place(self, rank: int, world_size: int) -> None:
        raise NotImplementedError

    def _ledger(self, done: Any) -> Ledger:
        raise NotImplementedError

    @property
    def epoch(self) -> int:
        return self._handover.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is, from 0; it reaches workers that are running already.

        Raises ValueError if that would drop a state which was loaded and is not yet gone on with.
        """
        check_count("epoch", epoch, 0)
        self._handover.set_epoch(epoch)
        here = self._state_here and self._state_here()
        if here and (here.epoch != epoch or not here.pieces):
            self._state_here = None

    def state_dict(self) -> dict:
        """Where the last pass stands, or where the next one begins: small, and fit for JSON.

        Raises ValueError where workers of a loader read: they have the states, and only a
        `StatefulDataLoader` can tell them.
        """
        return self._state().to_dict()

    def _state(self) -> State:
        waiting = self._handover.waiting
        if waiting and len(waiting.states) > 1:
            raise ValueError("nothing is read since resume(): keep the states it was given")
        if waiting:
            return waiting.states[0]
        if self._handover.workers_read:
            raise ValueError(
                "workers of a DataLoader read this stream: use a StatefulDataLoader and its "
                "state_dict(), whose accounts stream.total_ledger(state) adds up"
            )
        if self._state_here:
            return self._state_here()
        world = self._world()
        return self._state_at(self.epoch, world, *self._beginning(world))

    def load_state_dict(self, state: dict) -> None:
        """Let the next pass go on where `state` was taken, by the same worker of the same rank.

        After it comes the beginning again. For other numbers of ranks or workers see `resume`.
        Raises ValueError if the state is damaged, or naming both values of what differs.
        """
        state = State.from_dict(state, self.counts)
        self._check([state])
        self._handover.load([state], anew=False)

    def resume(self, states: Any, *, rank: int = 0, world_size: int = 1) -> Any:
        """The same stream on another number of ranks or workers, where all the old ones stood.

        `states` are those of all ranks, of streams or of `StatefulDataLoader`s. What they had left
        is dealt anew: every remaining document is read once. As many consumers as before go on with
        the very items that were due. The first consumer's ledger begins with all their accounts.
        Raises ValueError if a state is missing, or as `load_state_dict`.
        """
        self._check_place(rank, world_size)
        found = collect(states, self.counts)
        self._check(found)
        stream = object.__new__(type(self))
        stream.__dict__ = {
            **self.__dict__,
            "_state_here": None,
            "rank": rank,
            "world_size": world_size,
        }
        stream._handover = Handover()
        stream._handover.load(found, anew=True)
        return stream

    @property
    def ledger(self) -> Ledger:
        """The account of all that this stream has given out in this epoch, to the last item.

        Workers of a loader have their own, in their states: `total_ledger(loader.state_dict())`.
        """
        return self._ledger(self._state().done)

    def total_ledger(self, states: Any) -> Ledger:
        """The accounts of all consumers together; `states` as for `resume`."""
        found = collect(states, self.counts)
        return self._ledger(sum((state.done for state in found), self.counts()))

    def _state_at(self, epoch: int, world: World, pieces: list[Piece], done: Counts) -> State:
        index, number = world.consumer_index, world.num_consumers
        return State(self.made_with, epoch, index, number, pieces, done)

    def _check(self, states: list[State]) -> None:
        """Raise ValueError unless the states are of this stream, and of lanes that it has."""
        check_made_with(states[0].made_with, self.made_with)
        check_pieces(states, self._lanes(0).num_lanes)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_state_here": None}


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
