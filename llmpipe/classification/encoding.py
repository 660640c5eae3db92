"""Labelled text to rows of ids: tokenized, cut to a length, padded, sorted to save padding.

Rows lie one after the other in one array of ids; nothing here loops over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.arguments import check_count
from llmpipe.classification.labels import label_ledger
from llmpipe.columns import numbers, slices
from llmpipe.ledger import Ledger


def truncated(
    ids: np.ndarray, offsets: np.ndarray, max_length: int, around: tuple[int, int], side: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of at most `max_length` ids, and their offsets, cut at the right or left `side`.

    The special tokens `around` a row, so many before and behind it, stay: what is cut off on the
    right are the ids before `[SEP]`.

    >>> ids, offsets = np.array([1, 5, 6, 7, 2, 1, 2]), np.array([0, 5, 7])
    >>> truncated(ids, offsets, 3, (1, 1), "right")[0].tolist()
    [1, 5, 2, 1, 2]
    >>> truncated(ids, offsets, 3, (1, 1), "left")[0].tolist()
    [1, 7, 2, 1, 2]
    """
    full = np.diff(offsets)
    lengths = np.minimum(full, max_length)
    if len(ids) == lengths.sum():
        return ids, offsets
    ends = np.cumsum(lengths)
    starts, cut = ends - lengths, np.flatnonzero(full > max_length)
    first = offsets[:-1] if side == "right" else offsets[1:] - lengths
    taken = ids[np.arange(ends[-1]) + np.repeat(first - starts, lengths)]
    num_first, num_last = around
    for place in range(num_first if side == "left" else 0):
        taken[starts[cut] + place] = ids[offsets[:-1][cut] + place]
    for place in range(1, 1 + (num_last if side == "right" else 0)):
        taken[ends[cut] - place] = ids[offsets[1:][cut] - place]
    return taken, np.concatenate((np.zeros(1, np.int64), ends))


def padded(
    ids: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    widths: np.ndarray,
    pad_id: int,
    side: str = "right",
) -> tuple[np.ndarray, np.ndarray]:
    """Rows one after the other, row r on `widths[r]` places: ids, and a mask that is 0 on padding.

    Row r is `ids[starts[r]:][:lengths[r]]`. Both arrays are int64, of shape (widths.sum(),): a
    batch of B rows of width T is a view of shape (B, T) of each. The mask goes by place and not by
    value, since the id that pads may be one of the text as well.

    >>> rows, mask = padded(np.array([7, 8, 9]), np.array([0, 2]), np.array([2, 1]), [2, 2], 0)
    >>> rows.reshape(2, 2).tolist(), mask.reshape(2, 2).tolist()
    ([[7, 8], [9, 0]], [[1, 1], [1, 0]])
    """
    widths = np.asarray(widths, np.int64)
    # Each row's run of ids and its run of padding, in turn.
    runs, are_ids = [lengths, widths - lengths], [True, False]
    if side == "left":
        runs, are_ids = runs[::-1], are_ids[::-1]
    is_id = np.repeat(np.tile(are_ids, len(widths)), np.column_stack(runs).ravel())
    rows = np.full(len(is_id), pad_id, np.int64)
    rows[is_id] = _together(ids, starts, lengths)
    return rows, is_id.astype(np.int64)


