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

from llmpipe import World, load_tokenizer, open_source
from llmpipe.classroom.ranks.jobs import Settings, stream_batches
from llmpipe.classroom.ranks.report import no_batches, rank_table, totals_card
from llmpipe.classroom.ranks.script import parser_of, positive, run_compared, run_script

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
        strategy=options.strategy or ("parts" if len(parts.weights) >= num_ranks else "rows"),
        uneven=options.uneven,
        max_batches=options.batches,
    )
    done = run_compared(
        stream_batches,
        settings,
        source,
        options,
        world,
        title="Parallel language modelling",
        batch=f"{options.batch_size} blocks of {options.block_size} ids",
        alone_rows=ALONE_ROWS,
    )
    if done is None:
        return None
    if not done.totals:
        raise ValueError(no_batches(done.results, source.name, settings.block_size))
    print("\n" + rank_table(done.results, done.opened))
    print("\n" + totals_card(done.totals))
    print("\n" + str(done.ledger))
    return done.report()


if __name__ == "__main__":
    sys.exit(main())
