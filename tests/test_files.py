"""Any file through every door: the rows that it holds, or one error that says where and why not."""

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_tools import NumberTokenizer, number_stream, numbered, real_ids, run

from llmpipe import (
    BlockStream,
    ClassificationStream,
    Share,
    World,
    load_tokenizer,
    open_source,
    parts_of,
)
from llmpipe.sources import loading
from llmpipe.sources.files import find_files, split_files
from llmpipe.sources.guards import DOCUMENT_BYTES

CHUNK_BYTES = 10 * 2**20  # what `datasets` takes of a .jsonl at a time, and guesses types by


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """What is too large for the memory goes to a folder of the test's own."""
    import datasets.config

    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def tables_of(parts, *columns):
    return (
        table for part in range(len(parts.weights)) for table in parts.windows(part, 0, *columns)
    )


def column(tables, name):
    return [value for table in tables for value in table[name].to_pylist()]


def doors(source, name="text", split="train"):
    """Every way to the values of a column, by name."""
    share = [Share(source.parts(split), World(rank, 2), "contiguous") for rank in (0, 1)]
    return {
        "load": lambda: list(source.load(split)[name]),
        "load these columns": lambda: list(source.load(split, columns=[name])[name]),
        "stream": lambda: [row[name] for row in source.load(split, streaming=True)],
        "num_rows": lambda: list(source.load(split, num_rows=10**9)[name]),
        "parts": lambda: (
            column(tables_of(source.parts(split)), name)
            if False
            else column(tables_of(source.parts(split), name), name)
        ),
        "parts of num_rows": lambda: column(tables_of(source.parts(split, 10**9), name), name),
        "share": lambda: [value for own in share for value in column(own.tables(name), name)],
        "parts of the stream": lambda: column(
            tables_of(parts_of(source.load(split, streaming=True)), name), name
        ),
    }


def assert_holds(source, values, name="text", split="train", but=()):
    """Through every door the same values; returns how many doors there were."""
    opened = {door: give for door, give in doors(source, name, split).items() if door not in but}
    for door, give in opened.items():
        assert give() == values, door
    return len(opened)


def assert_fails(source, message, name="text", but=()):
    for door, give in doors(source, name).items():
        if door not in but:
            with pytest.raises((ValueError, OSError), match=message):
                pytest.fail(f"{door} gave {len(give())} rows")


def write_jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


# Rows of JSON


def test_a_value_of_another_type_past_the_first_chunk_is_an_error_with_its_line(tmp_path):
    rows = [{"text": f"row {i} " + "x" * 600} for i in range(20_001)]
    rows[19_000] = {"text": 5}
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    assert file.stat().st_size > CHUNK_BYTES
    assert_fails(
        open_source(file), r"a\.jsonl cannot be read: line 19001, column 'text' holds 5 \(int\)"
    )
    rows[19_000] = {"text": "5"}
    assert_holds(open_source(write_jsonl(file, rows)), [row["text"] for row in rows])


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], {"a": "b"}])
@pytest.mark.parametrize("row", [0, 1, 999, 1000, 2499])
def test_whatever_stands_beside_text_is_an_error_wherever_it_stands(tmp_path, value, row):
    rows = [{"text": "7"}] * 2500
    rows[row] = {"text": value}
    source = open_source(write_jsonl(tmp_path / "a.jsonl", rows))
    # At the very beginning it is the text after it that differs.
    line = row + 1 if row else 2
    with pytest.raises(ValueError, match=rf"line {line}, column 'text' holds"):
        source.load()
    with pytest.raises(Exception, match=rf"line {line}, column 'text' holds|holds .*, not text"):
        list(number_stream(source))


UNUSED = {
    "null, then text": lambda i: {"url": None if i < 19_990 else f"http://{i}"},
    "a late key": lambda i: {} if i < 19_990 else {"extra": [i]},
    "an empty list, then numbers": lambda i: {"tags": [] if i < 19_990 else [i]},
    "whole numbers, then fractions": lambda i: {"score": i if i < 19_990 else i + 0.5},
    "other keys within": lambda i: {"meta": {"a": 1} if i < 19_990 else {"b": "x"}},
    "one late null": lambda i: {"url": None if i == 19_990 else "x"},
}


@pytest.mark.parametrize("kind", UNUSED)
def test_a_column_that_nobody_asked_for_does_no_harm(tmp_path, kind):
    rows = [{"text": f"row {i} " + "x" * 600, **UNUSED[kind](i)} for i in range(20_001)]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    assert file.stat().st_size > CHUNK_BYTES
    source = open_source(file)
    assert_holds(source, [row["text"] for row in rows])
    name, whole = next(iter(UNUSED[kind](20_000)), "text"), source.load()
    found, expected = whole[name][:], [row.get(name) for row in rows]
    if name == "meta":  # Arrow's structs have all keys
        expected = [{"a": m.get("a"), "b": m.get("b")} for m in expected]
    assert found == expected
    assert [row[name] for row in source.load(streaming=True)] == expected


