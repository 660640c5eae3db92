"""The live monitor of a loader: a bar, lines in the log, and samples for a plot.

log_to_stdout()
monitor = Monitor(loader)
for batch in monitor:
    ...
plots.throughput_over_time(seconds, tokens, memory_bytes)  # columns of monitor.samples
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from llmpipe.classroom.notebooks import progress
from llmpipe.metrics import Meter, card, resident_bytes

logger = logging.getLogger("llmpipe.monitor")
STDOUT = "llmpipe.monitor to stdout"


class Sample(NamedTuple):
    """Totals since the start of a pass, and the memory of this process that lies in RAM."""

    seconds: float
    tokens: int
    documents: int | None
    memory_bytes: int


class Monitor:
    """The batches of `loader` unchanged, while it is watched how fast they come.

    At the start of a pass, then at most every `every_s` seconds, and at its end, be that an error
    or a `break`, it takes a `Sample` and logs it as one line. Each pass starts anew with `samples`,
    `first_batch_s`, the seconds from its start to its first batch, and `meter`, which counts tokens
    and batches and leaves the first batch out of its rate. The clock runs on while the batches are
    worked on: a slow model makes a slow loader.

    Tokens are the elements of `batch["input_ids"]`, padding included. `documents` gives the number
    of documents so far, as `lambda: stream.ledger["filter", "documents"].num_in`; what it gives at
    the start of a pass is taken off, so that one that resumes begins at 0. A stream in workers of
    a loader counts there, and not here; nor is their memory seen here. `total` is the number of
    batches, if the loader cannot tell. While the pass runs, the bar shows rates since the last
    sample, at its end the means of all.

    >>> import torch
    >>> monitor = Monitor([{"input_ids": torch.zeros(8, 128)}] * 3)
    >>> [tuple(batch["input_ids"].shape) for batch in monitor]
    [(8, 128), (8, 128), (8, 128)]
    >>> monitor.samples[0][:3], monitor.samples[-1].tokens, monitor.meter.totals["batches"]
    ((0.0, 0, None), 3072, 3)

    Raises ValueError for a negative `every_s`, and while it runs what the loader raises, after the
    last sample.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        every_s: float = 0.2,
        total: int | None = None,
        documents: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not every_s >= 0:
            raise ValueError(f"every_s must be 0 or more, got {every_s}")
        self.loader, self.every_s, self.total, self.documents = loader, every_s, total, documents
        self.meter = Meter(warm_up=1, clock=clock)
        self.samples: list[Sample] = []
        self.first_batch_s: float | None = None

    def __iter__(self) -> Iterator[Any]:
        self.samples, self.first_batch_s = [], None
        self._started_at = datetime.now()
        self.meter.start()
        with progress(self.loader, "loading", total=self.total, unit=" batches") as bar:
            # The bar has made the iterator, with which a stream begins to count anew.
            self._documents_before = self.documents() if self.documents else 0
            self._sample()
            try:
                for batch in bar.iterable:
                    self.meter.add(tokens=batch["input_ids"].numel(), batches=1)
                    if self.first_batch_s is None:
                        self.first_batch_s = self.meter.elapsed_s
                    if self.meter.elapsed_s - self.samples[-1].seconds >= self.every_s:
                        self._sample()
                        bar.set_postfix(_rates(*self.samples[-2:]), refresh=False)
                    bar.update()
                    yield batch
            finally:
                if self._sampled_step < self._step:
                    self._sample()
                bar.set_postfix(_rates(self.samples[0], self.samples[-1]), refresh=False)

    def card(self, title: str = "Throughput") -> str:
        """The last pass in a box: what came, how fast, and the memory it took.

        Raises ValueError before the first pass.
        """
        if not self.samples:
            raise ValueError("nothing was watched yet: iterate over the monitor first")
        last, memory = self.samples[-1], [sample.memory_bytes for sample in self.samples]
        figures = {
            "batches": self._step,
            "tokens": last.tokens,
            "documents": last.documents,
            "seconds": last.seconds,
            "seconds to first batch": self.first_batch_s,
            "tokens/s after first batch": round(self.meter.rate("tokens")),
            "resident memory, first (MB)": round(memory[0] / 1e6),
            "resident memory, peak (MB)": round(max(memory) / 1e6),
        }
        return card(title, figures)

    @property
    def _step(self) -> int:
        return self.meter.totals.get("batches", 0)

    def _sample(self) -> None:
        documents = self.documents() - self._documents_before if self.documents else None
        tokens = self.meter.totals.get("tokens", 0)
        sample = Sample(self.meter.elapsed_s, tokens, documents, resident_bytes())
        self.samples.append(sample)
        self._sampled_step = self._step
        # By the clock of the samples: a rate taken from the log is that of the plot.
        at = self._started_at + timedelta(seconds=sample.seconds)
        logger.info(log_line(at, self._step, sample))


def log_line(at: datetime, step: int, sample: Sample) -> str:
    """A sample as it is logged, after `step` batches; times are local.

    >>> log_line(datetime(2026, 11, 25, 10, 0, 1, 250_000), 20, Sample(1.25, 20480, 161, 310378496))
    '2026-11-25T10:00:01.250 step 20 tokens 20480 documents 161 memory_bytes 310378496'
    """
    documents = "" if sample.documents is None else f" documents {sample.documents}"
    stamp = at.isoformat(timespec="milliseconds")
    return (
        f"{stamp} step {step} tokens {sample.tokens}{documents} memory_bytes {sample.memory_bytes}"
    )


def log_to_stdout() -> None:
    """Let the monitor's lines print on stdout, bare, and nowhere else; again changes nothing.

    Not on stderr, where `logging` writes by itself: there a notebook's saved outputs, which are
    compared, must be empty.
    """
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a root logger that has a handler would print them a second time
    if all(handler.name != STDOUT for handler in logger.handlers):
        logger.addHandler(_Printer())


class _Printer(logging.Handler):
    """Prints on what is `sys.stdout` then: notebooks and tests put another in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.name = STDOUT

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record))


def _rates(start: Sample, end: Sample) -> dict[str, str]:
    from tqdm import tqdm

    seconds = end.seconds - start.seconds
    rates = {"tokens/s": end.tokens - start.tokens}
    if end.documents is not None:
        rates["documents/s"] = end.documents - start.documents
    shown = {
        name: tqdm.format_sizeof(n / seconds) if seconds else "n/a" for name, n in rates.items()
    }
    return {**shown, "memory": f"{end.memory_bytes / 1e6:,.0f} MB"}
