"""The built-in corpora written as a mirror: a folder laid out as the hub, to serve or to read.

    mirror/Salesforce/wikitext/README.md, wikitext-2-v1/train-00000-of-00001.parquet, ...
    mirror/stanfordnlp/imdb/README.md, plain_text/train-00000-of-00001.parquet, ...
    mirror/openai-community/gpt2/tokenizer.json, ...
    mirror/distilbert/distilbert-base-uncased/tokenizer.json, ...

The names are the hub's, so that a program which asks for WikiText-2 runs; the text is invented, and
every README.md says so. The tokenizers are those trained on it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmpipe import sample
from llmpipe.arguments import check_count
from llmpipe.sources.hub import SAMPLE_MARK, SAMPLE_STANDS_FOR

ROWS_PER_GROUP = 1_000
TOKENIZERS = {repo_id: folder for repo_id, folder in SAMPLE_STANDS_FOR.items() if folder}
# As many rows as the hub's, but for WikiText-103's training split: a tenth of its 1,801,350.
WIKITEXT_2_ROWS = {"train": 36_718, "validation": 3_760, "test": 4_358}
ROWS = {
    "Salesforce/wikitext": {
        "wikitext-2-raw-v1": WIKITEXT_2_ROWS,
        "wikitext-2-v1": WIKITEXT_2_ROWS,
        "wikitext-103-raw-v1": {**WIKITEXT_2_ROWS, "train": 180_000},
    },
    "stanfordnlp/imdb": {"plain_text": {"train": 25_000, "test": 25_000}},
}
NOTE = f"This is {SAMPLE_MARK}: invented text under the names of the hub."


def row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows as tables of `ROWS_PER_GROUP`, the last one shorter; holds one at a time."""
    waiting = None
    for table in tables:
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        whole = waiting.num_rows - waiting.num_rows % ROWS_PER_GROUP
        for start in range(0, whole, ROWS_PER_GROUP):
            yield waiting.slice(start, ROWS_PER_GROUP)
        waiting = waiting.slice(whole)
    if waiting is not None and waiting.num_rows:
        yield waiting


def card(repo_id: str) -> str:
    """README.md of a repository; its head tells `datasets` which files are which split.

    IMDB's labels get their names as on the hub: 0 is "neg", 1 is "pos".
    """
    if repo_id not in ROWS:
        return f"{NOTE}\n"
    lines = ["configs:"]
    for config, rows in ROWS[repo_id].items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - {{split: {split}, path: {config}/{split}-*}}" for split in rows]
    if repo_id == "stanfordnlp/imdb":
        lines += ["  default: true", "dataset_info:", "  config_name: plain_text", "  features:"]
        lines += ["  - {name: text, dtype: string}"]
        lines += ["  - {name: label, dtype: {class_label: {names: {'0': neg, '1': pos}}}}"]
    return "\n".join(["---", *lines, "---", "", NOTE, ""])


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The dot keeps it out of what a `Mirror` lists; the process id, out of the way of another run.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    """One Parquet file at `path` with the rows of `tables`, of which there is at least one."""
    groups = row_groups(tables)
    first = next(groups)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, first.schema, write_page_checksum=True) as writer,
    ):
        for group in itertools.chain([first], groups):
            writer.write_table(group, row_group_size=ROWS_PER_GROUP)


def refuse_other_content(folder: Path) -> None:
    """`FileExistsError` for a repository that holds something and was not written here."""
    readme = folder / "README.md"
    ours = readme.is_file() and NOTE in readme.read_text(encoding="utf-8", errors="replace")
    if not ours and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds something else than our sample: name another folder")


def write_sample(folder: Path, *, num_rows: int | None = None) -> Path:
    """Write the whole sample below `folder`, and return it. Memory stays flat at any size.

    A split has the rows of `ROWS`, or `num_rows` if that is fewer. Row groups have 1,000 rows
    and pages have checksums, so that readers can tell a damaged file. A file appears under its name
    only when it is complete. Writing it again replaces the sample; `FileExistsError`: something
    else lies there, which is left untouched.
    """
    if num_rows is not None:
        check_count("num_rows", num_rows, 1)
    folder = Path(folder)
    for repo_id in (*ROWS, *TOKENIZERS):
        refuse_other_content(folder / repo_id)
    for repo_id in (*ROWS, *TOKENIZERS):
        with replacing(folder / repo_id / "README.md") as path:
            path.write_text(card(repo_id), encoding="utf-8", newline="\n")
    for repo_id, configs in ROWS.items():
        corpus = "articles" if repo_id == "Salesforce/wikitext" else "reviews"
        for config, rows in configs.items():
            for split, count in rows.items():
                tables = sample.tables(corpus, split, min(count, num_rows or count))
                write_parquet(folder / repo_id / config / f"{split}-00000-of-00001.parquet", tables)
    for repo_id, tokenizer_folder in TOKENIZERS.items():
        for source in sorted(tokenizer_folder.iterdir()):
            with replacing(folder / repo_id / source.name) as path:
                shutil.copyfile(source, path)
    return folder
