"""Answers to the exercises of the labs, one function or class each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime

import numpy as np

from llmpipe import chunk

# Lab 1


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
    """Ids a second of `epoch` by block size, after one epoch to warm up."""
    rates = {}
    for block_size in block_sizes:
        blocks, _ = chunk(ids, block_size)
        epoch(blocks)
        started = clock()
        epoch(blocks)
        rates[block_size] = blocks.size / (clock() - started)
    return rates


# Lab 2


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


# Lab 3


def shard_round_robin(items: list, rank: int, world_size: int) -> list:
    """The items at rank, rank + world_size, rank + 2 world_size, ..."""
    return items[rank::world_size]


def shard_contiguous(items: list, rank: int, world_size: int) -> list:
    """One run of neighbours; lengths differ by at most one."""
    # Where one rank ends the next begins, by the same formula: nothing is lost or doubled.
    start, end = (i * len(items) // world_size for i in (rank, rank + 1))
    return items[start:end]


def coverage(log: list[tuple[int, int]], num_documents: int) -> dict[str, list[int]]:
    """The ids that nobody read, and those read more than once, by one rank or several."""
    times_read = [0] * num_documents
    for _, document in log:
        times_read[document] += 1
    return {
        "missing": [document for document, times in enumerate(times_read) if times == 0],
        "doubled": [document for document, times in enumerate(times_read) if times > 1],
    }


def rows_of_rank(num_rows: int, rank: int, world_size: int) -> int:
    """The rows that round-robin gives a rank, without counting them."""
    full_rounds, left_over = divmod(num_rows, world_size)
    # The last round, which is not full, reaches the ranks below `left_over`.
    return full_rounds + (rank < left_over)


def predicted_efficiency(serial_share: float, num_ranks: int, num_cores: int) -> float:
    """Amdahl's speed-up, by the number of ranks; those beyond the cores bring nothing."""
    time = serial_share + (1 - serial_share) / min(num_ranks, num_cores)
    return 1 / time / num_ranks


def run_all(processes: list, wait) -> list:
    """The results of all ranks, in rank order; RuntimeError of the first that fails."""
    for _ in processes:
        rank = wait()
        process = processes[rank]
        # `is None` and not falsy: a rank that counted 0 tokens has delivered.
        if process.exitcode != 0 or process.result is None:
            for other in processes:
                other.terminate()  # does nothing to one that has ended
            raise RuntimeError(f"rank {rank}: exit code {process.exitcode}")
    return [process.result for process in processes]


# Lab 4


def pad_to_longest(reviews: list[list[int]], pad_id: int) -> tuple[list, list]:
    """Ids and attention mask of a batch, both (num_reviews, length of the longest)."""
    longest = max(map(len, reviews), default=0)
    input_ids = [ids + [pad_id] * (longest - len(ids)) for ids in reviews]
    # By place and not by value: `pad_id` may be a real id of a review.
    attention_mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in reviews]
    return input_ids, attention_mask


def length_buckets(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Batches of indices, from the shortest review to the longest."""
    # `sorted` is stable: equally long reviews stay in their order.
    by_length = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [by_length[i : i + batch_size] for i in range(0, len(lengths), batch_size)]


def padding_ratio(attention_mask: list[list[int]]) -> float:
    """The share of all positions that is padding, 0.0 if there are none."""
    num_positions = sum(map(len, attention_mask))
    num_ids = sum(map(sum, attention_mask))
    return (num_positions - num_ids) / num_positions if num_positions else 0.0


def balanced_plan(labels: list[int], rank: int, world_size: int) -> list[int]:
    """The rows of a rank: of each class as many as any other rank has, give or take one."""
    # Sorted, each class is one run, and round-robin deals every run evenly.
    by_label = sorted(range(len(labels)), key=lambda row: labels[row])
    return by_label[rank::world_size]


def keep_both_ends(ids: list[int], max_length: int) -> list[int]:
    """At most `max_length` ids: the beginning, which has one more if it is odd, and the end."""
    if len(ids) <= max_length:
        return ids
    num_last = max_length // 2
    # Counted from the start: `ids[-num_last:]` is all of them if `num_last` is 0.
    return ids[: max_length - num_last] + ids[len(ids) - num_last :]
