import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from share_jobs import collect_ids

from llmpipe import Ledger, QualityFilter, World, load_tokenizer, open_source, run_ranks
from llmpipe.classroom.ranks.jobs import PRELOAD, Settings, stream_batches
from llmpipe.launching.launch import RankError
from llmpipe.sharding.share import STRATEGIES

SCRIPT = Path(__file__).parents[1] / "labs" / "streaming_shard_gpt2.py"


def run(*options, **settings):
    environment = {**os.environ, "LLMPIPE_SOURCE": "sample", **settings}
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def settings_for(source, num_rows=None, **changes):
    return Settings(source.parts("train", num_rows), load_tokenizer("gpt2"), **changes)


def quiet(message):
    pass


def test_four_ranks_go_through_all_of_the_sample():
    done = run("--num-rows", 20_000)
    assert done.returncode == 0, done.stderr
    for expected in (
        "data       wikitext-103 from sample",
        "strategy   parts; ranks of unequal length: continue",
        "start-up",
        "steady state",
        "tokenizer  gpt2, from sample, by gigatoken",
        "4 processes on",
        "shape (4, 128)",
        "parallel efficiency",
        "one rank alone",
    ):
        assert expected in done.stdout, done.stdout
    for rank in range(4):
        assert re.search(rf"^rank {rank}  batch +1  shape", done.stdout, re.MULTILINE)
    table = re.findall(r"^ +(\d) +[\d,]+ +[\d.]+ +([\d,]+) .*$", done.stdout, re.MULTILINE)
    assert [rank for rank, _ in table] == ["0", "1", "2", "3"]
    assert sum(int(rows.replace(",", "")) for _, rows in table) == 20_000
    assert done.stderr == ""


