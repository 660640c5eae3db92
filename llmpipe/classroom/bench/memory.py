"""Peak memory of a pipeline, in a process of its own: all in memory as in Lab 1, or streamed.

    peak_memory("whole", "wikitext-2", 36_718), peak_memory("stream", "wikitext-2", 36_718)

What counts is memory that lies in RAM, above what the process held once everything was imported
and the tokenizer loaded. The usual figure, `ru_maxrss`, cannot tell: imports may have set it
already, and a child process starts with that of its parent. How it is done: see `PeakMemory`.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from llmpipe.metrics import resident_bytes

SAMPLE_EVERY_S = 0.002
MIN_CHARS, BLOCK_SIZE, BATCH_SIZE = 40, 128, 8  # those of the labs


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
        gc.collect()
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


def measured(way: str, source_name: str, num_rows: int | None = None) -> dict:
    """The same with `base_bytes` before, `num_ids` in batches, and `how` it was measured."""
    if way not in PIPELINES:
        raise ValueError(f"way must be one of {', '.join(PIPELINES)}, got {way!r}")
    return in_child(__name__, way, source_name, json.dumps(num_rows))


def in_child(module: str, *arguments: object, **environment: str) -> dict:
    """What `python -m module arguments` prints as JSON on its last line.

    Raises RuntimeError with the last lines of its errors if it fails.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # Arrow's own pool keeps tens of megabytes that are free: with the system's, what a process
    # holds is what it needs.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError("\n".join([f"{module} failed: {lines[-1]}", *lines[-30:]]))
    return json.loads(done.stdout.splitlines()[-1])


def whole(source: Any, tokenizer: Any, num_rows: int | None) -> int:
    """As Lab 1; returns how many ids were in batches."""
    from torch.utils.data import DataLoader

    from llmpipe import BlockDataset, QualityFilter, chunk

    kept, _ = QualityFilter(min_chars=MIN_CHARS)(source.load("train", num_rows=num_rows))
    blocks, _ = chunk(tokenizer.encode(kept["text"]).ids, BLOCK_SIZE)
    loader = DataLoader(BlockDataset(blocks), BATCH_SIZE, collate_fn=BlockDataset.collate)
    return sum(batch["input_ids"].numel() for batch in loader)


def stream(source: Any, tokenizer: Any, num_rows: int | None) -> int:
    """As Lab 2; returns how many ids were in batches."""
    from torch.utils.data import DataLoader

    from llmpipe import BlockStream, QualityFilter

    quality = QualityFilter(min_chars=MIN_CHARS)
    blocks = BlockStream(
        source, tokenizer, BLOCK_SIZE, num_rows=num_rows, filter=quality, batch_size=BATCH_SIZE
    )
    loader = DataLoader(blocks, batch_size=None)
    return sum(batch["input_ids"].numel() for batch in loader)


PIPELINES = {"whole": whole, "stream": stream}


def import_all() -> None:
    """Import what the pipelines need, so that no import is measured."""
    for module in ("datasets", "pyarrow.compute", "pyarrow.parquet", "torch.utils.data"):
        import_module(module)
    for module in ("chunking.dataset", "sample.dataset", "streaming.block_stream"):
        import_module(f"llmpipe.{module}")


def run_child(way: str, source_name: str, num_rows: str) -> dict:
    """What a process of `measured` does."""
    from llmpipe import load_tokenizer, open_source

    import_all()
    source, tokenizer = open_source(source_name), load_tokenizer("gpt2")
    if source.origin == "sample":
        source.load("train", num_rows=1)  # its pool of sentences is no part of a pipeline
    with PeakMemory() as peak:
        num_ids = PIPELINES[way](source, tokenizer, json.loads(num_rows))
    found = {"peak_bytes": peak.bytes, "base_bytes": peak.base_bytes, "how": peak.how}
    return {**found, "num_ids": num_ids}


if __name__ == "__main__":
    print(json.dumps(run_child(*sys.argv[1:])))
