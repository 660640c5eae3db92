"""Parts: together they are the split, and a window is the same rows however it is reached."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset
from hypothesis import given
from hypothesis import strategies as st

from llmpipe import open_source
from llmpipe.columns import WINDOW_ROWS, exact_windows
from llmpipe.sources.parts import ParquetParts, parts_of

ROWS = [f"row {number}" for number in range(5300)]


def generate():
    yield from ({"text": text} for text in ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    table = pa.table({"other": list(range(len(ROWS))), "text": ROWS})
    pq.write_table(table.slice(0, 3000), folder / "a.parquet", row_group_size=1300)
    pq.write_table(table.slice(3000), folder / "b.parquet", row_group_size=2000)
    (folder / "c.txt").write_text("\n".join(ROWS[:2500]) + "\n")
    (folder / "d.txt").write_text("\n".join(ROWS[2500:]) + "\n")
    return folder


def kinds(folder):
    parquet = open_source([folder / "a.parquet", folder / "b.parquet"])
    dataset = Dataset.from_dict({"text": ROWS})
    return {
        "parquet": (parquet.parts(), 5),  # 1300, 1300, 400 and 2000, 300 rows
        "text": (open_source([folder / "c.txt", folder / "d.txt"]).parts(), 2),
        "dataset": (parts_of(dataset), 6),
        "sharded": (parts_of(dataset.to_iterable_dataset(num_shards=3)), 3),
        "generator": (parts_of(IterableDataset.from_generator(generate)), 1),
        "mapped": (parts_of(dataset.to_iterable_dataset(3).map(dict)), 1),
        "taken": (parts_of(dataset.to_iterable_dataset(3), num_rows=10**6), 1),
    }


KINDS = ("parquet", "text", "dataset", "sharded", "generator", "mapped", "taken")


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_in_order_are_the_split(kind, folder):
    parts, number = kinds(folder)[kind]
    assert len(parts.weights) == number
    parts = pickle.loads(pickle.dumps(parts))
    texts = [
        text
        for part in range(number)
        for window in parts.windows(part, 0, "text")
        for text in window["text"].to_pylist()
    ]
    assert texts == ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_the_same_however_it_is_reached(kind, folder):
    parts, number = kinds(folder)[kind]
    compared = 0
    for part in range(number):
        windows = [window.to_pydict() for window in parts.windows(part, 0, "text")]
        assert [len(window["text"]) for window in windows[:-1]] == [WINDOW_ROWS] * (
            len(windows) - 1
        )
        for first in range(len(windows) + 2):
            again = [window.to_pydict() for window in parts.windows(part, first, "text")]
            assert again == windows[first:]
            compared += 1
    assert compared > number


def test_the_sample_in_parts_is_the_sample(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    source = open_source("wikitext-2")
    parts = source.parts("train", 9000)
    texts = [
        text
        for part in range(len(parts.weights))
        for window in parts.windows(part, 0, "text")
        for text in window["text"].to_pylist()
    ]
    assert texts == source.load("train", num_rows=9000)["text"][:]
    with pytest.raises(ValueError, match="has no split 'other'"):
        source.parts("other")


@pytest.mark.parametrize("num_rows", [0, 1, 1299, 1300, 1301, 3000, 3500, 9999])
def test_num_rows_cuts_parquet_where_it_says(folder, num_rows):
    parts = open_source([folder / "a.parquet", folder / "b.parquet"]).parts("train", num_rows)
    texts = [
        text
        for part in range(len(parts.weights))
        for window in parts.windows(part, 0, "text")
        for text in window["text"].to_pylist()
    ]
    assert texts == ROWS[:num_rows]


def test_the_identity_of_a_file_follows_its_contents_and_not_its_folder(tmp_path):
    def identity(name, texts):
        (tmp_path / name).mkdir(exist_ok=True)
        pq.write_table(pa.table({"text": texts}), tmp_path / name / "x.parquet")
        return ParquetParts([tmp_path / name / "x.parquet"]).identity

    assert identity("a", ["1", "2"]) == identity("b", ["1", "2"])
    assert len({identity("a", texts) for texts in (["1", "2"], ["1", "3"], ["1"])}) == 3


@given(st.lists(st.integers(0, 2500), max_size=6), st.integers(0, 3))
def test_windows_are_cut_exactly_from_tables_of_any_lengths(lengths, first_window):
    rows = [number for length in lengths for number in range(length)]
    tables, start = [], 0
    for length in lengths:
        tables.append(pa.table({"n": pa.array(rows[start : start + length], pa.int64())}))
        start += length
    windows = [window["n"].to_pylist() for window in exact_windows(tables, first_window)]
    expected = [rows[i : i + WINDOW_ROWS] for i in range(0, len(rows), WINDOW_ROWS)]
    assert windows == expected[first_window:]


def test_what_is_no_data_set_is_refused():
    for wrong in ("a", None, generate(), {"a"}, 5):
        with pytest.raises(TypeError, match="one split as a Dataset or IterableDataset"):
            parts_of(wrong)
