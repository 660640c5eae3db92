"""Lab 2 measured: blocks streamed from a Parquet file, as whole batches and one by one.

Every way runs in a process of its own, with a tokenizer that has seen no text before: gigatoken is
faster on words that it has met.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llmpipe.classroom.bench import layouts, memory
from llmpipe.classroom.bench.plan import (
    EPOCH,
    Bench,
    all_equal,
    classic,
    count_ids,
    gather,
    loaded,
    rates,
)
from llmpipe.classroom.bench.report import epoch_in_clock, same_work, times


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

    memory.import_all()  # imports are not in the clock
    tokenizer = loaded(load_tokenizer, tokenizer_folder, watch)
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
    counts["epoch_ids"] = epoch_ids
    return {**gather(loader, blocks="input_ids"), "counts": counts}


def compare_lab2(results: Mapping[str, dict], **_: int) -> dict:
    """Whether all ways gave the same blocks, in the clock too, read as many rows and left the same.

    Each way's tokens/s are those of its own laps.
    """
    new, counts = results["llmpipe"], [result["counts"] for result in results.values()]
    same = [{count[name] for count in counts} for name in ("rows", "left_over", "epoch_ids")]
    return {
        "blocks_equal": all_equal(results, "blocks"),
        "counts_equal": all(len(found) == 1 for found in same)
        and new["counts"]["epoch_ids"] == new["blocks"].size,
        **new["counts"],
        "num_blocks": len(new["blocks"]),
        "ids_in_blocks": new["blocks"].size,
        **rates(results, "blocks", "tokens"),
    }


def notes_lab2(report: dict) -> list[str]:
    same = (
        f"same {report['num_blocks']:,} blocks of {report['block_size']} ids from "
        f"{report['documents']:,} of {report['rows']:,} rows, {report['left_over']} ids over"
    )
    each_rate = BENCH.each(lambda way: f"{report[f'{way}_tokens_per_s'] / 1e6:.2f}")
    return [
        epoch_in_clock(BENCH, report, f"{report['batch_size']}"),
        f"million tokens/s: {each_rate}; whole batches {times(report['ratio'])} as fast as the "
        f"classic way, single blocks {times(report['blocks_ratio'])}",
        same_work(report, same, blocks=("blocks", "counts")),
    ]


BENCH = Bench(
    title="Lab 2: a stream of blocks",
    dataset="wikitext-2-v1",
    tokenizer="gpt2",
    settings={"min_chars": 40, "block_size": 128, "batch_size": 8},
    stages=EPOCH,
    ways={
        "classic": classic("lab2"),
        "llmpipe": partial(lab2, whole_batches=True),
        "blocks": partial(lab2, whole_batches=False),
    },
    labels={"llmpipe": "whole batches", "blocks": "blocks"},
    compare=compare_lab2,
    notes=notes_lab2,
    once=(memory, layouts),
)
