"""Documents in, blocks out, in constant memory, resumable at any block on any number of consumers.

The parts of a source are put in order and dealt to consumers, each of them a worker of a rank. A
consumer reads its share a window of 1,000 rows at a time, filters it, tokenizes what was kept in
one call, and pushes the ids into its rolling buffer. Nothing else is held."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import get_worker_info

from llmpipe.chunking.blocks import RollingBuffer
from llmpipe.chunking.dataset import IGNORED
from llmpipe.columns import slices, whole_text
from llmpipe.filtering import QualityFilter, judge
from llmpipe.ledger import Ledger
from llmpipe.streaming.partition import Lanes, Piece
from llmpipe.streaming.processor import Recipe
from llmpipe.streaming.reader import PartReader
from llmpipe.streaming.resumable import DealtStream
from llmpipe.streaming.state import Account
from llmpipe.streaming.workers import to_send

# Tokenized at a time: a window of long documents must not fill the memory with its ids.
SLICE_BYTES = 2**20


class Window(NamedTuple):
    """A consumer's rows of one window, in reading order."""

    piece: Piece
    later: list[Piece]  # what is to be read after this piece
    before: Account  # of all windows before this one
    rows: np.ndarray
    texts: pa.ChunkedArray
    verdicts: np.ndarray


class Slice(NamedTuple):
    """Some documents of a window, and the blocks that they completed, (0 or more, block_size).

    The first block begins with `waited` ids of earlier slices; `ids_before` ids are in earlier
    blocks. `offsets` counts from the first id that this pass took of the first document.
    """

    window: Window
    rows: np.ndarray
    offsets: np.ndarray
    waited: int
    ids_before: int
    blocks: np.ndarray


class Pass:
    """One pass over `pieces`: `slices()` yields their blocks, `place` says where a block ends.

    `done` counts all windows up to now, and the ids that were in blocks before this pass.
    """

    def __init__(self, recipe: Recipe, lanes: Lanes, pieces: list[Piece], done: Account) -> None:
        self.recipe, self.lanes, self.pieces, self.done = recipe, lanes, pieces, done
        self.buffer = RollingBuffer(recipe.block_size)
        self._reader = PartReader(
            recipe.parts, lanes, {recipe.column: whole_text}, lambda: self.done.rows
        )

    def slices(self) -> Iterator[Slice]:
        """Slice after slice; then `finish` says what becomes of the last ids."""
        num_ids = self.done.in_blocks
        for piece, later in self.lanes.by_part(self.pieces):
            for rows, (texts,) in self._reader.own_rows(piece):
                if rows[0] == piece.row and piece.digest not in ("", _digest(texts[0].as_py())):
                    raise self._reader.another(piece)
                verdicts, kept = judge(texts, self.recipe.rules)
                window = Window(piece, later, self.done, rows, texts, verdicts)
                rows = rows[verdicts == 0]
                for start, stop in slices(kept, SLICE_BYTES):
                    ids, offsets = self.recipe.encode(kept.slice(start, stop - start))
                    ids, offsets = _without_read(ids, offsets, rows[start], window)
                    waited, blocks = len(self.buffer.remainder), self.buffer.push(ids)
                    yield Slice(window, rows[start:stop], offsets, waited, num_ids, blocks)
                    num_ids += blocks.size
                self.done = self.done + self.recipe.account(verdicts)
        self.done = replace(self.done, in_blocks=num_ids)

    def finish(self, remainder: str) -> tuple[np.ndarray, int]:
        """The block that the last ids make, (0 or 1, block_size), and how much of it is padding."""
        left_over = len(self.buffer.remainder)
        block = self.buffer.finish(remainder, self.recipe.pad_id)
        num_padding = block.size - left_over if len(block) else 0
        end = Account(in_blocks=left_over, padding=num_padding)
        self.done = self.done + (end if len(block) else Account(left_over=left_over))
        return block, num_padding

    def place(self, of: Slice, num_blocks: int) -> tuple[list[Piece], Account]:
        """What is left to read, and what is done, after `num_blocks` (1 or more) of a slice."""
        window, new_ids = of.window, num_blocks * self.recipe.block_size
        read = new_ids - of.waited  # of this slice's ids
        document = int(np.searchsorted(of.offsets, read, side="right")) - 1
        row, num_ids = int(of.rows[-1]) + 1, 0
        if document < len(of.rows):
            row, num_ids = int(of.rows[document]), int(read - of.offsets[document])
            if document == 0 and row == window.piece.row:
                num_ids += window.piece.id
        index = int(np.searchsorted(window.rows, row))
        digest = _digest(window.texts[index].as_py()) if index < len(window.rows) else ""
        piece = window.piece._replace(row=row, id=num_ids, digest=digest)
        done = window.before + self.recipe.account(window.verdicts[:index])
        return [piece, *window.later], replace(done, in_blocks=of.ids_before + new_ids)


