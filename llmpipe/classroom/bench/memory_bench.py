"""Does a stream stay flat? Peak memory and tokens/s at 10 and at 100 million ids.

On the built-in sample, which is of any length, and on a text in which new words never end: the
worst there is for a tokenizer that remembers words. Each in a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from llmpipe.classroom.bench.memory import (
    BATCH_SIZE,
    BLOCK_SIZE,
    MIN_CHARS,
    PeakMemory,
    import_all,
    in_child,
)

NUM_IDS = (10_000_000, 100_000_000)
IDS_PER_ROW = 40  # of the sample, and fewer than there are: about 60
WORDS_PER_DOCUMENT, LETTERS_PER_WORD = 1024, 6
TRIPLES = 26**3  # a word is two of them
# With no factor in common with 26 ** 6: each count up to there gives a word of its own.
SCATTER = 123_456_791


def measure(tokenizer: Any, num_rows: int | None, say: Callable[[str], None]) -> dict:
    """Stream `NUM_IDS` of both texts, each in a child process; `tokenizer` as it was found.

    A limit of `num_rows` changes nothing: what counts here is that one length is ten of the other.

    Returns `runs` (text, num_ids, peak and base bytes, seconds, tokens/s, how it was measured), and
    by text `extra_bytes` at the peak, and `rate_ratio`, of the largest over the smallest number.
    """
    runs = []
    for text in TEXTS:
        for num_ids in NUM_IDS:
            run = in_child(__name__, text, tokenizer.folder, num_ids, LLMPIPE_SOURCE="sample")
            runs.append({"text": text, **run})
            say(f"{text}, {words(runs[-1])}")
    found = {"runs": runs, "extra_bytes": {}, "rate_ratio": {}}
    for text in TEXTS:
        few, *_, many = (run for run in runs if run["text"] == text)
        found["extra_bytes"][text] = many["peak_bytes"] - few["peak_bytes"]
        found["rate_ratio"][text] = many["tokens_per_s"] / few["tokens_per_s"]
    return found


def words(run: dict) -> str:
    return (
        f"{run['num_ids'] / 1e6:.4g} million ids: {run['peak_bytes'] / 1e6:.0f} MB, "
        f"{run['tokens_per_s'] / 1e6:.1f} million tokens/s"
    )


def notes(memory: dict) -> list[str]:
    """What `measure` found, in words: one line a text, and how."""
    lines = []
    for text in memory["extra_bytes"]:
        runs = [words(run) for run in memory["runs"] if run["text"] == text]
        lines.append(
            f"{text}: {'; '.join(runs)}; {memory['extra_bytes'][text] / 1e6:+.1f} MB, "
            f"{memory['rate_ratio'][text]:.2f} times the rate"
        )
    run = memory["runs"][0]
    return [
        *lines,
        f"memory: the peak that is resident above the {run['base_bytes'] / 1e6:.0f} MB of Python, "
        f"imports, tokenizer and sample, a process each ({run['how']})",
    ]


def draw(axes: Any, memory: dict) -> None:
    """Peak memory of each run as a bar, with its rate."""
    from llmpipe.classroom.plots.figure import BLUE, SKY, lying_bars

    bars = {
        f"{run['text']}\n{run['num_ids'] / 1e6:.4g} M ids": run["peak_bytes"] / 1e6
        for run in memory["runs"]
    }
    number = len(memory["runs"]) // len(memory["extra_bytes"])
    colours = [BLUE] * number + [SKY] * number
    hatches = [""] * number + ["//"] * number
    lying_bars(axes, bars, colours, hatches, lambda value: f"{value:.0f} MB")
    axes.set_xlabel("peak memory above imports (MB)")


def sample(num_ids: int) -> Any:
    from llmpipe import open_source

    return open_source("wikitext-2"), 1000 + num_ids // IDS_PER_ROW


def new_words(num_ids: int) -> Any:
    from datasets import IterableDataset

    return IterableDataset.from_generator(documents), None


def documents() -> Iterator[dict]:
    """Documents without end, of words that were never there before: the first 300 million are so.

    Word n is n * `SCATTER` modulo 26 ** 6, written in letters: 4 ids with GPT-2's vocabulary. Made
    by NumPy, a hundred million ids' worth in a second, so that little of it is measured.

    >>> next(documents())["text"][:28]
    ' aaaaaa kkeekd uuiiug femnej'
    """
    letters = np.arange(TRIPLES)[:, None] // np.array([676, 26, 1]) % 26 + ord("a")
    triples = letters.astype(np.uint8)
    text = np.full((WORDS_PER_DOCUMENT, LETTERS_PER_WORD + 1), ord(" "), np.uint8)
    counts = np.arange(WORDS_PER_DOCUMENT)
    while True:
        high, low = np.divmod(counts * SCATTER % TRIPLES**2, TRIPLES)
        text[:, 1:4], text[:, 4:] = triples[high], triples[low]
        yield {"text": text.tobytes().decode("ascii")}
        counts += WORDS_PER_DOCUMENT


TEXTS = {"sample": sample, "new words": new_words}


def run_child(text: str, tokenizer_folder: str, num_ids: str) -> dict:
    """What a process of `measure` does: stream whole batches until there were `num_ids`."""
    from torch.utils.data import DataLoader

    from llmpipe import BlockStream, QualityFilter, load_tokenizer
    from llmpipe import sample as built_in

    import_all()
    tokenizer, due = load_tokenizer(tokenizer_folder), int(num_ids)
    documents, num_rows = TEXTS[text](due)
    built_in.articles()  # its pool of sentences is no part of a pipeline
    seen = 0
    with PeakMemory() as peak:
        start = time.perf_counter()
        stream = BlockStream(
            documents,
            tokenizer,
            BLOCK_SIZE,
            num_rows=num_rows,
            filter=QualityFilter(min_chars=MIN_CHARS),
            batch_size=BATCH_SIZE,
        )
        for batch in DataLoader(stream, batch_size=None):
            seen += batch["input_ids"].numel()
            if seen >= due:
                break
        elapsed_s = time.perf_counter() - start
    if seen < due:
        raise RuntimeError(f"the {text} text ended after {seen:,} of {due:,} ids")
    found = {"num_ids": seen, "peak_bytes": peak.bytes, "base_bytes": peak.base_bytes}
    return {**found, "how": peak.how, "seconds": elapsed_s, "tokens_per_s": seen / elapsed_s}


if __name__ == "__main__":
    print(json.dumps(run_child(*sys.argv[1:])))
