"""The labs' pipelines as one first writes them: what `llmpipe bench` compares with.

They follow the tutorials of `datasets`, `transformers` and `torch` step by step (the attention mask
goes along through `map`, as it does there), and nothing in them is slowed down on purpose. What
differs from `llmpipe` is the habits: a Python object for every row, id and block, and a copy at
every step.

Run as a program this is Lab 3: every rank is a spawned process, which streams the whole file and
takes every `world_size`-th row for its own. A spawned process imports its script again, so every
rank and the parent pay for what stands at the top, as it does in such scripts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import AutoTokenizer

from llmpipe.classroom.bench.plan import LABELLED, count_ids, gather, loaded
from llmpipe.classroom.bench.rank_files import write_rank


class Blocks(Dataset):
    def __init__(self, blocks: list[list[int]]) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict:
        ids = torch.tensor(self.blocks[index])
        return {"input_ids": ids, "labels": ids.clone()}


class StreamedBlocks(IterableDataset):
    """The blocks of the rows that are this rank's."""

    def __init__(
        self, file: str, tokenizer: Any, min_chars: int, block_size: int, rank=0, world_size=1
    ) -> None:
        files = {"train": file}
        self.rows = load_dataset("parquet", data_files=files, split="train", streaming=True)
        self.tokenizer, self.min_chars, self.block_size = tokenizer, min_chars, block_size
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[dict]:
        self.num_rows, self.num_documents, self.buffer = 0, 0, []
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

    def counts(self) -> tuple[int, int, list[int], int]:
        """At the end: rows read, documents kept, ids left over, and none of them padding."""
        return self.num_rows, self.num_documents, self.buffer, 0


class Reviews(Dataset):
    def __init__(self, rows: Any, tokenizer: Any, max_length: int) -> None:
        self.rows, self.tokenizer, self.max_length = rows, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        encoded = self.tokenizer(
            row["text"],
            truncation=True,
            max_length=self.max_length,
            padding="max_length",
            return_tensors="pt",
        )
        return {
            "input_ids": encoded["input_ids"].squeeze(0),
            "attention_mask": encoded["attention_mask"].squeeze(0),
            "labels": torch.tensor(row["label"]),
        }


def lab1(
    file: str, tokenizer_folder: str, min_chars: int, block_size: int, batch_size: int, watch: Any
) -> dict:
    """From a Parquet file to the end of one shuffled epoch; `watch.lap(stage)` after each stage.

    Returns what `llmpipe.classroom.bench.lab1.lab1` returns: `ids` (N,), `offsets` (D + 1,),
    `blocks` (num_blocks, block_size) and `counts`.
    """

    def tokenize(rows: dict) -> Any:
        return tokenizer(rows["text"])

    def group(rows: dict) -> dict:
        joined = {name: sum(lists, []) for name, lists in rows.items()}  # noqa: RUF017
        length = len(joined["input_ids"]) // block_size * block_size
        return {
            name: [values[start : start + block_size] for start in range(0, length, block_size)]
            for name, values in joined.items()
        }

    watch.start()
    documents = load_dataset("parquet", data_files={"train": file}, split="train")
    watch.lap("load")
    kept = documents.filter(lambda row: len(row["text"].strip()) >= min_chars)
    watch.lap("filter")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    watch.lap("tokenizer")
    tokenized = kept.map(tokenize, batched=True, remove_columns=kept.column_names)
    watch.lap("tokenize")
    grouped = tokenized.map(group, batched=True)
    blocks = grouped["input_ids"][:]
    watch.lap("chunk")
    epoch_ids = 0
    for batch in DataLoader(Blocks(blocks), batch_size=batch_size, shuffle=True):
        epoch_ids += batch["input_ids"].numel()
    watch.lap("epoch")

    rows = tokenized["input_ids"][:]
    return {
        "ids": np.fromiter(chain.from_iterable(rows), np.uint32),
        "offsets": np.cumsum([0, *map(len, rows)]),
        "blocks": np.array(blocks, np.uint32).reshape(-1, block_size),
        "counts": {"rows": documents.num_rows, "epoch_ids": epoch_ids},
    }


def lab2(
    file: str, tokenizer_folder: str, min_chars: int, block_size: int, batch_size: int, watch: Any
) -> dict:
    """From opening a Parquet file as a stream to the end of one epoch; laps as in `count_ids`.

    Returns what `llmpipe.classroom.bench.lab2.lab2` returns: `blocks` (num_blocks, block_size), and
    `counts`: `rows` read, `left_over` ids after the last block, `epoch_ids` in the batches.
    """
    tokenizer = loaded(AutoTokenizer.from_pretrained, tokenizer_folder, watch)
    dataset = StreamedBlocks(file, tokenizer, min_chars, block_size)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=0)
    counts = {"epoch_ids": count_ids(loader, watch)}
    counts |= {"rows": dataset.num_rows, "left_over": len(dataset.buffer)}
    return {**gather(loader, blocks="input_ids"), "counts": counts}


def lab4(file: str, tokenizer_folder: str, max_length: int, batch_size: int, watch: Any) -> dict:
    """From opening a Parquet file to the end of an epoch of padded batches; laps of `count_ids`.

    Returns `ids` and `mask` (num_rows, max_length), `labels` (num_rows,), `sizes` (num_batches,) of
    the batches, and `counts`: `epoch_ids`.
    """
    tokenizer = loaded(AutoTokenizer.from_pretrained, tokenizer_folder, watch)
    rows = load_dataset("parquet", data_files={"train": file}, split="train")
    reviews = Reviews(rows, tokenizer, max_length)
    loader = DataLoader(reviews, batch_size=batch_size, num_workers=0)
    counts = {"epoch_ids": count_ids(loader, watch)}
    return {**gather(loader, **LABELLED), "counts": counts}


def run_rank(
    rank: int, file: str, tokenizer_folder: str, sizes: tuple[int, int, int, int], folder: str
) -> None:
    world_size, min_chars, block_size, batch_size = sizes
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    dataset = StreamedBlocks(file, tokenizer, min_chars, block_size, rank, world_size)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=0)
    write_rank(folder, rank, loader, dataset.counts)


def main(file: str, tokenizer_folder: str, *more: str) -> None:
    """`more` are world_size, min_chars, block_size, batch_size, and a folder for the results."""
    *sizes, folder, _ = more
    sizes = tuple(map(int, sizes))
    torch.multiprocessing.spawn(run_rank, (file, tokenizer_folder, sizes, folder), nprocs=sizes[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
