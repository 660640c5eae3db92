"""Answers to the exercises of Lab 1, one function or class each."""

from __future__ import annotations

import numpy as np

from llmpipe import chunk


def my_rule(text: str) -> str | None:
    """A quality rule: text that shouts is dropped, and "shouting" is the reason."""
    letters = [character for character in text if character.isalpha()]
    num_capitals = sum(letter.isupper() for letter in letters)
    # Multiplied, not divided: a text without letters needs no case of its own.
    return "shouting" if 2 * num_capitals > len(letters) else None


def ids_lost(lengths: list[int], batch_size: int, block_size: int) -> int:
    """Ids dropped when each map batch of `batch_size` documents is cut into blocks by itself."""
    lost = 0
    for start in range(0, len(lengths), batch_size):
        lost += sum(lengths[start : start + batch_size]) % block_size
    return lost


def chunk_padded(ids: np.ndarray, block_size: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks and attention mask, both (num_blocks, block_size); the last block is padded."""
    num_blocks = -(-len(ids) // block_size)  # rounded up
    blocks = np.full(num_blocks * block_size, pad_id)
    blocks[: len(ids)] = ids
    # By place and not by value: `pad_id` may be a real id of the text.
    attention_mask = np.arange(num_blocks * block_size) < len(ids)
    shape = (num_blocks, block_size)
    return blocks.reshape(shape), attention_mask.astype(np.int64).reshape(shape)


def smallest_good_batch_size(measure, sizes: list[int], tolerance: float) -> int:
    """The smallest size whose rate is at least (1 - tolerance) times the best of all."""
    rates = {size: measure(size) for size in sizes}
    enough = (1 - tolerance) * max(rates.values())
    return min(size for size, rate in rates.items() if rate >= enough)


def measure_block_sizes(ids: np.ndarray, block_sizes: list[int], epoch, clock) -> dict[int, float]:
    """Tokens per second of `epoch` by block size, after one epoch to warm up."""
    rates = {}
    for block_size in block_sizes:
        blocks, _ = chunk(ids, block_size)
        epoch(blocks)
        started = clock()
        epoch(blocks)
        rates[block_size] = blocks.size / (clock() - started)
    return rates
