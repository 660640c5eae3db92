"""Bars and lines of ranks at work, in a real notebook and as plain text."""

import nbformat
import pytest
from nbclient import NotebookClient

from llmpipe.classroom.ranks.bars import Progress

CELL = """
import os
os.environ.pop("PYTEST_VERSION", None)
from llmpipe.classroom.ranks.bars import RankBars
with RankBars(2) as bars:
    for rows_read in (100, 400):
        for rank, rows_to_read in enumerate((400, None)):
            message = {"rows_read": rows_read, "rows_to_read": rows_to_read, "ids_per_s": 2e6}
            bars(rank, message)
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
    assert sum("2.00\u2007M\u2007ids/s" in text for text in words) == 2


@pytest.mark.parametrize(
    ("unit", "rate", "words"),
    [("ids", 2e6, "2.00 M ids/s"), ("samples", 2e6, "2,000,000 samples/s")],
)
def test_without_bars_a_message_is_a_line_and_the_last_are_in_the_table(unit, rate, words, capsys):
    progress = Progress(unit)
    message = {"batches": 3, "shape": (4, 8), unit: 96, f"{unit}_per_s": rate}
    progress(1, {**message, f"{unit}_per_s": 0.0})
    progress(1, message)
    progress(0, {"line": "label 1  fine"})
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split()[-1] == "warm-up"
    assert second.startswith("rank 1  batch        3  shape (4, 8)")
    assert second.endswith(words)
    assert third == "rank 0  label 1  fine"
    assert progress.table().split() == ["rank", "batches", unit, "1", "3", "96"]
