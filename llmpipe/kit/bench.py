"""Each lab against its classic way, measured in one run: `llmpipe bench lab1`.

Both ways start from the same Parquet file, written before, and from the same tokenizer files. They
run in turn, each in a process of its own with an empty cache, and their ids are compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from llmpipe.kit import bugs, classic
from llmpipe.kit.bench_report import WAYS, seconds
from llmpipe.metrics import usable_cores

MAP_BATCH = 1000  # what `Dataset.map(batched=True)` takes by default
READY_EPOCHS = 5  # over ready blocks, after one that warms up
PACKAGES = ("datasets", "transformers", "tokenizers", "torch", "numpy", "pyarrow", "gigatoken")


class Watch:
    """Seconds by stage: `lap(stage)` ends a stage that began with the last lap, or `start()`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


@dataclass(frozen=True)
class Bench:
    """A lab's pipeline both ways: functions of `settings` and a `Watch`, and what they must share.

    `stages` are in the clock; a lap named "tokenizer" is reported beside it. `compare` takes the
    results of both, by way, and returns what is the same and what is not; `notes` says it in words.
    """

    title: str

    dataset: str
    tokenizer: str
    settings: Mapping[str, int]
    stages: tuple[str, ...]
    ways: Mapping[str, Callable[..., dict]]
    compare: Callable[..., dict]
    notes: Callable[[dict], list[str]]


def lab1(
    file: str, tokenizer_folder: str, min_chars: int, block_size: int, batch_size: int, watch: Any
) -> dict:
    """What `classic.lab1` does, with `llmpipe`; `counts` holds the tokens/s over ready blocks too.

    Returns `ids` (N,) of all documents in a row, `offsets` (D + 1,), `blocks`
    (num_blocks, block_size), and `counts`: `rows` loaded and `epoch_ids` seen in the epoch.
    """
    import datasets  # noqa: F401  imports are not in the clock
    import pyarrow.compute  # noqa: F401
    from torch.utils.data import DataLoader

    from llmpipe import BlockDataset, QualityFilter, chunk, load_tokenizer, open_source

    def epoch() -> int:
        loader = DataLoader(
            dataset, batch_size=batch_size, shuffle=True, collate_fn=BlockDataset.collate
        )
        return sum(batch["input_ids"].numel() for batch in loader)

    watch.start()
    documents = open_source(file).load("train")
    watch.lap("load")
    kept, _ = QualityFilter(min_chars=min_chars)(documents)
    watch.lap("filter")
    tokenizer = load_tokenizer(tokenizer_folder)
    watch.lap("tokenizer")
    tokens = tokenizer.encode(kept["text"])
    watch.lap("tokenize")
    blocks, _ = chunk(tokens.ids, block_size)
    if not len(blocks):
        raise ValueError(f"{len(tokens.ids)} ids are less than a block of {block_size}")
    dataset = BlockDataset(blocks)
    watch.lap("chunk")
    epoch_ids = epoch()
    watch.lap("epoch")

    epoch()
    ready = Watch()
    for index in range(READY_EPOCHS):
        epoch()
        ready.lap(str(index))
    counts = {"rows": documents.num_rows, "epoch_ids": epoch_ids}
    counts["ready_tokens_per_s"] = epoch_ids / median(ready.seconds.values())
    return {"ids": tokens.ids, "offsets": tokens.offsets, "blocks": blocks, "counts": counts}


