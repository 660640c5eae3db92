"""The bench: the ways are what they say, and the report is complete. Never how fast."""

import json
import math
import subprocess
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from nursery import nursery
from tokenizers import Tokenizer
from typer.testing import CliRunner

from llmpipe import load_tokenizer, open_source
from llmpipe.classroom.bench import child, lab1, lab2, lab3, lab4, layouts, memory, scaling
from llmpipe.classroom.bench import run as bench
from llmpipe.classroom.bench.report import bench_figure
from llmpipe.cli import app

NUM_ROWS = 2500  # enough for more than one map batch of 1,000 documents
NUM_REVIEWS = 301  # the last batch of 8 is not full
SMALL = (2_000, 9_000)  # ids to stream instead of 10 and 100 million
NUM_RANKS = 2  # each classic one imports torch
WAYS = {
    "lab1": ("classic", "llmpipe"),
    "lab2": ("classic", "llmpipe", "blocks"),
    "lab3": ("classic", "llmpipe", "rows"),
    "lab4": ("classic", "llmpipe", "map_style"),
}
STAGES = {
    "lab1": ["load", "filter", "tokenize", "chunk", "epoch"],
    "lab2": ["first batch", "the rest"],
    "lab3": ["first batches", "last batch", "exit"],
    "lab4": ["first batch", "the rest"],
}
ALL_LABS = pytest.mark.parametrize(
    "lab", [pytest.param(lab, marks=pytest.mark.slow) if lab == "lab3" else lab for lab in WAYS]
)


@pytest.fixture(scope="module")
def forks():
    """Programs that start at once. Those of Lab 3 are real ones: their imports are measured."""
    with nursery() as run:
        yield run


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, forks):
    """By lab, made when first asked for: a run of the command on the sample, with all it writes."""
    folder, found = tmp_path_factory.mktemp("bench"), {}
    few_ranks = replace(lab3.BENCH, settings={**lab3.BENCH.settings, "world_size": NUM_RANKS})

    def outcome(lab):
        if lab not in found:
            plot, numbers = folder / f"{lab}.png", folder / f"{lab}.json"
            num_rows = NUM_REVIEWS if lab == "lab4" else NUM_ROWS
            arguments = ["bench", lab, "--num-rows", str(num_rows), "--repeats", "1"]
            arguments += ["--plot", str(plot), "--json", str(numbers)]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LLMPIPE_SOURCE", "sample")
                patch.setenv("COLUMNS", "80")
                patch.setattr(memory, "NUM_IDS", SMALL)
                patch.setattr(scaling, "REPEATS", 1)
                patch.setitem(bench.BENCHES, "lab3", few_ranks)
                if lab != "lab3":
                    patch.setattr(child.subprocess, "run", forks)
                done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, done.output
            found[lab] = (done, plot, json.loads(numbers.read_text()))
        return found[lab]

    return outcome


@pytest.fixture
def report_of(outcomes):
    return lambda lab: outcomes(lab)[2][lab]


@ALL_LABS
def test_json_holds_times_ratios_and_stages_that_add_up(outcomes, lab):
    *_, numbers = outcomes(lab)
    assert list(numbers) == [lab]
    report = numbers[lab]
    ratios = ["ratio", *(f"{way}_ratio" for way in WAYS[lab][2:])]
    names = [*(f"{way}_s" for way in WAYS[lab]), *ratios]
    assert list(report)[: len(names)] == names
    assert list(report["stages"]) == STAGES[lab]
    # That of Lab 3 is loaded within the clock.
    beside = [] if lab == "lab3" else [report["tokenizer"]]
    assert ("tokenizer" in report) == bool(beside)
    for entry in (report, *beside, *report["stages"].values()):
        for way, ratio in zip(WAYS[lab][1:], ratios, strict=True):
            assert math.isclose(entry[ratio], entry["classic_s"] / entry[f"{way}_s"])
    for way in WAYS[lab]:
        laps = [stage[f"{way}_s"] for stage in report["stages"].values()]
        assert min(laps) >= 0 < laps[0]
        assert all(entry[f"{way}_s"] > 0 for entry in beside)
        assert math.isclose(sum(laps), report[f"{way}_s"])
    assert report["cores"] >= 1
    assert report["versions"].keys() >= {"datasets", "transformers", "torch", "numpy"}
    assert report["dataset"].endswith(" from sample")


