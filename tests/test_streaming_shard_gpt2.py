"""The script for parallel language modelling, as its users start it."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pyarrow as pa
import pytest
import streaming_shard_gpt2 as script
from script_tools import LABS, environment, here, in_turn, interrupted, started, torchrun, write
from share_jobs import collect_ids

from llmpipe import Ledger, QualityFilter, load_tokenizer, open_source, run_ranks
from llmpipe.classroom.ranks.jobs import Settings
from llmpipe.classroom.ranks.report import rank_table, total_ledger
from llmpipe.classroom.ranks.script import PRELOAD, parsed
from llmpipe.launching.launch import RankError
from llmpipe.sharding.share import STRATEGIES
from llmpipe.streaming.state import collect, read_state, save_state

SCRIPT = LABS / "streaming_shard_gpt2.py"


def told(*arguments, dataset="wikitext-103", num_rows=None, **changes):
    """What the script tells its ranks."""
    options = parsed(script.parser(), list(map(str, arguments)))
    options.num_rows = num_rows
    vars(options).update({"strategy": "parts", **changes})
    return open_source(dataset).parts("train", num_rows), load_tokenizer("gpt2"), options


def documents(results):
    return total_ledger(results)["filter", "documents"]


@pytest.fixture(autouse=True)
def sample(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")


def test_four_ranks_go_through_all_of_the_sample():
    done = started([SCRIPT, "--num-rows", 20_000])
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
        "Coordination",
        "M tokens/s",
    ):
        assert expected in done.stdout, done.stdout
    for rank in range(4):
        assert re.search(rf"^rank {rank}  batch +1  shape", done.stdout, re.MULTILINE)
    table = re.findall(r"^ +(\d) +[\d,]+ +[\d.]+ +([\d,]+) .*$", done.stdout, re.MULTILINE)
    assert [rank for rank, _ in table] == ["0", "1", "2", "3"]
    assert sum(int(rows.replace(",", "")) for _, rows in table) == 20_000
    assert done.stderr == ""
    ledger = done.stdout.index("\nLedger")
    assert max(map(len, done.stdout[:ledger].splitlines())) <= 80


LIGHT = """
import sys
import streaming_shard_gpt2 as script
status = script.main(["--num-rows", "500", "--workers", "1"])
print(status, {"torch", "pandas", "datasets", "transformers"} & set(sys.modules))
"""


def test_the_parent_imports_nothing_heavy():
    done = started(["-c", LIGHT], PYTHONPATH=f"{LABS}:{os.environ.get('PYTHONPATH', '')}")
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_reads_all_rows_once_and_says_what_it_read(strategy):
    results = in_turn(script.stream_batches, 3, *told(num_rows=10_000, strategy=strategy))
    assert sum(rank["own_rows"] for rank in results) == 10_000
    rows_read = [rank["rows_read"] for rank in results]
    if strategy in ("rows", "batches"):
        assert rows_read == [10_000] * 3
    else:
        assert 10_000 <= sum(rows_read) < 10_000 + 2 * 3 * 1000
    assert sum(rank["kept"] for rank in results) == documents(results).num_out


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """JSON of two ranks over three parts of the sample, by the way of `--uneven`."""
    folder, reports = tmp_path_factory.mktemp("uneven"), {}
    for way in ("shortest", "pad"):
        options = ("--num-rows", 10_000, "--workers", 2, "--uneven", way)
        status, _, err = here(script, *options, "--json", folder / way)
        assert status == 0, err
        reports[way] = json.loads((folder / way).read_text())
    return reports


@pytest.mark.parametrize("way", ["shortest", "pad"])
def test_uneven_ranks_end_together(way, uneven):
    ranks = uneven[way]["ranks"]
    ledger, batches = total_ledger(ranks), [rank["batches"] for rank in ranks]
    results = in_turn(script.stream_batches, 2, *told(num_rows=10_000))
    alone = [result["batches"] for result in results]
    assert alone[0] != alone[1]
    if way == "shortest":
        assert batches == [min(alone)] * 2
        assert ledger["batch", "ids"].dropped["uneven ranks"] == 4 * 128
    else:
        longest = max(alone) + 1  # the remainder, padded, is a batch of its own
        assert max(alone) <= batches[0] == batches[1] <= longest
        assert ledger["batch", "ids"].added["uneven ranks"] > 0


def test_torchrun_starts_the_same_ranks(tmp_path, uneven):
    file, ours = tmp_path / "torchrun.json", uneven["shortest"]
    done = torchrun(SCRIPT, "--num-rows", 10_000, "--uneven", "shortest", "--json", file)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(file.read_text())
    for name in ("rank", "batches", "tokens", "own_rows", "rows_read", "bytes_read", "ledger"):
        assert [rank[name] for rank in theirs["ranks"]] == [rank[name] for rank in ours["ranks"]]
    assert theirs["configuration"] == ours["configuration"]
    assert len(theirs["ranks"]) == 2


def test_a_rank_of_torchrun_that_fails_ends_all_with_its_error(tmp_path):
    texts = ["word " * 40] * 2000
    texts[801] = None
    done = torchrun(SCRIPT, "--dataset", write(tmp_path / "null.parquet", text=texts))
    assert done.returncode != 0
    assert "error: part 0 of" in done.stderr
    assert "column 'text' is null" in done.stderr


def test_without_parts_enough_rows_are_divided(tmp_path):
    file = write(tmp_path / "one.parquet", text=["word " * 400] * 8)
    status, out, err = here(script, "--dataset", file, "--block-size", 16, "--workers", 2)
    assert status == 0, err
    assert "strategy   rows;" in out
    results = in_turn(script.stream_batches, 2, *told("--block-size", 16, dataset=file))
    assert re.search(r"^ +1 +0 +0.00 +0 +0 +0 +0 +n/a$", rank_table(results), re.MULTILINE)


def test_on_a_terminal_each_rank_has_a_bar():
    master, slave = pty.openpty()
    command = [sys.executable, str(SCRIPT), "--num-rows", "13000", "--workers", "3"]
    settings = {name: value for name, value in environment().items() if name != "PYTEST_VERSION"}
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=settings)
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


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Two ranks stopped after five batches: the process, its figures, and the states' file."""
    folder = tmp_path_factory.mktemp("stopped")
    file, states = folder / "figures.json", folder / "states.json"
    options = ("--num-rows", 9000, "--batches", 5, "--block-size", 64, "--workers", 2, "--verbose")
    done = started([SCRIPT, *options, "--json", file, "--save-state", states])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["figures.json", "states.json"]
    return done, json.loads(file.read_text()), states


