"""Peak memory of a pipeline, in a process of its own: all in memory as in Lab 1, or streamed.

    peak_memory("whole", "wikitext-2", 36_718), peak_memory("stream", "wikitext-2", 36_718)

What counts is memory that lies in RAM, above what the process held once everything was imported
and the tokenizer loaded. The usual figure, `ru_maxrss`, cannot tell: imports may have set it
already, and a child process starts with that of its parent. How it is done: see `PeakMemory`.

The bench of Lab 2 asks whether a stream stays flat: `measure` streams 10 and 100 million ids of the
built-in sample, which is of any length, and of a text in which new words never end: the worst there
is for a tokenizer that remembers words.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from llmpipe.arguments import check_choice
from llmpipe.classroom.bench.child import answer
from llmpipe.metrics import resident_bytes

SAMPLE_EVERY_S = 0.002
MIN_CHARS, BLOCK_SIZE, BATCH_SIZE = 40, 128, 8  # those of the labs
NUM_IDS = (10_000_000, 100_000_000)
TEXTS = {"sample": "wikitext-2", "new words": "new words"}  # what `measure` streams, and its source
IDS_PER_ROW = 40  # fewer than there are: about 60 in the sample
WORDS_PER_DOCUMENT, LETTERS_PER_WORD = 1024, 6
TRIPLES = 26**3  # a word is two of them
# With no factor in common with 26 ** 6: each count up to there gives a word of its own.
SCATTER = 123_456_791


class PeakMemory:
    """The most memory this process held inside a `with` block: `bytes` above `base_bytes` before.

    `how` says how it is known. Linux keeps a high-water mark that a process may set back, through
    /proc/self/clear_refs: then it is exact. Elsewhere the system's mark (`ru_maxrss`, or that of
    Windows) is exact if it rose inside the block; if it stood higher already, the highest of
    samples, taken every two milliseconds by a thread, which can miss a short peak.

    >>> import mmap  # pages that this process did not have before, where a text may get old ones
    >>> with PeakMemory() as peak:
    ...     written = mmap.mmap(-1, 50_000_000).write(b"a" * 50_000_000)
    >>> peak.bytes >= 49_000_000
    True
    """

    base_bytes: int
    bytes: int
    how: str

    def __enter__(self) -> PeakMemory:
        give_back()
        self._was_reset, self._mark = reset_mark(), high_water_mark()
        self.base_bytes = self.sampled_bytes = resident_bytes()
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self.is_sampling = not self._was_reset
        if self.is_sampling:
            self._sampler.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        if self.is_sampling:
            self._sampler.join()
        mark = high_water_mark()
        peak, self.how = self.sampled_bytes, "samples of resident memory, which may miss the peak"
        if self._was_reset:
            peak, self.how = mark, "the system's high-water mark, set back at the start"
        elif mark is not None and mark > self._mark:
            peak, self.how = mark, "the system's high-water mark, which rose"
        self.bytes = max(0, peak - self.base_bytes)

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self.sampled_bytes = max(self.sampled_bytes, resident_bytes())


def give_back() -> None:
    """Collect garbage, and make the C library give free pages back to the system, if it is glibc.

    Those it keeps are resident: what is taken out of them next would not raise what is.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return


