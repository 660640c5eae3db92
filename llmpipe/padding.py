"""Rows of unequal length: cut to a length, laid out padded, sorted so that little is padding.

Rows lie one after the other in one array of ids; nothing here loops over them.
"""

from __future__ import annotations

import numpy as np


def truncated(
    ids: np.ndarray, offsets: np.ndarray, max_length: int, num_last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of at most `max_length` ids, and their offsets; the last `num_last` of a row stay last.

    `[SEP]` is such a last id: what is cut off are the ids before it.

    >>> ids, offsets = truncated(np.array([1, 5, 6, 7, 2, 1, 2]), np.array([0, 5, 7]), 3, 1)
    >>> ids.tolist(), offsets.tolist()
    ([1, 5, 2, 1, 2], [0, 3, 5])
    """
    full = np.diff(offsets)
    lengths = np.minimum(full, max_length)
    if len(ids) == lengths.sum():
        return ids, offsets
    ends = np.cumsum(lengths)
    cut = np.flatnonzero(full > max_length)
    taken = ids[np.arange(ends[-1]) + np.repeat(offsets[:-1] - (ends - lengths), lengths)]
    for place in range(1, num_last + 1):
        taken[ends[cut] - place] = ids[offsets[1:][cut] - place]
    return taken, np.concatenate((np.zeros(1, np.int64), ends))


def padded(
    ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, widths: np.ndarray, pad_id: int
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
    runs = np.column_stack((lengths, widths - lengths)).ravel()
    is_id = np.repeat(np.tile([True, False], len(widths)), runs)
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