def test_batches_stop_every_rank_and_json_has_the_figures(stopped):
    _, report, _ = stopped
    assert [(rank["batches"], rank["tokens"]) for rank in report["ranks"]] == [(5, 1280)] * 2
    assert report["totals"]["tokens"] == 2560
    assert report["totals"]["alone_rows"] == 9000
    assert report["configuration"]["strategy"].startswith("virtual shards")
    for rank in report["ranks"]:
        assert Ledger.from_dicts(rank["ledger"])["chunk", "ids"].num_out == 1280


def test_verbose_logs_with_the_rank(stopped):
    for rank in range(2):
        line = rf"INFO rank {rank} llmpipe\.labs: rank {rank} of 2 reads the sample's articles"
        assert re.search(line, stopped[0].stderr), stopped[0].stderr


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_any_number_of_ranks_goes_on_from_a_state_and_nothing_is_lost_or_duplicated(
    world_size, stopped
):
    _, report, file = stopped
    changes = {"num_rows": 9000, "block_size": 64, "strategy": None}
    whole = total_ledger(in_turn(script.stream_batches, 1, *told(**changes)))
    found = in_turn(script.stream_batches, world_size, *told(**changes, states=read_state(file)))
    ledger, before = total_ledger(found), total_ledger(report["ranks"])
    for key in (("filter", "documents"), ("tokenize", "documents"), ("tokenize", "ids")):
        assert ledger[key] == whole[key]
    assert before["chunk", "ids"].num_out == 2560
    assert sum(rank["tokens"] for rank in found) == ledger["chunk", "ids"].num_out - 2560
    left = 9000 - before["filter", "documents"].num_in
    assert sum(rank["own_rows"] for rank in found) == left
    assert sum(rank["kept"] for rank in found) == whole["filter", "documents"].num_out


