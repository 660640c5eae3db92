"""Each lab against its classic way, measured in one run: `llmpipe bench lab1`.

All ways start from the same Parquet file, written before, and from the same tokenizer files. They
run in turn, each in a process of its own with an empty cache, and their ids are compared.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from llmpipe.classroom.bench import lab1, lab2, lab3, lab4
from llmpipe.classroom.bench.child import run_module
from llmpipe.classroom.bench.plan import Bench, Watch, name_of, ratio_key
from llmpipe.classroom.bench.report import seconds
from llmpipe.metrics import usable_cores

BACKENDS = ("gigatoken", "nanotoken")
PACKAGES = ("datasets", "transformers", "tokenizers", "torch", "numpy", "pyarrow", *BACKENDS)
BENCHES = {"lab1": lab1.BENCH, "lab2": lab2.BENCH, "lab3": lab3.BENCH, "lab4": lab4.BENCH}


def run_bench(
    lab: str,
    dataset: str | None = None,
    num_rows: int | None = None,
    repeats: int = 3,
    say: Callable[[str], None] = lambda line: None,
    once: bool = True,
) -> dict:
    """Measure all ways `repeats` times in turn; the report, in numbers and words, for JSON.

    `classic_s` and `llmpipe_s` are medians in seconds, `ratio` the median of the runs' ratios;
    beside them stands what is measured once, if the lab has that and `once` is true.
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
                for way in reversed(bench.ways)
            }
            compared = bench.compare(results, **bench.settings)
            run = {way: results[way]["seconds"] for way in bench.ways}
            total = {way: sum(run[way][stage] for stage in bench.stages) for way in bench.ways}
            runs.append({"seconds": run, "total": total, "compared": compared})
            times = bench.each(lambda way, total=total: seconds(total[way]))
            say(f"run {index + 1} of {repeats}: {times}")
    report = _report(bench, runs, source, tokenizer)
    for module in bench.once if once else ():
        report[name_of(module)] = module.measure(tokenizer, num_rows, say)
    return report


def _write(documents: Any, file: Path) -> None:
    from llmpipe.sources.hub import quiet

    with quiet():
        # Row groups of 1,000, as the files of the hub have them.
        documents.to_parquet(file, batch_size=1000)


def _in_a_process(lab: str, way: str, file: Path, tokenizer: Path, folder: Path) -> dict:
    result = folder / way
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        settings = {"HF_DATASETS_CACHE": cache, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        sizes, what = json.dumps(BENCHES[lab].settings), f"the {way} run of {lab}"
        run_module(__name__, lab, way, sizes, file, tokenizer, result, what=what, **settings)
    with np.load(f"{result}.npz") as arrays:
        return {**arrays, **json.loads(Path(f"{result}.json").read_text())}


def run_one(lab: str, way: str, sizes: str, file: str, tokenizer_folder: str, result: str) -> None:
    """What a process of `run_bench` does: one way, its arrays and its times to files."""
    watch = Watch()
    arrays = BENCHES[lab].ways[way](file, tokenizer_folder, **json.loads(sizes), watch=watch)
    counts = arrays.pop("counts")
    np.savez(f"{result}.npz", **arrays)
    Path(f"{result}.json").write_text(json.dumps({"seconds": watch.seconds, "counts": counts}))


def _report(bench: Bench, runs: list[dict], source: Any, tokenizer: Any) -> dict:
    def row(taken: list[dict]) -> dict:
        """Medians over the runs, out of each run's seconds by way."""
        found = {f"{way}_s": median(run[way] for run in taken) for way in bench.ways}
        old, *others = bench.ways
        ratios = {ratio_key(way): median(run[old] / run[way] for run in taken) for way in others}
        return {**found, **ratios}

    def lap(stage: str) -> dict:
        return row([{way: run["seconds"][way][stage] for way in bench.ways} for run in runs])

    totals = [run["total"] for run in runs]
    return {
        **row(totals),
        "ratios": [total["classic"] / total["llmpipe"] for total in totals],
        "stages": {stage: lap(stage) for stage in bench.stages},
        **{stage: lap(stage) for stage in bench.beside},
        "dataset": str(source),
        "tokenizer_name": f"{tokenizer.name} from {tokenizer.origin}",
        "backend": tokenizer.backend_name,
        **bench.settings,
        **_together([run["compared"] for run in runs]),
        "repeats": len(runs),
        "cores": usable_cores(),
        "python": sys.version.split()[0],
        "versions": {package: version(package) for package in PACKAGES},
    }


def _together(compared: list[dict]) -> dict:
    """What `compare` found in all runs: true if it always was, the median of what was measured."""
    found = {}
    for name, first in compared[0].items():
        values = [each[name] for each in compared]
        found[name] = all(values) if isinstance(first, bool) else first
        if isinstance(first, float):
            found[name] = median(values)
    return found


if __name__ == "__main__":
    run_one(*sys.argv[1:])
