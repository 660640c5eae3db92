"""Tables of any library: the same rows through every door, and the kind that came in comes back."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from hypothesis import given
from hypothesis import strategies as st
from label_tools import NumberedTokenizer
from stream_tools import NumberTokenizer, number_stream, numbered, real_ids

from llmpipe import (
    BlockStream,
    ClassificationDataset,
    ClassificationStream,
    QualityFilter,
    Share,
    open_source,
)
from llmpipe.columns import arrow_table, text_column
from llmpipe.sharding.world import World
from llmpipe.sources.parts import parts_of
from llmpipe.streaming.partition import permutation
from llmpipe.tokenization.tokenizer import Tokens

STRINGS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int16(), pa.large_string()),
]


def polars():
    return pytest.importorskip("polars")


def arrow(texts, labels, kind=None, chunks=1):
    """An Arrow table whose text has this type, in so many chunks."""
    kind, size = kind or pa.string(), max(1, -(-len(texts) // chunks))
    cut = [texts[start : start + size] for start in range(0, len(texts), size)]
    column = pa.chunked_array([pa.array(each, pa.string()).cast(kind) for each in cut], kind)
    return pa.table({"text": column, "label": pa.array(labels, pa.int64())})


def odd_frame(texts, labels):
    """Of pandas, with an index of its own, and a column that Arrow cannot hold."""
    mixed = [number if number % 2 else str(number) for number in range(len(texts))]
    columns = {"mixed": mixed, "label": labels, 7: labels, "text": texts}
    return pd.DataFrame(columns, index=np.arange(len(texts))[::-1] * 3)


def polars_categories(texts, labels):
    categories = polars().Series(texts, dtype=polars().Categorical)
    return polars().DataFrame({"other": labels, "text": categories, "label": labels})


def shuffled(texts, labels):
    back = Dataset.from_dict({"text": texts[::-1], "label": labels[::-1]})
    return back.select(range(len(texts) - 1, -1, -1))


def iterable(texts, labels):
    return Dataset.from_dict({"text": texts, "label": labels}).to_iterable_dataset()


KINDS = {
    "batch": lambda t, n: pa.record_batch({"label": pa.array(n), "text": pa.array(t)}),
    "reader": lambda t, n: arrow(t, n, chunks=3).to_reader(),
    "dict": lambda t, n: {"label": n, "text": t},
    "dict of arrays": lambda t, n: {"text": np.array(t), "label": np.array(n)},
    "dict of series": lambda t, n: {"text": pd.Series(t), "label": pd.Series(n)},
    "pandas": lambda t, n: pd.DataFrame({"text": t, "label": n}),
    "odd pandas": odd_frame,
    "pandas objects": lambda t, n: pd.DataFrame({"text": pd.Series(t, dtype=object), "label": n}),
    "pandas categories": lambda t, n: pd.DataFrame({"text": pd.Categorical(t), "label": n}),
    "pandas Arrow": lambda t, n: arrow(t, n).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda t, n: polars().DataFrame({"text": t, "label": n}),
    "polars categories": polars_categories,
    "Dataset": lambda t, n: Dataset.from_dict({"text": t, "label": n}),
    "shuffled Dataset": shuffled,
    "IterableDataset": iterable,
    "parts": lambda t, n: parts_of({"text": t, "label": n}),
    **{f"{kind}": (lambda t, n, kind=kind: arrow(t, n, kind, chunks=2)) for kind in STRINGS},
}
TEXTS, LABELS = numbered([3, 1, 5, 2] * 300), [number % 2 for number in range(1200)]


def label_stream(documents, **options):
    return ClassificationStream(documents, NumberedTokenizer(), 8, cycle_length=1, **options)


def label_dataset(documents, **options):
    return ClassificationDataset(documents, NumberedTokenizer(), 8, **options)


def everything(dataset):
    return dataset.collate(dataset.__getitems__(range(len(dataset))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_door_takes_every_kind_and_reads_the_same(kind):
    def documents():
        return KINDS[kind](TEXTS, LABELS)

    stream = number_stream(documents(), 1)
    assert [number for item in stream for number in real_ids(item)] == list(range(3300))
    for rank in range(2):
        shared = documents()[["text", "label"]] if kind == "odd pandas" else documents()
        own = Share(shared, World(rank, 2), "rows").tables("text", "label")
        rows = [row for table in own for row in table.to_pylist()]
        assert [row["text"] for row in rows] == TEXTS[rank::2]
        assert [row["label"] for row in rows] == LABELS[rank::2]
    due = everything(label_dataset({"text": TEXTS, "label": LABELS}))
    found = everything(label_dataset(documents()))
    (batch,) = list(label_stream(documents(), batch_size=1200))
    for name, values in due.items():
        assert np.array_equal(found[name], values)
        assert np.array_equal(batch[name], values)
    for rank in range(3):
        own = everything(label_dataset(documents(), rank=rank, world_size=3))
        rows = permutation(len(TEXTS), 0)[rank::3]
        assert np.array_equal(own["input_ids"], due["input_ids"][rows])
        assert own["labels"].tolist() == [LABELS[row] for row in rows]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "parts"])
def test_a_filter_gives_back_the_kind_that_it_got(kind):
    texts = ["", "kept as it is", "short", "kept too, this one"] * 5
    documents = KINDS[kind](texts, list(range(20)))
    kept, ledger = QualityFilter(min_chars=8)(documents)
    assert type(kept) is (pa.Table if kind == "reader" else type(documents))
    rows = list(kept) if "Dataset" in kind else None
    if rows is None:
        checks = {"text": text_column, "label": lambda values, name, first: pa.array(values)}
        rows = arrow_table(kept, checks).to_pylist()
    assert [row["text"] for row in rows] == [text for text in texts if len(text) >= 8]
    assert [row["label"] for row in rows] == list(range(1, 20, 2))
    assert ledger["filter", "documents"].dropped == {"blank": 5, "too_short": 5}
    if isinstance(documents, pd.DataFrame):
        due = documents[documents["text"].astype(str).str.len() >= 8]
        pd.testing.assert_frame_equal(kept, due)
    if isinstance(documents, pa.Table):
        assert kept.schema == documents.schema


COLUMNS = {
    "list": lambda texts: texts,
    "tuple": tuple,
    "array": np.array,
    "Arrow": pa.array,
    "chunked": lambda texts: pa.chunked_array([texts[:5], texts[5:]]),
    "series": lambda texts: pd.Series(texts, index=range(5, 5 + len(texts))),
    "polars": lambda texts: polars().Series(texts),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_one_column_of_text_is_a_table_of_it_and_has_no_labels(kind):
    texts = COLUMNS[kind](TEXTS)
    for name in ("text", "other"):
        stream = number_stream(texts, 1, text_column=name)
        assert sum(len(real_ids(item)) for item in stream) == 3300
    kept, ledger = QualityFilter(min_chars=8)(texts)
    assert type(kept) is type(texts)
    assert [str(text) for text in kept] == [text for text in TEXTS if len(text) >= 8]
    assert ledger["filter", "documents"].num_in == 1200
    assert sum(table.num_rows for table in Share(texts, World(0, 2), "rows").tables("text")) == 600
    for door in (label_stream, label_dataset):
        with pytest.raises(TypeError, match=r"is one column, of 'text'; \['text', 'label'\] are"):
            door(texts)


def test_a_column_of_a_dataset_is_a_list_of_its_texts():
    column = Dataset.from_dict({"text": TEXTS, "label": LABELS})["text"]
    assert sum(len(real_ids(item)) for item in number_stream(column, 1)) == 3300
    assert QualityFilter(min_chars=8)(column)[0] == [text for text in TEXTS if len(text) >= 8]


def test_a_source_is_read_by_every_door(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3\n4 5\n")
    source = open_source(tmp_path / "x.txt")
    assert sum(len(real_ids(item)) for item in number_stream(source, 1)) == 5
    assert [t["text"].to_pylist() for t in Share(source, World()).tables("text")] == [
        ["1 2 3", "4 5"]
    ]
    quality = QualityFilter(min_chars=4)
    assert quality(source)[0]["text"][:] == ["1 2 3"]
    assert [kept["text"].to_pylist() for kept, _ in quality.stream(source)] == [["1 2 3"]]
    with pytest.raises(TypeError, match=r"filter the tables of a Share: quality_filter\.stream"):
        quality(Share(source, World()))
    (tmp_path / "y.jsonl").write_text('{"text": "1", "label": 0}\n{"text": "2", "label": 1}\n')
    dataset = label_dataset(open_source(tmp_path / "y.jsonl"))
    assert dataset.labels.tolist() == [0, 1]
    assert label_dataset(open_source(tmp_path / "y.jsonl"), num_rows=1).labels.tolist() == [0]


documents = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=12)


@given(documents, st.sampled_from(STRINGS), st.permutations(["text", "a", "b"]), st.integers(1, 4))
def test_any_type_order_and_extra_column_gives_the_same(texts, kind, order, chunks):
    columns = {
        "text": arrow(texts, range(len(texts)), kind, chunks)["text"],
        "a": pa.nulls(len(texts)),
        "b": pa.array([[number] for number in range(len(texts))], pa.list_(pa.int64())),
    }
    table = pa.table({name: columns[name] for name in order})
    parts = parts_of(table)
    read = [t for part in range(len(parts.weights)) for t in parts.windows(part, 0, "text")]
    assert [text for t in read for text in t["text"].to_pylist()] == texts
    kept, _ = QualityFilter(min_chars=3)(table)
    assert kept.schema == table.schema
    due = [number for number, text in enumerate(texts) if len(text.strip()) >= 3]
    assert kept["text"].to_pylist() == [texts[number] for number in due]
    assert kept["b"].to_pylist() == [[number] for number in due]
    column = text_column(table["text"])
    column.validate(full=True)
    assert column.type == pa.large_string()
    assert column.to_pylist() == texts


DOORS = {
    "blocks": lambda data: BlockStream(data, NumberTokenizer(), 4),
    "labelled stream": label_stream,
    "labelled set": label_dataset,
    "share": lambda data: Share(data, World()),
    "parts": parts_of,
    "filter": QualityFilter(),
    "filter stream": lambda data: list(QualityFilter().stream(data)),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_dict_of_splits_is_refused_with_their_names(door):
    data = Dataset.from_dict({"text": ["1"], "label": [0]})
    stream = data.to_iterable_dataset()
    for splits in (DatasetDict(a=data, b=data), IterableDatasetDict(a=stream, b=stream)):
        with pytest.raises(TypeError, match=r"is a dict of splits, \['a', 'b'\]: .*documents\['a'"):
            DOORS[door](splits)


@pytest.mark.parametrize("door", DOORS)
def test_a_transform_that_only_the_user_would_see_is_refused(door):
    data = Dataset.from_dict({"text": ["1"], "label": [0]})
    seen = data.with_transform(lambda batch: {**batch, "text": [t + "0" for t in batch["text"]]})
    assert seen[0]["text"] == "10"
    with pytest.raises(ValueError, match=r"dataset\.with_format\(None\)\.map\(transform, batched"):
        DOORS[door](seen)
    data.set_transform(lambda batch: batch)
    with pytest.raises(ValueError, match="this Dataset has a transform"):
        DOORS[door](data)
    if door.startswith("filter") or door == "blocks":
        with pytest.raises(ValueError, match="this Dataset has a transform"):
            DOORS[door]({"text": data["text"]})
    DOORS[door](seen.with_format("numpy"))  # which shows the same rows in other types


@pytest.mark.parametrize("door", [door for door in DOORS if "label" not in door])
def test_what_is_no_table_is_refused(door):
    for wrong in ("text", None, 5, b"text", object()):
        with pytest.raises(TypeError):
            DOORS[door](wrong)
    with pytest.raises(TypeError, match="is no table of documents: pass what open_source gives"):
        parts_of("text")


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("share", "parts")])
def test_a_column_that_is_not_there_or_there_twice_is_named(door):
    for kind in (dict, pd.DataFrame, pa.table, Dataset.from_dict):
        with pytest.raises(KeyError, match=r"no column 'text'; there are \['txt', 'label'\]"):
            DOORS[door](kind({"txt": ["1"], "label": [0]}))
    twice = pd.DataFrame([["1", "2", 0]], columns=["text", "text", "label"])
    for table in (twice, pa.Table.from_arrays([pa.array(["1"])] * 2, names=["text", "text"])):
        with pytest.raises(ValueError, match="2 columns are named 'text'"):
            DOORS[door](table)


def test_what_arrow_cannot_hold_is_named_where_all_columns_are_due():
    with pytest.raises(TypeError, match="column 'mixed' is none that Arrow can hold, leave it out"):
        Share(odd_frame(TEXTS, LABELS), World())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1", None, "2"], "row 1 of column 'text' is null"),
        (["1", float("nan")], "row 1 of column 'text' is null"),
        (["1", 5], "row 1 of column 'text' is of type int"),
        (["1", b"2"], "row 1 of column 'text' is of type bytes|holds binary"),
    ],
)
def test_rows_of_pandas_that_are_no_text_are_named(rows, message):
    frame = pd.DataFrame({"text": pd.Series(rows, dtype=object)})
    for read in (QualityFilter(), lambda data: list(number_stream(data))):
        with pytest.raises((TypeError, ValueError), match=message):
            read(frame)


def test_broken_text_in_a_table_is_named_by_its_row():
    rows = pa.array([b"1", b"\xff"])
    table = pa.table(
        {"text": pa.Array.from_buffers(pa.string(), 2, rows.buffers()), "label": [0, 1]}
    )
    for read in (
        lambda: list(number_stream(table)),
        lambda: list(label_stream(table)),
        lambda: label_dataset(table),
        lambda: QualityFilter()(table),
    ):
        with pytest.raises(ValueError, match="row 1 of column 'text' is not valid text"):
            read()


@pytest.mark.parametrize("kind", [pd.Categorical, lambda labels: polars().Series(labels)])
def test_labels_that_are_names_are_told_to_become_numbers(kind):
    names = kind(["a", "b"] * 600)
    if not isinstance(names, pd.Categorical):
        names = names.cast(polars().Enum(["a", "b"]))
    for door in (label_dataset, lambda data: list(label_stream(data))):
        with pytest.raises(TypeError, match="'label' holds large_string, not labels"):
            door({"text": TEXTS, "label": pd.Series(names) if kind is pd.Categorical else names})


@pytest.mark.parametrize("door", DOORS)
def test_nothing_in_is_nothing_out(door):
    empty = [
        Dataset.from_dict({"text": [], "label": []}),
        Dataset.from_list([]),
        Dataset.from_dict({"text": ["1"], "label": [0]}).select([]),
        IterableDataset.from_generator(list),
        pd.DataFrame({"text": [], "label": []}),
        arrow([], []),
        {"text": [], "label": []},
    ]
    for data in empty:
        made = DOORS[door](data)
        if door == "filter":
            assert type(made[0]) is type(data)
            assert made[1]["filter", "documents"].num_in == 0
        elif door in ("blocks", "labelled stream"):
            assert list(made) == []
    kept, _ = QualityFilter()(empty[0])
    assert kept.num_rows == 0
    assert kept.features == empty[0].features


def test_columns_of_pandas_that_are_called_as_a_method_of_others_are_columns():
    names = ["windows", "parts", "origin", "with_format", "features", "source", "column_name"]
    frame = pd.DataFrame(dict.fromkeys([*names, "num_rows", "filter", "format"], LABELS))
    frame = frame.assign(text=TEXTS, label=LABELS)
    assert label_dataset(frame).labels.tolist() == LABELS
    assert sum(len(real_ids(item)) for item in number_stream(frame, 1)) == 3300
    assert len(QualityFilter(min_chars=8)(frame)[0]) == sum(len(text) >= 8 for text in TEXTS)
    assert Share(frame, World()).num_rows == len(frame)


def test_a_frame_is_no_column():
    for frame in (pd.DataFrame({"a": ["x"]}), pa.table({"a": ["x"]})):
        with pytest.raises(TypeError, match="is no column of text; pass one of its columns"):
            text_column(frame)


RANK = """
import pickle, sys
from llmpipe.columns import text_column
parts = pickle.load(sys.stdin.buffer)
texts = [t for w in parts.windows(0, 0, "text") for t in text_column(w["text"]).to_pylist()]
print(len(texts), sorted({"pandas", "polars", "datasets"} & set(sys.modules)))
"""


@pytest.mark.parametrize("kind", ["pandas", "pandas categories", "polars", "dict", "reader"])
def test_a_rank_that_gets_a_table_imports_no_library_of_tables(kind):
    sent = pickle.dumps(parts_of(KINDS[kind](TEXTS, LABELS)))
    command = [sys.executable, "-c", RANK]
    done = subprocess.run(command, input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "1000 []"


class LengthTokenizer(NumberedTokenizer):
    """The length of a text for its one id: no tokenizer's time for texts of gigabytes."""

    def encode(self, texts, *, add_special_tokens=True):
        ids = [len(text.as_py()) % 1000 for text in text_column(texts)]
        if add_special_tokens:
            ids = [number for each in ids for number in (101, each, 102)]
        return Tokens(np.array(ids), np.arange(len(texts) + 1) * (3 if add_special_tokens else 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRINGS, ids=str)
def test_more_text_than_2_gb_is_read_by_all_doors(kind):
    """Three chunks of one in memory; of a dictionary's nine texts a window alone is 2 GB."""
    chunk = [str(number) * (2**21 + number) for number in range(9)] * 39
    one = arrow(chunk, [0] * len(chunk), kind)["text"].chunk(0)
    texts = pa.chunked_array([one] * 3)
    table = pa.table({"text": texts, "label": pa.array([0, 1] * 526 + [0], pa.int64())})
    due = [len(text) % 1000 for text in chunk] * 3
    stream = BlockStream(table, LengthTokenizer(), 3)
    assert [int(item["input_ids"][1]) for item in stream] == due
    for rank in range(2):
        pa.default_memory_pool().release_unused()
        dataset = ClassificationDataset(table, LengthTokenizer(), 3, rank=rank, world_size=2)
        rows = permutation(len(due), 0)[rank::2]
        assert everything(dataset)["input_ids"][:, 1].tolist() == [due[row] for row in rows]
        share = Share(table, World(rank, 2), "rows")
        assert sum(part.num_rows for part in share.tables("text")) == len(due[rank::2])
    if kind in STRINGS[:2]:  # of others a slice is unpacked at once: memory for it twice
        kept, _ = QualityFilter(min_chars=None)(table)
        assert kept.num_rows == len(due)
