"""The script for parallel classification, as its users start it."""

import json
import os
import re

import pyarrow as pa
import pytest
import streaming_shard as script
from script_tools import LABS, here, in_turn, interrupted, started, torchrun, write

from llmpipe import load_tokenizer, open_source
from llmpipe.classroom.ranks.jobs import ReviewSettings, classify_batches
from llmpipe.classroom.ranks.report import total_ledger
from llmpipe.classroom.ranks.script import parsed
from llmpipe.sharding.share import STRATEGIES
from llmpipe.streaming.state import read_state

SCRIPT = LABS / "streaming_shard.py"


def told(*arguments, **changes):
    """What the script tells its ranks."""
    options = parsed(script.parser(), list(map(str, arguments)))
    vars(options).update(changes)
    parts = open_source(options.dataset).parts("train", options.num_rows)
    return parts, load_tokenizer("distilbert"), options


@pytest.fixture(autouse=True)
def sample(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")


def test_four_ranks_go_through_imdb(mirror, tmp_path):
    """All that the classic script printed, on the real reviews."""
    file = tmp_path / "figures.json"
    done = started([SCRIPT, "--json", file], LLMPIPE_SOURCE="mirror")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for expected in (
        "data       imdb from mirror, in 25 parts",
        "tokenizer  distilbert, from mirror, by nanotoken",
        "strategy   rows; ranks of unequal length: continue",
        "Coordination",
        "skew s",
        "samples in batches   25,000",
        "one rank alone",
        "reviews cut  44.3% at 256 tokens",
    ):
        assert expected in done.stdout, done.stdout
    assert re.search(r"^all +12,500 +12,500$", done.stdout, re.MULTILINE)
    for rank in range(4):
        assert re.search(rf"^rank {rank}  label 0  \w.{{,62}}$", done.stdout, re.MULTILINE)
        assert re.search(
            rf"^rank {rank}  batch +1  shape \(8, 256\) +8 samples", done.stdout, re.MULTILINE
        )
        assert re.search(rf"^{rank} +3,125 +3,125$", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout[: done.stdout.index("\nLedger")].splitlines())) <= 80
    ranks = json.loads(file.read_text())["ranks"]
    assert [rank["samples"] for rank in ranks] == [6250] * 4
    by_label = total_ledger(ranks)["read", "documents"].added
    assert by_label == {"label 0": 12_500, "label 1": 12_500}


LIGHT = """
import sys
import streaming_shard as script
status = script.main(["--num-rows", "500", "--workers", "1"])
print(status, {"torch", "pandas", "datasets", "transformers"} & set(sys.modules))
"""


def test_the_parent_imports_nothing_heavy():
    done = started(["-c", LIGHT], PYTHONPATH=f"{LABS}:{os.environ.get('PYTHONPATH', '')}")
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("world_size", [1, 4, 9])
def test_labels_over_all_ranks_are_those_of_the_data(strategy, world_size, imdb, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "mirror")
    settings = ReviewSettings(
        open_source("imdb").parts(), load_tokenizer("distilbert"), strategy=strategy
    )
    results = in_turn(classify_batches, world_size, settings)
    for label in ("0", "1"):
        assert sum(result["labels"].get(label, 0) for result in results) == 12_500
    assert sum(result["samples"] for result in results) == imdb.num_rows
    if strategy == "rows":  # every rank sees both, and as many to a row
        shares = [result["labels"] for result in results]
        assert max(abs(share["0"] - share["1"]) for share in shares) <= 2


def test_a_contiguous_run_of_sorted_labels_is_warned_of_once_a_rank():
    done = started([SCRIPT, "--strategy", "contiguous", "--num-rows", 12_000, "--workers", 3])
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 +4,000 +0$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^2 +0 +4,000$", done.stdout, re.MULTILINE)
    warned = re.findall(r"^rank (\d)  warning: all [\d,]+ labels", done.stdout, re.MULTILINE)
    assert {"0", "2"} <= set(warned)
    assert len(warned) == len(set(warned))
    assert done.stderr == ""


def test_options_reach_the_batches(tmp_path):
    file = tmp_path / "figures.json"
    options = ("--num-rows", 3000, "--workers", 2, "--batch-size", 4, "--max-length", 64)
    more = ("--padding", "buckets", "--batches", 5, "--uneven", "shortest", "--json", file)
    status, out, err = here(script, *options, *more)
    assert status == 0, err
    report = json.loads(file.read_text())
    assert [rank["batches"] for rank in report["ranks"]] == [5, 5]
    widths = [int(width) for width in re.findall(r"shape \(4, (\d+)\)", out)]
    assert min(widths) < 64 == max(64, *widths)  # padded to the longest of a batch
    assert "ranks of unequal length: shortest" in out
    assert "padding: buckets" in out


def test_a_batch_withheld_by_the_shortest_is_counted_as_dropped(tmp_path):
    file, data = tmp_path / "figures.json", tmp_path / "uneven.parquet"
    write(data, text=["so so"] * 27, label=[0] * 18 + [1] * 9)
    options = ("--dataset", data, "--workers", 4, "--batch-size", 3, "--uneven", "shortest")
    status, _, err = here(script, *options, "--json", file)
    assert status == 0, err
    ranks = json.loads(file.read_text())["ranks"]
    assert sum(rank["samples"] for rank in ranks) == 24
    assert total_ledger(ranks)["batch", "documents"].dropped == {"uneven ranks": 3}
    assert sum(sum(rank["labels"].values()) for rank in ranks) == 24


def test_all_ranks_end_before_their_first_batch_if_one_has_none(tmp_path):
    file = write(tmp_path / "one.parquet", text=["so so good"], label=[0])
    options = ("--dataset", file, "--workers", 3, "--uneven", "shortest")
    status, _, err = here(script, *options)
    assert status == 1
    assert "at least one of 3 ranks has none" in err