@pytest.mark.parametrize("ids", [[1, "a"], ["a", 1], [1, [2]], [True, 1]])
def test_an_unused_column_of_two_types_is_left_out_or_an_error_that_says_so(tmp_path, ids):
    rows = [{"text": f"row {i}", "id": ids[i >= 1500]} for i in range(3000)]
    source = open_source(write_jsonl(tmp_path / "a.jsonl", rows))
    with pytest.raises(ValueError, match=r"line 1501, column 'id' holds .*load\(columns="):
        source.load()
    texts = [row["text"] for row in rows]
    assert source.load(columns=["text"])["text"][:] == texts
    assert [row["text"] for row in source.load(columns=["text"], streaming=True)] == texts
    assert column(tables_of(source.parts(), "text"), "text") == texts
    assert source.load(columns=["text"]).column_names == ["text"]


def test_what_looks_like_a_date_or_a_number_stays_as_it_is_spelled(tmp_path):
    texts = ["2024-01-02", "2024-01-02T03:04:05Z", "12:00", "007", "1e5", "true", "null", ""]
    for file in (
        write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts]),
        write_jsonl(tmp_path / "b.jsonl", [{"text": text} for text in texts[:2]] * 1000),
    ):
        expected = texts if file.name == "a.jsonl" else texts[:2] * 1000
        assert_holds(open_source(file), expected)


BROKEN_LINES = {
    "half a last line": ('{"text": "a"}\n{"text": "b', "line 2 is no JSON"),
    "a number": ('{"text": "a"}\n5\n', "line 2 is no JSON object, but 5"),
    "a list": ('{"text": "a"}\n["b"]\n', "line 2 is no JSON object"),
    "two on a line": ('{"text": "a"}\n{"text": "b"} {"text": "c"}\n', "line 2 is no JSON"),
    "two with a comma": ('{"text": "a"},{"text": "b"}\n{"text": "c"}', "line 1 is no JSON"),
    "one on two lines": ('{"text": "a",\n"b": "c"}\n', "line 1 is no JSON"),
    "an open string": ('{"text": "a\nb"}\n', "line 1 is no JSON"),
    "a lone surrogate": ('{"text": "a"}\n\n{"text": "\\ud800"}', "line 3, column 'text' .* surrog"),
    "deep": ('{"text": "a"}\n{"text": ' + "[" * 10**5, "line 2 is no JSON"),
}


@pytest.mark.parametrize("kind", BROKEN_LINES)
def test_a_line_that_is_no_object_is_named(tmp_path, kind):
    text, message = BROKEN_LINES[kind]
    (tmp_path / "a.jsonl").write_text(text)
    assert_fails(open_source(tmp_path / "a.jsonl"), rf"a\.jsonl cannot be read: {message}")


def test_marks_blank_lines_and_carriage_returns_are_no_text(tmp_path):
    lines = [json.dumps({"text": text}) for text in ("a", "b\rc", "\u2028")]
    file = tmp_path / "a.jsonl"
    file.write_bytes(("\ufeff" + "\r\n\r\n  \n".join(lines)).encode())
    assert_holds(open_source(file), ["a", "b\rc", "\u2028"])


JSON_VALUES = {
    "text": st.text(max_size=5),
    "integer": st.integers(-(2**40), 2**40),
    "number": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "flag": st.booleans(),
    "list": st.lists(st.text(max_size=3), max_size=3),
}


@st.composite
def json_rows(draw):
    """Rows of columns of one type each, in any order, some of which come late or are null."""
    kinds = draw(st.lists(st.sampled_from(sorted(JSON_VALUES)), min_size=1, max_size=4))
    num_rows, some = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    rows = [{"text": draw(JSON_VALUES["text"])} for _ in range(num_rows)]
    for number, kind in enumerate(kinds):
        first = draw(st.integers(0, num_rows))
        values = draw(st.lists(JSON_VALUES[kind] | st.none(), min_size=some, max_size=some))
        for index in range(first, num_rows):
            rows[index][f"{kind} {number}"] = values[index % some]
    order = draw(st.randoms(use_true_random=False))
    shuffled = []
    for row in rows:
        names = list(row)
        order.shuffle(names)
        shuffled.append({name: row[name] for name in names})
    return shuffled * draw(st.sampled_from([1, 101]))


@given(json_rows())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_of_any_columns_are_those_that_json_reads(tmp_path, rows):
    source = open_source(write_jsonl(tmp_path / "any.jsonl", rows))
    names = {name for row in rows for name in row}
    whole, stream = source.load(), list(source.load(streaming=True))
    assert set(whole.column_names) == names
    for name in names:
        expected = [row.get(name) for row in rows]
        assert whole[name][:] == expected
        assert [row[name] for row in stream] == expected
    assert column(tables_of(source.parts(), "text"), "text") == [row["text"] for row in rows]