def reset_mark() -> bool:
    """Set Linux's high-water mark of this process back to what it holds; whether that was done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed in this container
        return False
    mark = _linux_mark()
    return mark is not None and mark < resident_bytes() + 2**20


def high_water_mark() -> int | None:
    """The most memory this process ever held, in bytes, or since `reset_mark`; None if unknown."""
    mark = _linux_mark()
    if mark is not None:
        return mark
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _linux_mark() -> int | None:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def peak_memory(way: str, source_name: str, num_rows: int | None = None) -> int:
    """Bytes of RAM that preparing and reading the train split once takes at its peak.

    `way` is "whole" (load, filter, tokenize and chunk all at once, then a loader over the blocks)
    or "stream" (the same batches from a `BlockStream`). Not counted: Python, imports, the
    tokenizer as loaded. Raises ValueError for another way, RuntimeError with the child's words.
    """
    return measured(way, source_name, num_rows)["peak_bytes"]


def measured(
    way: str,
    source_name: str,
    num_rows: int | None = None,
    num_ids: int | None = None,
    tokenizer: str | Path = "gpt2",
    **environment: str,
) -> dict:
    """The same in full, and a stream can end at `num_ids`; "new words" is a source here too.

    Returns `num_ids` in batches, `peak_bytes`, `base_bytes` before, `how` they were measured,
    `seconds` and `tokens_per_s`.
    """
    check_choice("way", way, PIPELINES)
    # Arrow's own pool keeps 27 to 36 MB that are free: with the system's, what a process holds is
    # what it needs. (For speed the two were the same on a stream of WikiText-2.)
    environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    limits = json.dumps([num_rows, num_ids])
    return answer(__name__, way, source_name, tokenizer, limits, **environment)


def whole(source: Any, tokenizer: Any, num_rows: int | None, num_ids: int | None) -> int:
    """As Lab 1; returns how many ids were in batches, which are all there are."""
    from torch.utils.data import DataLoader

    from llmpipe import BlockDataset, QualityFilter, chunk

    kept, _ = QualityFilter(min_chars=MIN_CHARS)(source.load("train", num_rows=num_rows))
    blocks, _ = chunk(tokenizer.encode(kept["text"]).ids, BLOCK_SIZE)
    loader = DataLoader(BlockDataset(blocks), BATCH_SIZE, collate_fn=BlockDataset.collate)
    return sum(batch["input_ids"].numel() for batch in loader)


def stream(source: Any, tokenizer: Any, num_rows: int | None, num_ids: int | None) -> int:
    """As Lab 2, to the end or until there were `num_ids`; returns how many ids were in batches."""
    from torch.utils.data import DataLoader

    from llmpipe import BlockStream, QualityFilter

    quality = QualityFilter(min_chars=MIN_CHARS)
    blocks = BlockStream(
        source, tokenizer, BLOCK_SIZE, num_rows=num_rows, filter=quality, batch_size=BATCH_SIZE
    )
    seen = 0
    for batch in DataLoader(blocks, batch_size=None):
        seen += batch["input_ids"].numel()
        if num_ids is not None and seen >= num_ids:
            return seen
    if num_ids is not None:
        raise RuntimeError(f"the text ended after {seen:,} of {num_ids:,} ids")
    return seen


PIPELINES = {"whole": whole, "stream": stream}


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


def import_all() -> None:
    """Import what the pipelines need, so that no import is measured."""
    for module in ("datasets", "pyarrow.compute", "pyarrow.parquet", "torch.utils.data"):
        import_module(module)
    for module in ("chunking.dataset", "sample.dataset", "streaming.block_stream"):
        import_module(f"llmpipe.{module}")


def run_child(way: str, source_name: str, tokenizer_name: str, limits: str) -> dict:
    """What a process of `measured` does."""
    from llmpipe import load_tokenizer, open_source

    source = None if source_name == "new words" else open_source(source_name)
    tokenizer = load_tokenizer(tokenizer_name)
    import_all()
    if source is None:
        from datasets import IterableDataset

        source = IterableDataset.from_generator(documents)
    elif source.origin == "sample":
        source.load("train", num_rows=1)  # its pool of sentences is no part of a pipeline
    with PeakMemory() as peak:
        start = time.perf_counter()
        num_ids = PIPELINES[way](source, tokenizer, *json.loads(limits))
        elapsed_s = time.perf_counter() - start
    found = {"num_ids": num_ids, "peak_bytes": peak.bytes, "base_bytes": peak.base_bytes}
    rate = {"seconds": elapsed_s, "tokens_per_s": num_ids / elapsed_s}
    return {**found, "how": peak.how, **rate}


def measure(tokenizer: Any, num_rows: int | None, say: Callable[[str], None]) -> dict:
    """Stream `NUM_IDS` of both texts, each in a child process; `tokenizer` as it was found.

    A limit of `num_rows` changes nothing: what counts here is that one length is ten of the other.

    Returns `runs` (text, num_ids, peak and base bytes, seconds, tokens/s, how it was measured), and
    by text `extra_bytes` at the peak, and `rate_ratio`, of the largest over the smallest number.
    """
    found: dict[str, Any] = {"runs": [], "extra_bytes": {}, "rate_ratio": {}}
    for text, source_name in TEXTS.items():
        runs = []
        for due in NUM_IDS:
            limits = (1000 + due // IDS_PER_ROW, due)
            run = measured(
                "stream", source_name, *limits, tokenizer.folder, LLMPIPE_SOURCE="sample"
            )
            runs.append({"text": text, **run})
            say(f"{text}, {words(run)}")
        few, *_, many = runs
        found["runs"] += runs
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
    lines = [
        f"{text}: {'; '.join(words(run) for run in memory['runs'] if run['text'] == text)}; "
        f"{extra_bytes / 1e6:+.1f} MB, {memory['rate_ratio'][text]:.2f} times the rate"
        for text, extra_bytes in memory["extra_bytes"].items()
    ]
    run = memory["runs"][0]
    return [
        *lines,
        f"memory: the peak that is resident above the {run['base_bytes'] / 1e6:.0f} MB of Python, "
        f"imports, tokenizer and sample, a process each ({run['how']}), Arrow's pool the system's",
    ]


def draw(axes: Any, memory: dict) -> None:
    """Peak memory of each run as a bar."""
    from llmpipe.classroom.plots.colours import BLUE, SKY
    from llmpipe.classroom.plots.figure import lying_bars

    bars = {
        f"{run['text']}\n{run['num_ids'] / 1e6:.4g} M ids": run["peak_bytes"] / 1e6
        for run in memory["runs"]
    }
    number = len(memory["runs"]) // len(memory["extra_bytes"])
    looks = [BLUE] * number + [SKY] * number, [""] * number + ["//"] * number
    lying_bars(axes, bars, "{:.0f} MB".format, *looks)
    axes.set_xlabel("peak memory above imports (MB)")


if __name__ == "__main__":
    print(json.dumps(run_child(*sys.argv[1:])))
