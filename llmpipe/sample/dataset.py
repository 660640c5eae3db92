"""The sample as objects of `datasets`: in memory, or streamed part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from datasets import (
    ArrowBasedBuilder,
    ClassLabel,
    Dataset,
    DatasetInfo,
    Features,
    IterableDataset,
    NamedSplit,
    SplitGenerator,
    Value,
)
from datasets.builder import Key
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable

from llmpipe import sample

FEATURES = {
    "articles": Features({"text": Value("string")}),
    "reviews": Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])}),
}


def sample_dataset(corpus: str, split: str, num_rows: int, streaming: bool) -> Any:
    """`num_rows` rows of "articles" or "reviews" as a `Dataset` or an `IterableDataset`.

    The stream holds one part at a time, and has as many shards as there are parts.
    """
    if streaming and not num_rows:
        return IterableDataset.from_generator(list, features=FEATURES[corpus])
    if streaming:
        builder = SampleBuilder(corpus=corpus, split=split, num_rows=num_rows)
        return builder.as_streaming_dataset(split=split)
    schema = FEATURES[corpus].arrow_schema
    table = pa.Table.from_batches([], schema)
    if num_rows:
        table = pa.concat_tables(sample.tables(corpus, split, num_rows)).cast(schema)
    # Without a fingerprint of ours `datasets` would hash every byte to make one.
    fingerprint = Hasher.hash(["llmpipe sample", corpus, split, num_rows])
    return Dataset(InMemoryTable(table), split=NamedSplit(split), fingerprint=fingerprint)


class SampleBuilder(ArrowBasedBuilder):
    """How `datasets` streams Arrow tables: the list among a split's arguments is what it shards."""

    def __init__(self, *, corpus: str, split: str, num_rows: int) -> None:
        self.corpus, self.sample_split, self.num_rows = corpus, split, num_rows
        super().__init__(config_name=f"{corpus}-{split}-{num_rows}")

    def _info(self) -> DatasetInfo:
        return DatasetInfo(features=FEATURES[self.corpus])

    def _split_generators(self, download_manager: Any) -> list[SplitGenerator]:
        parts = list(range(sample.num_parts(self.num_rows)))
        return [SplitGenerator(self.sample_split, gen_kwargs={"parts": parts})]

    def _generate_tables(self, parts: list[int]) -> Iterator[tuple[Key, pa.Table]]:
        for part in parts:
            yield Key(part, 0), sample.part(self.corpus, self.sample_split, self.num_rows, part)
