"""Columns: Arrow's arrays made and read without pandas, and what is told to be a data set."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict

from llmpipe.columns import (
    WINDOW_ROWS,
    array,
    exact_windows,
    is_dataset,
    is_iterable_dataset,
    mask,
    numbers,
    text_column,
)

TYPES = [pa.int8(), pa.int32(), pa.int64(), pa.uint16(), pa.uint64(), pa.float64()]


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize(("start", "stop"), [(0, 19), (3, 17), (8, 8), (19, 19)])
def test_numbers_are_those_that_arrow_gives(kind, start, stop):
    array = pa.array(range(19), kind).slice(start, stop - start)
    chunked = pa.chunked_array([array, array[:2], array[1:]])
    for column in (array, chunked, pa.chunked_array([], kind), pa.array([], kind)):
        found = numbers(column)
        assert found.dtype == kind.to_pandas_dtype()
        assert found.tolist() == column.to_pylist()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 64, 1000])
@pytest.mark.parametrize("start", [0, 1, 8, 13])
def test_booleans_go_both_ways_whatever_their_number(length, start):
    flags = np.random.default_rng(length).random(length) < 0.5
    assert mask(flags).to_pylist() == flags.tolist()
    column = mask(flags)[start:]
    assert numbers(column).dtype == bool
    assert numbers(column).tolist() == flags[start:].tolist()
    assert numbers(pa.chunked_array([column, column])).tolist() == 2 * flags[start:].tolist()


@pytest.mark.parametrize("kind", ["i1", "<i4", "i8", "u2", "f8"])
def test_an_array_is_the_one_that_arrow_makes(kind):
    whole = np.arange(20).astype(kind)
    for own in (whole, whole[3:11], whole[::3], whole[:0]):
        made = array(own)
        made.validate(full=True)
        assert made.equals(pa.array(own))


@pytest.mark.parametrize("rows", [[], [""], ["a", "", "\u00e9\u4e2d", "b\0c"]])
def test_a_list_of_strings_is_the_column_that_arrow_makes(rows):
    column = text_column(rows)
    column.validate(full=True)
    assert column.equals(pa.chunked_array([pa.array(rows, pa.large_string())]))


def test_data_sets_are_told_from_all_else():
    whole = Dataset.from_dict({"text": ["a"]})
    stream = whole.to_iterable_dataset()
    assert is_dataset(whole)
    assert is_iterable_dataset(stream)
    others = [DatasetDict(train=whole), IterableDatasetDict(train=stream), whole["text"]]
    others += [whole.data.table, {"text": ["a"]}, ["a"], "a", None]
    assert not any(map(is_dataset, [*others, stream]))
    assert not any(map(is_iterable_dataset, [*others, whole]))


def test_windows_before_the_first_that_is_wanted_are_not_held():
    def tables():
        for number in range(200):
            yield pa.table({"n": pa.array([number] * 10_000, pa.int64())})

    before = pa.total_allocated_bytes()
    first = next(exact_windows(tables(), first_window=1990))
    assert first["n"].to_pylist() == [199] * WINDOW_ROWS
    assert pa.total_allocated_bytes() - before < 1_000_000  # of 16 million bytes that were read
