"""The labs' pipelines as one first writes them: what `llmpipe bench` compares with.

They follow the tutorials of `datasets`, `transformers` and `torch` step by step (the attention mask
goes along through `map`, as it does there), and nothing in them is slowed down on purpose. What
differs from `llmpipe` is the habits: a Python object for every row, id and block, and a copy at
every step.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from llmpipe.classroom.bench.plan import count_ids, gather, gather_labelled, settle


def lab1(
    file: str, tokenizer_folder: str, min_chars: int, block_size: int, batch_size: int, watch: Any
) -> dict:
    """From a Parquet file to the end of one shuffled epoch; `watch.lap(stage)` after each stage.

    Returns what `llmpipe.classroom.bench.lab1.lab1` returns: `ids` (N,), `offsets` (D + 1,),
    `blocks` (num_blocks, block_size) and `counts`.
    """
    import torch
    from datasets import load_dataset
    from torch.utils.data import DataLoader, Dataset
    from transformers import AutoTokenizer

    class Blocks(Dataset):
        def __init__(self, blocks: list[list[int]]) -> None:
            self.blocks = blocks

        def __len__(self) -> int:
            return len(self.blocks)

        def __getitem__(self, index: int) -> dict:
            ids = torch.tensor(self.blocks[index])
            return {"input_ids": ids, "labels": ids.clone()}

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
    """From opening a Parquet file as a stream to the end of one epoch; laps as in `bench_lab2`.

    Returns what `llmpipe.classroom.bench.lab2.lab2` returns: `blocks` (num_blocks, block_size), and
    `counts`: `rows` read, `left_over` ids after the last block, `epoch_ids` in the batches.
    """
    import torch
    from datasets import load_dataset
    from torch.utils.data import DataLoader, IterableDataset
    from transformers import AutoTokenizer

    class Blocks(IterableDataset):
        def __init__(self, rows: Any) -> None:
            self.rows, self.num_rows, self.buffer = rows, 0, []

        def __iter__(self) -> Any:
            buffer = []
            for row in self.rows:
                self.num_rows += 1
                if len(row["text"].strip()) < min_chars:
                    continue
                buffer.extend(tokenizer(row["text"])["input_ids"])
                while len(buffer) >= block_size:
                    ids = torch.tensor(buffer[:block_size])
                    yield {"input_ids": ids, "labels": ids.clone()}
                    buffer = buffer[block_size:]
            self.buffer = buffer

    watch.start()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    watch.lap("tokenizer")
    settle()
    watch.start()
    rows = load_dataset("parquet", data_files={"train": file}, split="train", streaming=True)
    dataset = Blocks(rows)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=0)
    counts = {"epoch_ids": count_ids(loader, watch)}
    counts |= {"rows": dataset.num_rows, "left_over": len(dataset.buffer)}
    return {"blocks": gather(loader), "counts": counts}


def lab4(file: str, tokenizer_folder: str, max_length: int, batch_size: int, watch: Any) -> dict:
    """From opening a Parquet file to the end of one epoch of padded batches; laps as in `lab2`.

    Returns what `llmpipe.classroom.bench.plan.gather_labelled` does, and `counts`: `epoch_ids`.
    """
    import torch
    from datasets import load_dataset
    from torch.utils.data import DataLoader, Dataset
    from transformers import AutoTokenizer

    class Reviews(Dataset):
        def __init__(self, rows: Any) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> dict:
            row = self.rows[index]
            encoded = tokenizer(
                row["text"],
                truncation=True,
                max_length=max_length,
                padding="max_length",
                return_tensors="pt",
            )
            return {
                "input_ids": encoded["input_ids"].squeeze(0),
                "attention_mask": encoded["attention_mask"].squeeze(0),
                "labels": torch.tensor(row["label"]),
            }

    watch.start()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    watch.lap("tokenizer")
    settle()
    watch.start()
    rows = load_dataset("parquet", data_files={"train": file}, split="train")
    loader = DataLoader(Reviews(rows), batch_size=batch_size, num_workers=0)
    counts = {"epoch_ids": count_ids(loader, watch)}
    return {**gather_labelled(loader), "counts": counts}
