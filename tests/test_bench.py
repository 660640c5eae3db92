"""The bench: the two ways are what they say, and the report is complete. Never how fast."""

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from llmpipe.kit import bench
from llmpipe.kit.cli import app

STAGES = ["load", "filter", "tokenize", "chunk", "epoch"]
NUM_ROWS = 2500  # enough for more than one map batch of 1,000 documents


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """One run of the command on the sample, with all it writes."""
    folder = tmp_path_factory.mktemp("bench")
    plot, numbers = folder / "bench.png", folder / "bench.json"
    arguments = ["bench", "lab1", "--num-rows", str(NUM_ROWS), "--repeats", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMPIPE_SOURCE", "sample")
        patch.setenv("COLUMNS", "80")
        done = CliRunner().invoke(app, [*arguments, "--plot", str(plot), "--json", str(numbers)])
    assert done.exit_code == 0, done.output
    return done, plot, json.loads(numbers.read_text())


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
    same = bench.compare_lab1(results(ids, offsets, blocks), block_size=2)
    assert (same["ids_equal"], same["blocks_equal"]) == (True, True)
    assert (same["ids"], same["documents"]) == (5, 2)
    wrong = results(ids, offsets, [[1, 2], [3, 9]])
    assert bench.compare_lab1(wrong, block_size=2)["blocks_equal"] is False
    wrong = results(ids, offsets, blocks)
    wrong["classic"]["ids"] = np.array([1, 2, 3, 4, 6])
    assert bench.compare_lab1(wrong, block_size=2)["ids_equal"] is False
    wrong = results(ids, offsets, blocks)
    wrong["llmpipe"]["counts"] = {**wrong["llmpipe"]["counts"], "epoch_ids": 2}
    assert bench.compare_lab1(wrong, block_size=2)["blocks_equal"] is False


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
    for way in (*bench.WAYS, *bench.WAYS):
        found = bench._in_a_process("lab1", way, Path("file"), Path("tokenizer"), tmp_path)
        assert found["ids"].tolist() == [0, 1, 2]
        assert found["seconds"] == {"load": 1.0}
    assert len({cache for cache, _ in caches}) == 4
    assert all(empty for _, empty in caches)
    assert not any(cache.exists() for cache, _ in caches)


def failed(*arguments):
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2, done.output
    return done.stderr


def test_wrong_calls_are_answered_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    assert "no bench for 'lab9'; there is lab1" in failed("lab9")
    assert "there is no folder" in failed("lab1", "--plot", str(tmp_path / "none" / "a.png"))
    assert "unknown source 'nothing'" in failed("lab1", "--dataset", "nothing")


def test_rows_too_few_for_a_block_are_an_error_that_says_so(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    assert "ids are less than a block of 128" in failed("lab1", "--num-rows", "1")