def test_ctrl_c_saves_where_all_stand_and_three_ranks_go_on_where_four_stopped(tmp_path):
    file, num_rows = tmp_path / "states.json", 100_000
    options = ("--num-rows", num_rows, "--save-state", file)
    before = time.monotonic()
    process, out, err = interrupted(SCRIPT, *options, until="rank 3  batch        2")
    assert process.returncode == 130
    assert time.monotonic() - before < 60
    assert "stopped; the last that each rank told" in out
    assert "saved where 4 ranks stand; go on with --resume" in out
    assert "Traceback" not in err
    assert is_gone(process.pid), "something of the group still runs"
    assert [path.name for path in tmp_path.iterdir()] == ["states.json"]

    states = collect(read_state(file), "BlockStream")
    assert len(states) == 4
    assert any(state.place.left for state in states)
    options = ("--num-rows", num_rows, "--resume", file, "--workers", 3)
    status, again, err = here(script, *options, "--json", tmp_path / "figures.json")
    assert status == 0, err
    assert f"resumed    {file}, where 4 ranks stood" in again
    ranks = json.loads((tmp_path / "figures.json").read_text())["ranks"]
    assert f"Ledger, with all that {file} had counted\n{total_ledger(ranks)}\n" in again
    # The ledger that was printed at the interruption, and what three ranks added to it.
    rows, tokens = (re.search(rf"^{name} +([\d,]+)", out, re.MULTILINE)[1] for name in LAST)
    assert int(tokens.replace(",", "")) >= 1024
    assert documents(ranks).num_in == num_rows
    assert sum(rank["own_rows"] for rank in ranks) == num_rows - int(rows.replace(",", ""))
    whole = total_ledger(in_turn(script.stream_batches, 1, *told(num_rows=num_rows)))
    for key in (("filter", "documents"), ("tokenize", "documents"), ("tokenize", "ids")):
        assert total_ledger(ranks)[key] == whole[key]


LAST = ("filter    documents", "chunk     ids")


