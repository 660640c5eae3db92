"""The bench: the two ways are what they say, and the report is complete. Never how fast."""

import json
import math
import subprocess
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from llmpipe import load_tokenizer, open_source
from llmpipe.classroom.bench import lab1 as bench_lab1
from llmpipe.classroom.bench import lab2 as bench_lab2
from llmpipe.classroom.bench import lab3 as bench_lab3
from llmpipe.classroom.bench import lab4 as bench_lab4
from llmpipe.classroom.bench import memory_bench as bench_memory
from llmpipe.classroom.bench import run as bench
from llmpipe.classroom.bench import scaling as bench_scaling
from llmpipe.classroom.bench.report import bench_figure
from llmpipe.cli import app

STAGES = ["load", "filter", "tokenize", "chunk", "epoch"]
NUM_ROWS = 2500  # enough for more than one map batch of 1,000 documents


def outcome_of(lab, folder, once=None, num_rows=NUM_ROWS, **sizes):
    """One run of the command on the sample, with all it writes; `sizes` set in module `once`."""
    plot, numbers = folder / "bench.png", folder / "bench.json"
    arguments = ["bench", lab, "--num-rows", str(num_rows), "--repeats", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMPIPE_SOURCE", "sample")
        patch.setenv("COLUMNS", "80")
        for name, value in sizes.items():
            patch.setattr(once, name, value)
        done = CliRunner().invoke(app, [*arguments, "--plot", str(plot), "--json", str(numbers)])
    assert done.exit_code == 0, done.output
    return done, plot, json.loads(numbers.read_text())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return outcome_of("lab1", tmp_path_factory.mktemp("bench"))


@pytest.fixture
def report(outcome):
    return outcome[2]["lab1"]


def test_json_holds_the_lab_and_its_numbers(outcome):
    *_, numbers = outcome
    assert list(numbers) == ["lab1"]
    report = numbers["lab1"]
    assert list(report)[:3] == ["classic_s", "llmpipe_s", "ratio"]
    for entry in (report, report["tokenizer"], *report["stages"].values()):
        assert min(entry["classic_s"], entry["llmpipe_s"]) > 0
        assert math.isclose(entry["ratio"], entry["classic_s"] / entry["llmpipe_s"])
    assert report["cores"] >= 1
    assert report["versions"].keys() >= {"datasets", "transformers", "torch", "numpy"}
    assert report["dataset"] == "wikitext-2-v1 from sample"
    assert report["rows"] == NUM_ROWS


def test_stages_add_up_to_the_whole_and_loading_the_tokenizer_is_beside_it(report):
    assert list(report["stages"]) == STAGES
    for way in ("classic_s", "llmpipe_s"):
        assert math.isclose(sum(stage[way] for stage in report["stages"].values()), report[way])
    assert report["tokenizer"]["classic_s"] > 0


def test_both_ways_have_the_same_ids_and_the_classic_its_fewer_blocks(report):
    assert report["ids_equal"] is True
    assert report["blocks_equal"] is True
    assert report["map_batches"] == -(-report["documents"] // 1000) > 1
    assert 0 < report["documents"] < NUM_ROWS
    for way in ("classic", "llmpipe"):
        cut = report[f"{way}_blocks"] * report["block_size"]
        assert cut + report[f"{way}_ids_left_out"] == report["ids"]
    assert report["llmpipe_ids_left_out"] < report["block_size"]
    assert report["classic_ids_left_out"] >= report["llmpipe_ids_left_out"]


def test_the_table_fits_a_projector_and_says_what_is_in_the_clock(outcome, report):
    text = outcome[0].stdout
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for part in (*STAGES, "all", "classic", "llmpipe", "times", "caches empty", "not in it"):
        assert part in words
    assert f"same {report['ids']:,} ids" in words
    assert f"{report['cores']} cores" in words


def test_the_plot_is_a_picture(outcome):
    assert outcome[1].read_bytes().startswith(b"\x89PNG")


def results(ids, offsets, classic_blocks):
    """What the two ways give for four ids in blocks of two."""
    counts = {"rows": 4, "epoch_ids": 4, "ready_tokens_per_s": 1.0}
    new = {"ids": np.array(ids), "offsets": np.array(offsets), "counts": counts}
    old = {**new, "blocks": np.array(classic_blocks)}
    return {"classic": old, "llmpipe": {**new, "blocks": np.array(ids[:4]).reshape(-1, 2)}}


def test_other_ids_and_other_blocks_are_noticed():
    ids, offsets, blocks = [1, 2, 3, 4, 5], [0, 3, 5], [[1, 2], [3, 4]]
    same = bench_lab1.compare_lab1(results(ids, offsets, blocks), block_size=2)
    assert (same["ids_equal"], same["blocks_equal"]) == (True, True)
    assert (same["ids"], same["documents"]) == (5, 2)
    wrong = results(ids, offsets, [[1, 2], [3, 9]])
    assert bench_lab1.compare_lab1(wrong, block_size=2)["blocks_equal"] is False
    wrong = results(ids, offsets, blocks)
    wrong["classic"]["ids"] = np.array([1, 2, 3, 4, 6])
    assert bench_lab1.compare_lab1(wrong, block_size=2)["ids_equal"] is False
    wrong = results(ids, offsets, blocks)
    wrong["llmpipe"]["counts"] = {**wrong["llmpipe"]["counts"], "epoch_ids": 2}
    assert bench_lab1.compare_lab1(wrong, block_size=2)["blocks_equal"] is False


@pytest.mark.parametrize(
    ("change", "words"),
    [({"ids_equal": False}, "NOT THE SAME IDS"), ({"blocks_equal": False}, "NOT THE SAME BLOCKS")],
)
def test_different_work_is_said_loudly_and_fails(monkeypatch, report, change, words):
    monkeypatch.setattr(bench, "run_bench", lambda *_: {**report, **change})
    done = CliRunner().invoke(app, ["bench", "lab1"])
    assert done.exit_code == 2
    assert words in " ".join(done.stdout.split())


def test_a_ratio_is_the_median_of_the_pairs_ratios(monkeypatch):
    totals = {"classic": iter([8, 9, 10]), "llmpipe": iter([4, 1, 2])}

    def pretend(lab, way, *_):
        named = dict.fromkeys(STAGES, next(totals[way]) / len(STAGES))
        found = results([1, 2, 3, 4], [0, 4], [[1, 2], [3, 4]])[way]
        return {**found, "seconds": {**named, "tokenizer": 1.0}}

    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    monkeypatch.setattr(bench, "_in_a_process", pretend)
    lines = []
    report = bench.run_bench("lab1", num_rows=5, repeats=3, say=lines.append)
    assert report["ratios"] == pytest.approx([2, 9, 5])
    assert report["ratio"] == pytest.approx(5)
    assert (report["classic_s"], report["llmpipe_s"]) == pytest.approx((9, 2))
    assert lines[0] == "run 1 of 3: classic 8.0 s, llmpipe 4.0 s"
    assert len(lines) == 3


def test_each_run_has_a_cache_of_its_own_that_does_not_outlive_it(monkeypatch, tmp_path):
    caches = []

    def pretend(command, env, **_):
        cache = Path(env["HF_DATASETS_CACHE"])
        caches.append((cache, cache.is_dir() and not any(cache.iterdir())))
        np.savez(f"{command[-1]}.npz", ids=np.arange(3))
        Path(f"{command[-1]}.json").write_text('{"seconds": {"load": 1.0}}')
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(bench.subprocess, "run", pretend)
    for way in 2 * bench_lab1.WAYS:
        found = bench._in_a_process("lab1", way, Path("file"), Path("tokenizer"), tmp_path)
        assert found["ids"].tolist() == [0, 1, 2]
        assert found["seconds"] == {"load": 1.0}
    assert len({cache for cache, _ in caches}) == 4
    assert all(empty for _, empty in caches)
    assert not any(cache.exists() for cache, _ in caches)


LAB2_WAYS = ("classic", "llmpipe", "blocks")
SMALL = (2_000, 9_000)  # ids to stream instead of 10 and 100 million


@pytest.fixture(scope="module")
def lab2_outcome(tmp_path_factory):
    return outcome_of("lab2", tmp_path_factory.mktemp("bench"), bench_memory, NUM_IDS=SMALL)


@pytest.fixture
def lab2_report(lab2_outcome):
    return lab2_outcome[2]["lab2"]


def test_lab2_has_times_ratios_and_rates_of_whole_batches_and_of_single_blocks(lab2_report):
    report = lab2_report
    assert list(report)[:5] == ["classic_s", "llmpipe_s", "blocks_s", "ratio", "blocks_ratio"]
    assert list(report["stages"]) == ["first batch", "the rest"]
    for way in LAB2_WAYS:
        assert report["tokenizer"][f"{way}_s"] > 0
        assert report["stages"]["first batch"][f"{way}_s"] > 0
        stages = sum(stage[f"{way}_s"] for stage in report["stages"].values())
        assert math.isclose(stages, report[f"{way}_s"])
        assert report[f"{way}_tokens_per_s"] > 0


def test_lab2_gives_the_blocks_of_all_ids_that_tokenizers_gives(monkeypatch, lab2_report):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    rows = open_source("wikitext-2-v1").load("train", num_rows=NUM_ROWS)["text"]
    kept = [row for row in rows if len(row.strip()) >= lab2_report["min_chars"]]
    reference = Tokenizer.from_file(str(load_tokenizer("gpt2").folder / "tokenizer.json"))
    num_ids = sum(len(each.ids) for each in reference.encode_batch(kept))
    assert lab2_report["blocks_equal"] is True
    assert lab2_report["counts_equal"] is True
    assert (lab2_report["rows"], lab2_report["documents"]) == (NUM_ROWS, len(kept))
    assert divmod(num_ids, 128) == (lab2_report["num_blocks"], lab2_report["left_over"])
    assert (
        lab2_report["ids_in_blocks"]
        == lab2_report["epoch_ids"]
        == num_ids - lab2_report["left_over"]
    )


def test_lab2_streams_both_texts_to_both_lengths_and_compares_them(lab2_report):
    memory = lab2_report["memory"]
    runs = {(run["text"], due): run for run, due in zip(memory["runs"], 2 * SMALL, strict=True)}
    assert list(runs) == [(text, due) for text in ("sample", "new words") for due in SMALL]
    for (_, due), run in runs.items():
        assert due <= run["num_ids"] < due + 8 * 128
        assert run["peak_bytes"] >= 0
        assert run["base_bytes"] > 50e6  # Python with torch in it
        assert math.isclose(run["tokens_per_s"], run["num_ids"] / run["seconds"])
    for text in ("sample", "new words"):
        few, many = (runs[text, due] for due in SMALL)
        assert memory["extra_bytes"][text] == many["peak_bytes"] - few["peak_bytes"]
        ratio = many["tokens_per_s"] / few["tokens_per_s"]
        assert math.isclose(memory["rate_ratio"][text], ratio)


def test_the_table_of_lab2_fits_a_projector_and_the_plot_is_a_picture(lab2_outcome, lab2_report):
    done, plot, _ = lab2_outcome
    assert max(map(len, done.stdout.splitlines())) <= 80
    words = " ".join(done.stdout.split())
    parts = ["first batch", "the rest", "whole batches", "blocks", "num_workers=0", "new words"]
    for part in [*parts, f"same {lab2_report['num_blocks']:,} blocks", "million tokens/s"]:
        assert part in words
    assert plot.read_bytes().startswith(b"\x89PNG")
    figure = bench_figure(bench.BENCHES["lab2"], lab2_report)
    assert "new words: " in figure.caption
    without = {name: value for name, value in lab2_report.items() if name != "memory"}
    assert len(bench_figure(bench.BENCHES["lab2"], without).axes) == 1


def lab2_results():
    """What the three ways give for nine ids in blocks of two."""
    laps = {"first batch": 1.0, "the rest": 1.0}
    counts = {"rows": 4, "documents": 3, "left_over": 1, "epoch_ids": 8}
    blocks = np.arange(8).reshape(4, 2)
    return {way: {"blocks": blocks, "counts": counts, "seconds": laps} for way in LAB2_WAYS}


@pytest.mark.parametrize("way", LAB2_WAYS)
def test_other_blocks_and_other_counts_of_lab2_are_noticed(way):
    same = bench_lab2.compare_lab2(lab2_results(), block_size=2)
    assert (same["blocks_equal"], same["counts_equal"]) == (True, True)
    assert [same[f"{each}_tokens_per_s"] for each in LAB2_WAYS] == [4.0] * 3
    wrong = lab2_results()
    wrong[way] = {**wrong[way], "blocks": wrong[way]["blocks"][:, ::-1]}
    assert bench_lab2.compare_lab2(wrong, block_size=2)["blocks_equal"] is False
    for name in ("rows", "left_over", "epoch_ids"):
        wrong = lab2_results()
        wrong[way] = {**wrong[way], "counts": {**wrong[way]["counts"], name: 0}}
        assert bench_lab2.compare_lab2(wrong, block_size=2)["counts_equal"] is False


@pytest.mark.parametrize("change", ["blocks_equal", "counts_equal"])
def test_different_work_in_lab2_is_said_loudly_and_fails(monkeypatch, lab2_report, change):
    monkeypatch.setattr(bench, "run_bench", lambda *_: {**lab2_report, change: False})
    done = CliRunner().invoke(app, ["bench", "lab2"])
    assert done.exit_code == 2
    assert "NOT THE SAME BLOCKS" in " ".join(done.stdout.split())


def test_what_takes_minutes_can_be_left_out(monkeypatch, lab2_report):
    asked = []

    def pretend(*arguments):
        asked.append(arguments[-1])
        return lab2_report

    monkeypatch.setattr(bench, "run_bench", pretend)
    for option in ([], ["--quick"]):
        assert CliRunner().invoke(app, ["bench", "lab2", *option]).exit_code == 0
    assert asked == [True, False]


def test_new_words_never_end_and_are_the_same_every_time():
    few, again = (list(islice(bench_memory.documents(), 50)) for _ in range(2))
    assert few == again
    words = [word for document in few for word in document["text"].split()]
    assert len(words) == len(set(words)) == 50 * bench_memory.WORDS_PER_DOCUMENT
    assert all(len(word) == 6 and word.isascii() and word.islower() for word in words)
    # So no word comes again before all 26 ** 6 have been there.
    assert math.gcd(bench_memory.SCATTER, 26**6) == 1


LAB3_WAYS = ("classic", "llmpipe", "rows")
LAB3_STAGES = ["first batches", "last batch", "exit"]


@pytest.fixture(scope="module")
def lab3_outcome(tmp_path_factory):
    return outcome_of("lab3", tmp_path_factory.mktemp("bench"), bench_scaling, REPEATS=1)


@pytest.fixture
def lab3_report(lab3_outcome):
    return lab3_outcome[2]["lab3"]


def test_lab3_has_times_of_whole_programs_and_their_ratios(lab3_report):
    report = lab3_report
    assert list(report)[:5] == ["classic_s", "llmpipe_s", "rows_s", "ratio", "rows_ratio"]
    assert list(report["stages"]) == LAB3_STAGES
    assert "tokenizer" not in report  # it is loaded within the clock
    for way in LAB3_WAYS:
        laps = [stage[f"{way}_s"] for stage in report["stages"].values()]
        assert laps[0] > 0.1  # a Python was started and has imported torch
        assert min(laps) >= 0
        assert math.isclose(sum(laps), report[f"{way}_s"])
    assert math.isclose(report["ratio"], report["classic_s"] / report["llmpipe_s"])


def test_lab3_gives_all_ids_that_tokenizers_gives_and_by_rows_the_classic_blocks(
    monkeypatch, lab3_report
):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    rows = open_source("wikitext-2-v1").load("train", num_rows=NUM_ROWS)["text"]
    reference = Tokenizer.from_file(str(load_tokenizer("gpt2").folder / "tokenizer.json"))
    shares = [[row for row in rows[rank::4] if len(row.strip()) >= 40] for rank in range(4)]
    num_ids = [sum(len(each.ids) for each in reference.encode_batch(share)) for share in shares]
    for name in ("ids_equal", "blocks_equal", "counts_equal"):
        assert lab3_report[name] is True
    assert (lab3_report["rows"], lab3_report["documents"]) == (NUM_ROWS, sum(map(len, shares)))
    assert lab3_report["ids"] == sum(num_ids)
    num_blocks = sum(number // 128 for number in num_ids)
    assert lab3_report["classic_blocks"] == lab3_report["rows_blocks"] == num_blocks


def test_lab3_measures_one_two_and_four_ranks(lab3_report):
    scaling = lab3_report["scaling"]
    assert (scaling["num_rows"], scaling["repeats"]) == (NUM_ROWS, 1)
    rates = scaling["tokens_per_s"]
    assert list(rates) == ["1", "2", "4"]
    assert scaling["ratios"] == pytest.approx(
        {"2/1": rates["2"] / rates["1"], "4/2": rates["4"] / rates["2"]}
    )
    assert lab3_report["ids"] - 128 < scaling["num_ids"] <= lab3_report["ids"]


def test_the_table_of_lab3_fits_a_projector_and_the_plot_is_a_picture(lab3_outcome, lab3_report):
    done, plot, _ = lab3_outcome
    assert max(map(len, done.stdout.splitlines())) <= 80
    words = " ".join(done.stdout.split())
    parts = [*LAB3_STAGES, "by parts", "by rows", "from its start to its exit", "4 ranks"]
    for part in [*parts, f"same {lab3_report['ids']:,} ids", "scaling, million tokens/s"]:
        assert part in words
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "2 ranks" in bench_figure(bench.BENCHES["lab3"], lab3_report).caption


def lab3_results():
    """What the three ways give for eight ids on two ranks; by parts, rank 1 has no block."""
    ids, ends = np.arange(8), np.array([4, 8])
    counts = np.array([[2, 1, 2], [2, 2, 2]])
    by_rows = {"ids": ids, "ends": ends, "rank_counts": counts}
    by_parts = {
        "ids": ids[::-1],
        "ends": np.array([7, 8]),
        "rank_counts": np.array([[3, 2, 3], [1, 1, 0]]),
    }
    return {"classic": by_rows, "llmpipe": by_parts, "rows": by_rows}


@pytest.mark.parametrize(
    ("way", "name", "value", "unequal"),
    [
        ("rows", "ids", [1, 0, 2, 3, 4, 5, 6, 7], {"blocks_equal"}),
        ("rows", "ends", [5, 8], {"blocks_equal"}),
        ("rows", "rank_counts", [[1, 1, 2], [3, 2, 2]], {"blocks_equal"}),
        ("rows", "ids", [0, 1, 2, 3, 4, 5, 6, 9], {"blocks_equal", "ids_equal"}),
        ("llmpipe", "ids", [0, 0, 1, 2, 3, 4, 5, 6], {"ids_equal"}),
        ("llmpipe", "ids", [0, 1, 2, 3, 4, 5, 6], {"ids_equal"}),
        ("llmpipe", "rank_counts", [[3, 2, 3], [0, 1, 0]], {"counts_equal"}),
        ("llmpipe", "rank_counts", [[3, 1, 3], [1, 1, 0]], {"counts_equal"}),
    ],
)
def test_other_ids_other_ranks_and_other_counts_of_lab3_are_noticed(way, name, value, unequal):
    same = bench_lab3.compare_lab3(lab3_results())
    assert not {key for key, equal in same.items() if equal is False}
    wrong = lab3_results()
    wrong[way] = {**wrong[way], name: np.array(value)}
    found = bench_lab3.compare_lab3(wrong)
    assert {key for key, equal in found.items() if equal is False} == unequal


@pytest.mark.parametrize("change", ["ids_equal", "blocks_equal", "counts_equal"])
def test_different_work_in_lab3_is_said_loudly_and_fails(monkeypatch, lab3_report, change):
    monkeypatch.setattr(bench, "run_bench", lambda *_: {**lab3_report, change: False})
    done = CliRunner().invoke(app, ["bench", "lab3"])
    assert done.exit_code == 2
    assert "NOT THE SAME" in " ".join(done.stdout.split())


LAB4_WAYS = ("classic", "llmpipe", "map_style")
NUM_REVIEWS = 301  # the last batch of 8 is not full


@pytest.fixture(scope="module")
def lab4_outcome(tmp_path_factory):
    return outcome_of("lab4", tmp_path_factory.mktemp("bench"), num_rows=NUM_REVIEWS)


@pytest.fixture
def lab4_report(lab4_outcome):
    return lab4_outcome[2]["lab4"]


def test_lab4_has_times_ratios_and_rates_of_the_stream_and_of_the_data_set(lab4_report):
    report = lab4_report
    assert list(report)[:5] == ["classic_s", "llmpipe_s", "map_style_s", "ratio", "map_style_ratio"]
    assert list(report["stages"]) == ["first batch", "the rest"]
    for way in LAB4_WAYS:
        assert report["tokenizer"][f"{way}_s"] > 0
        assert report["stages"]["first batch"][f"{way}_s"] > 0
        stages = sum(stage[f"{way}_s"] for stage in report["stages"].values())
        assert math.isclose(stages, report[f"{way}_s"])
        assert math.isclose(report[f"{way}_samples_per_s"], NUM_REVIEWS / stages)


def test_lab4_gives_the_reviews_that_tokenizers_gives(monkeypatch, lab4_report):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    reviews = open_source("imdb").load("train", num_rows=NUM_REVIEWS)
    reference = Tokenizer.from_file(str(load_tokenizer("distilbert").folder / "tokenizer.json"))
    full = np.array([len(each.ids) for each in reference.encode_batch(list(reviews["text"]))])
    for name in ("batches", "ids", "masks", "labels", "counts"):
        assert lab4_report[f"{name}_equal"] is True
    assert (lab4_report["samples"], lab4_report["batches"]) == (NUM_REVIEWS, 38)
    counts = Counter(map(str, reviews["label"]))
    assert len(counts) == 2
    assert lab4_report["label_counts"] == counts
    assert 0 < np.mean(full > 256) < 1
    assert lab4_report["truncation_ratio"] == pytest.approx(np.mean(full > 256))
    padding = 1 - np.minimum(full, 256).sum() / (256 * NUM_REVIEWS)
    assert lab4_report["padding_ratio"] == pytest.approx(padding)
    # Padded to the longest of a batch, and of one with others about as long.
    ratios = [lab4_report[f"{each}_padding_ratio"] for each in bench_lab4.PADDINGS]
    assert ratios[0] == pytest.approx(padding)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[2] < ratios[0]
    assert all(lab4_report[f"{each}_samples_per_s"] > 0 for each in bench_lab4.PADDINGS)


def test_the_table_of_lab4_fits_a_projector_and_the_plot_is_a_picture(lab4_outcome, lab4_report):
    done, plot, _ = lab4_outcome
    assert max(map(len, done.stdout.splitlines())) <= 80
    words = " ".join(done.stdout.split())
    parts = ["first batch", "the rest", "stream", "data set", "num_workers=0", "(8, 256)"]
    labels = [f"{count} of {label}" for label, count in lab4_report["label_counts"].items()]
    for part in [*parts, *labels, "38 batches", "samples/s", "buckets", "nanotoken"]:
        assert part in words
    assert plot.read_bytes().startswith(b"\x89PNG")


def lab4_results():
    """What the three ways give for three reviews of up to two ids, in two batches."""
    arrays = {
        "sizes": np.array([2, 1]),
        "ids": np.array([[5, 6], [7, 0], [8, 9]]),
        "mask": np.array([[1, 1], [1, 0], [1, 1]]),
        "labels": np.array([0, 1, 1]),
        "counts": {
            "epoch_ids": 6,
            "label_counts": {"0": 1, "1": 2},
            "truncation_ratio": 0.0,
            "padding_ratio": 1 / 6,
            "paddings": {},
        },
    }
    laps = {"first batch": 1.0, "the rest": 2.0}
    return {way: {**arrays, "seconds": laps} for way in LAB4_WAYS}


@pytest.mark.parametrize("way", LAB4_WAYS)
@pytest.mark.parametrize(
    ("array", "unequal"),
    [("sizes", "batches"), ("ids", "ids"), ("mask", "masks"), ("labels", "labels")],
)
def test_other_batches_of_lab4_are_noticed(way, array, unequal):
    same = bench_lab4.compare_lab4(lab4_results())
    assert not {name for name, equal in same.items() if equal is False}
    assert [same[f"{each}_samples_per_s"] for each in LAB4_WAYS] == [1.0] * 3
    wrong = lab4_results()
    wrong[way] = {**wrong[way], array: np.roll(wrong[way][array], 1, axis=0)}
    found = bench_lab4.compare_lab4(wrong)
    assert {name for name, equal in found.items() if equal is False} == {f"{unequal}_equal"}


@pytest.mark.parametrize(
    ("way", "name", "value"),
    [
        *((way, "epoch_ids", 4) for way in LAB4_WAYS),
        ("llmpipe", "label_counts", {"0": 2, "1": 1}),
        ("llmpipe", "padding_ratio", 0.0),
    ],
)
def test_other_counts_of_lab4_are_noticed(way, name, value):
    wrong = lab4_results()
    wrong[way] = {**wrong[way], "counts": {**wrong[way]["counts"], name: value}}
    found = bench_lab4.compare_lab4(wrong)
    assert {key for key, equal in found.items() if equal is False} == {"counts_equal"}


@pytest.mark.parametrize("name", ["batches", "ids", "masks", "labels", "counts"])
def test_different_work_in_lab4_is_said_loudly_and_fails(monkeypatch, lab4_report, name):
    monkeypatch.setattr(bench, "run_bench", lambda *_: {**lab4_report, f"{name}_equal": False})
    done = CliRunner().invoke(app, ["bench", "lab4"])
    assert done.exit_code == 2
    assert "NOT THE SAME BATCHES" in " ".join(done.stdout.split())


def failed(*arguments):
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2, done.output
    return done.stderr


def test_wrong_calls_are_answered_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    assert "no bench for 'lab9'; there is lab1, lab2, lab3, lab4" in failed("lab9")
    assert "there is no folder" in failed("lab1", "--plot", str(tmp_path / "none" / "a.png"))
    assert "unknown source 'nothing'" in failed("lab1", "--dataset", "nothing")


def test_rows_too_few_for_a_block_are_an_error_that_says_so(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    assert "ids are less than a block of 128" in failed("lab1", "--num-rows", "1")
    assert "ids are less than a block of 128" in failed("lab2", "--num-rows", "1")
    assert "no rank has a block of 128" in failed("lab3", "--num-rows", "1")
