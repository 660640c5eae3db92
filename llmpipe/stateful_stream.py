"""Where a stream stands: its epoch, states to save, to load and to deal anew, and its ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch.utils.data import IterableDataset

from llmpipe.account import Counts
from llmpipe.handover import Handover
from llmpipe.lanes import Lanes, Piece
from llmpipe.ledger import Ledger
from llmpipe.recipe import check_count
from llmpipe.sharding import World
from llmpipe.stream_state import State, check_made_with, check_pieces, collect


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
