"""Documents in, blocks out, in constant memory, resumable at any block on any number of consumers.

The parts of a source are put in order and dealt to consumers, each of them a worker of a rank. A
consumer reads its share a window of 1,000 rows at a time, filters it, tokenizes what was kept in
one call, and pushes the ids into its rolling buffer. Nothing else is held.
"""

from __future__ import annotations

from typing import Any

from llmpipe.account import Account
from llmpipe.dealt_stream import DealtStream
from llmpipe.filters import QualityFilter
from llmpipe.items import BlockPass
from llmpipe.lanes import Lanes, Piece
from llmpipe.ledger import Ledger
from llmpipe.recipe import Recipe


class BlockStream(DealtStream):
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

    counts = Account

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
        if remainder not in ("drop", "pad"):
            raise ValueError(f"remainder must be 'drop' or 'pad', got {remainder!r}")
        recipe = Recipe.of(
            documents,
            tokenizer,
            block_size,
            split=split,
            num_rows=num_rows,
            column=column,
            quality=filter,
            separator=separator,
        )
        self.remainder = remainder
        dealt = {"shuffle": shuffle, "seed": seed, "rank": rank, "world_size": world_size}
        super().__init__(recipe, batch_size=batch_size, **dealt)

    def _pass(self, lanes: Lanes, pieces: list[Piece], done: Account) -> BlockPass:
        return BlockPass(self.recipe, lanes, pieces, done, self.batch_size, self.remainder)

    def _ledger(self, done: Account) -> Ledger:
        return done.ledger(self.recipe.separator is not None)
