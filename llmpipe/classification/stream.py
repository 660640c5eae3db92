"""Labelled text in, padded batches out: constant memory, mixed labels, resumable at any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

from llmpipe.arguments import check_count
from llmpipe.classification.encoding import Encoding, Rows, batches_in_order, sizes_of, widths_of
from llmpipe.classification.interleave import Mixed, mixed
from llmpipe.classification.labels import (
    HINT,
    LabelAccount,
    known_num_labels,
    label_column,
    warn_of_one_class,
)
from llmpipe.columns import require_column, whole_text
from llmpipe.ledger import Ledger
from llmpipe.sources.parts import WINDOW_ROWS, Parts
from llmpipe.streaming.partition import PER_PART, Lanes, Piece
from llmpipe.streaming.processor import opened
from llmpipe.streaming.reader import PartReader
from llmpipe.streaming.resumable import DealtStream
from llmpipe.streaming.workers import to_send

# Padded at a time, and with "buckets" sorted by length among themselves: at least as many rows,
# or as many batches. A window's rows: where batches of 8 are made of it, none has to wait for the
# next, and be copied for that.
GROUP_ROWS, GROUP_BATCHES = WINDOW_ROWS, 4


class Group(NamedTuple):
    """Some rows of a `Mixed` from `start` on, and the `order` in which they are given out.

    Batches have these `sizes`, and each row so many places (`widths`). Rows that were `done` out
    of turn before are not in the order. `before` is the account of all that came before the group.
    """

    chunk: Mixed
    start: int
    rows: Rows
    done: np.ndarray
    order: np.ndarray
    sizes: np.ndarray
    widths: np.ndarray
    before: LabelAccount


class LabelledPass:
    """One pass over `pieces`; `done` counts all groups up to now."""

    def __init__(
        self,
        recipe: Any,
        lanes: Lanes,
        pieces: list[Piece],
        done: LabelAccount,
        *,
        batch_size: int | None,
        padding: str,
    ) -> None:
        self.encoding, self.lanes, self.done = recipe.encoding, lanes, done
        self.batch_size, self.padding = batch_size, padding
        self._reader = recipe.reader(lanes, lambda: self.done.rows)
        self._chunks = mixed(self._reader, pieces, recipe.encoding)

    def given_out(self) -> Iterator[tuple[dict, Callable[[], tuple[list[Piece], LabelAccount]]]]:
        """The items, each with a function that tells what is left and done after it."""
        for group in self._groups():
            for item, num_rows in self._items(group):
                yield item, partial(self._place, group, num_rows)
            self.done = self._account(group, len(group.order))

    def _groups(self) -> Iterator[Group]:
        size, is_first = self.batch_size or 1, not self.done.rows
        num_rows = size * max(GROUP_BATCHES, GROUP_ROWS // size)
        waiting = None
        for chunk in self._chunks:
            chunk = chunk if waiting is None else waiting.then(chunk)
            ready = len(chunk) - len(chunk) % num_rows
            if is_first and ready:
                warn_of_one_class(chunk.encoded.labels[:num_rows], "the first rows")
                is_first = False
            for start in range(0, ready, num_rows):
                yield self._group(chunk, start, num_rows)
            waiting = chunk.rest(ready) if ready < len(chunk) else None
        if waiting is not None:
            if is_first:
                warn_of_one_class(waiting.encoded.labels, "these rows")
            yield self._group(waiting, 0, len(waiting))

    def _group(self, chunk: Mixed, start: int, num_rows: int) -> Group:
        rows = chunk.encoded.take(slice(start, start + num_rows))
        done, order = chunk.done(start, start + num_rows), np.arange(num_rows)
        sizes = sizes_of(num_rows, self.batch_size or 1)
        if self.padding == "buckets":
            part = self._reader.part_of(chunk.pieces[int(chunk.opened[start])][1])
            batches = self.lanes.batches(part, int(chunk.rows[start]), len(sizes))
            order = np.argsort(rows.lengths, kind="stable")[batches_in_order(sizes, batches)]
            sizes = sizes[batches]
        if done.any():
            of_batch = np.repeat(np.arange(len(sizes)), sizes)[~done[order]]
            order, sizes = order[~done[order]], np.bincount(of_batch)
            sizes = sizes[sizes > 0]
        widths = np.full(len(order), self.encoding.max_length)
        if self.padding != "max_length":
            widths = widths_of(rows.lengths[order], sizes)
        return Group(chunk, start, rows, done, order, sizes, widths, self.done)

    def _items(self, group: Group) -> Iterator[tuple[dict, int]]:
        """Each item of a group, and how many rows of its order are given out with it."""
        rows = group.rows.take(group.order)
        # By NumPy: torch would wake its threads for so many ids, and wait for busy cores.
        columns = [*self.encoding.padded(rows, group.widths), rows.labels.astype(np.int64)]
        widths = group.widths[np.cumsum(group.sizes) - 1]
        places, sizes = (group.sizes * widths).tolist(), group.sizes.tolist()
        # Cut by torch in one call: a slice of a tensor in Python costs four times as much.
        columns = map(torch.Tensor.split, map(torch.from_numpy, columns), (places, places, sizes))
        num_rows = 0
        for size, width, *row in zip(sizes, widths.tolist(), *columns, strict=True):
            shape = (width,) if self.batch_size is None else (size, width)
            input_ids, mask, label = row
            row = (
                input_ids.view(shape),
                mask.view(shape),
                label[0] if self.batch_size is None else label,
            )
            if get_worker_info():
                row = to_send(row, shared=self.batch_size is not None)
            num_rows += size
            yield dict(zip(("input_ids", "attention_mask", "labels"), row, strict=True)), num_rows

    def _place(self, group: Group, num_rows: int) -> tuple[list[Piece], LabelAccount]:
        """What is left to read, and what is done, after so many rows of a group's order."""
        given = group.done.copy()
        given[group.order[:num_rows]] = True
        if self.padding == "buckets" and num_rows < len(group.order):
            # The group must be sorted again as it was: what is given out of it is noted row by row.
            left = group.chunk.left(group.start, given)
        else:
            left = group.chunk.left(group.start + int(given.sum()))
        return left, self._account(group, num_rows)

    def _account(self, group: Group, num_rows: int) -> LabelAccount:
        rows = group.rows.take(group.order[:num_rows])
        padding = int(group.widths[:num_rows].sum() - rows.lengths.sum())
        return group.before + self.encoding.account(rows, padding)