@pytest.mark.parametrize(
    ("lab", "parts"),
    [
        ("lab1", ["classic", "llmpipe", "times", "caches empty", "not in it", "same {ids:,} ids"]),
        ("lab2", ["whole batches", "blocks", "num_workers=0", "same {num_blocks:,} blocks"]),
        ("lab2", ["new words", "million tokens/s"]),
        ("lab3", ["by parts", "by rows", "from its start to its exit", "same {ids:,} ids"]),
        ("lab3", ["{world_size} ranks, tokenizer", "scaling, million tokens/s", "4 ranks"]),
        ("lab4", ["stream", "data set", "num_workers=0", "(8, 256)", "38 batches", "samples/s"]),
        ("lab4", ["buckets", "nanotoken"]),
    ],
)
def test_the_table_fits_a_projector_and_says_what_was_measured(outcomes, lab, parts):
    done, _, numbers = outcomes(lab)
    assert max(map(len, done.stdout.splitlines())) <= 80
    words, report = " ".join(done.stdout.split()), numbers[lab]
    labels = [f"{count} of {label}" for label, count in report.get("label_counts", {}).items()]
    for part in [*STAGES[lab], "all", *parts, *labels, "{cores} cores"]:
        assert part.format(**report) in words


@ALL_LABS
def test_the_plot_is_a_picture_and_its_caption_says_what_is_in_it(outcomes, lab):
    _, plot, numbers = outcomes(lab)
    assert plot.read_bytes().startswith(b"\x89PNG")
    figure = bench_figure(bench.BENCHES[lab], numbers[lab])
    beside = {"lab2": "memory", "lab3": "scaling"}.get(lab)
    said = {"lab2": "new words: ", "lab3": "2 ranks"}.get(lab, "classic ")
    assert said in figure.caption
    assert len(figure.axes) == 1 + bool(beside)
    without = {name: value for name, value in numbers[lab].items() if name != beside}
    assert len(bench_figure(bench.BENCHES[lab], without).axes) == 1


@pytest.mark.parametrize(
    ("lab", "change", "words"),
    [
        ("lab1", "ids", "IDS"),
        ("lab1", "blocks", "BLOCKS"),
        ("lab2", "blocks", "BLOCKS"),
        ("lab2", "counts", "BLOCKS"),
        ("lab3", "ids", "IDS"),
        ("lab3", "counts", "IDS"),
        ("lab3", "blocks", "BLOCKS"),
        *(("lab4", name, "BATCHES") for name in ("batches", "ids", "masks", "labels", "counts")),
    ],
)
def test_different_work_is_said_loudly_and_fails(monkeypatch, outcomes, lab, change, words):
    report = {**outcomes(lab)[2][lab], f"{change}_equal": False}
    monkeypatch.setattr(bench, "run_bench", lambda *_: report)
    done = CliRunner().invoke(app, ["bench", lab])
    assert done.exit_code == 2
    assert f"NOT THE SAME {words}" in " ".join(done.stdout.split())


