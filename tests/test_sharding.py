from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, IterableDataset, Value, interleave_datasets

from llmpipe import World, open_source
from llmpipe.sharding import (
    can_deal_parts,
    contiguous,
    round_robin,
    shard_parts,
    shard_rows,
    shard_stream,
)


def stream_of(num_rows, num_shards=1):
    if not num_rows:  # `to_iterable_dataset` refuses to stream nothing
        return IterableDataset.from_generator(list, features=Features({"text": Value("string")}))
    dataset = Dataset.from_dict({"text": [f"row {i}" for i in range(num_rows)]})
    return dataset.to_iterable_dataset(num_shards=min(num_shards, num_rows))


def rows_of(tables):
    return [text for table in tables for text in table["text"].to_pylist()]


@pytest.mark.parametrize("plan", [round_robin, contiguous])
def test_plans_are_disjoint_complete_and_even(plan):
    cases = 0
    for number in range(1, 10):
        for num_items in range(21):
            shares = [list(plan(num_items, index, number)) for index in range(number)]
            assert sorted(chain(*shares)) == list(range(num_items))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            cases += 1
    assert cases == 189


def test_round_robin_has_the_stated_number_of_items():
    for number in range(1, 10):
        for num_items in range(21):
            for index in range(number):
                expected = max(0, -((index - num_items) // number))
                assert len(round_robin(num_items, index, number)) == expected


@pytest.mark.parametrize("num_shards", [1, 4])
@pytest.mark.parametrize("world_size", range(1, 6))
def test_the_union_of_all_consumers_is_the_stream_once(world_size, num_shards):
    for num_rows in (0, 1, 3, 10, 1000):
        for num_workers in (1, 2):
            worlds = [
                World(rank, world_size, worker, num_workers)
                for rank in range(world_size)
                for worker in range(num_workers)
            ]
            shares = [
                rows_of(shard_stream(stream_of(num_rows, num_shards), world, batch_size=7))
                for world in worlds
            ]
            assert sorted(chain(*shares)) == sorted(f"row {i}" for i in range(num_rows))


def test_rows_are_dealt_round_robin_across_batches_of_any_size():
    for batch_size in (1, 2, 5, 100):
        for rank in range(3):
            rows = rows_of(shard_rows(stream_of(20), World(rank, 3), batch_size))
            assert rows == [f"row {i}" for i in range(rank, 20, 3)]


def test_more_consumers_than_parts_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"4 consumers by its 2 parts.*deal rows instead"):
        list(shard_parts(stream_of(10, num_shards=2), World(0, 4)))


def test_a_limited_stream_is_never_dealt_by_parts():
    """`take(n).reshard()` reads other rows than `take(n)`: the limit would cut every part."""
    limited = stream_of(100, num_shards=10).take(25)
    assert not can_deal_parts(limited, World(0, 2))
    with pytest.raises(ValueError, match=r"take\(\)"):
        list(shard_parts(limited, World(0, 2)))
    shares = [rows_of(shard_stream(limited, World(rank, 2))) for rank in range(2)]
    assert sorted(chain(*shares)) == sorted(f"row {i}" for i in range(25))


CHANGED = {
    "take": lambda s: s.take(25),
    "skip": lambda s: s.skip(5),
    "map with indices": lambda s: s.map(lambda row, i: {"text": f"{i}"}, with_indices=True),
    "map that drops a last batch": lambda s: s.map(
        lambda rows: rows, batched=True, batch_size=7, drop_last_batch=True
    ),
    "seeded shuffle": lambda s: s.shuffle(seed=1, buffer_size=10),
    "interleave": lambda s: interleave_datasets(
        [s, stream_of(7)], stopping_strategy="all_exhausted"
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_stream_that_was_worked_on_is_still_read_once(change):
    stream = CHANGED[change](stream_of(100, num_shards=10))
    whole = [row["text"] for row in stream]
    shares = [rows_of(shard_stream(stream, World(rank, 3))) for rank in range(3)]
    assert sorted(chain(*shares)) == sorted(whole)
    assert len(whole) > 10


def test_worlds_number_their_consumers_without_gaps():
    indices = [World(r, 3, w, 4).consumer_index for r in range(3) for w in range(4)]
    assert indices == list(range(12))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((4, 4), ValueError, r"rank must be in \[0, 4\), got 4"),
        ((-1, 4), ValueError, "got -1"),
        ((0, 0), ValueError, "world_size must be 1 or more, got 0"),
        ((0, 1, 2, 2), ValueError, r"worker_id must be in \[0, 2\), got 2"),
        (("0", 4), TypeError, "rank must be an integer, got '0'"),
        ((True, 4), TypeError, "rank must be an integer, got True"),
    ],
)
def test_places_outside_the_world_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        World(*arguments)


def test_parquet_is_dealt_by_row_group(wikitext_2):
    stream = open_source("wikitext-2-v1").load("train", streaming=True)
    worlds = [World(rank, 4) for rank in range(4)]
    assert all(can_deal_parts(stream, world) for world in worlds)
    shares = [pa.concat_tables(shard_parts(stream, world)) for world in worlds]
    assert [share.num_rows for share in shares] == [9718, 9000, 9000, 9000]
    rows = np.sort(np.concatenate([share["text"].to_numpy() for share in shares]))
    assert (rows == np.sort(wikitext_2["text"].to_numpy())).all()