@dataclass(frozen=True)
class LabelledRecipe:
    """What a stream does to every row of `parts`; `made_with` tells it from others in a state."""

    parts: Parts
    columns: tuple[str, str]
    num_labels: int | None
    encoding: Encoding
    made_with: Mapping[str, Any]

    def reader(self, lanes: Lanes, rows_done: Callable[[], int]) -> PartReader:
        text, label = self.columns
        checks = {text: whole_text, label: partial(label_column, num_labels=self.num_labels)}
        return PartReader(self.parts, lanes, checks, rows_done, HINT)


class ClassificationStream(DealtStream):
    """Padded batches of labelled text, made while it is read.

    With `batch_size=8` items are whole batches for `DataLoader(stream, batch_size=None)`: dicts of
    int64 tensors, `input_ids` and `attention_mask` of shape (8, T) and `labels` of (8,); the last
    may be smaller. Without it they are single rows, of shapes (T,), (T,) and (), for
    `DataLoader(stream, batch_size=8)` and for `Trainer`. Ids are those of `transformers` with
    truncation: `[CLS]` and `[SEP]` stay. Padding is 0 in the mask, and nothing else is.

    `padding` is "max_length" (T is `max_length`), "longest" (T is the longest of a batch; a single
    row is not padded, for `DataCollatorWithPadding`), or "buckets": the longest again, but reviews
    of about a thousand are sorted by length before they are cut into batches, so that little is
    padding.

    `documents`, `split`, `num_rows`, `shuffle`, `seed`, `rank` and `world_size` are as in
    `BlockStream`, and so are states, epochs, and what is to be known about several processes. On
    data sorted by label a consumer must not read one part after the other: up to `mix` parts, from
    all over the source, are open at a time, and rows are taken from them in turn. `mix=1` keeps the
    source's order. A source of a single part cannot be mixed; a RuntimeWarning says so if the first
    thousand rows have one label.

    `num_labels` is the number of classes; where a data set of `datasets` has a `ClassLabel` it is
    known. `ledger` counts reviews by label, those cut, and ids cut off and added: see
    `llmpipe.classification.labels` for counts and ratios.

    Raises TypeError or ValueError for options out of range, and while it is read KeyError naming
    the columns there are, TypeError or ValueError naming a row whose text or label is none, and
    `llmpipe.streaming.reader.SourceError` where the source fails.
    """

    counts = LabelAccount

    def __init__(
        self,
        documents: Any,
        tokenizer: Any,
        max_length: int = 256,
        *,
        split: str = "train",
        num_rows: int | None = None,
        text_column: str = "text",
        label_column: str = "label",
        num_labels: int | None = None,
        padding: str = "max_length",
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        mix: int = 8,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_count("mix", mix, 1)
        if mix > PER_PART:
            raise ValueError(f"mix must be {PER_PART} or less, got {mix}")
        if num_labels is not None:
            check_count("num_labels", num_labels, 1)
        if padding not in ("max_length", "longest", "buckets"):
            raise ValueError(
                f"padding must be 'max_length', 'longest' or 'buckets', got {padding!r}"
            )
        if padding == "buckets" and batch_size is None:
            raise ValueError("padding='buckets' sorts rows into batches: give a batch_size")
        encoding = Encoding.of(tokenizer, max_length)
        parts, made_with = opened(documents, split, num_rows, tokenizer)
        columns = (text_column, label_column)
        for column in columns:
            if hasattr(documents, "column_names"):
                require_column(documents, column, HINT)
        made_with |= {
            "columns": list(columns),
            "max_length": max_length,
            "mix": mix,
            "buckets": f"of {batch_size}" if padding == "buckets" else None,
        }
        num_labels = num_labels or known_num_labels(documents, label_column)
        recipe = LabelledRecipe(parts, columns, num_labels, encoding, made_with)
        self.padding = padding
        dealt = {"shuffle": shuffle, "seed": seed, "rank": rank, "world_size": world_size}
        super().__init__(recipe, batch_size=batch_size, num_piles=mix, **dealt)

    def _pass(self, lanes: Lanes, pieces: list[Piece], done: LabelAccount) -> LabelledPass:
        options = {"batch_size": self.batch_size, "padding": self.padding}
        return LabelledPass(self.recipe, lanes, pieces, done, **options)

    def _ledger(self, done: LabelAccount) -> Ledger:
        return done.ledger()