def test_columns_and_classes_of_other_names(tmp_path):
    file = write(tmp_path / "mine.parquet", body=["so so"] * 40, stars=[0, 1, 2, 3] * 10)
    options = ("--dataset", file, "--text-column", "body", "--label-column", "stars")
    status, out, err = here(script, *options, "--workers", 2, "--num-labels", 4)
    assert status == 0, err
    assert re.search(r"rank +label 0 +label 1 +label 2 +label 3", out), out
    assert re.search(r"all +10 +10 +10 +10", out)
    status, _, err = here(script, *options, "--workers", 2, "--num-labels", 3)
    assert status == 1
    assert re.search(r"^error: .*row \d+ of column 'stars' is 3, but labels must be", err)
    status, _, err = here(script, "--dataset", file, "--workers", 2)
    assert status == 1
    assert "no column 'text'; there are ['body', 'stars']" in err
    assert "--label-column" in err or "label_column" in err


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", None], "label": [0, 1]}, "row 1 of column 'text' is null"),
        ({"text": ["a", "b"], "label": [0, None]}, "row 1 of column 'label' is null"),
        ({"text": ["a", "b"], "label": [0, -1]}, "row 1 of column 'label' is -1"),
        ({"text": ["a", "b"], "label": ["0", "1"]}, "holds string, not labels"),
    ],
)
def test_a_bad_row_stops_all_ranks_and_is_named(tmp_path, columns, message):
    file = write(tmp_path / "bad.parquet", **columns)
    status, _, err = here(script, "--dataset", file, "--workers", 2)
    assert status == 1
    assert message in err
    assert len(err.splitlines()) == 1, err


BAD = {
    "padding": (["--uneven", "pad"], 2, "a review of padding has no label"),
    "length": (["--max-length", 2], 1, "max_length must be 3 or more, got 2"),
    "no rows": (["--dataset", "empty.parquet"], 1, "error: no batch from empty.parquet"),
    "state": (["--strategy", "rows", "--save-state", "x"], 2, "--strategy with --save-state:"),
    "uneven": (["--uneven", "shortest", "--resume", "x"], 2, "--uneven shortest with --resume:"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_get_one_clear_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path / "empty.parquet", text=pa.array([], pa.string()), label=pa.array([], pa.int64())
    )
    options, status, message = BAD[case]
    found, out, err = here(script, *options, "--workers", 2)
    assert found == status, out
    assert message in err
    assert "Traceback" not in err


def test_torchrun_starts_the_same_ranks_and_saves_their_states(tmp_path):
    """Five batches of each rank, and any number of ranks goes on from there."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    options = ("--num-rows", 6000, "--batches", 5, "--padding", "buckets")
    state, figures = "--save-state", "--json"
    status, _, err = here(script, *options, "--workers", 2, state, ours, figures, tmp_path / "1")
    assert status == 0, err
    done = torchrun(SCRIPT, *options, state, theirs, figures, tmp_path / "2")
    assert done.returncode == 0, done.stderr
    assert "saved where 2 ranks stand" in done.stdout
    found, expected = (json.loads((tmp_path / name).read_text())["ranks"] for name in "21")
    for name in ("rank", "batches", "samples", "labels", "rows_read", "ledger"):
        assert [rank[name] for rank in found] == [rank[name] for rank in expected]
    assert [rank["batches"] for rank in found] == [5, 5]
    assert read_state(theirs) == read_state(ours)

    given = ("--num-rows", 6000, "--padding", "buckets")
    whole = total_ledger(in_turn(script.classify_batches, 1, *told(*given)))
    for world_size in (1, 2, 5):
        ranks = in_turn(
            script.classify_batches, world_size, *told(*given, states=read_state(theirs))
        )
        ledger = total_ledger(ranks)
        for key in (("read", "documents"), ("tokenize", "ids"), ("truncate", "ids")):
            assert ledger[key] == whole[key]
        assert sum(rank["samples"] for rank in ranks) == 6000 - 2 * 5 * 8
        assert sum(sum(rank["labels"].values()) for rank in ranks) == 6000 - 2 * 5 * 8


def test_ctrl_c_saves_where_all_stand_and_three_ranks_go_on_where_four_stopped(tmp_path):
    states, file, num_rows = tmp_path / "states.json", tmp_path / "figures.json", 40_000
    options = ("--num-rows", num_rows)
    process, out, err = interrupted(
        SCRIPT, *options, "--save-state", states, until="rank 3  batch        2"
    )
    assert process.returncode == 130
    assert "stopped; the last that each rank told" in out
    assert re.search(r"rank +batches +samples", out)
    assert "saved where 4 ranks stand" in out
    assert "Traceback" not in err
    resumed = ("--resume", states, "--workers", 3, "--json", file)
    status, again, err = here(script, *options, *resumed)
    assert status == 0, err
    ranks = json.loads(file.read_text())["ranks"]
    before = re.search(r"^read +documents +0 .* ([\d,]+)$", out, re.MULTILINE)[1]
    assert 16 <= int(before.replace(",", "")) < num_rows
    assert sum(rank["samples"] for rank in ranks) == num_rows - int(before.replace(",", ""))
    by_label = total_ledger(ranks)["read", "documents"].added
    assert by_label == {"label 0": num_rows // 2, "label 1": num_rows // 2}
    assert f"Ledger, with all that {states} had counted" in again


def test_help_reads_well(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = here(script, "--help")
    assert status == 0
    for option in ("--max-length", "--padding", "--text-column", "--num-labels", "--strategy"):
        assert option in out
    assert max(map(len, out.splitlines())) <= 80
