"""Parallel language modelling: processes turn one corpus into batches of tokens.

Each rank reads its own share of the documents, filters them, tokenizes them on
the fly and cuts them into blocks with a rolling buffer. Ranks share nothing,
so none waits for another.

    python labs/streaming_shard_gpt2.py          four ranks over WikiText-103
    python labs/streaming_shard_gpt2.py --workers 2 --batches 100
    python labs/streaming_shard_gpt2.py --strategy rows   all read everything
    python labs/streaming_shard_gpt2.py --dataset my-texts/ --verbose
    torchrun --nproc-per-node 4 labs/streaming_shard_gpt2.py   the same ranks

Stop with Ctrl-C, and go on with another number of ranks:

    python labs/streaming_shard_gpt2.py --save-state state.json
    python labs/streaming_shard_gpt2.py --resume state.json --workers 3
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from llmpipe import Share, World, load_tokenizer, open_source, run_ranks
from llmpipe.classroom.ranks import script
from llmpipe.classroom.ranks.measure import even_batches, go_through
from llmpipe.classroom.ranks.report import (
    coordination_table,
    no_batches,
    rank_table,
    totals,
    totals_card,
)
from llmpipe.launching.distributed import padding_batch, run_under_torchrun

ALONE_ROWS = 200_000  # what one rank reads by itself first, for the others to be compared with


def stream_batches(
    world: World, send: Callable, parts: Any, tokenizer: Any, options: Namespace
) -> dict:
    """What each process does, `world` says as which rank; its figures, fit for JSON."""
    # Here, since the parent, which runs no stream, starts a second sooner without torch.
    from llmpipe import BlockStream, QualityFilter

    if options.strategy:
        share, place = Share(parts, world, options.strategy), {}
    else:  # all documents: the stream itself divides them, and can do so again when it resumes
        share, place = Share(parts, World()), {"rank": world.rank, "world_size": world.world_size}
    stream = BlockStream(
        share,
        tokenizer,
        options.block_size,
        filter=QualityFilter(min_chars=40),
        batch_size=options.batch_size,
        remainder="pad" if options.uneven == "pad" else "drop",
        **place,
    )
    if options.states:
        stream = stream.resume(options.states, **place)
    padding = padding_batch(options.batch_size, options.block_size, tokenizer.pad_id)
    with even_batches(stream, world, options, padding) as batches:
        return go_through(
            world,
            send,
            stream,
            share,
            "tokens",
            batches=batches,
            max_batches=options.batches,
            saves=bool(options.save_state),
        )


def run(options: Namespace, world: World | None) -> dict | None:
    """Start the ranks and print what they did; the figures, for JSON.

    `world` is the place that `torchrun` gave this process, or None. Of those it started only the
    first prints, and the others return None.
    """
    script.read_states(options, "BlockStream")
    source, tokenizer = open_source(options.dataset), load_tokenizer(options.tokenizer)
    parts = source.parts("train", options.num_rows)
    if not (options.strategy or options.save_state or options.resume):
        options.strategy = "parts" if len(parts.weights) >= options.workers else "rows"
    batch = f"{options.batch_size} blocks of {options.block_size} tokens"
    told = parts, tokenizer, options
    configuration = script.introduce("Parallel language modelling", batch, source, told, world)
    first_rows = source.parts("train", min(ALONE_ROWS, options.num_rows or ALONE_ROWS))
    alone = script.run_alone(stream_batches, world, first_rows, told)

    opened = time.monotonic()
    with script.shown(options, world, "tokens") as progress:
        if world is None:
            ranks = {"preload": script.PRELOAD, "on_message": progress}
            results = run_ranks(stream_batches, options.workers, *told, **ranks)
        else:
            results = run_under_torchrun(stream_batches, world, *told, on_message=progress)
    closed = time.monotonic()
    if results is None:
        return None

    found = totals(results, alone, opened, closed)
    if not found and not options.resume:
        raise ValueError(no_batches(results, source.name, options.uneven, options.block_size))
    print("\n" + rank_table(results))
    print("\nCoordination\n" + coordination_table(results, opened))
    print("\n" + totals_card(found))
    script.print_ledger(options, results)
    script.save_states(options, dict(enumerate(results)))
    return {"configuration": configuration, "totals": found, "ranks": results}


def parser() -> ArgumentParser:
    strategy = "parts if there are enough, else rows"
    parser = script.parser_of(__doc__, "wikitext-103", "gpt2", 4, "blocks", strategy)
    size = "tokens in a block (128)"
    parser.add_argument("--block-size", type=script.positive, default=128, help=size)
    return parser


def main(arguments: list[str] | None = None) -> int:
    return script.run_script(run, script.parsed(parser(), arguments))


if __name__ == "__main__":
    sys.exit(main())
