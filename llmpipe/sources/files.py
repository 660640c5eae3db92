"""Files as data sets of `datasets`, with errors that name the file."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmpipe.columns import is_dataset
from llmpipe.sources.hub import quiet
from llmpipe.sources.parts import parquet_metadata

IN_MEMORY_BYTES = 256 * 2**20
BUILDERS = {".txt": "text", ".jsonl": "json", ".parquet": "parquet"}


def data_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files behind `paths`, where a folder stands for all the data files below it, sorted.

    Raises FileNotFoundError for a path that is not there or a folder without such files, ValueError
    for other or mixed formats.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in BUILDERS)
            if not found:
                raise FileNotFoundError(f"the folder {path} holds no {', '.join(BUILDERS)} file")
            files += found
        elif not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        else:
            files.append(path)
    suffixes = sorted({file.suffix.lower() for file in files})
    if len(suffixes) != 1 or suffixes[0] not in BUILDERS:
        raise ValueError(
            f"a source is files of one format out of {', '.join(BUILDERS)}; got {suffixes} "
            f"in {[str(path) for path in paths]}"
        )
    return tuple(file.resolve() for file in files)


def load_files(files: Sequence[Path], split: str, streaming: bool, num_rows: int | None) -> Any:
    """A `datasets.Dataset` or an `IterableDataset`.

    Parquet of up to `IN_MEMORY_BYTES` is read into memory; more, and other formats, is mapped from
    the cache of `datasets`.

    Raises ValueError naming the file that is damaged, or all of them if none holds a document.
    """
    from datasets import Features, IterableDataset, load_dataset

    builder = BUILDERS[files[0].suffix.lower()]
    filled = [file for file in files if file.stat().st_size]
    if builder == "parquet":
        schema, num_bytes, total_rows = _parquet_facts(files)
        if streaming and not total_rows:  # `datasets` cannot stream nothing
            return IterableDataset.from_generator(list, features=Features.from_arrow_schema(schema))
        if not streaming and num_bytes <= IN_MEMORY_BYTES:
            return first_rows(_parquet_in_memory(files, split), num_rows)
    elif not filled:
        raise ValueError(f"no document in {', '.join(map(str, files))}: 0 bytes")
    loaded = explained(
        ", ".join(map(str, filled[:3])) + (" and more" if len(filled) > 3 else ""),
        load_dataset,
        builder,
        data_files={split: [glob.escape(str(file)) for file in filled]},
        split=split,
        streaming=streaming,
        **({"encoding": "utf-8-sig"} if builder == "text" else {}),  # no byte-order mark in a text
    )
    return first_rows(loaded, num_rows)


def first_rows(dataset: Any, num_rows: int | None) -> Any:
    """The first `num_rows` rows, or all of them if that is None or more than there are."""
    if num_rows is None:
        return dataset
    if is_dataset(dataset):
        return dataset.select(range(min(num_rows, dataset.num_rows)))
    return dataset.take(num_rows)


def explained(what: str, load: Callable, *args: Any, **options: Any) -> Any:
    """Call `load` of `datasets`; its errors become FileNotFoundError or ValueError about `what`."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with quiet():
            return load(*args, **options)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f"{what}: {error}") from error
    except (DatasetsError, OSError, ValueError) as error:
        # The outer error says "while generating the dataset"; the inner one says why.
        cause = error.__cause__ or error
        raise ValueError(f"{what} cannot be read: {cause}") from error


def _parquet_facts(files: Sequence[Path]) -> tuple[Any, int, int]:
    """The schema that all files share, the bytes of their columns unpacked, and their rows."""
    schema, num_bytes, num_rows = None, 0, 0
    for file in files:
        metadata = parquet_metadata(file)
        own = metadata.schema.to_arrow_schema()
        schema = schema or own
        if not own.equals(schema):
            raise ValueError(
                f"{file} has the columns {dict(zip(own.names, own.types, strict=True))}, but "
                f"{files[0]} has {dict(zip(schema.names, schema.types, strict=True))}"
            )
        groups = range(metadata.num_row_groups)
        num_bytes += sum(metadata.row_group(group).total_byte_size for group in groups)
        num_rows += metadata.num_rows
    return schema, num_bytes, num_rows


def _parquet_in_memory(files: Sequence[Path], split: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, NamedSplit
    from datasets.fingerprint import Hasher
    from datasets.table import InMemoryTable

    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file, partitioning=None))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from error
    # Without a fingerprint of ours `datasets` would hash every byte to make one.
    stamps = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    table = InMemoryTable(pa.concat_tables(tables))
    return Dataset(table, split=NamedSplit(split), fingerprint=Hasher.hash(stamps))
