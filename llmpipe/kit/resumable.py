"""A stream of blocks that resumes, and two that do not: one method differs in each.

They change their buffer in place (`extend`, `del`), as one first writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmpipe.blocks import check_block_size


class ResumableBlocks:
    """Blocks of `block_size` ids, cut from documents of any lengths; resumable after every block.

    Iterating goes on from where the stream stands, and a last portion that fills no block stays in
    `buffer`.

    >>> stream = ResumableBlocks([[0, 1], [2, 3, 4, 5]], block_size=3)
    >>> next(iter(stream)), stream.state_dict()
    ([0, 1, 2], {'next_document': 2, 'buffer': [3, 4, 5]})
    """

    def __init__(self, documents: Sequence[Sequence[int]], block_size: int) -> None:
        check_block_size(block_size)
        self.documents, self.block_size = documents, block_size
        self.next_document = 0
        self.buffer: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            while len(self.buffer) < self.block_size:
                if self.next_document == len(self.documents):
                    return
                self.buffer.extend(self.take_document())
            yield self.cut_block()

    def take_document(self) -> Sequence[int]:
        ids = self.documents[self.next_document]
        self.next_document += 1
        return ids

    def cut_block(self) -> list[int]:
        block = self.buffer[: self.block_size]
        del self.buffer[: self.block_size]
        return block

    def state_dict(self) -> dict:
        return {"next_document": self.next_document, "buffer": self.buffer.copy()}

    def load_state_dict(self, state: dict) -> None:
        self.next_document, self.buffer = state["next_document"], state["buffer"].copy()


class AliasedState(ResumableBlocks):
    """Broken: its state holds the buffer itself, which every block that comes after changes."""

    def state_dict(self) -> dict:
        return {"next_document": self.next_document, "buffer": self.buffer}


class EmitBeforeRefill(ResumableBlocks):
    """Broken: it takes a document, yields a block, and only then puts the document into its buffer.

    Uninterrupted, it gives the same blocks as the others.
    """

    def __iter__(self) -> Iterator[list[int]]:
        while self.next_document < len(self.documents):
            ids = self.take_document()
            # While a block is out, `ids` are a local variable of this generator, in no state.
            while len(self.buffer) >= self.block_size:
                yield self.cut_block()
            self.buffer.extend(ids)
        while len(self.buffer) >= self.block_size:
            yield self.cut_block()
