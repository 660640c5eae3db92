"""Parallel language modelling as one first writes it: a program that `llmpipe bench lab3` starts.

Every rank is a spawned process. It streams the whole file, takes every `world_size`-th row for its
own, and has one tokenizer call a row and a Python list for a buffer. As in `classic`, nothing is
slowed down on purpose. Its imports stand at the top, as they do in such scripts; a spawned process
imports its script again, so every rank and the parent pay for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoTokenizer

from llmpipe.classroom.bench.rank_files import RankFile


class RankBlocks(IterableDataset):
    """The blocks of the rows that are this rank's."""

    def __init__(
        self, file: str, tokenizer_folder: str, rank: int, sizes: tuple[int, int, int]
    ) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        self.rows = load_dataset(
            "parquet", data_files={"train": file}, split="train", streaming=True
        )
        self.rank = rank
        self.world_size, self.min_chars, self.block_size = sizes
        self.buffer: list[int] = []
        self.num_rows = self.num_documents = 0

    def __iter__(self) -> Iterator[dict]:
        for index, row in enumerate(self.rows):
            if index % self.world_size != self.rank:
                continue
            self.num_rows += 1
            if len(row["text"].strip()) < self.min_chars:
                continue
            self.num_documents += 1
            self.buffer.extend(self.tokenizer(row["text"])["input_ids"])
            while len(self.buffer) >= self.block_size:
                ids = torch.tensor(self.buffer[: self.block_size])
                yield {"input_ids": ids, "labels": ids.clone()}
                self.buffer = self.buffer[self.block_size :]


def run_rank(
    rank: int,
    file: str,
    tokenizer_folder: str,
    world_size: int,
    min_chars: int,
    block_size: int,
    batch_size: int,
    folder: str,
) -> None:
    kept = RankFile(folder, rank)
    dataset = RankBlocks(file, tokenizer_folder, rank, (world_size, min_chars, block_size))
    for batch in DataLoader(dataset, batch_size=batch_size, num_workers=0):
        kept.add(batch["input_ids"])
    kept.write(dataset.num_rows, dataset.num_documents, remainder=dataset.buffer)


def main(file: str, tokenizer_folder: str, *more: str) -> None:
    """`more` are world_size, min_chars, block_size, batch_size, and a folder for the results."""
    *sizes, folder, _ = more
    sizes = tuple(map(int, sizes))
    torch.multiprocessing.spawn(run_rank, (file, tokenizer_folder, *sizes, folder), nprocs=sizes[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
