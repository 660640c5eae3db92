"""Ranks at work as the scripts and notebooks show them: messages, bars and lines, and reports."""

import io
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from llmpipe import BlockStream, Share, World, load_tokenizer, open_source
from llmpipe.classroom.ranks import report as rank_report
from llmpipe.classroom.ranks.bars import Progress
from llmpipe.classroom.ranks.measure import go_through
from llmpipe.classroom.ranks.script import on_terminal, one_line
from llmpipe.launching.launch import RankError
from llmpipe.ledger import Ledger

CELL = """
import os
os.environ.pop("PYTEST_VERSION", None)
from llmpipe.classroom.ranks.bars import RankBars
with RankBars(2) as bars:
    for rows_read in (100, 400):
        for rank, rows_to_read in enumerate((400, None)):
            message = {"rows_read": rows_read, "rows_to_read": rows_to_read, "tokens_per_s": 2e6}
            bars(rank, message)
    bars(1, {"line": "warning: all labels are 0"})
"""


def test_in_a_notebook_each_rank_has_a_bar_of_its_own_rows():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    client.execute()
    widgets = list(client.widget_state.values())
    bars = [widget for widget in widgets if "bar_style" in widget]
    assert [(bar["max"], bar["value"]) for bar in bars] == [(400, 400), (1, 1)]
    words = [widget["value"] for widget in widgets if isinstance(widget.get("value"), str)]
    assert sum("rank" in text for text in words) == 2
    assert sum("2.00\u2007M\u2007tokens/s" in text for text in words) == 2
    printed = "".join(o.get("text", "") for o in notebook.cells[0].outputs)
    assert "rank 1  warning: all labels are 0" in printed


@pytest.mark.parametrize(
    ("unit", "rate", "words"),
    [("tokens", 2e6, "2.00 M tokens/s"), ("samples", 2e6, "2,000,000 samples/s")],
)
def test_without_bars_a_message_is_a_line_and_the_last_are_in_the_table(unit, rate, words, capsys):
    progress = Progress(unit)
    message = {"batches": 3, "shape": (4, 8), unit: 96, f"{unit}_per_s": rate}
    progress(0, {"batches": 0, "shape": None, unit: 0, f"{unit}_per_s": 0.0})
    progress(1, {**message, f"{unit}_per_s": 0.0})
    progress(1, message)
    progress(0, {"line": "label 1  fine"})
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split()[-1] == "warm-up"
    assert second.startswith("rank 1  batch        3  shape (4, 8)")
    assert second.endswith(words)
    assert len(second) <= 80
    assert third == "rank 0  label 1  fine"
    rows = [line.split() for line in progress.table().splitlines()]
    assert rows == [["rank", "batches", unit], ["0", "0", "0"], ["1", "3", "96"]]


@pytest.mark.parametrize("max_batches", [None, 7])
def test_each_message_has_a_state_and_the_figures_of_the_same_moment(max_batches, monkeypatch):
    """Whichever was the last to arrive: a stream that resumes there gives what is missing."""
    monkeypatch.setattr("llmpipe.classroom.ranks.measure.TELL_EVERY_S", 0.0)
    parts, tokenizer = open_source("wikitext-2").parts("train", 300), load_tokenizer("gpt2")
    messages, whole = [], sum(b["input_ids"].numel() for b in BlockStream(parts, tokenizer))
    share = Share(parts, World())
    stream = BlockStream(share, tokenizer, batch_size=4)
    options = {"max_batches": max_batches, "saves": True}
    result = go_through(World(), messages.append, stream, share, "tokens", **options)
    assert len(messages) == 1 + result["batches"] > 7
    assert [message["batches"] for message in messages] == list(range(len(messages)))
    for message in (*messages, result):
        ledger = Ledger.from_dicts(message["ledger"])
        assert ledger == stream.total_ledger([message["state"]])
        assert message["tokens"] == ledger["chunk", "ids"].num_out
        rest = stream.resume([message["state"]])
        assert sum(b["input_ids"].numel() for b in rest) == whole - message["tokens"]


ALONE = {
    "tokens_per_s": 50.0,
    "samples_per_s": 50.0,
    "own_rows": 9,
    "batches": 2,
    "first_batch_at": 0.0,
    "finished": 1.5,
}


def result(rank, started, first, finished, count):
    moments = {"started": started, "first_batch_at": first, "finished": finished}
    return {"rank": rank, "tokens": count, "samples": count, "own_rows": 10 * rank, **moments}


RESULTS = [result(0, 10.5, 12.0, 15.0, 100), result(1, 11.0, 13.0, 16.0, 300)]


@pytest.mark.parametrize(("unit", "since"), [("tokens", 12.0), ("samples", 10.5)])
def test_totals_of_two_ranks(unit, since, monkeypatch):
    monkeypatch.setattr(rank_report, "usable_cores", lambda: 1)
    found = rank_report.totals(RESULTS, ALONE, opened=10.0, closed=17.0, unit=unit)
    rate = 400 / (16.0 - since)
    assert found[unit] == 400
    assert (found["total_s"], found["start_up_s"], found["steady_s"]) == (7.0, 3.0, 16.0 - since)
    assert found[f"{unit}_per_s"] == rate
    assert found["speed_up"] == rate / 50
    assert found["efficiency"] == rate / 100
    assert found["core_efficiency"] == rate / 50
    assert (found["alone_s"], found["alone_rows"]) == (1.5, 9)
    card = rank_report.totals_card(found)
    assert f"{rate / 50:.2f} with 2 ranks on 1 cores" in card


def test_what_is_too_short_to_tell_is_not_told():
    alone = {**ALONE, "tokens_per_s": 0.0}
    short = [result(0, 10.0, 10.1, 10.2, 5)]
    found = rank_report.totals(short, alone, opened=10.0, closed=10.5)
    for name in ("tokens_per_s", "alone_tokens_per_s", "speed_up", "efficiency"):
        assert found[name] is None
    assert rank_report.totals_card(found).count("too short to tell") == 2


def test_ranks_without_a_batch_have_no_totals():
    found = rank_report.totals([result(0, 10.0, None, 10.2, 0)], ALONE, opened=10.0, closed=10.5)
    assert found == {}
    assert rank_report.totals_card(found).split() == ["Totals", "----------", "batches", "0"]


def test_the_skew_of_a_rank_is_how_much_later_it_ends_than_the_first():
    none = result(2, 11.0, None, 15.5, 0)
    lines = rank_report.coordination_table([*RESULTS, none], opened=10.0).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["0", "0.50", "2.00", "5.00", "0", "0.00"],
        ["1", "1.00", "3.00", "6.00", "10", "1.00"],
        ["2", "1.00", "n/a", "5.50", "20", "0.50"],
    ]


def test_an_error_of_a_rank_is_one_line_with_rank_and_pid():
    trace = "Traceback (most recent call last):\n  File x\nValueError: row 7:\n  see below"
    error = RankError(2, 17, f"raised ValueError\n\n{trace}")
    assert one_line(error) == "rank 2 (pid 17): ValueError: row 7: see below"
    assert (
        one_line(RankError(1, 5, "was killed by SIGKILL"))
        == "rank 1 (pid 5): was killed by SIGKILL"
    )


@pytest.mark.parametrize("error_stream", ["closed", None])
def test_without_a_standard_error_there_is_no_terminal(error_stream, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed if error_stream else None)
    assert not on_terminal()
