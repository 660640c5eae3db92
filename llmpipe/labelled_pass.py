"""A consumer's pass over labelled text: mixed rows in, padded batches out, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

from llmpipe.items import to_send
from llmpipe.label_account import LabelAccount
from llmpipe.labelled import Rows
from llmpipe.labels import warn_of_one_class
from llmpipe.lanes import Lanes, Piece
from llmpipe.mixing import Mixed, mixed
from llmpipe.padding import batches_in_order, sizes_of, widths_of
from llmpipe.parts import WINDOW_ROWS

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
