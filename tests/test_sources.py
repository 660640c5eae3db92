import pickle
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset

from llmpipe import open_source, sample
from llmpipe.sources.source import CORPORA


def texts_of(dataset):
    return [row["text"] for row in dataset]


@pytest.fixture
def from_sample(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")


@pytest.mark.parametrize("name", CORPORA)
def test_the_sample_gives_objects_of_datasets(from_sample, name):
    source = open_source(name)
    assert source.origin == "sample"
    whole = source.load("train", num_rows=500)
    stream = source.load("train", streaming=True, num_rows=500)
    assert isinstance(whole, Dataset)
    assert isinstance(stream, IterableDataset)
    assert whole.num_rows == 500
    assert whole.column_names == (["text", "label"] if name == "imdb" else ["text"])
    assert list(stream) == list(whole)
    assert stream.features == whole.features


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("num_rows", [0, 1, sample.ROWS_PER_PART, sample.ROWS_PER_PART + 1])
def test_the_sample_has_as_many_rows_as_asked(from_sample, num_rows, streaming):
    rows = open_source("wikitext-2").load("validation", num_rows=num_rows, streaming=streaming)
    assert len(list(rows)) == num_rows


def test_the_sample_has_the_hubs_number_of_rows_by_default(from_sample):
    for name, corpus in CORPORA.items():
        assert open_source(name).splits == list(corpus.num_rows)
    assert open_source("wikitext-2").load("train").num_rows == 36_718
    assert open_source("imdb").load("test").num_rows == 25_000


def test_the_sample_is_imported_only_where_it_is_asked_for():
    code = (
        "import sys, llmpipe.sources.source, llmpipe.filtering, llmpipe.tokenization.loading;"
        "print({'llmpipe.sample', 'datasets', 'huggingface_hub'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_parts_of_the_sample_and_of_parquet_do_not_import_datasets(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    code = (
        "import os, sys; from llmpipe import open_source;"
        "os.environ['LLMPIPE_SOURCE'] = 'sample';"
        "sources = [open_source('imdb'), open_source(sys.argv[1])];"
        "print([len(source.parts().weights) for source in sources], 'datasets' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[7, 1] False\n"


def test_a_streamed_sample_has_a_shard_a_part(from_sample):
    stream = open_source("wikitext-103").load("train", streaming=True)
    assert stream.num_shards == sample.num_parts(1_801_350)


@pytest.fixture
def rows(tmp_path):
    """The same three documents in each format."""
    texts = ["first document", "", "third , with a \u2014 dash"]
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    Dataset.from_dict({"text": texts}).to_json(tmp_path / "a.jsonl", force_ascii=False)
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    return tmp_path, texts


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_files_of_each_format_give_their_documents(rows, suffix, streaming):
    folder, texts = rows
    source = open_source(folder / f"a{suffix}")
    assert (source.origin, source.splits) == ("files", ["train"])
    assert texts_of(source.load("train", streaming=streaming)) == texts
    assert texts_of(source.load("train", streaming=streaming, num_rows=2)) == texts[:2]
    assert texts_of(source.load("train", streaming=streaming, num_rows=9)) == texts


def test_folders_and_lists_hold_their_files_in_order_and_empty_ones_nothing(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt", "empty.txt"):
        (tmp_path / name).write_text("" if name == "empty.txt" else f"in {name}\n")
    (tmp_path / "notes.md").write_text("not a document")
    source = open_source(str(tmp_path))
    assert texts_of(source.load()) == ["in a.txt", "in b.txt", "in deep/c.txt"]
    chosen = open_source([tmp_path / "b.txt", tmp_path / "a.txt"])
    assert texts_of(chosen.load(streaming=True)) == ["in b.txt", "in a.txt"]


def test_python_docs_are_documents_without_a_download():
    source = open_source("python-docs")
    assert source.origin == "python-docs"
    whole = source.load("train")
    assert whole.num_rows > 1000
    assert any("iterator" in text for text in whole["text"])
    assert texts_of(source.load("train", streaming=True, num_rows=5)) == whole["text"][:5]


DAMAGED = {
    "half.parquet": (lambda whole: whole[: len(whole) // 2], "half.parquet is cut short or not a"),
    "tail.parquet": (lambda whole: whole[:-8], "tail.parquet is cut short or not a Parquet file"),
    "zero.parquet": (lambda _: b"", "zero.parquet is cut short or not a Parquet file"),
    "words.parquet": (lambda _: b"these are words", "words.parquet is cut short or not a"),
    "zero.txt": (lambda _: b"", r"no document in .*zero.txt: 0 bytes"),
    "zero.jsonl": (lambda _: b"", r"no document in .*zero.jsonl: 0 bytes"),
    "latin.txt": (lambda _: "caf\xe9\n".encode("latin-1"), "latin.txt cannot be read: .*utf-8"),
    "cut.jsonl": (lambda _: b'{"text": "a"}\n{"text": ', "cut.jsonl cannot be read: .*JSON"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_named(rows, name):
    folder, _ = rows
    damage, message = DAMAGED[name]
    (folder / name).write_bytes(damage((folder / "a.parquet").read_bytes()))
    with pytest.raises(ValueError, match=message):
        open_source(folder / name).load("train")


def test_damage_inside_a_parquet_file_is_named_when_it_is_loaded(tmp_path):
    path = tmp_path / "inside.parquet"
    pq.write_table(pa.table({"text": [f"row {i} {i * i}" for i in range(20_000)]}), path)
    data = bytearray(path.read_bytes())
    data[2000:6000] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"inside.parquet cannot be read"):
        open_source(path).load("train")


WRONG = {
    "unknown name": (
        lambda _: open_source("wikitext-4"),
        ValueError,
        "unknown source 'wikitext-4'; known",
    ),
    "not an id": (lambda _: open_source("a/b/c"), ValueError, "neither a short name"),
    "no such file": (
        lambda p: open_source(p / "no.txt"),
        FileNotFoundError,
        "there is no file .*no.txt",
    ),
    "empty folder": (
        lambda p: open_source(p),
        FileNotFoundError,
        "holds no .txt, .jsonl, .parquet",
    ),
    "split": (
        lambda _: open_source("python-docs").load("test"),
        ValueError,
        r"no split 'test'; it has \['train'\]",
    ),
    "negative": (lambda _: open_source("python-docs").load(num_rows=-1), ValueError, "got -1"),
    "nothing": (lambda _: open_source(""), TypeError, "name a source"),
    "none": (lambda _: open_source(None), TypeError, "name a source"),
    "config": (
        lambda _: open_source("imdb", "other"),
        ValueError,
        "imdb is config 'plain_text' of stanfordnlp/imdb, not 'other'",
    ),
    "fraction": (lambda _: open_source("python-docs").load(num_rows=0.5), TypeError, "got 0.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_with_what_can(tmp_path, case):
    ask, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        ask(tmp_path)


def test_files_of_different_columns_are_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": [5]}), tmp_path / "2.parquet")
    for streaming in (False, True):
        with pytest.raises(ValueError, match=r"2.parquet has the columns .*int64.* but .*string"):
            open_source(tmp_path).load(streaming=streaming)


def test_a_parquet_file_without_rows_is_an_empty_corpus(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    source = open_source(tmp_path / "none.parquet")
    assert list(source.load()) == list(source.load(streaming=True)) == []


def test_names_of_files_are_not_patterns_and_marks_are_no_text(tmp_path):
    (tmp_path / "we[1]rd.TXT").write_text("\ufefffirst\n", encoding="utf-8")
    for streaming in (False, True):
        assert texts_of(open_source(tmp_path).load(streaming=streaming)) == ["first"]


def test_files_of_mixed_formats_are_refused(rows):
    with pytest.raises(ValueError, match="files of one format"):
        open_source(rows[0])


def test_an_unknown_mode_names_the_modes(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "samples")
    with pytest.raises(ValueError, match="'mirror' or 'sample', got 'samples'"):
        open_source("wikitext-2")


def test_the_strict_sample_stands_in_for_the_labs_only(from_sample):
    with pytest.raises(FileNotFoundError, match="does not stand in for my/own"):
        open_source("my/own")


@pytest.fixture
def small_mirror(tmp_path, monkeypatch):
    folder = tmp_path / "Salesforce" / "wikitext" / "wikitext-2-v1"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(pa.table({"text": [split]}), folder / f"{split}-00000-of-00001.parquet")
    monkeypatch.setenv("LLMPIPE_SOURCE", "mirror")
    monkeypatch.setenv("LLMPIPE_MIRROR", str(tmp_path))
    return tmp_path


def test_a_mirror_gives_what_it_holds_and_names_it_otherwise(small_mirror):
    source = open_source("wikitext-2-v1")
    assert (source.origin, source.splits) == ("mirror", ["train", "validation"])
    assert texts_of(source.load("validation")) == ["validation"]
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['train', 'validation'\]"):
        source.load("test")
    with pytest.raises(
        FileNotFoundError, match=r"does not hold stanfordnlp/imdb.*it holds Salesforce"
    ):
        open_source("imdb")


def test_auto_prefers_the_mirror(small_mirror, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "auto")
    assert open_source("wikitext-2-v1").origin == "mirror"


@pytest.mark.parametrize("mode", ["auto", "mirror"])
def test_a_mirror_that_is_not_there_is_an_error(monkeypatch, mode, tmp_path):
    monkeypatch.setenv("LLMPIPE_SOURCE", mode)
    monkeypatch.setenv("LLMPIPE_MIRROR", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"LLMPIPE_MIRROR is .*gone.* no such folder"):
        open_source("wikitext-2-v1")
    monkeypatch.delenv("LLMPIPE_MIRROR")
    if mode == "mirror":
        with pytest.raises(ValueError, match="needs LLMPIPE_MIRROR"):
            open_source("wikitext-2-v1")


def test_a_missing_part_of_a_set_is_an_error_not_a_shorter_corpus(small_mirror):
    folder = small_mirror / "Salesforce" / "wikitext" / "wikitext-2-v1"
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    with pytest.raises(FileNotFoundError, match="should be 2 files, but there are 1"):
        open_source("wikitext-2-v1")


def test_a_source_travels_to_another_process(small_mirror, monkeypatch, rows):
    sources = [
        open_source("wikitext-2-v1"),
        open_source(rows[0] / "a.txt"),
        open_source("python-docs"),
    ]
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    sources.append(open_source("imdb"))
    monkeypatch.delenv("LLMPIPE_MIRROR")
    for source in sources:
        copy = pickle.loads(pickle.dumps(source))
        assert copy == source
        assert texts_of(copy.load("train", num_rows=3)) == texts_of(
            source.load("train", num_rows=3)
        )


def test_the_real_mirror(wikitext_2, imdb):
    source = open_source("wikitext-2-v1")
    assert source.origin == "mirror"
    assert source.load("train").data.table["text"].to_pylist() == wikitext_2["text"].to_pylist()
    stream = source.load("validation", streaming=True)
    assert sum(1 for _ in stream) == 3_760
    reviews = open_source("imdb").load("train")
    assert reviews["label"][:] == [0] * 12_500 + [1] * 12_500
    assert reviews["text"][:10] == imdb["text"].slice(0, 10).to_pylist()


def test_a_repository_of_the_labs_is_the_sample_by_its_full_name_too(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    for name, config, short in (
        ("stanfordnlp/imdb", None, "imdb"),
        ("Salesforce/wikitext", "wikitext-2-v1", "wikitext-2-v1"),
    ):
        source = open_source(name, config)
        assert source.origin == "sample"
        assert source.load(num_rows=5)["text"] == open_source(short).load(num_rows=5)["text"]
    with pytest.raises(ValueError, match="stands in for no config 'wikitext-9' of Salesforce"):
        open_source("Salesforce/wikitext", "wikitext-9")
