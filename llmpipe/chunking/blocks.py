"""Ids to fixed-length blocks: `chunk` for what fits in memory, `RollingBuffer` for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from llmpipe.arguments import check_choice, check_count
from llmpipe.ledger import Entry, Ledger


class Chunks(NamedTuple):
    """`blocks` of shape (num_blocks, block_size), and a `remainder` of fewer ids than a block."""

    blocks: np.ndarray
    remainder: np.ndarray

    @property
    def ledger(self) -> Ledger:
        num_out, remainder = self.blocks.size, self.remainder.size
        return Ledger(Entry("chunk", "ids", num_out + remainder, num_out, remainder=remainder))


def chunk(ids: Any, block_size: int) -> Chunks:
    """Cut a row of ids into blocks: one reshape, so the blocks are a view of `ids`, not a copy.

    >>> blocks, remainder = chunk(np.arange(8), block_size=3)
    >>> blocks.tolist(), remainder.tolist()
    ([[0, 1, 2], [3, 4, 5]], [6, 7])

    Raises TypeError or ValueError if `block_size` is not an integer of 1 or more, or `ids` is not
    one row of integers.
    """
    block_size = check_count("block_size", block_size, 1)
    ids = _one_row(ids)
    num_blocks = len(ids) // block_size
    cut = num_blocks * block_size
    return Chunks(ids[:cut].reshape(num_blocks, block_size), ids[cut:])


class RollingBuffer:
    """Ids in, in any portions; whole blocks out, as soon as they are full. Holds less than a block.

    The blocks do not depend on the portions: they are those that `chunk` would cut from all the
    ids together.

    >>> buffer = RollingBuffer(block_size=3)
    >>> buffer.push([0, 1]).tolist(), buffer.push([2, 3, 4, 5, 6]).tolist()
    ([], [[0, 1, 2], [3, 4, 5]])
    >>> buffer.finish("pad", pad_id=9).tolist()
    [[6, 9, 9]]
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = check_count("block_size", block_size, 1)
        self.remainder = np.zeros(0, np.uint32)
        self._num_in = self._num_out = self._padded = self._dropped = 0

    def push(self, ids: Any) -> np.ndarray:
        """Take a portion of ids; return the blocks it completes: shape (0 or more, block_size)."""
        ids = _one_row(ids)
        self._num_in += len(ids)
        if len(self.remainder):
            ids = np.concatenate((self.remainder, ids))
        blocks, remainder = chunk(ids, self.block_size)
        # A copy, so that a few ids left over do not keep a whole portion in memory.
        self.remainder = remainder.copy()
        self._num_out += blocks.size
        return blocks

    def finish(self, remainder: str = "drop", pad_id: int | None = None) -> np.ndarray:
        """Say what becomes of the last ids; return the block they make: shape (0 or 1, block_size).

        "drop" counts them as dropped, "pad" fills a block with `pad_id`, "keep" leaves them in
        `remainder`. Afterwards "drop" and "pad" leave the buffer empty.
        """
        check_choice("remainder", remainder, ("drop", "pad", "keep"))
        if remainder == "pad":
            self._check_pad_id(pad_id)
        none = np.zeros((0, self.block_size), self.remainder.dtype)
        if remainder == "keep" or not len(self.remainder):
            return none
        rest, self.remainder = self.remainder, self.remainder[:0]
        if remainder == "drop":
            self._dropped += len(rest)
            return none
        block = np.full((1, self.block_size), pad_id, rest.dtype)
        block[0, : len(rest)] = rest
        self._padded += self.block_size - len(rest)
        self._num_out += self.block_size
        return block

    def _check_pad_id(self, pad_id: Any) -> None:
        """Before anything changes, so that a refused `finish` loses no id."""
        if pad_id is None:
            raise ValueError("remainder='pad' needs a pad_id: the id to fill the last block with")
        check_count("pad_id", pad_id, 0, min(2**32, 1 + np.iinfo(self.remainder.dtype).max))

    def blocks(self, portions: Iterable[Any]) -> Iterator[np.ndarray]:
        """Push each portion and yield the blocks one by one; call `finish` afterwards for the rest.

        An error of `portions` passes through once every block complete by then was yielded.
        """
        for ids in portions:
            yield from self.push(ids)

    @property
    def ledger(self) -> Ledger:
        """All ids so far: in, padding added, out, dropped, and the remainder that waits."""
        return Ledger(
            Entry(
                "chunk",
                "ids",
                self._num_in,
                self._num_out,
                added={"padding": self._padded},
                dropped={"remainder": self._dropped},
                remainder=len(self.remainder),
            )
        )

    def state_dict(self) -> dict:
        """All that the buffer knows, in integers; a copy, which the next `push` leaves alone."""
        return {
            "block_size": self.block_size,
            "remainder": self.remainder.tolist(),
            "dtype": str(self.remainder.dtype),
            "counts": [self._num_in, self._num_out, self._padded, self._dropped],
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on where a buffer of the same block size stood; ValueError if the sizes differ."""
        if state["block_size"] != self.block_size:
            raise ValueError(
                f"the state was saved with block_size {state['block_size']}, "
                f"this buffer has {self.block_size}"
            )
        self.remainder = np.array(state["remainder"], state["dtype"])
        self._num_in, self._num_out, self._padded, self._dropped = state["counts"]


def _one_row(ids: Any) -> np.ndarray:
    array = np.asarray(ids)
    if array.size == 0 and not np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.uint32)  # an empty list has no type of its own
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"ids must be one row of integers, got shape {array.shape} of {array.dtype}; "
            "pass tokens.ids, or concatenate the rows first"
        )
    return array