# Rows of Parquet


PARQUET_TYPES = {
    "text": [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    "label": [pa.int8(), pa.int32(), pa.int64(), pa.uint16()],
    "unused": [pa.string(), pa.int64(), pa.float32(), pa.list_(pa.int16()), pa.null(), pa.bool_()],
}
VALUES_OF = {
    "text": "row {}".format,
    "label": lambda row: row % 100,
    "unused": lambda _: None,
}


@st.composite
def parquet_tables(draw):
    tables, start = [], 0
    for _ in range(draw(st.integers(1, 4))):
        num_rows = draw(st.integers(0, 60))
        names = draw(st.permutations(sorted(PARQUET_TYPES)))
        columns = {}
        for name in names:
            kind = draw(st.sampled_from(PARQUET_TYPES[name]))
            values = [VALUES_OF[name](row) for row in range(start, start + num_rows)]
            values = pa.array(values, kind.value_type if pa.types.is_dictionary(kind) else kind)
            columns[name] = values.dictionary_encode() if pa.types.is_dictionary(kind) else values
        if draw(st.booleans()):
            columns[f"own {start}"] = pa.nulls(num_rows, pa.int8())
        tables.append(pa.table(columns))
        start += num_rows
    return tables


@given(parquet_tables(), st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_shards_of_any_schema_hold_what_arrow_reads(tmp_path, tables, group_rows):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    texts, labels = [], []
    for number, table in enumerate(tables):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(table, file, row_group_size=group_rows)
        read = pq.read_table(file)
        texts += read["text"].to_pylist()
        labels += read["label"].to_pylist()
    source = open_source(tmp_path)
    whole = source.load(columns=["label", "text"])
    assert (whole["text"][:], whole["label"][:]) == (texts, labels)
    stream = list(source.load(columns=["label", "text"], streaming=True))
    assert [row["text"] for row in stream] == texts
    assert [row["label"] for row in stream] == labels
    for strategy in ("rows", "batches", "contiguous"):
        shares = [Share(source.parts(), World(rank, 2), strategy) for rank in (0, 1)]
        found = [text for share in shares for text in column(share.tables("text"), "text")]
        assert sorted(found) == sorted(texts)
    assert column(tables_of(source.parts(), "text", "label"), "label") == labels


def test_string_beside_large_string_and_int32_beside_int64_are_one_data_set(tmp_path):
    kinds = [(pa.string(), pa.int32()), (pa.large_string(), pa.int64())]
    for number, (text, label) in enumerate(kinds):
        columns = {"text": pa.array(["a", "b"], text), "label": pa.array([0, 1], label)}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    source = open_source(tmp_path)
    assert_holds(source, ["a", "b", "a", "b"])
    assert_holds(source, [0, 1, 0, 1], "label")
    assert source.load().features["label"].dtype == "int64"


def test_parquet_files_without_rows_among_others_are_nothing(tmp_path):
    empty = pa.table({"text": pa.array([], pa.string())})
    for name in ("a", "c", "e"):
        pq.write_table(empty, tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"text": ["1"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": ["2", "3"]}), tmp_path / "d.parquet")
    assert_holds(open_source(tmp_path), ["1", "2", "3"])
    lines = [tmp_path / "b.txt", tmp_path / "a.txt"]
    lines[0].touch()
    lines[1].write_text("1\n")
    assert_holds(open_source(lines), ["1"])


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_flipped_bit_in_a_page_with_a_checksum_is_an_error_of_load_as_of_streams(
    tmp_path, compression
):
    file, texts = tmp_path / "a.parquet", [f"row {i} {i * i}" for i in range(3000)]
    table = pa.table({"text": texts})
    options = {"compression": compression, "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(table, file, row_group_size=1000, **options)
    whole, chunk = file.read_bytes(), pq.read_metadata(file).row_group(1).column(0)
    first = chunk.data_page_offset + 100  # past the page's head
    num_tried = 0
    for place in range(first, first + chunk.total_compressed_size - 200, 400):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        file.write_bytes(changed)
        source = open_source(file)
        for read in (source.load, lambda s=source: list(s.load(streaming=True))):
            with pytest.raises(ValueError, match=r"a\.parquet cannot be read: .*CRC"):
                read()
        num_tried += 1
    assert num_tried >= 20
    file.write_bytes(whole)
    assert open_source(file).load()["text"][:] == texts


def test_an_error_names_the_file_the_row_in_it_and_the_column(tmp_path):
    for number in range(3):
        texts = [f"{row}" for row in range(1000)]
        if number == 2:
            texts[700] = None
        table = pa.table({"text": texts, "label": [0, 1] * 500})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=400)
        write_jsonl(tmp_path / f"{number}.jsonl", table.to_pylist())
    num_tried = 0
    for suffix, rank in (("parquet", 1), ("jsonl", 0)):
        source = open_source([tmp_path / f"{number}.{suffix}" for number in range(3)])
        shares = [Share(source.parts(), World(rank, 2), "parts")]
        shares += [Share(source.parts(), World(1, 2), "contiguous")]
        if suffix == "parquet":  # the third batch of 1,000
            shares += [Share(source.parts(), World(0, 2), "batches")]
            shares += [Share(source.parts(), World(0, 2), "rows")]
        for stream in (
            *map(number_stream, [source, *shares]),
            number_stream(source, num_rows=2900),
            ClassificationStream(source, load_tokenizer("distilbert"), batch_size=9),
        ):
            with pytest.raises(ValueError, match=rf"2\.{suffix}: row 700 of column 'text' is null"):
                list(stream)
            num_tried += 1
    assert num_tried == 12


# Encodings


ACCENTS = ["caf\u00e9", "na\u00efve", "plain", "\u00fcber"]


@pytest.mark.parametrize("kind", ["txt", "tokens", "jsonl", "csv", "json"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_another_encoding_is_an_error_with_the_way_out_and_is_read_when_named(
    tmp_path, kind, encoding
):
    lines = {
        "csv": ["text", *ACCENTS],
        "jsonl": [json.dumps({"text": t}, ensure_ascii=False) for t in ACCENTS],
        "json": [json.dumps([{"text": t} for t in ACCENTS], ensure_ascii=False)],
    }.get(kind, ACCENTS)
    file = tmp_path / f"a.{kind}"
    file.write_bytes("\n".join([*lines, ""]).encode(encoding))
    if encoding == "utf-8-sig":
        assert_holds(open_source(file), ACCENTS)
    elif kind == "csv":
        with pytest.raises(ValueError, match=r"a\.csv.*line \d.*open_source\(\.\.\., encoding="):
            open_source(file).load()
    else:
        assert_fails(open_source(file), r"a\.\w+.*line \d.*open_source\(\.\.\., encoding=")
    assert_holds(open_source(file, encoding=encoding), ACCENTS)


def test_a_broken_letter_far_down_is_named_by_its_line(tmp_path):
    lines = [f"row {i}".encode() for i in range(5000)]
    lines[4321] = b"caf\xe9"
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    source = open_source(tmp_path / "a.txt")
    assert_fails(source, "line 4322, column 'text' holds broken UTF-8")
    assert open_source(tmp_path / "a.txt", encoding="latin-1").load()["text"][4321] == "caf\u00e9"


def test_an_encoding_is_checked_when_it_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("a\0b\n")
    with pytest.raises(LookupError, match="unknown encoding: latin-0"):
        open_source(tmp_path / "a.txt", encoding="latin-0")
    with pytest.raises(ValueError, match="encoding is for files of text"):
        open_source("python-docs", encoding="utf-8")
    # Who says that it is UTF-8 may have NUL in it.
    assert_holds(open_source(tmp_path / "a.txt", encoding="UTF-8"), ["a\0b"])


# Formats and packings


def packed(file, packing):
    """The file's content under its name and `packing`."""
    target = Path(f"{file}{packing}")
    if packing == ".gz":
        target.write_bytes(gzip.compress(file.read_bytes()))
    elif packing == ".zst":
        target.write_bytes(pa.Codec("zstd").compress(file.read_bytes(), asbytes=True))
    return target


def in_every_format(folder, texts, labels):
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    (folder / "a.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    (folder / "a.tokens").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    write_jsonl(folder / "a.jsonl", rows)
    (folder / "a.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    pyarrow.csv.write_csv(pa.table({"text": texts, "label": labels}), folder / "a.csv")
    return [folder / f"a.{kind}" for kind in ("txt", "tokens", "jsonl", "json", "csv")]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_every_format_plain_and_packed_holds_the_same(tmp_path, packing):
    texts = ['first , "quoted"', "", "5", "\u4e2d\u6587", *[f"row {i}" for i in range(2000)]]
    labels = [i % 3 for i in range(len(texts))]
    num_doors = 0
    for file in in_every_format(tmp_path, texts, labels):
        source = open_source(packed(file, packing))
        num_doors += assert_holds(source, texts)
        if file.suffix in (".jsonl", ".json", ".csv"):
            num_doors += assert_holds(source, labels, "label")
        assert isinstance(source.load(), Dataset)
        assert isinstance(source.load(streaming=True), IterableDataset)
        assert pickle.loads(pickle.dumps(source)) == source
    assert num_doors >= 60


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_file_that_is_cut_or_damaged_is_an_error(tmp_path, packing):
    plain = tmp_path / "a.txt"
    plain.write_text("".join(f"row {i} {i * i}\n" for i in range(5000)))
    file = packed(plain, packing)
    whole = file.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        assert_fails(open_source(file), rf"a\.txt{packing} cannot be read")
    file.write_bytes(whole * 2)  # packed files that stand one after another are one
    assert open_source(file).load().num_rows == 10_000


def test_what_a_file_is_by_its_name_it_must_be_by_its_content(tmp_path):
    plain = tmp_path / "a.txt"
    plain.write_text("a\n")
    for packing in (".gz", ".zst"):
        file = packed(plain, packing)
        shutil.copy(file, tmp_path / "b.txt")
        assert_fails(open_source(tmp_path / "b.txt"), f"plain text, by its content {packing}")
        shutil.copy(plain, file)
        assert_fails(open_source(file), f"by its name it is {packing}, by its content not")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "c.jsonl")
    assert_fails(open_source(tmp_path / "c.jsonl"), r"by its content \.parquet")


JSON_FILES = {
    "a list": '[{"text": "a"},\n {"text": "b"}]',
    "lines": '{"text": "a"}\n{"text": "b"}\n',
    "one after another": '{\n"text": "a"\n}\n{"text":\n"b"}',
    "a list on a line": '[{"text":"a"},{"text":"b"}]',
}


@pytest.mark.parametrize("kind", JSON_FILES)
def test_json_is_a_list_or_objects_one_after_another(tmp_path, kind):
    (tmp_path / "a.json").write_text("\n\n" + JSON_FILES[kind])
    assert_holds(open_source(tmp_path / "a.json"), ["a", "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a"},\n\n{"text": ]', "line 3 is no JSON"),
        ('[{"text": "a"}\n{"text": "b"}]', "line 2 is no JSON: a comma is due"),
        ('[{"text": "a"}\n', "line 1 is the last, and the list is not closed"),
        ('[{"text": "a"}] 5', "more comes after it"),
        ('[{"text": "a"},\n7]', "line 2 is no JSON object, but 7"),
        ('[{"text": "a"},\n{"text": 7}]', "line 2, column 'text' holds 7"),
    ],
)
def test_json_that_is_none_is_named_by_its_line(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    assert_fails(open_source(tmp_path / "a.json"), message)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6),
            st.integers(-(10**6), 10**6),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_csv_is_what_arrow_reads_with_text_as_it_is_spelled(tmp_path, rows):
    file = tmp_path / "a.csv"
    table = pa.table({"text": [f"t{text}" for text, _ in rows], "label": [n for _, n in rows]})
    pyarrow.csv.write_csv(table, file)
    types = pyarrow.csv.ConvertOptions(column_types={"text": pa.string()})
    lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
    expected = pyarrow.csv.read_csv(file, parse_options=lines, convert_options=types)
    found = open_source(file).load()
    assert found.data.table.to_pydict() == expected.to_pydict() == table.to_pydict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,1\nb\n", r"line 3: 1 values for the columns \['text', 'label'\]"),
        ('text\n"a\n', "line 2 is no CSV"),
        ("text,text\na,b\n", "names a column twice"),
    ],
)
def test_csv_that_is_none_is_named_by_its_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / "a.csv").load()


# Folders


def write_texts(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"in {name}\n")


SPLITS = {
    "files": (
        ["train.txt", "test.txt", "validation.txt"],
        {"train": ["train.txt"], "validation": ["validation.txt"], "test": ["test.txt"]},
    ),
    "shards": (
        ["train-00000-of-00002.txt", "train-00001-of-00002.txt", "dev.txt"],
        {
            "train": ["train-00000-of-00002.txt", "train-00001-of-00002.txt"],
            "validation": ["dev.txt"],
        },
    ),
    "folders": (["train/a.txt", "eval/b.txt"], {"train": ["train/a.txt"], "test": ["eval/b.txt"]}),
    "words": (
        ["wiki.train.txt", "wiki.valid.txt", "trainers.txt"],
        {"train": ["wiki.train.txt"], "validation": ["wiki.valid.txt"]},
    ),
    "none": (["a.txt", "contest.txt"], {"train": ["a.txt", "contest.txt"]}),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_a_folder_has_the_splits_that_datasets_reads(tmp_path, kind, capsys):
    from datasets.data_files import DataFilesDict, get_data_patterns

    names, expected = SPLITS[kind]
    write_texts(tmp_path, *names)
    source = open_source(tmp_path)
    assert source.splits == list(expected)
    for split, files in expected.items():
        assert_holds(source, [f"in {name}" for name in files], split=split)
    theirs = DataFilesDict.from_patterns(get_data_patterns(str(tmp_path)), str(tmp_path))
    assert {
        str(split): sorted(os.path.relpath(file, tmp_path) for file in files)
        for split, files in theirs.items()
    } == expected
    said = capsys.readouterr().err
    assert said == (
        f"llmpipe: left out: {tmp_path}/trainers.txt (of no split)\n" if kind == "words" else ""
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "train/", "dev/", "x/", "my-test/"]),
            st.sampled_from(["train", "test_1", "a", "val", "constrain", "x.validation", "9eval"]),
        ),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_folders_of_any_names_have_the_splits_that_datasets_reads(tmp_path, names):
    from datasets.data_files import DataFilesDict, get_data_patterns

    shutil.rmtree(tmp_path)
    write_texts(tmp_path, *(f"{folder}{name}.txt" for folder, name in names))
    files = [
        (file, file.relative_to(tmp_path).as_posix()) for file in sorted(tmp_path.rglob("*.txt"))
    ]
    theirs = DataFilesDict.from_patterns(get_data_patterns(str(tmp_path)), str(tmp_path))
    assert split_files(files) == {
        str(split): sorted(map(Path, found)) for split, found in theirs.items() if found
    }


def test_what_is_left_out_of_a_folder_is_said_in_one_line(tmp_path, capsys):
    write_texts(tmp_path, "a.txt", "deep/b.txt", ".hidden.txt", "._a.txt")
    write_texts(tmp_path, ".ipynb_checkpoints/a-checkpoint.txt", ".git/config", "folder.txt/c.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    os.symlink(tmp_path / "a.txt", tmp_path / "same.txt")
    os.symlink(tmp_path, tmp_path / "deep" / "loop")
    os.symlink(tmp_path.parent, tmp_path / "deep" / "above")
    os.symlink(tmp_path / "deep", tmp_path / "again")
    source = open_source(tmp_path)
    assert_holds(source, ["in a.txt", "in deep/b.txt", "in folder.txt/c.txt"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("llmpipe: left out: ")
    assert " and " in said
    for name in (".hidden.txt (hidden)", "._a.txt (hidden)", "pipe.txt (no regular file)"):
        assert name in said


def test_links_to_elsewhere_are_read_by_the_name_that_they_were_given(tmp_path, capsys):
    """As in the hub's cache and in DVC's: the content has a digest for a name."""
    blobs, folder = tmp_path / "blobs", tmp_path / "data"
    write_texts(blobs, "ab12", "inner/cd34")
    pq.write_table(pa.table({"text": ["p"]}), blobs / "ef56")
    (folder / "x").mkdir(parents=True)
    os.symlink(blobs / "ab12", folder / "x" / "a.txt")
    os.symlink(blobs / "ef56", tmp_path / "p.parquet")
    write_texts(tmp_path / "elsewhere", "b.txt")
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    assert_holds(open_source(folder), ["in b.txt", "in ab12"])
    assert_holds(open_source(folder / "x" / "a.txt"), ["in ab12"])
    assert_holds(open_source(tmp_path / "p.parquet"), ["p"])
    os.symlink(tmp_path / "elsewhere" / "b.txt", tmp_path / "named")
    assert_holds(open_source(tmp_path / "named"), ["in b.txt"])  # by what it leads to
    assert capsys.readouterr().err == ""
    os.symlink(tmp_path / "gone", folder / "gone.txt")
    with pytest.raises(FileNotFoundError, match=r"gone.txt is a link to .*gone: not there"):
        open_source(folder)


def test_the_same_file_named_twice_is_read_once(tmp_path, capsys):
    write_texts(tmp_path, "a.txt", "b.txt")
    os.symlink(tmp_path / "a.txt", tmp_path / "link.txt")
    names = ["link.txt", "a.txt", "b.txt", "./a.txt"]
    assert_holds(open_source([f"{tmp_path}/{name}" for name in names]), ["in a.txt", "in b.txt"])
    assert capsys.readouterr().err.count("the same file again") == 2


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ValueError, match="no regular file"):
        open_source(tmp_path / "pipe.jsonl")
    with pytest.raises(FileNotFoundError, match=r"holds no .*left out: .*pipe.jsonl \(no regular"):
        open_source(tmp_path)


def test_a_json_that_tells_of_the_others_is_left_out(tmp_path, capsys):
    write_texts(tmp_path, "a.txt", "dataset_info.json")
    assert_holds(open_source(tmp_path), ["in a.txt"])
    assert "dataset_info.json (another format)" in capsys.readouterr().err


def test_files_of_a_split_are_in_the_order_of_their_names(tmp_path):
    names = [f"{number:03}.txt" for number in range(40)]
    write_texts(tmp_path, *reversed(names))
    assert [file.name for file in find_files([tmp_path])["train"]] == names


# Identity


REPLACED = [("a.jsonl", '{"text": "%s"}\n'), ("a.txt", "%s\n"), ("a.csv", "text\n%s\n")]


@pytest.mark.parametrize(("name", "line"), REPLACED)
@pytest.mark.parametrize("limit", [loading.IN_MEMORY_BYTES, 0])
def test_a_file_replaced_with_the_same_time_stamp_gives_its_own_rows(
    tmp_path, monkeypatch, name, line, limit
):
    monkeypatch.setattr(loading, "IN_MEMORY_BYTES", limit)
    file, other = tmp_path / name, tmp_path / "other"
    file.write_text(line % "old")
    stat = file.stat()
    first = open_source(file).load()
    assert first["text"][:] == ["old"]
    other.write_text(line % "new")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    shutil.copy2(other, file)  # in place, as `cp -p` does
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    second = open_source(file).load()
    assert_holds(open_source(file), ["new"])
    assert first["text"][:] == ["old"]
    assert first._fingerprint != second._fingerprint  # by which `map` finds what it made
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.write_text(line % "abc")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, file)
    assert_holds(open_source(file), ["abc"])


def appended(file):
    with open(file, "a") as stream:
        stream.write("1 2 3\n")


def overwritten(file):
    size, times = file.stat().st_size, file.stat()
    with open(file, "r+b") as stream:
        stream.seek(size // 2)
        stream.write(b"7")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "appended": appended,
    "overwritten": overwritten,
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "replaced": lambda file: (
        shutil.copy2(file, f"{file}.new"),
        appended(Path(f"{file}.new")),
        os.replace(f"{file}.new", file),
    ),
    "deleted": os.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".txt.gz", ".parquet"])
def test_a_file_changed_while_it_is_streamed_is_an_error(tmp_path, change, suffix):
    file, texts = tmp_path / f"a{suffix}", numbered([5] * 30_000)
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), file, row_group_size=10_000)
    elif suffix == ".jsonl":
        write_jsonl(file, [{"text": text} for text in texts])
    elif suffix == ".txt.gz":
        file.write_bytes(gzip.compress("\n".join(texts).encode()))
    else:
        file.write_text("\n".join(["text", *texts] if suffix == ".csv" else texts) + "\n")
    for documents in (open_source(file), open_source(file).load(streaming=True)):
        copy = file.read_bytes()
        items = iter(number_stream(documents, 5))
        first = [real_ids(next(items)) for _ in range(10)]
        assert first == [list(range(5 * i, 5 * i + 5)) for i in range(10)]
        CHANGES[change](file)
        with pytest.raises(Exception, match=r"changed while|another|shorter|No such file") as told:
            list(items)
        assert "a" + suffix in str(told.value)
        file.write_bytes(copy)


