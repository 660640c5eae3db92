"""The exercises of Lab 2: streams, one that can be resumed, and the log they leave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from llmpipe.kit.checks_log import TokensPerS
from llmpipe.kit.checks_streams import (
    RollingBlocks,
    RollingBlocksWithEnds,
    SplitStream,
    blocks_due,
    numbered,
    uneven_lengths,
)
from llmpipe.kit.exercise import Exercise


class ResumableBlocks(Exercise):
    """An input is the lengths, the block size, and how many blocks are taken before the state.

    An output is all blocks of the object that went on, those of the one that loaded its state, and
    how many numbers were in the state if they were too many, else 0.
    """

    name = "ResumableBlocks"
    signature = "ResumableBlocks(documents: list[list[int]], block_size: int)"
    task = (
        "**Exercise 3: stop and resume.** Write `ResumableBlocks(documents, block_size)`, an "
        "iterator over exercise 1's blocks. `state_dict()` works at any time, even after the end, "
        "and disturbs nothing. Its state goes through JSON into `load_state_dict` of a new object "
        "on the same documents, which then yields the blocks still due. At most `block_size + 8` "
        "numbers a state, however long the documents."
    )
    stub = """class ResumableBlocks:
    def __init__(self, documents: list[list[int]], block_size: int):
        raise NotImplementedError

    def __iter__(self):
        return self

    def __next__(self) -> list[int]:
        raise NotImplementedError

    def state_dict(self) -> dict:
        raise NotImplementedError

    def load_state_dict(self, state: dict) -> None:
        raise NotImplementedError"""
    BESIDES_IDS = 8  # places, counts and the like

    def inputs(self) -> Iterator[tuple]:
        for lengths, block_size in uneven_lengths():
            for num_taken in range(sum(lengths) // block_size + 2):
                yield lengths, block_size, num_taken

    def allowed(self, lengths: list[int], block_size: int, num_taken: int) -> bool:
        return block_size >= 1 and num_taken <= sum(lengths) // block_size + 1

    def arguments(self, lengths: list[int], block_size: int, num_taken: int) -> tuple:
        return numbered(lengths), block_size

    def output(self, answer: Any, lengths: list[int], block_size: int, num_taken: int) -> tuple:
        first = answer(*self.arguments(lengths, block_size, num_taken))
        blocks = iter(first)
        all_blocks = list(islice(blocks, num_taken))
        state = first.state_dict()
        all_blocks.extend(blocks)
        # Only now: a state that shares the buffer of the first has changed with it.
        text = json.dumps(state)
        second = answer(*self.arguments(lengths, block_size, num_taken))
        second.load_state_dict(json.loads(text))
        size = len(re.findall(r"\d+", text))
        return all_blocks, list(second), size if size > block_size + self.BESIDES_IDS else 0

    def due(self, lengths: list[int], block_size: int, num_taken: int) -> list:
        blocks = [block for block, _ in blocks_due(numbered(lengths), block_size)]
        return [blocks, blocks[num_taken:], 0]

    def why(self, lengths: list[int], block_size: int, num_taken: int) -> str:
        num_blocks, limit = sum(lengths) // block_size, block_size + self.BESIDES_IDS
        return f"blocks: {num_blocks}, numbers in the state: at most {limit}"

    def shown(self, lengths: list[int], block_size: int, num_taken: int) -> str:
        call = f"{self.name}({numbered(lengths)}, block_size={block_size})"
        if num_taken > sum(lengths) // block_size:
            return f"{call}, state after its end"
        return f"{call}, state after {num_taken} block{'s' * (num_taken != 1)}"

    def shown_output(self, value: list) -> str:
        all_blocks, resumed, too_many = value
        size = f", numbers in the state: {too_many}" if too_many else ""
        return f"in all {all_blocks}, resumed {resumed}{size}"


EXERCISES = (
    RollingBlocks(),
    RollingBlocksWithEnds(),
    ResumableBlocks(),
    SplitStream(),
    TokensPerS(),
)
