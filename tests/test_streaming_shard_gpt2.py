import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from share_jobs import collect_ids
from streaming_shard_gpt2 import PRELOAD, Settings, Share

from llmpipe import Ledger, QualityFilter, World, load_tokenizer, open_source, run_ranks
from llmpipe.launch import RankError

SCRIPT = Path(__file__).parents[1] / "labs" / "streaming_shard_gpt2.py"


def run(*options, **settings):
    environment = {**os.environ, "LLMPIPE_SOURCE": "sample", **settings}
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def settings_for(source, **changes):
    options = {"block_size": 128, "batch_size": 4, "num_rows": None, "max_batches": None}
    return Settings(source, load_tokenizer("gpt2"), **{**options, **changes})


def test_four_ranks_go_through_all_of_the_sample():
    done = run("--num-rows", 20_000)
    assert done.returncode == 0, done.stderr
    for expected in (
        "data       wikitext-103, from sample",
        "tokenizer  gpt2, from sample, by gigatoken",
        "4 processes on",
        "shape (4, 128)",
        "parallel efficiency",
        "one rank alone",
    ):
        assert expected in done.stdout, done.stdout
    for rank in range(4):
        assert re.search(rf"^rank {rank}  batch +1  shape", done.stdout, re.MULTILINE)
    table = re.findall(r"^ +(\d)  +([\d,]+) .*$", done.stdout, re.MULTILINE)
    assert [rank for rank, _ in table] == ["0", "1", "2", "3"]
    assert sum(int(rows.replace(",", "")) for _, rows in table) == 20_000
    assert done.stderr == ""


def test_batches_stop_every_rank_and_the_rest_is_accounted_for():
    done = run("--workers", 2, "--num-rows", 20_000, "--batches", 3, "--block-size", 64)
    assert done.returncode == 0, done.stderr
    assert "stopped early" in done.stdout
    batches = re.findall(r"^ +\d +[\d,]+ +[\d,]+ +(\d+) +([\d,]+)", done.stdout, re.MULTILINE)
    assert batches == [("3", "768"), ("3", "768")]


def test_verbose_logs_with_the_rank():
    done = run("--workers", 2, "--num-rows", 2000, "--verbose")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert re.search(rf"INFO rank {rank} llmpipe\.sharding: rank {rank} reads", done.stderr)


