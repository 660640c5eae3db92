"""One consumer's pass over its share: windows of rows in, blocks out, and always known where it is.

A place in the stream is a document and a number of its ids, for at the end of a block nothing
waits in the rolling buffer but ids that can be read again. So a state holds no ids, and costs a
search in the offsets of one slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from llmpipe.account import Account
from llmpipe.blocks import RollingBuffer
from llmpipe.filters import judge
from llmpipe.lanes import Lanes, Piece
from llmpipe.part_reading import PartReader, SourceError, slices, whole_text
from llmpipe.recipe import Recipe

__all__ = ["Pass", "Slice", "SourceError", "Window"]

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
