"""Answers to the exercises of Lab 2, one function or class each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime


def rolling_blocks(documents: Iterable[list[int]], block_size: int) -> Iterator[list[int]]:
    """Blocks of `block_size` ids, each as soon as it is full; between documents it holds less."""
    buffer = []
    for ids in documents:
        buffer += ids
        end_of_last = len(buffer) - len(buffer) % block_size
        for start in range(0, end_of_last, block_size):
            yield buffer[start : start + block_size]
        # Once a document and not once a block: each cut copies all that is left.
        buffer = buffer[end_of_last:]


def rolling_blocks_with_ends(
    documents: Iterable[list[int]], block_size: int, end_id: int
) -> Iterator[list[int]]:
    """As `rolling_blocks`, with `end_id` after every document."""
    return rolling_blocks(([*ids, end_id] for ids in documents), block_size)


class ResumableBlocks:
    """Blocks of documents that are at hand; its state is the place of the next id, two numbers.

    A place is enough since the ids can be read again. A stream that cannot go back to where its
    block began saves a copy of the ids in its buffer too.
    """

    def __init__(self, documents: list[list[int]], block_size: int) -> None:
        self.documents, self.block_size = documents, block_size
        self.document_index = self.id_index = 0

    def __iter__(self):
        return self

    def __next__(self) -> list[int]:
        block = []
        while len(block) < self.block_size:
            if self.document_index == len(self.documents):
                raise StopIteration
            ids = self.documents[self.document_index]
            end = self.id_index + self.block_size - len(block)
            block += ids[self.id_index : end]
            self.id_index = end
            if end >= len(ids):
                self.document_index, self.id_index = self.document_index + 1, 0
        return block

    def state_dict(self) -> dict[str, int]:
        return {"document_index": self.document_index, "id_index": self.id_index}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.document_index, self.id_index = state["document_index"], state["id_index"]


def split_stream(documents: Iterable[str], part: str, every: int) -> Iterator[str]:
    """The texts of one part; the text alone decides, so equal texts are never on both sides."""
    for text in documents:
        in_validation = zlib.crc32(text.encode("utf-8")) % every == 0
        if in_validation == (part == "validation"):
            yield text


def tokens_per_s(lines: list[str]) -> float:
    """Tokens per second from the first to the last line of the monitor, 0.0 where there is none."""
    monitored = [words for words in map(str.split, lines) if words[1:2] == ["step"]]
    if len(monitored) < 2:
        return 0.0
    first, last = monitored[0], monitored[-1]
    elapsed = datetime.fromisoformat(last[0]) - datetime.fromisoformat(first[0])
    num_tokens = int(last[4]) - int(first[4])
    return num_tokens / elapsed.total_seconds() if elapsed else 0.0
