"""Lab 3 measured: four ranks over a whole split, from the start of a program to its exit.

Every way is a program of its own, started within the clock: a user waits for the imports too. It
leaves all its ids in files, so that what was measured is what is compared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from llmpipe.classroom.bench import scaling
from llmpipe.classroom.bench.child import run_module
from llmpipe.classroom.bench.plan import Bench, all_equal
from llmpipe.classroom.bench.rank_files import read_ranks
from llmpipe.classroom.bench.report import same_work, times

STAGES = ("first batches", "last batch", "exit")


def run_program(
    file: str,
    tokenizer_folder: str,
    world_size: int,
    min_chars: int,
    block_size: int,
    batch_size: int,
    watch: Any,
    module: str,
    strategy: str = "",
) -> dict:
    """Run `module` as a program; laps: every rank had its first batch, all had their last, exit.

    Returns `ids` (N,) of all ranks, one rank after the other, remainders included; `ends`
    (world_size,) where each rank's end; `rank_counts` (world_size, 3): rows, documents, blocks.
    """
    with tempfile.TemporaryDirectory() as folder:
        sizes = (world_size, min_chars, block_size, batch_size)
        start = time.monotonic()
        run_module(module, file, tokenizer_folder, *sizes, folder, strategy)
        end = time.monotonic()
        ranks = read_ranks(folder, world_size)
    # The clock of `time.monotonic` is the same in all processes of a machine.
    first, last = np.max([rank["moments"] for rank in ranks], axis=0)
    watch.seconds |= dict(zip(STAGES, (first - start, last - first, end - last), strict=True))
    found = {
        "ids": np.concatenate([rank["ids"] for rank in ranks]),
        "ends": np.cumsum([len(rank["ids"]) for rank in ranks]),
        "rank_counts": np.array([rank["counts"] for rank in ranks]),
    }
    if not found["rank_counts"][:, 2].any():
        raise ValueError(f"no rank has a block of {block_size}: {len(found['ids'])} ids in all")
    return {**found, "counts": {}}


def compare_lab3(results: Mapping[str, dict], **_: int) -> dict:
    """Whether by rows every rank has the classic rank's blocks, and all ways have the same ids."""
    old, new, rows = (results[way] for way in BENCH.ways)
    totals = [result["rank_counts"].sum(axis=0) for result in (old, new, rows)]
    length = 1 + max(int(result["ids"].max()) for result in (old, new, rows))
    counted = [np.bincount(result["ids"], minlength=length) for result in (old, new, rows)]
    num_rows, num_documents, _ = totals[0].tolist()
    return {
        # All ids in order, with the same bounds between ranks and as many blocks before the rest.
        "blocks_equal": all_equal({"classic": old, "rows": rows}, "ids", "ends", "rank_counts"),
        "ids_equal": all(np.array_equal(counted[0], others) for others in counted[1:]),
        "counts_equal": all(np.array_equal(totals[0][:2], others[:2]) for others in totals[1:]),
        "rows": num_rows,
        "documents": num_documents,
        "ids": len(old["ids"]),
        **{f"{way}_blocks": int(each[2]) for way, each in zip(BENCH.ways, totals, strict=True)},
    }


def notes_lab3(report: dict) -> list[str]:
    same = (
        f"same {report['ids']:,} ids from {report['documents']:,} of {report['rows']:,} rows; by "
        f"rows each rank has the very blocks of the classic one, {report['classic_blocks']:,} in "
        f"all, by parts there are {report['llmpipe_blocks']:,}"
    )
    return [
        f"in the clock: a whole program, from its start to its exit: imports, "
        f"{report['world_size']} ranks, tokenizer, all batches of {report['batch_size']} blocks of "
        f"{report['block_size']} ids, and a file of a rank's ids; until every rank has its first "
        f"batch, until the last has its last, and to the end",
        f"by parts a rank reads its own share only, {times(report['ratio'])} as fast as the "
        f"classic way; by rows it reads everything, as there: {times(report['rows_ratio'])}",
        same_work(report, same, ids=("ids", "counts"), blocks=("blocks",)),
    ]


LLMPIPE = "llmpipe.classroom.bench.llmpipe_ranks"
BENCH = Bench(
    title="Lab 3: four ranks over a split",
    dataset="wikitext-2-v1",
    tokenizer="gpt2",
    settings={"world_size": 4, "min_chars": 40, "block_size": 128, "batch_size": 8},
    stages=STAGES,
    ways={
        "classic": partial(run_program, module="llmpipe.classroom.bench.classic"),
        "llmpipe": partial(run_program, module=LLMPIPE, strategy="parts"),
        "rows": partial(run_program, module=LLMPIPE, strategy="rows"),
    },
    labels={"llmpipe": "by parts", "rows": "by rows"},
    compare=compare_lab3,
    notes=notes_lab3,
    once=(scaling,),
    beside=(),
)
