"""What `classic` does as a program, with `llmpipe`: a program that `llmpipe bench lab3` starts."""

from __future__ import annotations

import sys

from llmpipe.launching.start import start_fork_server


def main(file: str, tokenizer_folder: str, *more: str) -> None:
    """`more` are the arguments of `classic`, and a strategy."""
    start_fork_server()  # it imports torch while this process opens file and tokenizer
    from llmpipe import load_tokenizer, open_source, run_ranks
    from llmpipe.classroom.bench.rank_files import keep_batches
    from llmpipe.classroom.ranks.jobs import Settings

    *sizes, folder, strategy = more
    world_size, min_chars, block_size, batch_size = map(int, sizes)
    parts, tokenizer = open_source(file).parts("train"), load_tokenizer(tokenizer_folder)
    settings = Settings(parts, tokenizer, block_size, batch_size, min_chars, strategy=strategy)
    run_ranks(keep_batches, world_size, settings, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