def _without_read(
    ids: np.ndarray, offsets: np.ndarray, first_row: int, window: Window
) -> tuple[np.ndarray, np.ndarray]:
    """A slice without the ids of its first document that were given out before this pass."""
    piece = window.piece
    if not piece.id or first_row != piece.row:
        return ids, offsets
    return ids[piece.id :], np.concatenate((offsets[:1], offsets[1:] - piece.id))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class BlockPass(Pass):
    """A pass that gives out items: dicts of tensors, of one block each or of `batch_size`."""

    def __init__(
        self,
        recipe: Recipe,
        lanes: Lanes,
        pieces: list[Piece],
        done: Account,
        batch_size: int | None,
        remainder: str,
    ) -> None:
        super().__init__(recipe, lanes, pieces, done)
        self.batch_size, self.remainder = batch_size, remainder

    def given_out(self) -> Iterator[tuple[dict, Callable[[], tuple[list[Piece], Account]]]]:
        """The items, each with a function that tells what is left and done after it.

        Afterwards `done` counts all, also what became of the `remainder`: "drop" or "pad".
        """
        size, masked = self.batch_size or 1, self.remainder == "pad"
        waiting = np.zeros((0, self.recipe.block_size), np.uint32)
        for part in self.slices():
            blocks = np.concatenate((waiting, part.blocks)) if len(waiting) else part.blocks
            ready = len(blocks) - len(blocks) % size
            for number, item in enumerate(items(blocks[:ready], self.batch_size, masked), start=1):
                yield item, partial(self.place, part, number * size - len(waiting))
            waiting = blocks[ready:].copy()  # and not a view that keeps a whole slice
        last, num_padding = self.finish(self.remainder)
        for item in items(np.concatenate((waiting, last)), self.batch_size, masked, num_padding):
            yield item, lambda: ([], self.done)


def items(
    blocks: np.ndarray, batch_size: int | None, masked: bool = False, num_padding: int = 0
) -> Iterator[dict]:
    """Items out of blocks of shape (n, T): one a block, or batches (B, T), the last maybe smaller.

    Each holds `input_ids`, `labels`, which are the same ids, and if `masked` an `attention_mask`.
    The last `num_padding` ids of the last block are padding: 0 in the mask, -100 in the labels.
    They go by place and not by value, since an id that pads may be one of the text as well.

    >>> item, = items(np.array([[5, 6, 6]]), batch_size=None, masked=True, num_padding=1)
    >>> {name: tensor.tolist() for name, tensor in item.items()}
    {'input_ids': [5, 6, 6], 'labels': [5, 6, -100], 'attention_mask': [1, 1, 0]}
    """
    if not len(blocks):
        return
    # Copied by NumPy: torch would wake its threads for so many ids, and wait for busy cores.
    input_ids = blocks.astype(np.int64)
    arrays = {"input_ids": input_ids, "labels": input_ids.copy()}
    if masked:
        arrays["attention_mask"] = np.ones_like(input_ids)
        if num_padding:
            arrays["labels"][-1, -num_padding:] = IGNORED
            arrays["attention_mask"][-1, -num_padding:] = 0
    columns = {name: torch.from_numpy(array) for name, array in arrays.items()}
    parts = (c.split(batch_size) if batch_size else c.unbind() for c in columns.values())
    for row in zip(*parts, strict=True):
        if get_worker_info():
            row = to_send(row, shared=batch_size is not None)
        yield dict(zip(columns, row, strict=True))


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
    `llmpipe.streaming.block_stream.SourceError` where the source fails.
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
