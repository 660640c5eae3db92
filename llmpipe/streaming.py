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

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import IterableDataset, get_worker_info

from llmpipe.account import Account
from llmpipe.blocks import check_block_size
from llmpipe.dataset_parts import parts_of
from llmpipe.filters import QualityFilter
from llmpipe.items import Lasting, items
from llmpipe.lanes import Lanes, Piece, deal
from llmpipe.ledger import Ledger
from llmpipe.reading import Pass, Recipe
from llmpipe.sharding import World
from llmpipe.sources import Source
from llmpipe.stream_state import Loaded, State, check_made_with, collect

# Arrow's own pool gives its pages back and takes new ones at every window. With the system's a
# stream is 1.2 to 1.5 times as fast and holds 25 MB less. Whoever has chosen a pool keeps it.
if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
    pa.set_memory_pool(pa.system_memory_pool())

MAX_WORKERS = 1024  # of one loader; each has a mark of its own in shared memory


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
        check_block_size(block_size)
        _check_count("batch_size", batch_size, 1)
        _check_count("num_rows", num_rows, 0)
        _check_count("seed", seed, 0)
        if remainder not in ("drop", "pad"):
            raise ValueError(f"remainder must be 'drop' or 'pad', got {remainder!r}")
        _check_count("separator", separator, 0)
        if separator is not None and separator >= tokenizer.vocab_size:
            raise ValueError(
                f"separator must be an id in [0, {tokenizer.vocab_size}), got {separator}"
            )
        World(rank, world_size)
        rules = _rules(filter, column)
        is_source = isinstance(documents, Source)
        parts = documents.parts(split, num_rows) if is_source else parts_of(documents, num_rows)
        self.recipe = Recipe(parts, column, rules, tokenizer, separator, block_size)
        self.made_with = {
            "source": f"{documents}, {split}" if is_source else "a data set of datasets",
            "data": f"{parts.num_parts} parts, {parts.identity}",
            "num_rows": num_rows,
            "column": column,
            "filter": repr(filter),
            "tokenizer": f"{tokenizer.name}, digest {tokenizer.digest[:12]}",
            "split_special_tokens": tokenizer.split_special_tokens,
            "separator": separator,
            "block_size": block_size,
            "shuffle": f"seed {seed}" if shuffle else None,
        }
        self.remainder, self.batch_size = remainder, batch_size
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        # The epoch, and which workers have taken up the state that this process loaded.
        self._shared = torch.zeros(1 + MAX_WORKERS, dtype=torch.int64).share_memory_()
        self._loaded: Loaded | None = None
        self._place: Callable[[], tuple[list[Piece], Account]] | None = None
        self._running = (0, World(rank, world_size))  # epoch and consumer of the last pass

    @property
    def epoch(self) -> int:
        return int(self._shared[0])

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is, from 0; it reaches workers that are running already.

        Raises ValueError if that would drop a state which was loaded and is not yet gone on with.
        """
        _check_count("epoch", epoch, 0)
        if self._loaded and self._loaded.states[0].epoch != epoch:
            if any(state.pieces for state in self._loaded.states):
                raise ValueError(
                    f"a state in epoch {self._loaded.states[0].epoch} was loaded and waits to be "
                    f"gone on with: begin there, not with epoch {epoch}"
                )
            self._loaded = None
        if self._loaded is None:
            self._place = None
        self._shared[0] = epoch

    def __iter__(self) -> Iterator[dict]:
        # No generator: a state that was loaded is taken up now, not at the first block.
        world, loaded = self._world(), self._take_loaded()
        epoch = loaded.states[0].epoch if loaded else self.epoch
        lanes = Lanes(self.recipe.parts.num_parts, self.shuffle, self.seed, epoch)
        pieces, done = loaded.share(world) if loaded else self._beginning(lanes, world)
        this_pass = Pass(self.recipe, lanes, pieces, done)
        self._running, self._place = (epoch, world), lambda: (pieces, done)
        return Lasting(self._items(this_pass))

    def state_dict(self) -> dict:
        """Where the last pass stands, or where the next one begins: small, and fit for JSON."""
        if self._loaded and not get_worker_info():
            states = self._loaded.states
            if len(states) > 1:
                raise ValueError("nothing is read since resume(): keep the states it was given")
            return states[0].to_dict()
        if self._place is None:
            epoch, world = self.epoch, self._world()
            lanes = Lanes(self.recipe.parts.num_parts, self.shuffle, self.seed, epoch)
            pieces, done = self._beginning(lanes, world)
        else:
            (epoch, world), (pieces, done) = self._running, self._place()
        index, number = world.consumer_index, world.num_consumers
        return State(self.made_with, epoch, index, number, pieces, done).to_dict()

    def load_state_dict(self, state: dict) -> None:
        """Let the next pass go on where `state` was taken, by the same worker of the same rank.

        After it comes the beginning again. For other numbers of ranks or workers see `resume`.
        Raises ValueError if the state is damaged, or naming both values of what differs.
        """
        state = State.from_dict(state)
        check_made_with(state.made_with, self.made_with)
        self._load([state], anew=False)

    def resume(self, states: Any, *, rank: int = 0, world_size: int = 1) -> BlockStream:
        """The same stream on another number of ranks or workers, where all the old ones stood.

        `states` are those of all ranks, of streams or of `StatefulDataLoader`s. What they had left
        is dealt anew: every remaining document is read once. As many consumers as before go on with
        the very blocks that were due. The first consumer's ledger begins with all their accounts.
        Raises ValueError if a state is missing, or as `load_state_dict`.
        """
        World(rank, world_size)
        found = collect(states)
        check_made_with(found[0].made_with, self.made_with)
        stream = object.__new__(type(self))
        stream.__dict__ = {**self.__dict__, "_place": None, "rank": rank, "world_size": world_size}
        stream._shared = torch.zeros_like(self._shared).share_memory_()
        stream._load(found, anew=True)
        return stream

    @property
    def ledger(self) -> Ledger:
        """The account of all that this stream has given out in this epoch, to the last block.

        Workers of a loader have their own, in their states: `total_ledger(loader.state_dict())`.
        """
        return State.from_dict(self.state_dict()).done.ledger(self.recipe.separator is not None)

    def total_ledger(self, states: Any) -> Ledger:
        """The accounts of all consumers together; `states` as for `resume`."""
        done = sum((state.done for state in collect(states)), Account())
        return done.ledger(self.recipe.separator is not None)

    def _items(self, this_pass: Pass) -> Iterator[dict]:
        size = self.batch_size or 1
        waiting = np.zeros((0, self.recipe.block_size), np.uint32)
        for part in this_pass.slices():
            blocks = np.concatenate((waiting, part.blocks)) if len(waiting) else part.blocks
            ready = len(blocks) - len(blocks) % size
            for number, item in enumerate(self._of(blocks[:ready]), start=1):
                self._place = partial(this_pass.place, part, number * size - len(waiting))
                yield item
            waiting = blocks[ready:].copy()  # and not a view that keeps a whole slice
        left_over = len(this_pass.buffer.remainder)
        padded = this_pass.buffer.finish(self.remainder, self._pad_id)
        num_padding = self.recipe.block_size - left_over if len(padded) else 0
        end = Account(in_blocks=left_over, padding=num_padding)
        if not len(padded):
            end = Account(left_over=left_over)
        done = this_pass.done + end
        self._place = lambda: ([], done)
        yield from self._of(np.concatenate((waiting, padded)), num_padding)

    def _of(self, blocks: np.ndarray, num_padding: int = 0) -> Iterator[dict]:
        return items(blocks, self.batch_size, self.remainder == "pad", num_padding)

    @property
    def _pad_id(self) -> int:
        tokenizer = self.recipe.tokenizer
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)  # any id would do: it is masked
        return next(pad for pad in pads if pad is not None)

    def _beginning(self, lanes: Lanes, world: World) -> tuple[list[Piece], Account]:
        return deal(lanes.all, world.consumer_index, world.num_consumers), Account()

    def _world(self) -> World:
        worker = get_worker_info()
        if worker is None:
            return World(self.rank, self.world_size)
        if worker.num_workers > MAX_WORKERS:
            raise ValueError(f"a loader may have {MAX_WORKERS} workers, not {worker.num_workers}")
        return World(self.rank, self.world_size, worker.id, worker.num_workers)

    def _load(self, states: list[State], anew: bool) -> None:
        self._loaded = Loaded(states, anew, os.getpid())
        if not get_worker_info():
            self._shared[1:] = 0
        self._shared[0] = states[0].epoch

    def _take_loaded(self) -> Loaded | None:
        """What was loaded and not yet begun on; a second pass begins at the beginning."""
        loaded, self._loaded = self._loaded, None
        worker = get_worker_info()
        if loaded and worker and loaded.process != os.getpid():
            # Loaded before this worker began: the parent hands it on again with every pass.
            if self._shared[1 + worker.id]:
                return None
            self._shared[1 + worker.id] = 1
        return loaded

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_place": None}

    def __setstate__(self, attributes: dict) -> None:
        self.__dict__.update(attributes)
        if not self._shared.is_shared():  # pickled for a rank, not for a worker
            self._shared.share_memory_()


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")


def _rules(quality: QualityFilter | None, column: str) -> dict[str, Any]:
    if quality is None:
        return {}
    if not isinstance(quality, QualityFilter):
        raise TypeError(f"filter must be a QualityFilter, got {quality!r}")
    if quality.column != column:
        raise ValueError(f"the filter reads column {quality.column!r}, the stream {column!r}")
    if quality.drop_duplicates:
        raise ValueError(
            "a consumer of a stream cannot see what the others read: drop duplicates before, with "
            "QualityFilter(drop_duplicates=True) on the whole data set"
        )
    return quality.rules()