def _together(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The ids of rows, one row after the other; no copy where they lie so already."""
    first = np.cumsum(lengths) - lengths
    shifts = starts - first
    if len(shifts) and (shifts == shifts[0]).all():
        return ids[starts[0] : starts[-1] + lengths[-1]]
    return ids[np.arange(lengths.sum()) + np.repeat(shifts, lengths)]


def by_length(lengths: np.ndarray, group_rows: int) -> np.ndarray:
    """An order of rows in which neighbours are about as long: shape (num_rows,).

    Each `group_rows` of them are sorted among themselves, so that a shuffle is not undone.

    >>> by_length(np.array([5, 3, 4, 9, 1]), group_rows=3).tolist()
    [1, 2, 0, 4, 3]
    """
    return np.lexsort((lengths, np.arange(len(lengths)) // group_rows))


def widths_of(lengths: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The longest of its batch, for each row of batches of these sizes: shape (num_rows,).

    >>> widths_of(np.array([1, 3, 2, 2, 5]), np.array([2, 2, 1])).tolist()
    [3, 3, 2, 2, 5]
    """
    if not len(lengths):
        return lengths
    return np.repeat(np.maximum.reduceat(lengths, np.cumsum(sizes) - sizes), sizes)


def sizes_of(num_rows: int, batch_size: int) -> np.ndarray:
    """The sizes of batches of so many rows, the last maybe smaller.

    >>> sizes_of(5, batch_size=2).tolist()
    [2, 2, 1]
    """
    sizes = np.full(-(-num_rows // batch_size), batch_size)
    sizes[-1:] -= sizes.sum() - num_rows
    return sizes


def batches_in_order(sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Where the rows of batches stand once the batches are put in `order`: shape (num_rows,).

    >>> batches_in_order(np.array([2, 2, 1]), np.array([2, 0, 1])).tolist()
    [4, 0, 1, 2, 3]
    """
    rank = np.argsort(order, kind="stable")
    return np.argsort(np.repeat(rank, sizes), kind="stable")


# Tokenized at a time: a window of long documents must not fill the memory with its ids.
SLICE_BYTES = 4 * 2**20


class Rows(NamedTuple):
    """Reviews as ids: row r has `ids[starts[r]:][:lengths[r]]`, and had `full[r]` before the cut.

    `ids` is of the smallest unsigned type that holds the vocabulary; the others are int64, (D,).
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    full: np.ndarray
    labels: np.ndarray

    def take(self, rows: Any) -> Rows:
        """These rows, by their numbers or a slice; the ids stay where they are."""
        return Rows(self.ids, *(column[rows] for column in self[1:]))

    def packed(self) -> Rows:
        """The same rows with their own ids alone, in order."""
        starts = np.cumsum(self.lengths) - self.lengths
        places = np.arange(self.lengths.sum()) + np.repeat(self.starts - starts, self.lengths)
        return Rows(self.ids[places], starts, *(column.copy() for column in self[2:]))

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, one part after the other."""
        ids, starts, base = [], [], 0
        for part in parts:
            first, last = 0, 0
            if len(part.starts):
                first, last = part.starts.min(), (part.starts + part.lengths).max()
            ids.append(part.ids[first:last])
            starts.append(part.starts - first + base)
            base += last - first
        columns = zip(*(part[2:] for part in parts), strict=True)
        return Rows(np.concatenate(ids), np.concatenate(starts), *map(np.concatenate, columns))


@dataclass(frozen=True)
class Encoder:
    """How one review becomes ids: a tokenizer, the special tokens it puts around, a length.

    Special ids come with every review, so many before and behind it (`around`).
    """

    tokenizer: Any
    max_length: int
    around: tuple[int, int]
    dtype: type

    @classmethod
    def of(cls, tokenizer: Any, max_length: int) -> Encoder:
        """Raises TypeError or ValueError if `max_length` leaves no place for text.

        Which ids the tokenizer puts around a text is seen on a probe.
        """
        from llmpipe import load_tokenizer

        tokenizer = load_tokenizer(tokenizer)
        check_count("max_length", max_length, 1)
        check_count("pad_id", tokenizer.pad_id, 0, tokenizer.vocab_size)
        whole = tokenizer.encode(["a"]).ids.tolist()
        text = tokenizer.encode(["a"], add_special_tokens=False).ids.tolist()
        num_special = len(whole) - len(text)
        found = [n for n in range(num_special + 1) if whole[n : n + len(text)] == text]
        if not found:
            raise ValueError(
                f"{tokenizer.name} does not put its special tokens around a text alone: 'a' gives "
                f"{whole}, without them {text}"
            )
        first = found[0]
        if max_length <= num_special:
            names = {number: name for name, number in tokenizer.special_ids.items()}
            around = [*whole[:first], *whole[first + len(text) :]]
            named = " and ".join(names.get(number, str(number)) for number in around)
            raise ValueError(
                f"max_length must be {num_special + 1} or more, got {max_length}: {named} take "
                f"{num_special} places, and a review needs one for its text"
            )
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        return cls(tokenizer, max_length, (first, num_special - first), dtype)

    def rows(self, texts: pa.ChunkedArray, labels: pa.ChunkedArray) -> Rows:
        """The rows of one window of checked columns."""
        parts = []
        for start, stop in slices(texts, SLICE_BYTES):
            ids, offsets = self.tokenizer.encode(texts.slice(start, stop - start))
            full = np.diff(offsets)
            side = self.tokenizer.truncation_side
            ids, offsets = truncated(ids, offsets, self.max_length, self.around, side)
            starts, lengths = offsets[:-1], np.diff(offsets)
            own = numbers(labels.slice(start, stop - start))
            parts.append(Rows(ids.astype(self.dtype), starts, lengths, full, own))
        return parts[0] if len(parts) == 1 else Rows.join(parts) if parts else self.no_rows

    @property
    def no_rows(self) -> Rows:
        return Rows(np.zeros(0, self.dtype), *np.zeros((4, 0), np.int64))

    def ledger(self, rows: Rows, padding: int | None = None) -> Ledger:
        """What became of these rows; see `label_ledger`."""
        return label_ledger(rows.labels, rows.full, rows.lengths, sum(self.around), padding)

    def padded(self, rows: Rows, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of the rows, one after the other, each on so many places."""
        tokenizer = self.tokenizer
        columns = (rows.ids, rows.starts, rows.lengths)
        return padded(*columns, widths, tokenizer.pad_id, tokenizer.padding_side)
