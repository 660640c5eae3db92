"""The live monitor: what it samples is what came, by the clock, and the log says the same."""

import contextlib
import logging
import re
import sys
from datetime import datetime
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from solutions.lab2 import tokens_per_s
from torch.utils.data import DataLoader

from llmpipe import BlockStream, QualityFilter, load_tokenizer, open_source
from llmpipe.classroom.monitor import Monitor, Sample, log_line, log_to_stdout, logger
from llmpipe.classroom.notebooks import progress

# That of the exercise on a log, and of `log_line`'s doctest.
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} step \d+ tokens \d+( documents \d+)? memory_bytes \d+"
)


class Timed:
    """A loader of batches of so many tokens, each after so many seconds, and its clock."""

    def __init__(self, gaps, sizes, error=None):
        self.batches = [{"input_ids": torch.zeros(size, dtype=torch.int64)} for size in sizes]
        self.gaps, self.error, self.now = gaps, error, 100.0

    def __iter__(self):
        for gap, batch in zip(self.gaps, self.batches, strict=True):
            self.now += gap
            yield batch
        self.now += 50.0
        if self.error:
            raise self.error

    def clock(self):
        return self.now


@contextlib.contextmanager
def logged():
    """The messages of the monitor's logger at INFO, as they come."""
    lines, handler, level = [], logging.Handler(), logger.level
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _own_logger():
    """`log_to_stdout` changes the logger for good: here until the test ends."""
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers = before
    logger.manager._clear_cache()  # of which levels are on


# Quarters of a second are exact, as floats and as milliseconds.
PASSES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5000)), max_size=30)


@given(PASSES, st.integers(0, 12))
def test_samples_and_log_lines_are_what_came_at_most_every_so_often(batches, quarters):
    gaps, sizes = [gap / 4 for gap, _ in batches], [size for _, size in batches]
    loader, every_s = Timed(gaps, sizes), quarters / 4
    monitor = Monitor(loader, every_s=every_s, clock=loader.clock)
    with logged() as lines:
        passed = list(monitor)
    assert [id(batch) for batch in passed] == [id(batch) for batch in loader.batches]
    samples = monitor.samples
    assert samples[0][:3] == (0.0, 0, None)
    assert samples[-1][:2] == (sum(gaps), sum(sizes))
    for earlier, later in list(pairwise(samples))[:-1]:
        assert later.seconds - earlier.seconds >= every_s
    arrivals = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    for arrival in arrivals:  # never longer without a sample than it must be
        last = max(sample.seconds for sample in samples if sample.seconds <= arrival)
        assert arrival - last < every_s or arrival == last
    assert {level for level, _ in lines} == {"INFO"}
    assert [line.split(" step ")[1] for _, line in lines] == [
        f"{line.split()[2]} tokens {sample.tokens} memory_bytes {sample.memory_bytes}"
        for (_, line), sample in zip(lines, samples, strict=True)
    ]
    steps = [int(line.split()[2]) for _, line in lines]
    assert [sum(sizes[:step]) for step in steps] == [sample.tokens for sample in samples]
    assert steps == sorted(set(steps))
    assert steps[-1] == len(batches)
    stamps = [datetime.fromisoformat(line.split()[0]) for _, line in lines]
    assert [(stamp - stamps[0]).total_seconds() for stamp in stamps] == [s[0] for s in samples]
    # What the exercise on a log asks for is the mean over all samples.
    mean = sum(sizes) / sum(gaps) if sum(gaps) else 0.0
    assert tokens_per_s([line for _, line in lines]) == pytest.approx(mean)


@given(PASSES.filter(bool))
def test_the_first_batch_is_the_meters_warm_up(batches):
    gaps, sizes = [gap / 4 for gap, _ in batches], [size for _, size in batches]
    loader = Timed(gaps, sizes)
    monitor = Monitor(loader, clock=loader.clock)
    list(monitor)
    assert monitor.first_batch_s == gaps[0]
    assert monitor.meter.totals == {"tokens": sum(sizes), "batches": len(sizes)}
    seconds = sum(gaps[1:])
    rate = sum(sizes[1:]) / seconds if seconds else 0.0
    assert monitor.meter.rate("tokens") == pytest.approx(rate)


@pytest.mark.parametrize("documents", [None, 0, 161])
def test_the_line_has_documents_only_where_they_are_known(documents):
    line = log_line(datetime(2026, 1, 2, 3, 4, 5), 7, Sample(0.5, 20, documents, 30))
    assert LINE.fullmatch(line)
    assert (" documents " in line) == (documents is not None)
    assert line.startswith("2026-01-02T03:04:05.000 step 7 tokens 20 ")


@pytest.mark.parametrize(("num_batches", "samples"), [(3, [(0.0, 0), (3.0, 30)]), (0, [(0.0, 0)])])
def test_an_error_of_the_loader_comes_after_the_last_sample(num_batches, samples):
    loader = Timed([1.0] * num_batches, [10] * num_batches, error=OSError("connection cut"))
    monitor = Monitor(loader, every_s=60, clock=loader.clock)
    with logged() as lines, pytest.raises(OSError, match="connection cut"):
        list(monitor)
    assert [sample[:2] for sample in monitor.samples] == samples
    assert [line.split()[2] for _, line in lines] == ["0", "3"][: len(samples)]


def test_stopping_early_takes_the_last_sample():
    loader = Timed([1.0] * 5, [10] * 5)
    monitor = Monitor(loader, every_s=60, clock=loader.clock)
    for step, _ in enumerate(monitor, start=1):
        if step == 3:
            break
    assert [sample[:2] for sample in monitor.samples] == [(0.0, 0), (3.0, 30)]


