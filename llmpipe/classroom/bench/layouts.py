"""The same text in few parts and in many: what a row group, or a file, costs by itself.

    10 row groups of a Parquet file, and 10,000 of them; 250 files of .jsonl, and 1,000 as long

Many row groups should stream at no less than half the rate of ten, and four times as many files
take four times as long. Each is streamed to its end in a process of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmpipe.classroom.bench.memory import measured

NUM_ROWS = 200_000  # of the sample: about 12 million ids, 1,200 in each of 10,000 row groups
NUM_GROUPS, NUM_FILES, ROWS_PER_FILE = (10, 10_000), (250, 1000), 20


def measure(tokenizer: Any, num_rows: int | None, say: Callable[[str], None]) -> dict:
    """Stream the sample in each layout; of `num_rows` rows where that is fewer.

    Returns `runs` (layout, num_ids, seconds, tokens/s), `groups_rate_ratio`, the rate of many row
    groups over that of few, and `files_time_ratio`, the seconds of many files over those of few.
    """
    rows = min(NUM_ROWS, num_rows or NUM_ROWS)
    runs = []
    with tempfile.TemporaryDirectory(prefix="llmpipe-layouts-") as folder:
        for layout, path in write(Path(folder), rows).items():
            found = measured("stream", str(path), tokenizer=tokenizer.folder)
            run = {name: found[name] for name in ("num_ids", "seconds", "tokens_per_s")}
            runs.append({"layout": layout, **run})
            say(words(runs[-1]))
    few_groups, many_groups, few_files, many_files = runs
    return {
        "runs": runs,
        "groups_rate_ratio": many_groups["tokens_per_s"] / few_groups["tokens_per_s"],
        "files_time_ratio": many_files["seconds"] / few_files["seconds"],
    }


def write(folder: Path, num_rows: int) -> dict[str, Path]:
    """The sample in each layout, by its name: as many files and row groups as rows allow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from llmpipe import sample

    table, found = pa.concat_tables(sample.tables("articles", "train", num_rows)), {}
    for number in NUM_GROUPS:
        file = folder / f"{number}.parquet"
        pq.write_table(table, file, row_group_size=max(1, num_rows // number))
        found[f"{number:,} row groups"] = file
    texts = table["text"].slice(0, max(NUM_FILES) * ROWS_PER_FILE).to_pylist()
    for number in NUM_FILES:
        own = folder / f"{number} files"
        own.mkdir()
        for index in range(number):
            first = index * ROWS_PER_FILE % len(texts)
            lines = [json.dumps({"text": text}) for text in texts[first : first + ROWS_PER_FILE]]
            (own / f"{index:04}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        found[f"{number:,} files"] = own
    return found


def words(run: dict) -> str:
    rate = f"{run['tokens_per_s'] / 1e6:.1f} million tokens/s"
    return (
        f"{run['layout']}: {run['num_ids'] / 1e6:.2g} million ids, {run['seconds']:.2f} s, {rate}"
    )


def notes(layouts: dict) -> list[str]:
    """What `measure` found, in words."""
    few_groups, many_groups, few_files, many_files = map(words, layouts["runs"])
    return [
        f"{few_groups}; {many_groups}: {layouts['groups_rate_ratio']:.2f} times the rate",
        f"{few_files}; {many_files}: {layouts['files_time_ratio']:.1f} times as long",
    ]