def test_lab1_has_the_same_ids_both_ways_and_the_classic_its_fewer_blocks(report_of):
    report = report_of("lab1")
    assert report["ids_equal"] is True
    assert report["blocks_equal"] is True
    assert report["map_batches"] == -(-report["documents"] // 1000) > 1
    assert 0 < report["documents"] < NUM_ROWS
    for way in ("classic", "llmpipe"):
        cut = report[f"{way}_blocks"] * report["block_size"]
        assert cut + report[f"{way}_ids_left_out"] == report["ids"]
    assert report["llmpipe_ids_left_out"] < report["block_size"]
    assert report["classic_ids_left_out"] >= report["llmpipe_ids_left_out"]


def results(ids, offsets, classic_blocks):
    """What the two ways give for four ids in blocks of two."""
    counts = {"rows": 4, "epoch_ids": 4, "ready_tokens_per_s": 1.0}
    new = {"ids": np.array(ids), "offsets": np.array(offsets), "counts": counts}
    old = {**new, "blocks": np.array(classic_blocks)}
    return {"classic": old, "llmpipe": {**new, "blocks": np.array(ids[:4]).reshape(-1, 2)}}


def test_other_ids_and_other_blocks_are_noticed():
    ids, offsets, blocks = [1, 2, 3, 4, 5], [0, 3, 5], [[1, 2], [3, 4]]
    same = lab1.compare_lab1(results(ids, offsets, blocks), block_size=2)
    assert (same["ids_equal"], same["blocks_equal"]) == (True, True)
    assert (same["ids"], same["documents"]) == (5, 2)
    wrong = results(ids, offsets, [[1, 2], [3, 9]])
    assert lab1.compare_lab1(wrong, block_size=2)["blocks_equal"] is False
    wrong = results(ids, offsets, blocks)
    wrong["classic"]["ids"] = np.array([1, 2, 3, 4, 6])
    assert lab1.compare_lab1(wrong, block_size=2)["ids_equal"] is False
    wrong = results(ids, offsets, blocks)
    wrong["llmpipe"]["counts"] = {**wrong["llmpipe"]["counts"], "epoch_ids": 2}
    assert lab1.compare_lab1(wrong, block_size=2)["blocks_equal"] is False


def test_a_ratio_is_the_median_of_the_pairs_ratios(monkeypatch):
    totals = {"classic": iter([8, 9, 10]), "llmpipe": iter([4, 1, 2])}

    def pretend(lab, way, *_):
        named = dict.fromkeys(STAGES[lab], next(totals[way]) / len(STAGES[lab]))
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

    monkeypatch.setattr(child.subprocess, "run", pretend)
    for way in 2 * WAYS["lab1"]:
        found = bench._in_a_process("lab1", way, Path("file"), Path("tokenizer"), tmp_path)
        assert found["ids"].tolist() == [0, 1, 2]
        assert found["seconds"] == {"load": 1.0}
    assert len({cache for cache, _ in caches}) == 4
    assert all(empty for _, empty in caches)
    assert not any(cache.exists() for cache, _ in caches)


def test_lab2_gives_the_blocks_of_all_ids_that_tokenizers_gives(monkeypatch, report_of):
    report = report_of("lab2")
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    rows = open_source("wikitext-2-v1").load("train", num_rows=NUM_ROWS)["text"]
    kept = [row for row in rows if len(row.strip()) >= report["min_chars"]]
    reference = Tokenizer.from_file(str(load_tokenizer("gpt2").folder / "tokenizer.json"))
    num_ids = sum(len(each.ids) for each in reference.encode_batch(kept))
    assert report["blocks_equal"] is True
    assert report["counts_equal"] is True
    assert (report["rows"], report["documents"]) == (NUM_ROWS, len(kept))
    assert divmod(num_ids, 128) == (report["num_blocks"], report["left_over"])
    assert report["ids_in_blocks"] == report["epoch_ids"] == num_ids - report["left_over"]


def test_lab2_streams_both_texts_to_both_lengths_and_compares_them(report_of):
    report = report_of("lab2")
    memory = report["memory"]
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


def lab2_results():
    """What the three ways give for nine ids in blocks of two."""
    laps = {"first batch": 1.0, "the rest": 1.0}
    counts = {"rows": 4, "documents": 3, "left_over": 1, "epoch_ids": 8}
    blocks = np.arange(8).reshape(4, 2)
    return {way: {"blocks": blocks, "counts": counts, "seconds": laps} for way in WAYS["lab2"]}


@pytest.mark.parametrize("way", WAYS["lab2"])
def test_other_blocks_and_other_counts_of_lab2_are_noticed(way):
    same = lab2.compare_lab2(lab2_results(), block_size=2)
    assert (same["blocks_equal"], same["counts_equal"]) == (True, True)
    assert [same[f"{each}_tokens_per_s"] for each in WAYS["lab2"]] == [4.0] * 3
    wrong = lab2_results()
    wrong[way] = {**wrong[way], "blocks": wrong[way]["blocks"][:, ::-1]}
    assert lab2.compare_lab2(wrong, block_size=2)["blocks_equal"] is False
    for name in ("rows", "left_over", "epoch_ids"):
        wrong = lab2_results()
        wrong[way] = {**wrong[way], "counts": {**wrong[way]["counts"], name: 0}}
        assert lab2.compare_lab2(wrong, block_size=2)["counts_equal"] is False


def test_what_takes_minutes_can_be_left_out(monkeypatch, report_of):
    report = report_of("lab2")
    asked = []

    def pretend(*arguments):
        asked.append(arguments[-1])
        return report

    monkeypatch.setattr(bench, "run_bench", pretend)
    for option in ([], ["--quick"]):
        assert CliRunner().invoke(app, ["bench", "lab2", *option]).exit_code == 0
    assert asked == [True, False]


def test_new_words_never_end_and_are_the_same_every_time():
    few, again = (list(islice(memory.documents(), 50)) for _ in range(2))
    assert few == again
    words = [word for document in few for word in document["text"].split()]
    assert len(words) == len(set(words)) == 50 * memory.WORDS_PER_DOCUMENT
    assert all(len(word) == 6 and word.isascii() and word.islower() for word in words)
    # So no word comes again before all 26 ** 6 have been there.
    assert math.gcd(memory.SCATTER, 26**6) == 1


def test_lab3_gives_all_ids_that_tokenizers_gives_and_by_rows_the_classic_blocks(
    monkeypatch, report_of
):
    report = report_of("lab3")
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    rows = open_source("wikitext-2-v1").load("train", num_rows=NUM_ROWS)["text"]
    reference = Tokenizer.from_file(str(load_tokenizer("gpt2").folder / "tokenizer.json"))
    shares = [
        [row for row in rows[rank::NUM_RANKS] if len(row.strip()) >= 40]
        for rank in range(NUM_RANKS)
    ]
    num_ids = [sum(len(each.ids) for each in reference.encode_batch(share)) for share in shares]
    for name in ("ids_equal", "blocks_equal", "counts_equal"):
        assert report[name] is True
    assert (report["rows"], report["documents"]) == (NUM_ROWS, sum(map(len, shares)))
    assert report["ids"] == sum(num_ids)
    num_blocks = sum(number // 128 for number in num_ids)
    assert report["classic_blocks"] == report["rows_blocks"] == num_blocks


def test_lab3_measures_one_two_and_four_ranks(report_of):
    report = report_of("lab3")
    scaling = report["scaling"]
    assert (scaling["num_rows"], scaling["repeats"]) == (NUM_ROWS, 1)
    rates = scaling["tokens_per_s"]
    assert list(rates) == ["1", "2", "4"]
    assert scaling["ratios"] == pytest.approx(
        {"2/1": rates["2"] / rates["1"], "4/2": rates["4"] / rates["2"]}
    )
    assert report["ids"] - 128 < scaling["num_ids"] <= report["ids"]


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
    same = lab3.compare_lab3(lab3_results())
    assert not {key for key, equal in same.items() if equal is False}
    wrong = lab3_results()
    wrong[way] = {**wrong[way], name: np.array(value)}
    found = lab3.compare_lab3(wrong)
    assert {key for key, equal in found.items() if equal is False} == unequal


def test_lab4_gives_the_reviews_that_tokenizers_gives(monkeypatch, report_of):
    report = report_of("lab4")
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    reviews = open_source("imdb").load("train", num_rows=NUM_REVIEWS)
    reference = Tokenizer.from_file(str(load_tokenizer("distilbert").folder / "tokenizer.json"))
    full = np.array([len(each.ids) for each in reference.encode_batch(list(reviews["text"]))])
    for name in ("batches", "ids", "masks", "labels", "counts"):
        assert report[f"{name}_equal"] is True
    assert (report["samples"], report["batches"]) == (NUM_REVIEWS, 38)
    counts = Counter(map(str, reviews["label"]))
    assert len(counts) == 2
    assert report["label_counts"] == counts
    assert 0 < np.mean(full > 256) < 1
    assert report["truncation_ratio"] == pytest.approx(np.mean(full > 256))
    padding = 1 - np.minimum(full, 256).sum() / (256 * NUM_REVIEWS)
    assert report["padding_ratio"] == pytest.approx(padding)
    # Padded to the longest of a batch, and of one with others about as long.
    ratios = [report[f"{each}_padding_ratio"] for each in lab4.PADDINGS]
    assert ratios[0] == pytest.approx(padding)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[2] < ratios[0]
    assert all(report[f"{each}_samples_per_s"] > 0 for each in lab4.PADDINGS)


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
    return {way: {**arrays, "seconds": laps} for way in WAYS["lab4"]}


@pytest.mark.parametrize("way", WAYS["lab4"])
@pytest.mark.parametrize(
    ("array", "unequal"),
    [("sizes", "batches"), ("ids", "ids"), ("mask", "masks"), ("labels", "labels")],
)
def test_other_batches_of_lab4_are_noticed(way, array, unequal):
    same = lab4.compare_lab4(lab4_results())
    assert not {name for name, equal in same.items() if equal is False}
    assert [same[f"{each}_samples_per_s"] for each in WAYS["lab4"]] == [1.0] * 3
    wrong = lab4_results()
    wrong[way] = {**wrong[way], array: np.roll(wrong[way][array], 1, axis=0)}
    found = lab4.compare_lab4(wrong)
    assert {name for name, equal in found.items() if equal is False} == {f"{unequal}_equal"}


@pytest.mark.parametrize(
    ("way", "name", "value"),
    [
        *((way, "epoch_ids", 4) for way in WAYS["lab4"]),
        ("llmpipe", "label_counts", {"0": 2, "1": 1}),
        ("llmpipe", "padding_ratio", 0.0),
    ],
)
def test_other_counts_of_lab4_are_noticed(way, name, value):
    wrong = lab4_results()
    wrong[way] = {**wrong[way], "counts": {**wrong[way]["counts"], name: value}}
    found = lab4.compare_lab4(wrong)
    assert {key for key, equal in found.items() if equal is False} == {"counts_equal"}


def failed(*arguments):
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2, done.output
    return done.stderr


def test_wrong_calls_are_answered_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    assert "no bench for 'lab9'; there is lab1, lab2, lab3, lab4" in failed("lab9")
    assert "there is no folder" in failed("lab1", "--plot", str(tmp_path / "none" / "a.png"))
    assert "unknown source 'nothing'" in failed("lab1", "--dataset", "nothing")


def test_rows_too_few_for_a_block_are_an_error_that_says_so(monkeypatch, forks):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    monkeypatch.setattr(child.subprocess, "run", forks)
    assert "ids are less than a block of 128" in failed("lab1", "--num-rows", "1")
    assert "ids are less than a block of 128" in failed("lab2", "--num-rows", "1")
    assert "no rank has a block of 128" in failed("lab3", "--num-rows", "1")
    with pytest.raises(RuntimeError, match="the text ended after 0 of 10 ids"):
        memory.measured("stream", "wikitext-2", num_rows=1, num_ids=10)


def test_lab2_streams_few_and_many_parts_of_the_same_text(report_of):
    found = report_of("lab2")["layouts"]
    names = ["10 row groups", "10,000 row groups", "250 files", "1,000 files"]
    assert [run["layout"] for run in found["runs"]] == names
    few_groups, many_groups, few_files, many_files = found["runs"]
    assert few_groups["num_ids"] == many_groups["num_ids"] > 0
    assert many_files["num_ids"] > few_files["num_ids"] > 0
    ratio = many_groups["tokens_per_s"] / few_groups["tokens_per_s"]
    assert math.isclose(found["groups_rate_ratio"], ratio)
    assert math.isclose(found["files_time_ratio"], many_files["seconds"] / few_files["seconds"])


def test_layouts_hold_the_same_text(tmp_path):
    from llmpipe import open_source

    written = layouts.write(tmp_path, 1000 * layouts.ROWS_PER_FILE)
    sources = {name: open_source(path) for name, path in written.items()}
    parts = {name: len(source.parts().weights) for name, source in sources.items()}
    assert list(parts.values()) == [10, 10_000, 250, 1000]
    texts = [source.load()["text"][:] for source in sources.values()]
    assert texts[0] == texts[1] == texts[3]
    assert texts[2] == texts[0][: 250 * layouts.ROWS_PER_FILE]