def compare_lab1(results: Mapping[str, dict], block_size: int, **_: int) -> dict:
    """Whether both ways have the same ids; the classic drops some at the end of each map batch."""
    old, new = (results[way] for way in WAYS)
    documents = np.split(new["ids"], new["offsets"][1:-1])
    expected, _ = bugs.group(documents, block_size, MAP_BATCH, broken=True)
    same = np.array_equal(old["ids"], new["ids"]) and np.array_equal(old["offsets"], new["offsets"])
    whole = all(result["counts"]["epoch_ids"] == result["blocks"].size for result in (old, new))
    return {
        "ids_equal": bool(same),
        # Equal but for what the bug says is lost, and all of them seen in the epoch.
        "blocks_equal": bool(np.array_equal(old["blocks"], expected) and whole),
        "rows": new["counts"]["rows"],
        "documents": len(documents),
        "map_batches": -(-len(documents) // MAP_BATCH),
        "ids": len(new["ids"]),
        **{f"{way}_blocks": len(results[way]["blocks"]) for way in WAYS},
        **{f"{way}_ids_left_out": len(new["ids"]) - results[way]["blocks"].size for way in WAYS},
        "ready_tokens_per_s": new["counts"]["ready_tokens_per_s"],
    }


def notes_lab1(report: dict) -> list[str]:
    left_out = report["classic_ids_left_out"] - report["llmpipe_ids_left_out"]
    same = f"same {report['ids']:,} ids from {report['documents']:,} documents"
    if not report["ids_equal"]:
        same = "NOT THE SAME IDS: the times compare different work"
    elif not report["blocks_equal"]:
        same += ", but NOT THE SAME BLOCKS: the times compare different work"
    return [
        f"in the clock: from load to the end of one shuffled epoch, batches of "
        f"{report['batch_size']}, blocks of {report['block_size']} ids, caches empty; "
        f"not in it: imports, and loading the tokenizer "
        f"(classic {seconds(report['tokenizer']['classic_s'])}, "
        f"llmpipe {seconds(report['tokenizer']['llmpipe_s'])})",
        f"{same}; the classic drops what does not fill a block at the end of each of its "
        f"{report['map_batches']} map batches: {left_out:,} ids more, "
        f"{report['classic_blocks']:,} blocks instead of {report['llmpipe_blocks']:,}; as in the "
        f"tutorials, its map takes the attention mask along",
        f"llmpipe over ready blocks, shuffled, num_workers=0: "
        f"{report['ready_tokens_per_s'] / 1e6:.1f} million tokens/s "
        f"(median of {READY_EPOCHS} epochs after one to warm up)",
    ]


BENCHES = {
    "lab1": Bench(
        title="Lab 1: from documents to batches",
        dataset="wikitext-2-v1",
        tokenizer="gpt2",
        settings={"min_chars": 40, "block_size": 128, "batch_size": 8},
        stages=("load", "filter", "tokenize", "chunk", "epoch"),
        ways={"classic": classic.lab1, "llmpipe": lab1},
        compare=compare_lab1,
        notes=notes_lab1,
    ),
}


def run_bench(
    lab: str,
    dataset: str | None = None,
    num_rows: int | None = None,
    repeats: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Measure both ways `repeats` times in turn; the report, in numbers and words, for JSON.

    `classic_s` and `llmpipe_s` are medians in seconds, `ratio` the median of the pairs' ratios.
    Raises KeyError for an unknown lab, RuntimeError with the words of a run that failed, and what
    `open_source` and `load_tokenizer` raise.
    """
    from llmpipe import load_tokenizer, open_source

    bench = BENCHES[lab]
    source = open_source(dataset or bench.dataset)
    tokenizer = load_tokenizer(bench.tokenizer)
    runs: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="llmpipe-bench-") as folder:
        file = Path(folder, "train.parquet")
        _write(source.load("train", num_rows=num_rows), file)
        for index in range(repeats):
            # llmpipe before classic: where there is nothing to cut, it says so in words.
            results = {
                way: _in_a_process(lab, way, file, tokenizer.folder, Path(folder))
                for way in reversed(WAYS)
            }
            compared = bench.compare(results, **bench.settings)
            run = {way: results[way]["seconds"] for way in WAYS}
            total = {way: sum(run[way][stage] for stage in bench.stages) for way in WAYS}
            runs.append({"seconds": run, "total": total, **compared})
            say(
                f"run {index + 1} of {repeats}: classic {seconds(total['classic'])}, "
                f"llmpipe {seconds(total['llmpipe'])}"
            )
    return _report(bench, runs, source, tokenizer)


def _write(documents: Any, file: Path) -> None:
    from llmpipe.download import quiet

    with quiet():
        # Row groups of 1,000, as the files of the hub have them.
        documents.to_parquet(file, batch_size=1000)


def _in_a_process(lab: str, way: str, file: Path, tokenizer: Path, folder: Path) -> dict:
    result = folder / way
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        settings = {"HF_DATASETS_CACHE": cache, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", __name__, lab, way, file, tokenizer, result]
        done = subprocess.run(
            list(map(str, command)), env={**os.environ, **settings}, capture_output=True, text=True
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError("\n".join([f"the {way} run of {lab} failed: {lines[-1]}", *lines[-30:]]))
    with np.load(f"{result}.npz") as arrays:
        return {**arrays, **json.loads(Path(f"{result}.json").read_text())}


def run_one(lab: str, way: str, file: str, tokenizer_folder: str, result: str) -> None:
    """What a process of `run_bench` does: one way, its arrays and its times to files."""
    bench, watch = BENCHES[lab], Watch()
    arrays = bench.ways[way](file, tokenizer_folder, **bench.settings, watch=watch)
    counts = arrays.pop("counts")
    np.savez(f"{result}.npz", **arrays)
    Path(f"{result}.json").write_text(json.dumps({"seconds": watch.seconds, "counts": counts}))


def _report(bench: Bench, runs: list[dict], source: Any, tokenizer: Any) -> dict:
    def both(pairs: list[tuple[float, float]]) -> dict:
        old, new = zip(*pairs, strict=True)
        ratio = median(a / b for a, b in pairs)
        return {"classic_s": median(old), "llmpipe_s": median(new), "ratio": ratio}

    def lap(stage: str) -> dict:
        return both([tuple(run["seconds"][way][stage] for way in WAYS) for run in runs])

    totals = [tuple(run["total"][way] for way in WAYS) for run in runs]
    report = {
        **both(totals),
        "ratios": [old / new for old, new in totals],
        "stages": {stage: lap(stage) for stage in bench.stages},
        "tokenizer": lap("tokenizer"),
        "dataset": str(source),
        "tokenizer_name": f"{tokenizer.name} from {tokenizer.origin}",
        "backend": tokenizer.backend_name,
        **bench.settings,
        **{name: value for name, value in runs[0].items() if name not in ("seconds", "total")},
        "repeats": len(runs),
        "cores": usable_cores(),
        "python": sys.version.split()[0],
        "versions": {package: version(package) for package in PACKAGES},
    }
    for name in ("ids_equal", "blocks_equal"):
        report[name] = all(run[name] for run in runs)
    report["ready_tokens_per_s"] = median(run["ready_tokens_per_s"] for run in runs)
    return report


if __name__ == "__main__":
    run_one(*sys.argv[1:])
