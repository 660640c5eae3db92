"""Parts as objects of `datasets`: in memory if they fit there, else mapped from its cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmpipe.columns import is_dataset
from llmpipe.sources.hub import quiet

IN_MEMORY_BYTES = 256 * 2**20


def load_parts(parts: Any, split: str, streaming: bool, columns: Sequence[str] | None) -> Any:
    """A `datasets.Dataset` or an `IterableDataset` of the rows of `ParquetParts` or `LineParts`.

    Up to `IN_MEMORY_BYTES`, counted as they are read, are held in memory; more is written to the
    cache of `datasets` once, under a key that another content does not have. A stream has a shard a
    part, and needs no cache.

    Raises what reading the parts raises, OSError if the cache cannot be written.
    """
    from datasets import Dataset, NamedSplit, config
    from datasets.fingerprint import Hasher
    from datasets.table import InMemoryTable, MemoryMappedTable

    if streaming:
        return _stream(parts, split, columns)
    key = Hasher.hash([parts.key, columns])
    cached = Path(config.HF_DATASETS_CACHE) / "llmpipe" / f"{key}.arrow"
    table = None if cached.exists() else _in_memory(parts, columns)
    if table is None and not cached.exists():
        schema = parts.schema(columns)
        _write(cached, schema, (_conformed(table, schema) for table in parts.tables(columns)))
    table = MemoryMappedTable.from_file(str(cached)) if table is None else InMemoryTable(table)
    # Without a fingerprint of ours `datasets` would hash every byte to make one.
    return Dataset(table, split=NamedSplit(split), fingerprint=key)


def first_rows(dataset: Any, num_rows: int | None) -> Any:
    """The first `num_rows` rows, or all of them if that is None or more than there are."""
    if num_rows is None:
        return dataset
    if is_dataset(dataset):
        return dataset.select(range(min(num_rows, dataset.num_rows)))
    return dataset.take(num_rows)


def explained(what: str, load: Callable, *args: Any, **options: Any) -> Any:
    """Call `load` of `datasets`; its errors become FileNotFoundError or ValueError about `what`."""
    from datasets import config
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with quiet():
            return load(*args, **options)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f"{what}: {error}") from error
    except (DatasetsError, OSError, ValueError) as error:
        # The outer error says "while generating the dataset"; the inner one says why.
        cause = error.__cause__ or error
        cache = getattr(cause, "filename", None)
        if cache and str(cache).startswith(str(config.HF_DATASETS_CACHE)):
            raise _cache_error(Path(config.HF_DATASETS_CACHE), cause) from error
        raise ValueError(f"{what} cannot be read: {cause}") from error


def _in_memory(parts: Any, columns: Sequence[str] | None) -> pa.Table | None:
    """All rows as one table, None if they are more than are held in memory."""
    tables, num_bytes = [], 0
    for table in parts.tables(columns):
        num_bytes += table.nbytes
        if num_bytes > IN_MEMORY_BYTES:
            return None
        tables.append(table)
    schema = parts.schema(columns, tables)
    conformed = [_conformed(table, schema) for table in tables]
    return pa.concat_tables(conformed) if conformed else schema.empty_table()


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with all columns of the schema, null where it has none, and their types."""
    if table.schema.equals(schema, check_metadata=True):
        return table
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _write(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """An Arrow file of these tables, whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    except OSError as error:
        raise _cache_error(file.parent, error) from error
    try:
        with os.fdopen(number, "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
            for table in tables:
                try:
                    writer.write_table(table)
                except OSError as error:
                    raise _cache_error(file.parent, error) from error
        os.replace(name, file)
    finally:
        Path(name).unlink(missing_ok=True)


def _cache_error(folder: Path, error: Exception) -> OSError:
    return OSError(
        f"the cache folder {folder} cannot be written ({error}), and what is more than "
        f"{IN_MEMORY_BYTES // 2**20} MiB is kept there: set HF_DATASETS_CACHE to another folder, "
        "or read it as a stream"
    )


def _stream(parts: Any, split: str, columns: Sequence[str] | None) -> Any:
    from datasets import DatasetInfo, Features, IterableDataset, NamedSplit
    from datasets.iterable_dataset import ArrowExamplesIterable

    schema = parts.schema(columns)
    features = Features.from_arrow_schema(schema)
    numbers = list(range(len(parts.weights)))
    if not numbers:  # `datasets` cannot stream nothing
        return IterableDataset.from_generator(list, features=features)
    rows = ArrowExamplesIterable(_Tables(parts, schema, columns), {"parts": numbers})
    return IterableDataset(rows, DatasetInfo(features=features), NamedSplit(split))


class _Tables:
    """What `datasets` calls for the tables of one shard; the list is what it shards."""

    def __init__(self, parts: Any, schema: pa.Schema, columns: Sequence[str] | None) -> None:
        self.parts, self.schema, self.columns = parts, schema, columns

    def __call__(self, parts: list[int]) -> Iterator[tuple[Any, pa.Table]]:
        from datasets.builder import Key

        for part in parts:
            for number, table in enumerate(self.parts.tables(self.columns, [part])):
                yield Key(part, number), _conformed(table, self.schema)
