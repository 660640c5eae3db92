"""The script for parallel classification, as its users start it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmpipe import Ledger, World, load_tokenizer, open_source
from llmpipe.classroom.ranks.jobs import ReviewSettings, classify_batches
from llmpipe.sharding.share import STRATEGIES

SCRIPT = Path(__file__).parents[1] / "labs" / "streaming_shard.py"


def environment(**settings):
    return {**os.environ, "LLMPIPE_SOURCE": "sample", **settings}


def run(*options, **settings):
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**settings), timeout=120
    )


def quiet(message):
    pass


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_four_ranks_go_through_imdb(mirror, tmp_path):
    """All that the classic script printed, on the real reviews."""
    file = tmp_path / "figures.json"
    done = run("--json", file, LLMPIPE_SOURCE="mirror")
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
        "reviews cut  44.3% at 256 ids",
    ):
        assert expected in done.stdout, done.stdout
    assert re.search(r"^all +12,500 +12,500$", done.stdout, re.MULTILINE)
    for rank in range(4):
        assert re.search(rf"^rank {rank}  label 0  \w.{{,76}}$", done.stdout, re.MULTILINE)
        assert re.search(
            rf"^rank {rank}  batch +1  shape \(8, 256\) +8 samples", done.stdout, re.MULTILINE
        )
        assert re.search(rf"^{rank} +3,125 +3,125$", done.stdout, re.MULTILINE)
    report = json.loads(file.read_text())
    assert [rank["samples"] for rank in report["ranks"]] == [6250] * 4
    ledger = sum((Ledger.from_dicts(rank["ledger"]) for rank in report["ranks"]), Ledger())
    assert ledger["read", "documents"].added == {"label 0": 12_500, "label 1": 12_500}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("world_size", [1, 4, 9])
def test_labels_over_all_ranks_are_those_of_the_data(strategy, world_size, imdb):
    settings = ReviewSettings(
        open_source("imdb").parts(), load_tokenizer("distilbert"), strategy=strategy
    )
    results = [
        classify_batches(World(rank, world_size), quiet, settings) for rank in range(world_size)
    ]
    for label in ("0", "1"):
        assert sum(result["labels"].get(label, 0) for result in results) == 12_500
    assert sum(result["samples"] for result in results) == imdb.num_rows
    if strategy == "rows":  # every rank sees both, and as many to a row
        shares = [result["labels"] for result in results]
        assert max(abs(share["0"] - share["1"]) for share in shares) <= 2


def test_a_contiguous_run_of_sorted_labels_is_warned_of_once_a_rank():
    done = run("--strategy", "contiguous", "--num-rows", 12_000, "--workers", 3)
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
    done = run(
        *options, "--padding", "buckets", "--batches", 5, "--uneven", "shortest", "--json", file
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert [rank["batches"] for rank in report["ranks"]] == [5, 5]
    widths = [int(width) for width in re.findall(r"shape \(4, (\d+)\)", done.stdout)]
    assert min(widths) < 64 == max(64, *widths)  # padded to the longest of a batch
    assert "ranks of unequal length: shortest" in done.stdout
    assert "padding: buckets" in done.stdout


def test_a_batch_withheld_by_the_shortest_is_counted_as_dropped(tmp_path):
    file, data = tmp_path / "figures.json", tmp_path / "uneven.parquet"
    write(data, text=["so so"] * 27, label=[0] * 18 + [1] * 9)
    options = ("--dataset", data, "--workers", 4, "--batch-size", 3, "--uneven", "shortest")
    done = run(*options, "--json", file)
    assert done.returncode == 0, done.stderr
    ranks = json.loads(file.read_text())["ranks"]
    ledger = sum((Ledger.from_dicts(rank["ledger"]) for rank in ranks), Ledger()).check()
    assert sum(rank["samples"] for rank in ranks) == 24
    assert ledger["batch", "documents"].dropped == {"uneven ranks": 3}
    assert sum(sum(rank["labels"].values()) for rank in ranks) == 24


def test_all_ranks_end_before_their_first_batch_if_one_has_none(tmp_path):
    file = write(tmp_path / "one.parquet", text=["so so good"], label=[0])
    done = run("--dataset", file, "--workers", 3, "--uneven", "shortest")
    assert done.returncode == 1
    assert "at least one of 3 ranks has none" in done.stderr


def test_columns_and_classes_of_other_names(tmp_path):
    file = write(tmp_path / "mine.parquet", body=["so so"] * 40, stars=[0, 1, 2, 3] * 10)
    options = ("--dataset", file, "--text-column", "body", "--label-column", "stars")
    done = run(*options, "--workers", 2, "--num-labels", 4)
    assert done.returncode == 0, done.stderr
    titles = r"rank +label 0 +label 1 +label 2 +label 3"
    assert re.search(titles, done.stdout), done.stdout
    assert re.search(r"all +10 +10 +10 +10", done.stdout)
    done = run(*options, "--workers", 2, "--num-labels", 3)
    assert done.returncode == 1
    assert re.search(r"^error: .*row \d+ of column 'stars' is 3, but labels must be", done.stderr)
    done = run("--dataset", file, "--workers", 2)
    assert done.returncode == 1
    assert "no column 'text'; there are ['body', 'stars']" in done.stderr
    assert "--label-column" in done.stderr or "label_column" in done.stderr


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
    done = run("--dataset", write(tmp_path / "bad.parquet", **columns), "--workers", 2)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


BAD = {
    "padding": (["--uneven", "pad"], 2, "a review of padding has no label"),
    "length": (["--max-length", 2], 1, "max_length must be 3 or more, got 2"),
    "no rows": (["--dataset", "empty.parquet"], 1, "error: no batch from empty.parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_get_one_clear_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path / "empty.parquet", text=pa.array([], pa.string()), label=pa.array([], pa.int64())
    )
    options, status, message = BAD[case]
    done = run(*options, "--workers", 2)
    assert done.returncode == status, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_torchrun_starts_the_same_ranks(tmp_path):
    files = tmp_path / "ours.json", tmp_path / "torchrun.json"
    options = ("--num-rows", 6000, "--json")
    ours = run(*options, files[0], "--workers", 2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(SCRIPT), *map(str, options), str(files[1])]
    theirs = subprocess.run(
        command, capture_output=True, text=True, env=environment(OMP_NUM_THREADS="1"), timeout=120
    )
    assert ours.returncode == theirs.returncode == 0, theirs.stderr
    ours, theirs = (json.loads(file.read_text()) for file in files)
    for name in ("rank", "batches", "samples", "labels", "rows_read", "ledger"):
        assert [rank[name] for rank in theirs["ranks"]] == [rank[name] for rank in ours["ranks"]]
    assert len(theirs["ranks"]) == 2


def test_ctrl_c_prints_what_was_measured(tmp_path):
    command = [sys.executable, str(SCRIPT), "--num-rows", "20000000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("rank 3  batch"):
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; the last that each rank told" in out
    assert re.search(r"rank +batches +samples", out)
    assert "Traceback" not in err


def test_help_reads_well():
    done = run("--help")
    assert done.returncode == 0
    for option in ("--max-length", "--padding", "--text-column", "--num-labels", "--strategy"):
        assert option in done.stdout