def test_batches_stop_every_rank_and_json_has_the_figures(tmp_path):
    file = tmp_path / "figures.json"
    options = ("--num-rows", 20_000, "--batches", 3, "--block-size", 64, "--json", file)
    done = run("--workers", 2, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert [(rank["batches"], rank["ids"]) for rank in report["ranks"]] == [(3, 768), (3, 768)]
    assert report["totals"]["ids"] == 1536
    assert report["totals"]["alone_rows"] == 20_000
    assert report["configuration"]["strategy"].startswith("parts")
    for rank in report["ranks"]:
        assert Ledger.from_dicts(rank["ledger"])["chunk", "ids"].num_out == 768
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize("strategy", ["rows", "contiguous"])
def test_a_strategy_reads_all_rows_once_and_says_what_it_read(strategy, tmp_path):
    file = tmp_path / "figures.json"
    done = run("--strategy", strategy, "--num-rows", 10_000, "--workers", 3, "--json", file)
    assert done.returncode == 0, done.stderr
    ranks = json.loads(file.read_text())["ranks"]
    assert sum(rank["own_rows"] for rank in ranks) == 10_000
    rows_read = [rank["rows_read"] for rank in ranks]
    if strategy == "rows":
        assert rows_read == [10_000] * 3
    else:
        assert 10_000 <= sum(rows_read) < 10_000 + 2 * 3 * 1000
    assert f"strategy   {strategy};" in done.stdout


@pytest.mark.parametrize("uneven", ["shortest", "pad"])
def test_uneven_ranks_end_together(uneven, tmp_path, monkeypatch):
    """One part more for rank 0: three parts of the sample, two ranks."""
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    file = tmp_path / "figures.json"
    options = ("--num-rows", 10_000, "--workers", 2, "--json", file, "--uneven")
    done = run(*options, uneven)
    assert done.returncode == 0, done.stderr
    ranks = json.loads(file.read_text())["ranks"]
    ledger = sum((Ledger.from_dicts(rank["ledger"]) for rank in ranks), Ledger()).check()
    settings = settings_for(open_source("wikitext-103"), num_rows=10_000)
    alone = [stream_batches(World(rank, 2), quiet, settings)["batches"] for rank in range(2)]
    batches = [rank["batches"] for rank in ranks]
    assert alone[0] != alone[1]
    if uneven == "shortest":
        assert batches == [min(alone)] * 2
        assert ledger["batch", "ids"].dropped["uneven ranks"] == 4 * 128
    else:
        longest = max(alone) + 1  # the remainder, padded, is a batch of its own
        assert max(alone) <= batches[0] == batches[1] <= longest
        assert ledger["batch", "ids"].added["uneven ranks"] > 0


def test_without_parts_enough_it_deals_rows(tmp_path):
    file = write(tmp_path / "one.parquet", ["word " * 400] * 8)
    done = run("--dataset", file, "--block-size", 16, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "strategy   rows;" in done.stdout
    done = run("--dataset", file, "--block-size", 16, "--workers", 2, "--strategy", "parts")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +1 +0 +0.00 +0 +0 +0 +0 ", done.stdout, re.MULTILINE), done.stdout


def torchrun(*options, nproc=4):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={nproc}", str(SCRIPT), *map(str, options)]
    environment = {**os.environ, "LLMPIPE_SOURCE": "sample", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_torchrun_starts_the_same_ranks(tmp_path):
    files = tmp_path / "ours.json", tmp_path / "torchrun.json"
    options = ("--num-rows", 12_000, "--uneven", "shortest", "--json")
    ours, theirs = run(*options, files[0]), torchrun(*options, files[1])
    assert ours.returncode == theirs.returncode == 0, theirs.stderr
    ours, theirs = (json.loads(file.read_text()) for file in files)
    for name in ("rank", "batches", "ids", "own_rows", "rows_read", "bytes_read", "ledger"):
        assert [rank[name] for rank in theirs["ranks"]] == [rank[name] for rank in ours["ranks"]]
    assert theirs["configuration"] == ours["configuration"]
    assert len(theirs["ranks"]) == 4


def test_a_rank_of_torchrun_that_fails_ends_all_with_its_error(tmp_path):
    texts = ["word " * 40] * 2000
    texts[801] = None
    done = torchrun("--dataset", write(tmp_path / "null.parquet", texts), nproc=2)
    assert done.returncode != 0
    assert "error: part 0 of" in done.stderr
    assert "column 'text' is null" in done.stderr


def test_on_a_terminal_each_rank_has_a_bar():
    master, slave = pty.openpty()
    command = [sys.executable, str(SCRIPT), "--num-rows", "30000", "--workers", "3"]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"},
        "LLMPIPE_SOURCE": "sample",
    }
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=environment)
    os.close(slave)
    drawn = b""
    while True:
        try:
            drawn += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    os.close(master)
    out = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    for rank in range(3):
        assert re.search(rf"rank {rank}: +100%.*rows", drawn.decode()), drawn.decode()
        assert len(re.findall(rf"^rank {rank}  batch", out, re.MULTILINE)) == 1


def test_verbose_logs_with_the_rank():
    done = run("--workers", 2, "--num-rows", 2000, "--verbose")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        line = rf"INFO rank {rank} llmpipe\.labs: rank {rank} of 2 reads by rows"
        assert re.search(line, done.stderr), done.stderr


@pytest.mark.parametrize("world_size", [1, 2, 4, 9])
def test_the_ledger_of_all_ranks_is_that_of_one(world_size, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    settings = settings_for(open_source("wikitext-2"), num_rows=5000)
    results = [
        stream_batches(World(rank, world_size), quiet, settings) for rank in range(world_size)
    ]
    total = sum((Ledger.from_dicts(result["ledger"]) for result in results), Ledger())
    alone = Ledger.from_dicts(stream_batches(World(), quiet, settings)["ledger"])
    for key in (("filter", "documents"), ("tokenize", "ids")):
        assert total[key] == alone[key]
    assert total["chunk", "ids"].num_in == alone["chunk", "ids"].num_in
    assert sum(result["ids"] for result in results) == total["chunk", "ids"].num_out


def test_four_ranks_give_the_ids_of_one_process_on_wikitext_2(wikitext_2):
    settings = settings_for(open_source("wikitext-2-v1"))
    results = run_ranks(collect_ids, 4, settings, preload=PRELOAD)
    gpt2 = settings.tokenizer
    kept, _ = QualityFilter(min_chars=40)(wikitext_2)
    whole = gpt2.encode(kept["text"]).ids
    assert len(whole) == 2_357_942
    everything = np.concatenate([ids for ids, _ in results])
    assert np.array_equal(np.sort(everything), np.sort(whole))
    # Row group g of 1,000 rows belongs to rank g % 4: there, the very same ids in order.
    for rank, (ids, _) in enumerate(results):
        groups = range(rank * 1000, wikitext_2.num_rows, 4000)
        own = pa.concat_tables([wikitext_2.slice(start, 1000) for start in groups])
        expected = gpt2.encode(QualityFilter(min_chars=40)(own)[0]["text"]).ids
        assert np.array_equal(ids, expected)
    total = sum((Ledger.from_dicts(ledger) for _, ledger in results), Ledger()).check()
    assert total["tokenize", "ids"].num_out == 2_357_942


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_four_ranks_give_the_ids_of_one_process_on_the_sample(strategy, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    settings = settings_for(open_source("wikitext-2"), num_rows=20_000, strategy=strategy)
    alone, _ = collect_ids(World(), quiet, settings)
    results = run_ranks(collect_ids, 4, settings, preload=PRELOAD)
    everything = np.concatenate([ids for ids, _ in results])
    assert np.array_equal(np.sort(everything), np.sort(alone))
    assert all(len(ids) for ids, _ in results)


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
    texts = ["word " * 40] * 2000
    texts[801] = None
    source = open_source(write(tmp_path / "null.parquet", texts))
    settings = settings_for(source, strategy="rows")
    message = r"by rows for rank 1 of 4: row 200 of column 'text' is null"  # of its own rows
    with pytest.raises(RankError, match=message):
        run_ranks(collect_ids, 4, settings, preload=PRELOAD)


def test_fewer_rows_than_ranks_leaves_some_without_work(tmp_path):
    done = run("--dataset", write(tmp_path / "one.parquet", ["word " * 400]), "--block-size", 16)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^filter +documents +1 ", done.stdout, re.MULTILINE)


BAD = {
    "block size": (["--block-size", 0], 2, "must be an integer of 1 or more, got '0'"),
    "workers": (["--workers", "two"], 2, "must be an integer of 1 or more, got 'two'"),
    "batches": (["--batches", -3], 2, "must be an integer of 1 or more, got '-3'"),
    "strategy": (["--strategy", "columns"], 2, "invalid choice: 'columns'"),
    "json": (["--json", "no/such/x.json"], 2, "there is no folder for no/such/x.json"),
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
    assert "for rank 0 of 1" in done.stderr
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
        "--num-rows",
        "--strategy",
        "--uneven",
        "--json",
        "--verbose",
        "torchrun",
    ):
        assert option in done.stdout
