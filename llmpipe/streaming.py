"""Documents in, blocks out, in constant memory, resumable at any block on any number of consumers.

The parts of a source are put in order and dealt to consumers, each of them a worker of a rank. A
consumer reads its share a window of 1,000 rows at a time, filters it, tokenizes what was kept in
one call, and pushes the ids into its rolling buffer. Nothing else is held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from torch.utils.data import IterableDataset, get_worker_info

from llmpipe.account import Account
from llmpipe.filters import QualityFilter
from llmpipe.handover import Handover
from llmpipe.items import given_out
from llmpipe.lanes import Lanes, Piece
from llmpipe.lasting import Lasting, failing
from llmpipe.ledger import Ledger
from llmpipe.reading import Pass
from llmpipe.recipe import Recipe, check_count
from llmpipe.sharding import World
from llmpipe.stream_state import State, check_made_with, check_pieces, collect

# mimalloc, Arrow's own pool, gives its pages back and takes new ones at every window. With the
# system's a stream is 1.2 to 1.5 times as fast and holds 25 MB less. A variable of Arrow's decides.
_is_default = pa.default_memory_pool().backend_name == "mimalloc"
if _is_default and "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
    pa.set_memory_pool(pa.system_memory_pool())


class BlockStream(IterableDataset):
    """Blocks of ids, made of documents while they are read.

    Items are dicts of int64 tensors of shape (block_size,), `input_ids` and `labels`, for
    `DataLoader(stream, batch_size=8)`; with `batch_size=8` whole batches (8, block_size), the last
    maybe smaller, for `DataLoader(stream, batch_size=None)`: the same blocks, faster. Labels are
    the ids: a causal language model of `transformers` shifts them itself.

    `documents` is what `open_source` gives, or a `Dataset` or `IterableDataset` of `datasets`;
    `num_rows` takes that many from its beginning, however it is dealt. `separator` is an id put
    after every document, as `tokenizer.eos_token_id`. `remainder` says what becomes of the last ids
    of each consumer: "drop", or "pad" them to a block, in which case all items carry an
    `attention_mask` too, 0 on padding, where labels are -100. `shuffle` permutes parts of the
    source, and rows within windows of 1,000, anew in every epoch: by `seed` and `set_epoch` alone.

    Every document goes to one worker of one rank, so in several processes only one may shard.
    Either leave `world_size` at 1 and let `Trainer` or `accelerator.prepare` deal: each block goes
    to one process, and some of the first come twice to make the end even. Or give `rank` and
    `world_size`, and prepare model and optimizer but not the loader (for `Trainer`: override
    `get_train_dataloader`): shares may differ in length, so stop all ranks at the same step, or
    train within torch's `Join([model])`. If both shard, only 1 document in `world_size` is trained
    on, and nothing says so. `Trainer` takes single blocks.

    A prepared loader sets the epoch itself and reads a round ahead: take its own state
    (`use_stateful_dataloader=True`, and in several processes `dispatch_batches=False`), not the
    stream's, and when resuming set `loader.iteration` to the epoch of the state.

    Raises TypeError or ValueError for options out of range, what `open_source(...).load` raises,
    and while it is read KeyError, TypeError or ValueError naming a row that is not text, and
    `llmpipe.reading.SourceError` where the source fails.
    """

    def __init__(
        self,
        documents: Any,
        tokenizer: Any,
        block_size: int = 128,
        *,
        split: str = "train",
        num_rows: int | None = None,
        column: str = "text",
        filter: QualityFilter | None = None,
        separator: int | None = None,
        remainder: str = "drop",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size is not None:
            check_count("batch_size", batch_size, 1)
        check_count("seed", seed, 0)
        if remainder not in ("drop", "pad"):
            raise ValueError(f"remainder must be 'drop' or 'pad', got {remainder!r}")
        World(rank, world_size)
        self.recipe = Recipe.of(
            documents,
            tokenizer,
            block_size,
            split=split,
            num_rows=num_rows,
            column=column,
            quality=filter,
            separator=separator,
        )
        self.made_with = {**self.recipe.made_with, "shuffle": f"seed {seed}" if shuffle else None}
        self.remainder, self.batch_size = remainder, batch_size
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        self._handover = Handover()
        self._state_here: Callable[[], State] | None = None  # of the pass that was asked last

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
        this_pass = Pass(self.recipe, self._lanes(epoch), pieces, done)
        state_at = partial(self._state_at, epoch, world)
        self._state_here = partial(state_at, pieces, done)
        return Lasting(self._items(this_pass, state_at))

    def _items(self, this_pass: Pass, state_at: Callable[..., State]) -> Iterator[dict]:
        for item, place in given_out(this_pass, self.batch_size, self.remainder):
            self._state_here = lambda place=place: state_at(*place())
            yield item
        self._state_here = partial(state_at, [], this_pass.done)

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
        state = State.from_dict(state)
        self._check([state])
        self._handover.load([state], anew=False)

    def resume(self, states: Any, *, rank: int = 0, world_size: int = 1) -> BlockStream:
        """The same stream on another number of ranks or workers, where all the old ones stood.

        `states` are those of all ranks, of streams or of `StatefulDataLoader`s. What they had left
        is dealt anew: every remaining document is read once. As many consumers as before go on with
        the very blocks that were due. The first consumer's ledger begins with all their accounts.
        Raises ValueError if a state is missing, or as `load_state_dict`.
        """
        World(rank, world_size)
        found = collect(states)
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
        """The account of all that this stream has given out in this epoch, to the last block.

        Workers of a loader have their own, in their states: `total_ledger(loader.state_dict())`.
        """
        return self._state().done.ledger(self.recipe.separator is not None)

    def total_ledger(self, states: Any) -> Ledger:
        """The accounts of all consumers together; `states` as for `resume`."""
        done = sum((state.done for state in collect(states)), Account())
        return done.ledger(self.recipe.separator is not None)

    def _state_at(self, epoch: int, world: World, pieces: list[Piece], done: Account) -> State:
        index, number = world.consumer_index, world.num_consumers
        return State(self.made_with, epoch, index, number, pieces, done)

    def _beginning(self, world: World) -> tuple[list[Piece], Account]:
        return self._lanes(self.epoch).share(world), Account()

    def _lanes(self, epoch: int) -> Lanes:
        return Lanes(tuple(self.recipe.parts.weights), self.shuffle, self.seed, epoch)

    def _world(self) -> World:
        worker = get_worker_info()
        if worker is None:
            return World(self.rank, self.world_size)
        return World(self.rank, self.world_size, worker.id, worker.num_workers)

    def _check(self, states: list[State]) -> None:
        """Raise ValueError unless the states are of this stream, and of lanes that it has."""
        check_made_with(states[0].made_with, self.made_with)
        check_pieces(states, self._lanes(0).num_lanes)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_state_here": None}
