"""Parallel language modelling: several processes turn one corpus into batches of GPT-2 ids.

Each rank reads its own share of the documents, filters them, tokenizes them on the fly and cuts
them into blocks with a rolling buffer. Ranks share nothing, so none waits for another.

    python labs/streaming_shard_gpt2.py                         4 ranks over WikiText-103
    python labs/streaming_shard_gpt2.py --workers 2 --batches 100
    python labs/streaming_shard_gpt2.py --strategy rows         every rank reads everything
    python labs/streaming_shard_gpt2.py --dataset my-texts/ --verbose
    torchrun --nproc-per-node 4 labs/streaming_shard_gpt2.py    the same ranks, started by torchrun
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from llmpipe import Ledger, World, load_tokenizer, open_source
from llmpipe.kit.rank_jobs import Settings, stream_batches
from llmpipe.kit.rank_report import no_batches, rank_table, totals, totals_card
from llmpipe.kit.rank_script import (
    check_shortest,
    chosen_strategy,
    parser_of,
    positive,
    run_all,
    run_alone,
    run_script,
)
from llmpipe.metrics import card, usable_cores

ALONE_ROWS = 200_000  # what one rank reads by itself first, for the others to be compared with


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(__doc__, "wikitext-103", "gpt2", batch_size=4, of="blocks")
    parser.add_argument("--block-size", type=positive, default=128, help="ids in a block (128)")
    return run_script(run, parser.parse_args(arguments))


def run(options: argparse.Namespace, world: World | None) -> dict | None:
    """Start the ranks, or be the one that `torchrun` made of this process; print what they did.

    Returns the figures, for JSON; None where another rank prints.
    """
    source, tokenizer = open_source(options.dataset), load_tokenizer(options.tokenizer)
    parts = source.parts("train", options.num_rows)
    num_ranks = world.world_size if world else options.workers
    settings = Settings(
        parts,
        tokenizer,
        options.block_size,
        options.batch_size,
        strategy=chosen_strategy(options, len(parts.weights), num_ranks),
        uneven=options.uneven,
        max_batches=options.batches,
    )
    configuration = {
        "data": f"{source}, in {len(parts.weights):,} part{'s' * (len(parts.weights) != 1)}",
        "tokenizer": f"{tokenizer.name}, from {tokenizer.origin}, by {tokenizer.backend_name}",
        "rows": "all" if options.num_rows is None else options.num_rows,
        "ranks": f"{num_ranks} processes on {usable_cores()} cores",
        "strategy": f"{settings.strategy}; ranks of unequal length: {settings.uneven}",
        "batch": f"{settings.batch_size} blocks of {settings.block_size} ids",
    }
    if world is None or world.rank == 0:
        print(card("Parallel language modelling", configuration), "\n", flush=True)
    slice_parts = source.parts("train", min(ALONE_ROWS, options.num_rows or ALONE_ROWS))
    slice_alone = replace(settings, parts=slice_parts, uneven="go on", max_batches=None)
    alone = run_alone(stream_batches, slice_alone, world)
    opened = time.monotonic()
    results = run_all(stream_batches, settings, num_ranks, world)
    closed = time.monotonic()
    if results is None:
        return None
    check_shortest(results, options, source.name)
    if not any(result["ids"] for result in results):
        raise ValueError(no_batches(results, source.name, settings.block_size))
    found = totals(results, alone, opened, closed)
    print("\n" + rank_table(results, opened))
    print("\n" + totals_card(found))
    print("\n" + str(sum((Ledger.from_dicts(r["ledger"]) for r in results), Ledger()).check()))
    return {"configuration": configuration, "totals": found, "ranks": results}


if __name__ == "__main__":
    sys.exit(main())
