"""A stream that can tell where it stands and go on from there, on any number of consumers.

A consumer is one worker of one rank. Each reads its own share of the stream's virtual shards; the
states of all together can be redistributed to another number of consumers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, ClassVar

from torch.utils.data import IterableDataset, get_worker_info

from llmpipe.arguments import check_count
from llmpipe.ledger import Ledger
from llmpipe.sharding.world import World, apportion
from llmpipe.streaming.partition import Partition
from llmpipe.streaming.processor import Processor
from llmpipe.streaming.state import (
    Place,
    State,
    check_fingerprint,
    check_spans,
    check_stages,
    collect,
)
from llmpipe.streaming.workers import WorkerState, sign_what_is_sent

Made = tuple[dict, int]  # an item, and its size: ids of blocks, or labelled rows


class StreamIterator:
    """One consumer's pass. Item i + 1 is made before item i is returned.

    So the last item is known when it is returned, and its state is that of the end. An error comes
    after all items that were made before it, and again at each further `next`: a loader that asks
    once more must not take it for the end of the data. `on_item` is called before each item, and
    `on_end` once the last one is out.

    A subclass makes the items (`_make`), hears of each that is out (`_give`) and that it was the
    last (`_finish`), and knows its `place` in the stream.
    """

    place: Place

    def __init__(self, error: BaseException | None = None) -> None:
        self._error, self._made, self._ahead = error, None, None
        self.on_item: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    def _make(self) -> Iterator[Made]:
        return iter(())

    def _give(self, size: int) -> None:
        """An item of this size is out."""

    def _finish(self) -> None:
        """All are out: what was read after the last item is done with too."""

    def __iter__(self) -> StreamIterator:
        return self

    def __next__(self) -> dict:
        if self._made is None:
            self._made = self._make()
            self._ahead = self._look_ahead()
            self._finish_if_done()
        self.on_item()
        if not self._ahead:
            raise self._error or StopIteration
        (item, size), self._ahead = self._ahead, self._look_ahead()
        self._give(size)
        self._finish_if_done()
        return item

    def _finish_if_done(self) -> None:
        if not self._ahead and not self._error:
            self._finish()
            self.on_end()

    def _look_ahead(self) -> Made | None:
        if self._error:
            return None
        try:
            return next(self._made, None)
        except BaseException as error:  # of Ctrl-C too: the generator is dead, and has not ended
            self._error = error
            if isinstance(error, Exception):
                return None
            raise


class ResumableStream(IterableDataset):
    """What streams of blocks and of labelled text share: shares, epochs, states and ledgers.

    A subclass makes the iterator that goes on from a place in a partition (`_iterator`), and tells
    what became of all that was read up to a place (`_ledger`); at the beginning that is `_nothing`.
    """

    kind: ClassVar[str]
    bound_name: ClassVar[str]  # of the option that says how much an epoch has

    def __init__(
        self,
        processor: Processor,
        *,
        bound: int | None,
        batch_size: int | None,
        shuffle: bool,
        seed: int,
        rank: int,
        world_size: int,
        cycle_length: int = 1,
    ) -> None:
        if batch_size is not None:
            check_count("batch_size", batch_size, 1)
        check_count("seed", seed)
        if bound is not None:
            check_count(self.bound_name, bound, 1)
        self.processor, self.batch_size, self.bound = processor, batch_size, bound
        self.shuffle, self.seed, self.cycle_length = shuffle, seed, cycle_length
        self._set_rank(rank, world_size)
        self.fingerprint = {
            "kind": self.kind,
            **processor.fingerprint,
            "shuffle": f"seed {seed}" if shuffle else None,
            **({} if bound is None else {self.bound_name: bound}),
        }
        self._workers = WorkerState()
        self._here: Callable[[], State] | None = None  # of the pass that was asked last

    def _iterator(self, partition: Partition, place: Place) -> StreamIterator:
        raise NotImplementedError

    def _ledger(self, place: Place) -> Ledger:
        raise NotImplementedError

    @property
    def _nothing(self) -> Ledger:
        raise NotImplementedError

    def __len__(self) -> int:
        """What this rank gives in a whole epoch, with any number of workers: batches where it has a
        `batch_size`, else single blocks or rows.

        Raises TypeError where nothing bounds the epoch: what it has depends on ranks and workers.
        """
        if self.bound is None:
            raise TypeError(
                f"how long an epoch is depends on ranks, workers and epoch: a {self.kind} has a "
                f"length if it is given {self.bound_name}"
            )
        return -(-self._due(World(self.rank, self.world_size)) // (self.batch_size or 1))

    def __bool__(self) -> bool:
        return True  # where it has no length too

    def _due(self, world: World) -> int | None:
        """How many blocks or rows one consumer gives in an epoch, if that is bounded."""
        if self.bound is None:
            return None
        everyone = [1] * world.num_consumers
        return apportion(self.bound, everyone, world.consumer_index, self.batch_size or 1)

    def _num_out(self, place: Place) -> int:
        """How many blocks or rows were given up to a place."""
        raise NotImplementedError

    def _too_few(self, start: Place, num_missing: int) -> ValueError:
        """What a consumer that began at `start` says at the end of its documents if more is due."""
        world, num_given = self._world(), self._num_out(start) + start.num_due - num_missing
        whose = (
            ""
            if world.num_consumers == 1
            else (
                f" of consumer {world.consumer_index} of {world.num_consumers}, a worker of a rank,"
            )
        )
        unit = self.bound_name.removeprefix("num_")
        return ValueError(
            f"{self.bound_name}={self.bound:,} promises more than there is: the documents{whose} "
            f"came to their end after {num_given:,} {unit}, {num_missing:,} short of what was due; "
            f"give a {self.bound_name} that they hold, for several consumers with some to spare"
        )

    def __iter__(self) -> Iterator[dict]:
        # No generator: a state that was loaded is taken up now, not at the first item.
        world = self._world()
        if get_worker_info():
            sign_what_is_sent()
        if self.shuffle:
            self._workers.move_on()
        try:
            taken = self._workers.take(world, self._partition, self._nothing, self.batch_size or 1)
        except ValueError as error:
            if get_worker_info() is None:
                raise
            return StreamIterator(error)  # here a worker would die of it, and its words with it
        epoch, place = taken or (self.epoch, self._beginning(world))
        if epoch != self.epoch and not place.is_end:
            # Told at the first item, for a StatefulDataLoader whose state is from the end of an
            # epoch begins a pass with it only to begin another.
            error = ValueError(
                f"the state is in epoch {epoch}, but set_epoch({self.epoch}) was called: call "
                f"set_epoch({epoch}), and load the state after it"
            )
            return StreamIterator(error)
        iterator = self._iterator(self._partition(epoch), place)

        def asked() -> None:
            self._here = lambda: self._state_at(epoch, world, iterator.place)

        asked()
        iterator.on_item = asked
        iterator.on_end = lambda: self._workers.end_of(epoch)
        return iterator

    @property
    def epoch(self) -> int:
        return self._workers.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is, from 0; it reaches workers that are running already.

        Where nobody does, and the stream is shuffled, a pass that begins after one came to its end
        is the next epoch; in workers it is the same again, and a RuntimeWarning.
        Raises ValueError if that would drop a state which was loaded and is not yet gone on with.
        """
        check_count("epoch", epoch)
        self._workers.set_epoch(epoch)
        here = self._here and self._here()
        if here and (here.epoch != epoch or here.place.is_end):
            self._here = None

    def state_dict(self) -> dict:
        """Where the last pass stands, or where the next one begins: small, and fit for JSON.

        Raises ValueError where workers of a loader read: they have the states, and only a
        `StatefulDataLoader` can tell them.
        """
        return self._state().to_dict()

    def _state(self) -> State:
        waiting, world = self._workers.waiting, self._world()
        if waiting and waiting.redistributes:
            place = waiting.place(
                world, self._partition(waiting.epoch), self._nothing, self.batch_size or 1
            )
            return self._state_at(waiting.epoch, world, place)
        if waiting:
            return waiting.states[0]
        if self._workers.workers_read:
            raise ValueError(
                "workers of a DataLoader read this stream: use a StatefulDataLoader and its "
                "state_dict(), whose ledgers stream.total_ledger(state) adds up"
            )
        if self._here:
            return self._here()
        return self._state_at(self.epoch, world, self._beginning(world))

    def load_state_dict(self, state: dict) -> None:
        """Let the next pass go on where `state` was taken, by the same worker of the same rank.

        After it comes the beginning again. For other numbers of ranks or workers see `resume`.
        Raises ValueError if the state is damaged, or naming both values of what differs.
        """
        found = State.from_dict(state, self.kind)
        self._check([found])
        self._workers.load([found], redistributes=False)

    def resume(self, states: Any, *, rank: int = 0, world_size: int = 1) -> Any:
        """The same stream on another number of ranks or workers, where all the old ones stood.

        `states` are those of all ranks, of streams or of `StatefulDataLoader`s. What they had left
        is redistributed: every remaining document is read once. As many consumers as before go on
        with the very items that were due; of another number the first one's ledger begins with all
        of theirs.
        Raises ValueError if a state is missing, or as `load_state_dict`.
        """
        found = collect(states, self.kind)
        self._check(found)
        stream = copy(self)
        stream._set_rank(rank, world_size)
        stream._workers = WorkerState()
        stream._workers.load(found, redistributes=True)
        return stream

    @property
    def ledger(self) -> Ledger:
        """What became of all that this stream has read in this epoch, to the last item.

        Workers of a loader have their own, in their states: `total_ledger(loader.state_dict())`.
        """
        return self._ledger(self._state().place)

    def total_ledger(self, states: Any) -> Ledger:
        """The ledgers of all consumers together; `states` as for `resume`."""
        places = [state.place for state in collect(states, self.kind)]
        left = [span for place in places for span in place.left]
        return self._ledger(Place(left, sum((place.done for place in places), self._nothing)))

    def _state_at(self, epoch: int, world: World, place: Place) -> State:
        index, number = world.consumer_index, world.num_consumers
        return State(self.fingerprint, epoch, index, number, place)

    def _check(self, states: list[State]) -> None:
        """Raise ValueError unless the states are of this stream, and of shards that it has."""
        check_fingerprint(states[0].fingerprint, self.fingerprint)
        left = (span for state in states for span in state.place.left)
        check_spans(left, self._partition(0).num_shards)
        for state in states:
            check_stages(state.place.done, self._nothing)
            due, in_groups = state.place.num_due, sum(g.num_left for g in state.place.groups)
            is_fit = due is not None and in_groups <= due <= (self.bound or 0)
            if not (due is None if self.bound is None else is_fit):
                raise ValueError(
                    f"the state is damaged: {due} are due, of {self.bound_name} {self.bound}"
                )
            for group in state.place.groups:
                check_spans(group.spans, self._partition(0).num_shards)

    def _beginning(self, world: World) -> Place:
        share = self._partition(self.epoch).share(world)
        return Place(share, self._nothing, num_due=self._due(world))

    def _partition(self, epoch: int) -> Partition:
        parts = self.processor.parts
        order = (self.shuffle, self.seed, epoch, self.cycle_length)
        return Partition(tuple(parts.weights), *order, parts.counted)

    def _world(self) -> World:
        worker = get_worker_info()
        if worker is None:
            return World(self.rank, self.world_size)
        return World(self.rank, self.world_size, worker.id, worker.num_workers)

    def _set_rank(self, rank: int, world_size: int) -> None:
        """Raises ValueError unless `rank` is one of `world_size`, and nothing is shared twice."""
        World(rank, world_size)
        share_of = getattr(self.processor.parts, "world", None)
        if share_of and share_of.world_size > 1 and world_size > 1:
            raise ValueError(
                f"the documents are the share of rank {share_of.rank} of {share_of.world_size} "
                "already: leave rank and world_size of the stream as they are, or give it the "
                "source"
            )
        self.rank, self.world_size = rank, world_size

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_here": None}