# Bounds


def test_what_is_decoded_counts_and_not_what_a_footer_promises(tmp_path, monkeypatch, own_cache):
    prompts, num_rows = ["x" * 2000 + str(i) for i in range(5)], 50_000
    table = pa.table({"text": pa.array([prompts[i % 5] for i in range(num_rows)])})
    pq.write_table(table, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    monkeypatch.setattr(loading, "IN_MEMORY_BYTES", 2**20)
    before = pa.total_allocated_bytes()
    whole = open_source(tmp_path / "a.parquet").load()
    assert pa.total_allocated_bytes() - before < 20 * 2**20  # of 100 MB
    assert whole.num_rows == num_rows
    assert whole[num_rows - 1]["text"] == prompts[4]
    assert len(list(own_cache.rglob("*.arrow"))) == 1
    assert open_source(tmp_path / "a.parquet").load().data.table.equals(table)
    assert len(list(own_cache.rglob("*"))) == 2  # the folder and the file: nothing half done


def test_a_cache_that_cannot_be_written_is_blamed_and_not_the_input(tmp_path, monkeypatch):
    import datasets.config

    (tmp_path / "a.txt").write_text("a\nb\n")
    (tmp_path / "blocked").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "blocked" / "cache")
    assert_holds(open_source(tmp_path / "a.txt"), ["a", "b"])  # in memory: no cache is needed
    monkeypatch.setattr(loading, "IN_MEMORY_BYTES", 0)
    with pytest.raises(OSError, match=r"cache folder .*blocked.* cannot be .*HF_DATASETS_CACHE"):
        open_source(tmp_path / "a.txt").load()
    assert [row["text"] for row in open_source(tmp_path / "a.txt").load(streaming=True)] == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_a_document_past_the_limit_is_refused_by_its_row(tmp_path, compression):
    texts = ["a"] * 1500
    texts[1200] = "b" * 5000
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression=compression)
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    (tmp_path / "a.txt").write_text("\n".join(texts))
    for name, message in (
        ("a.parquet", r"a\.parquet.*limit of a document is 4,000"),
        ("a.jsonl", "line 1201 is longer than 4,000"),
        ("a.txt", "line 1201 is longer than 4,000"),
    ):
        source = open_source(tmp_path / name, max_document_bytes=4000)
        assert_fails(source, rf"{message}.*max_document_bytes")
        assert_holds(open_source(tmp_path / name, max_document_bytes=6000), texts)
    assert_holds(open_source(tmp_path / "a.parquet"), texts)