@pytest.mark.parametrize("world_size", [1, 2, 4, 9])
def test_the_ledger_of_all_ranks_is_that_of_one(world_size, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    settings = settings_for(open_source("wikitext-2"), num_rows=5000)
    ledgers = []
    for rank in range(world_size):
        share = Share(World(rank, world_size), settings)
        ids = sum(batch.numel() for batch in share)
        assert ids == share.ledger["batch", "ids"].num_out
        ledgers.append(share.ledger)
    total = sum(ledgers, Ledger())
    alone = Share(World(), settings)
    list(alone)
    for key in (("filter", "documents"), ("tokenize", "ids")):
        assert total[key] == alone.ledger[key]
    assert total["chunk", "ids"].num_in == alone.ledger["chunk", "ids"].num_in


def test_four_ranks_give_the_ids_of_one_process_on_wikitext_2(wikitext_2):
    settings = settings_for(open_source("wikitext-2-v1"))
    results = run_ranks(collect_ids, 4, settings, preload=PRELOAD)
    gpt2 = settings.tokenizer
    kept, _ = QualityFilter(min_chars=40)(wikitext_2)
    whole = gpt2.encode(kept["text"]).ids
    assert len(whole) == 2_357_942
    everything = np.concatenate([part for ids, rest, _ in results for part in (ids, rest)])
    assert np.array_equal(np.sort(everything), np.sort(whole))
    # Row group g of 1,000 rows belongs to rank g % 4: there, the very same ids in order.
    for rank, (ids, remainder, _) in enumerate(results):
        groups = range(rank * 1000, wikitext_2.num_rows, 4000)
        own = pa.concat_tables([wikitext_2.slice(start, 1000) for start in groups])
        expected = gpt2.encode(QualityFilter(min_chars=40)(own)[0]["text"]).ids
        assert np.array_equal(np.concatenate((ids, remainder)), expected)
    total = sum((Ledger.from_dicts(ledger) for _, _, ledger in results), Ledger()).check()
    assert total["tokenize", "ids"].num_out == 2_357_942


def test_four_ranks_give_the_ids_of_one_process_on_the_sample(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    settings = settings_for(open_source("wikitext-2"), num_rows=20_000)
    alone, rest, _ = collect_ids(World(), None, settings)
    results = run_ranks(collect_ids, 4, settings, preload=PRELOAD)
    everything = np.concatenate([part for ids, rest, _ in results for part in (ids, rest)])
    assert np.array_equal(np.sort(everything), np.sort(np.concatenate((alone, rest))))
    assert all(len(ids) for ids, _, _ in results)


def write(path, texts):
    pq.write_table(pa.table({"text": pa.array(texts, pa.string() if not texts else None)}), path)
    return path


NO_BATCH = {
    "nothing kept": (
        ["", "short"] * 10,
        "20 rows were read, 0 kept .*'blank': 10, 'too_short': 10",
    ),
    "less than a block": (["a row that is long enough to be kept , but just one"], "1 kept"),
    "no row": ([], "0 rows were read"),
}


@pytest.mark.parametrize("case", NO_BATCH)
def test_a_corpus_without_a_batch_is_an_error_with_its_figures(tmp_path, case):
    texts, message = NO_BATCH[case]
    done = run("--dataset", write(tmp_path / "few.parquet", texts), "--workers", 2)
    assert done.returncode == 1
    assert re.search(rf"^error: no batch from .*{message}", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_a_bad_row_in_one_rank_names_the_rank(tmp_path):
    """The others' rows are fine; the error must not count rows as if there were one rank."""
    texts = ["word " * 40] * 2000
    texts[801] = None
    settings = settings_for(open_source(write(tmp_path / "null.parquet", texts)))
    with pytest.raises(RankError, match=r"in the share of rank 1 of 4: row 200 of column 'text'"):
        run_ranks(collect_ids, 4, settings, preload=PRELOAD)


def test_fewer_rows_than_ranks_leaves_some_without_work(tmp_path):
    done = run("--dataset", write(tmp_path / "one.parquet", ["word " * 400]), "--block-size", 16)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^filter +documents +1 ", done.stdout, re.MULTILINE)


BAD = {
    "block size": (["--block-size", 0], 2, "must be an integer of 1 or more, got '0'"),
    "workers": (["--workers", "two"], 2, "must be an integer of 1 or more, got 'two'"),
    "batches": (["--batches", -3], 2, "must be an integer of 1 or more, got '-3'"),
    "source": (["--dataset", "wikitext-5"], 1, "error: unknown source 'wikitext-5'; known are"),
    "file": (["--dataset", "no/such.parquet"], 1, "error: there is no file no/such.parquet"),
    "tokenizer": (["--tokenizer", "gpt5"], 1, "error: 'gpt5' is neither a short name"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_get_one_clear_line(case):
    options, status, message = BAD[case]
    done = run(*options)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


BAD_ROWS = {
    "null": (
        ["fine and long enough to be kept by the filter " * 2, None],
        "row 1 of column 'text' is null",
    ),
    "numbers": ([1, 2, 3], "column 'text' holds int64, not text"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_stops_all_ranks_and_is_named(tmp_path, case):
    texts, message = BAD_ROWS[case]
    done = run("--dataset", write(tmp_path / "bad.parquet", texts), "--workers", 2)
    assert done.returncode == 1
    assert message in done.stderr
    assert "in the share of rank 0 of 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_column_of_another_name_is_named(tmp_path):
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "other.parquet")
    done = run("--dataset", tmp_path / "other.parquet", "--workers", 1)
    assert done.returncode == 1
    assert "no column 'text'; there are ['body']" in done.stderr


def test_ctrl_c_prints_what_was_measured_and_leaves_nothing_running():
    command = [sys.executable, str(SCRIPT), "--num-rows", "50000000"]
    environment = {**os.environ, "LLMPIPE_SOURCE": "sample"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("rank 3"):
            break
    os.killpg(process.pid, signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "stopped; the last that each rank told" in out
    assert "Traceback" not in err
    assert is_gone(process.pid), "something of the group still runs"


def is_gone(group):
    """Whether no process of the group is left, given 5 s: the fork server ends after its parent."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_help_reads_well():
    done = run("--help")
    assert done.returncode == 0
    for option in (
        "--workers",
        "--dataset",
        "--batches",
        "--block-size",
        "--batch-size",
        "--verbose",
    ):
        assert option in done.stdout