def is_gone(group):
    """Whether no process of the group is left, given 5 s: the fork server ends after its parent."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_where_a_rank_fails_the_states_of_all_are_saved(tmp_path):
    texts = ["word " * 40] * 30_000
    texts[29_001] = None
    data, file = write(tmp_path / "null.parquet", text=texts), tmp_path / "states.json"
    options = ("--dataset", data, "--workers", 2, "--save-state", file)
    with pytest.MonkeyPatch.context() as patch:  # the one rank alone would fail too, and before
        patch.setattr(script, "ALONE_ROWS", 1000)
        status, out, err = here(script, *options)
    assert status == 1
    assert "saved where 2 ranks stand" in out
    assert re.search(r"^error: rank \d .*column 'text' is null", err)
    assert len(err.splitlines()) == 1
    states = collect(read_state(file), "BlockStream")
    assert any(span.skip for state in states for span in state.place.left)  # something is out


def test_a_state_of_the_end_has_nothing_left(tmp_path):
    file, options = tmp_path / "states.json", ("--num-rows", 500, "--workers", 2)
    status, _, err = here(script, *options, "--save-state", file)
    assert status == 0, err
    status, out, err = here(script, *options, "--resume", file)
    assert status == 0, err
    assert re.search(r"^batches +0$", out, re.MULTILINE)
    assert re.search(r"^filter +documents +500 ", out, re.MULTILINE)


NO_STATE = {
    "other options": (["--block-size", 32], "another stream: block_size 64, here 32"),
    "other rows": (["--num-rows", 8999], "9000 rows, by parts.*here.* 8999 rows"),
}


@pytest.mark.parametrize("case", NO_STATE)
def test_a_state_of_another_stream_is_refused_naming_both_values(case, stopped):
    options, message = NO_STATE[case]
    given = ("--num-rows", 9000, "--block-size", 64, "--workers", 1, "--resume", stopped[2])
    status, _, err = here(script, *given, *options)
    assert status == 1
    assert re.search(rf"^error: rank 0 .*{message}", err)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("case", ["none", "cut", "one of two", "of reviews"])
def test_a_file_without_the_states_of_all_is_refused_before_anything_starts(
    case, stopped, tmp_path
):
    file, states = tmp_path / "states.json", read_state(stopped[2])
    if case == "cut":
        file.write_bytes(stopped[2].read_bytes()[:-9])
    elif case != "none":
        states[0]["fingerprint"]["kind"] = "BlockStream" if case == "one of two" else "Reviews"
        save_state(states[: 1 if case == "one of two" else 2], file)
    status, out, err = here(script, "--resume", file)
    messages = {
        "none": "No such file",
        "cut": "is not a whole state file",
        "one of two": "the states of all 2 consumers .* are due once each",
        "of reviews": "no whole state of a BlockStream .*it is of a Reviews",
    }
    assert (status, out) == (1, "")
    assert re.search(rf"^error: .*{messages[case]}", err), err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("world_size", [1, 2, 4, 9])
def test_the_ledger_of_all_ranks_is_that_of_one(world_size):
    given = told(dataset="wikitext-2", num_rows=5000)
    results = in_turn(script.stream_batches, world_size, *given)
    total, alone = map(total_ledger, (results, in_turn(script.stream_batches, 1, *given)))
    for key in (("filter", "documents"), ("tokenize", "ids")):
        assert total[key] == alone[key]
    assert total["chunk", "ids"].num_in == alone["chunk", "ids"].num_in
    assert sum(result["tokens"] for result in results) == total["chunk", "ids"].num_out


def settings_for(source, num_rows=None, **changes):
    return Settings(source.parts("train", num_rows), load_tokenizer("gpt2"), **changes)


def test_four_ranks_give_the_ids_of_one_process_on_wikitext_2(wikitext_2, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "mirror")
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
def test_four_ranks_give_the_ids_of_one_process_on_the_sample(strategy):
    settings = settings_for(open_source("wikitext-2"), num_rows=20_000, strategy=strategy)
    ((alone, _),) = in_turn(collect_ids, 1, settings)
    if strategy == "parts":
        results = run_ranks(collect_ids, 4, settings, preload=PRELOAD)
    else:
        results = in_turn(collect_ids, 4, settings)
    everything = np.concatenate([ids for ids, _ in results])
    assert np.array_equal(np.sort(everything), np.sort(alone))
    assert all(len(ids) for ids, _ in results)


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
    file = write(tmp_path / "few.parquet", text=pa.array(texts, pa.string()))
    status, _, err = here(script, "--dataset", file, "--workers", 2)
    assert status == 1
    assert re.search(rf"^error: no batch from .*{message}", err)
    assert len(err.splitlines()) == 1


def test_a_bad_row_in_one_rank_names_the_rank(tmp_path):
    texts = ["word " * 40] * 2000
    texts[801] = None
    source = open_source(write(tmp_path / "null.parquet", text=texts))
    settings = settings_for(source, strategy="rows")
    message = r"by rows for rank 1 of 4, .*null\.parquet: row 801 of column 'text' is null"
    with pytest.raises(RankError, match=message):
        run_ranks(collect_ids, 4, settings, preload=PRELOAD)


def test_fewer_rows_than_ranks_leaves_some_without_work(tmp_path):
    file = write(tmp_path / "one.parquet", text=["word " * 400])
    status, out, err = here(script, "--dataset", file, "--block-size", 16)
    assert status == 0, err
    assert re.search(r"^filter +documents +1 ", out, re.MULTILINE)


BAD = {
    "block size": (["--block-size", 0], 2, "must be an integer of 1 or more, got '0'"),
    "workers": (["--workers", "two"], 2, "must be an integer of 1 or more, got 'two'"),
    "batches": (["--batches", -3], 2, "must be an integer of 1 or more, got '-3'"),
    "strategy": (["--strategy", "columns"], 2, "invalid choice: 'columns'"),
    "json": (["--json", "no/such/x.json"], 2, "cannot write no/such/x.json: there is no"),
    "state": (["--save-state", "no/such/x.json"], 2, "cannot write no/such/x.json: there is no"),
    "a folder": (["--json", "/"], 2, "cannot write /: Is a directory"),
    "no file at all": (["--json", "/dev/null/x"], 2, "there is no folder /dev/null"),
    "source": (["--dataset", "wikitext-5"], 1, "error: unknown source 'wikitext-5'; known are"),
    "file": (["--dataset", "no/such.parquet"], 1, "error: there is no file no/such.parquet"),
    "tokenizer": (["--tokenizer", "gpt5"], 1, "error: 'gpt5' is neither a short name"),
    "by rows": (
        ["--strategy", "rows", "--save-state", "x"],
        2,
        "--strategy with --save-state: what is left is divided again",
    ),
    "by parts": (["--strategy", "parts", "--resume", "x"], 2, "--strategy with --resume:"),
    "uneven": (["--uneven", "pad", "--save-state", "x"], 2, "--uneven pad with --save-state:"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_get_one_clear_line(case):
    options, status, message = BAD[case]
    found, out, err = here(script, *options)
    assert (found, out) == (status, "")
    assert message in err
    assert "Traceback" not in err


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
    file = write(tmp_path / "bad.parquet", text=texts)
    status, _, err = here(script, "--dataset", file, "--workers", 2)
    assert status == 1
    assert message in err
    assert "for rank 0 of 1" in err
    assert len(err.splitlines()) == 1, err


def test_a_column_of_another_name_is_named(tmp_path):
    file = write(tmp_path / "other.parquet", body=["a"])
    status, _, err = here(script, "--dataset", file, "--workers", 1)
    assert status == 1
    assert "no column 'text'; there are ['body']" in err


def test_help_reads_well(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = here(script, "--help")
    assert status == 0
    for option in (
        "--workers",
        "--dataset",
        "--batches",
        "--block-size",
        "--batch-size",
        "--num-rows",
        "--strategy",
        "--uneven",
        "--save-state",
        "--resume",
        "--json",
        "--verbose",
        "torchrun",
    ):
        assert option in out
    assert max(map(len, out.splitlines())) <= 80