BOMB = """
import resource, sys
from llmpipe import BlockStream, open_source
import datasets, torch
import psutil
before = psutil.Process().memory_info().rss
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**30,) * 2)
source = open_source(sys.argv[1])
for read in (source.load, lambda: list(source.load(streaming=True)),
             lambda: [t for t in source.parts().windows(0, 0, "text")]):
    try:
        read()
    except ValueError as error:
        print(error)
    assert psutil.Process().memory_info().rss - before < 2**30
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_a_value_that_would_fill_the_memory_is_refused_before(tmp_path):
    size = 1_200_000_000
    with pq.ParquetWriter(
        tmp_path / "a.parquet",
        pa.schema({"text": pa.string()}),
        compression="zstd",
        use_dictionary=False,
    ) as writer:
        offsets = pa.array([0, 1, size], pa.int32()).buffers()[1]
        text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a" * size)])
        writer.write_table(pa.table({"text": text}))
    del text
    with gzip.open(tmp_path / "a.txt.gz", "wb", compresslevel=1) as stream:
        for _ in range(size // 10**6 // 2):
            stream.write(b"a" * 10**6)
    for name in ("a.parquet", "a.txt.gz"):
        command = [sys.executable, "-c", BOMB, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("max_document_bytes=...) lifts it") == 3
        assert f"{DOCUMENT_BYTES:,}" in done.stdout


# Many files, many row groups: what is done for each of them, and not how long it takes


def test_each_of_many_files_is_looked_at_as_often_as_each_of_few(tmp_path, monkeypatch):
    counted = {"stat": 0, "open": 0}

    def counting(name, function):
        def count(*arguments, **options):
            counted[name] += 1
            return function(*arguments, **options)

        return count

    looks = []
    for num_files in (10, 20, 40):
        folder = tmp_path / str(num_files)
        for number in range(num_files):
            folder.mkdir(exist_ok=True)
            write_jsonl(folder / f"{number:03}.jsonl", [{"text": f"{number} 1"}] * 3)
        with monkeypatch.context() as patch:
            patch.setattr("os.stat", counting("stat", os.stat))
            patch.setattr("builtins.open", counting("open", open))
            assert len(list(number_stream(open_source(folder), 6))) == num_files
        looks.append(dict(counted))
        counted.update(stat=0, open=0)
    for name in counted:
        assert looks[2][name] - looks[1][name] == 2 * (looks[1][name] - looks[0][name])
    assert looks[0]["open"] <= 10 * 6


class CountingTokenizer(NumberTokenizer):
    calls = 0

    def encode(self, texts):
        self.calls += 1
        return super().encode(texts)


def test_small_row_groups_are_read_and_encoded_together(tmp_path, monkeypatch):
    file = tmp_path / "a.parquet"
    texts = numbered([i % 7 for i in range(3000)])
    pq.write_table(pa.table({"text": texts}), file, row_group_size=3)
    parts = open_source(file).parts()
    assert len(parts.weights) == 1000
    rows, read = type(parts)._rows, []
    monkeypatch.setattr(
        type(parts), "_rows", lambda self, own, names: read.append(own) or rows(self, own, names)
    )
    tokenizer = CountingTokenizer()
    items = list(BlockStream(open_source(file), tokenizer, 5, remainder="pad"))
    num_ids = sum(i % 7 for i in range(3000))
    assert [i for item in items for i in real_ids(item)] == list(range(num_ids))
    assert len(read) <= 6
    assert tokenizer.calls <= 6


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=12),
    st.booleans(),
    st.integers(1, 3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_small_row_groups_resume_at_every_block(tmp_path, groups, shuffle, world_size):
    file, texts = tmp_path / "a.parquet", iter(numbered([n for group in groups for n in group]))
    with pq.ParquetWriter(file, pa.schema({"text": pa.string()})) as writer:
        for group in groups:
            writer.write_table(pa.table({"text": pa.array([next(texts) for _ in group])}))
    found = []
    for rank in range(world_size):

        def stream(rank=rank):
            place = {"rank": rank, "world_size": world_size, "shuffle": shuffle}
            return number_stream(open_source(file), 3, remainder="pad", **place)

        seen = run(stream())
        found += [i for ids, _ in seen for i in ids]
        for number, (_, state) in enumerate(seen, start=1):
            again = stream()
            again.load_state_dict(state)
            assert [real_ids(item) for item in again] == [ids for ids, _ in seen[number:]]
            assert again.ledger.check()
    assert sorted(found) == list(range(sum(map(sum, groups))))


@pytest.mark.parametrize("fault", ["null", "deleted"])
def test_what_stands_before_an_error_in_small_row_groups_is_given(tmp_path, fault):
    file, texts = tmp_path / "a.parquet", numbered([5] * 3000)
    if fault == "null":
        texts[2001] = None
    pq.write_table(pa.table({"text": texts}), file, row_group_size=2)
    items, seen = iter(number_stream(open_source(file), 5)), []

    def read():
        for item in items:
            seen.extend(real_ids(item))
            if fault == "deleted" and file.exists():
                file.unlink()

    with pytest.raises(Exception, match=r"row 2001 of column|No such file") as told:
        read()
    assert "a.parquet" in str(told.value)
    assert seen == list(range(len(seen)))
    assert len(seen) == 2000 * 5 if fault == "null" else len(seen) >= 5