def test_each_pass_starts_anew_and_leaves_the_last_ones_samples_alone():
    loader = Timed([1.0, 2.0], [10, 20])
    monitor = Monitor(loader, clock=loader.clock)
    list(monitor)
    first = monitor.samples
    list(monitor)
    assert [sample[:2] for sample in first] == [(0.0, 0), (1.0, 10), (3.0, 30)]
    assert [sample[:2] for sample in monitor.samples] == [sample[:2] for sample in first]
    assert monitor.meter.totals == {"tokens": 30, "batches": 2}


def test_a_loader_of_nothing_has_one_sample_and_no_first_batch():
    monitor = Monitor([])
    assert list(monitor) == []
    assert [sample.tokens for sample in monitor.samples] == [0]
    assert monitor.first_batch_s is None
    assert re.search(r"seconds to first batch +n/a", monitor.card())


def test_documents_are_those_since_the_start_also_of_a_stream_that_resumes():
    stream = BlockStream(
        open_source("wikitext-2"),
        load_tokenizer("gpt2"),
        block_size=64,
        num_rows=3000,
        filter=QualityFilter(min_chars=40),
        batch_size=8,
    )

    def documents():
        return stream.ledger["filter", "documents"].num_in

    monitor = Monitor(DataLoader(stream, batch_size=None), every_s=0, documents=documents)
    states = [stream.state_dict() for _ in monitor]
    whole = monitor.samples
    assert whole[0].documents == 0
    assert whole[-1].documents == 3000
    counts = [sample.documents for sample in whole]
    assert counts == sorted(counts)
    assert len(set(counts)) == 4  # they are read a window at a time
    assert whole[-1].tokens == stream.ledger["chunk", "ids"].num_out
    # A second pass over the same stream, then one that resumes from the middle.
    list(monitor)
    assert [sample.documents for sample in monitor.samples] == counts
    middle = len(states) // 2
    stream.load_state_dict(states[middle])
    list(monitor)
    rest = whole[middle + 1 :]
    assert [sample.documents for sample in monitor.samples] == [
        sample.documents - rest[0].documents for sample in rest
    ]
    assert [sample.tokens for sample in monitor.samples] == [
        sample.tokens - rest[0].tokens for sample in rest
    ]


@pytest.mark.parametrize("shown", [False, True])
def test_a_bar_begins_what_it_goes_through_once(shown, monkeypatch, capfd):
    class Counted(list):
        begun = 0

        def __iter__(self):
            self.begun += 1
            return super().__iter__()

    if shown:
        monkeypatch.delenv("PYTEST_VERSION")
    items = Counted([{"input_ids": torch.zeros(3)}] * 7)
    assert list(progress(items, "counting")) == list.copy(items)
    assert items.begun == 1
    assert len(list(Monitor(items))) == 7
    assert items.begun == 2
    assert ("7/7" in capfd.readouterr().err) == shown


def test_the_card_says_what_came_and_how_fast():
    loader = Timed([2.0, 1.0, 1.0], [10, 4000, 6000])
    counts = iter([5, 7, 8, 9])
    monitor = Monitor(loader, documents=lambda: next(counts, 10), clock=loader.clock)
    list(monitor)
    said = monitor.card("Run")
    for line in (
        "batches +3",
        "tokens +10,010",
        "documents +5",
        r"seconds +4\.00",
        r"seconds to first batch +2\.00",
        "tokens/s after first batch +5,000",
        r"resident memory, peak \(MB\) +[1-9]",
    ):
        assert re.search(rf"^{line}", said, re.MULTILINE), line
    assert said.startswith("Run\n---")


def test_the_bar_shows_rates_only_where_nobody_compares(capfd, monkeypatch):
    loader = Timed([1.0, 1.0, 2.0], [2000, 2000, 2000])
    counts = iter([0, 0, 10, 20, 40])
    options = {"total": 3, "documents": lambda: next(counts, 40), "clock": loader.clock}
    list(Monitor(loader, **options))
    assert capfd.readouterr() == ("", "")  # no lines either until they are asked for
    counts = iter([0, 0, 10, 20, 40])
    monkeypatch.delenv("PYTEST_VERSION")
    list(Monitor(loader, **options))
    out, err = capfd.readouterr()
    assert out == ""
    last = err.rstrip().split("\r")[-1]
    assert "3/3" in last
    assert "tokens/s=1.50k, documents/s=10.0, memory=" in last  # the means of the whole pass
    assert re.search(r"memory=[\d,]+ MB", last)


def test_lines_print_once_on_stdout_and_nowhere_else(capfd):
    elsewhere = logging.StreamHandler(sys.stderr)  # as in places that set up the root logger
    logging.getLogger().addHandler(elsewhere)
    try:
        log_to_stdout()
        log_to_stdout()
        monitor = Monitor([{"input_ids": torch.zeros(3)}] * 4, every_s=0)
        list(monitor)
    finally:
        logging.getLogger().removeHandler(elsewhere)
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == len(monitor.samples) == 5
    assert all(LINE.fullmatch(line) for line in lines)


def test_lines_go_to_the_stdout_of_the_moment():
    import io

    log_to_stdout()
    with contextlib.redirect_stdout(io.StringIO()) as later:
        list(Monitor([]))
    assert LINE.fullmatch(later.getvalue().rstrip("\n"))


@pytest.mark.parametrize("every_s", [-0.1, float("nan")])
def test_seconds_between_samples_cannot_be_negative(every_s):
    with pytest.raises(ValueError, match="every_s must be 0 or more, got"):
        Monitor([], every_s=every_s)


def test_there_is_no_card_before_a_pass():
    with pytest.raises(ValueError, match="iterate over the monitor first"):
        Monitor([]).card()
