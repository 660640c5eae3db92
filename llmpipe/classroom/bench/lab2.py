"""Lab 2 measured: blocks streamed from a Parquet file, as whole batches and one by one.

Every way runs in a process of its own, with a tokenizer that has seen no text before: gigatoken is
faster on words that it has met.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from llmpipe.classroom.bench import classic
from llmpipe.classroom.bench import memory_bench as bench_memory
from llmpipe.classroom.bench.plan import Bench, Once, count_ids, gather, settle
from llmpipe.classroom.bench.report import seconds, times

WAYS = ("classic", "llmpipe", "blocks")


def lab2(
    file: str,
    tokenizer_folder: str,
    min_chars: int,
    block_size: int,
    batch_size: int,
    watch: Any,
    whole_batches: bool,
) -> dict:
    """What `classic.lab2` does, with `llmpipe`: whole batches from the stream, or single blocks.

    Returns `blocks` (num_blocks, block_size) in the order of the batches, and `counts`: `rows`
    read, `documents` kept, `left_over` ids after the last block, `epoch_ids` in the batches.
    """
    from torch.utils.data import DataLoader

    from llmpipe import BlockStream, QualityFilter, load_tokenizer, open_source
    from llmpipe.classroom.bench.memory import import_all

    import_all()  # imports are not in the clock
    watch.start()
    tokenizer = load_tokenizer(tokenizer_folder)
    watch.lap("tokenizer")
    settle()
    watch.start()
    size = batch_size if whole_batches else None
    quality = QualityFilter(min_chars=min_chars)
    stream = BlockStream(open_source(file), tokenizer, block_size, filter=quality, batch_size=size)
    loader = DataLoader(stream, batch_size=None if whole_batches else batch_size)
    epoch_ids = count_ids(loader, watch)
    ledger = stream.ledger.check()
    rows, chunked = ledger["filter", "documents"], ledger["chunk", "ids"]
    left_over = chunked.num_in - chunked.num_out
    if not epoch_ids:
        raise ValueError(f"{left_over} ids are less than a block of {block_size}")
    counts = {"rows": rows.num_in, "documents": rows.num_out, "left_over": left_over}
    return {"blocks": gather(loader), "counts": {**counts, "epoch_ids": epoch_ids}}


def compare_lab2(results: Mapping[str, dict], block_size: int, **_: int) -> dict:
    """Whether all ways gave the same blocks, in the clock too, read as many rows and left the same.

    Each way's tokens/s are those of its own laps.
    """
    classic_blocks, new = results["classic"]["blocks"], results["llmpipe"]
    counts = [results[way]["counts"] for way in WAYS]
    found = {
        "blocks_equal": all(np.array_equal(results[way]["blocks"], classic_blocks) for way in WAYS),
        "counts_equal": all(
            count[name] == counts[0][name]
            for count in counts
            for name in ("rows", "left_over", "epoch_ids")
        )
        and new["counts"]["epoch_ids"] == new["blocks"].size,
        **new["counts"],
        "num_blocks": len(new["blocks"]),
        "ids_in_blocks": new["blocks"].size,
    }
    for way in WAYS:
        laps = results[way]["seconds"]
        rate = results[way]["blocks"].size / (laps["first batch"] + laps["the rest"])
        found[f"{way}_tokens_per_s"] = rate
    return found


def notes_lab2(report: dict) -> list[str]:
    same = (
        f"same {report['num_blocks']:,} blocks of {report['block_size']} ids from "
        f"{report['documents']:,} of {report['rows']:,} rows, {report['left_over']} ids over"
    )
    if not (report["blocks_equal"] and report["counts_equal"]):
        same = "NOT THE SAME BLOCKS: the times compare different work"
    rates = ", ".join(
        f"{BENCH.label(way)} {report[f'{way}_tokens_per_s'] / 1e6:.2f}" for way in WAYS
    )
    loading = ", ".join(
        f"{BENCH.label(way)} {seconds(report['tokenizer'][f'{way}_s'])}" for way in WAYS
    )
    return [
        f"in the clock: from opening the file to the end of one epoch, batches of "
        f"{report['batch_size']}, num_workers=0, each way in a process of its own whose tokenizer "
        f"has seen no text; not in it: imports, and loading the tokenizer ({loading})",
        f"million tokens/s: {rates}; whole batches {times(report['ratio'])} as fast as the "
        f"classic way, single blocks {times(report['blocks_ratio'])}",
        same,
    ]


BENCH = Bench(
    title="Lab 2: a stream of blocks",
    dataset="wikitext-2-v1",
    tokenizer="gpt2",
    settings={"min_chars": 40, "block_size": 128, "batch_size": 8},
    stages=("first batch", "the rest"),
    ways={
        "classic": classic.lab2,
        "llmpipe": partial(lab2, whole_batches=True),
        "blocks": partial(lab2, whole_batches=False),
    },
    labels={"llmpipe": "whole batches", "blocks": "blocks"},
    compare=compare_lab2,
    notes=notes_lab2,
    beside=("tokenizer",),
    once=Once("memory", bench_memory.measure, bench_memory.notes, bench_memory.draw),
)
