"""Whole articles: the rows of each, whatever parts they lie in and whoever reads them."""

import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stream_tools import NumberTokenizer, consumers, real_ids
from torch.utils.data import DataLoader

from llmpipe import BlockStream, Share, load_tokenizer, open_source
from llmpipe.columns import text_column
from llmpipe.sharding.world import World
from llmpipe.sources.articles import ArticleParts
from llmpipe.tokenization.tokenizer import Tokens


def headings_of(rows, stop=None):
    """The numbers of the rows that begin an article, by a plain loop."""

    def begins(number):
        words = rows[number].split()
        around = (rows[n] for n in (number - 1, number + 1) if 0 <= n < len(rows))
        is_title = (
            len(words) > 2
            and words[0] == words[-1] == "="
            and "="
            not in (
                words[1],
                words[-2],
            )
        )
        return is_title and not any(row.strip() for row in around)

    return [number for number in range(len(rows) if stop is None else stop) if begins(number)]


def due_of(rows):
    """The articles, each the text of its rows."""
    starts = headings_of(rows)
    if starts:
        has_preamble = any(row.strip() for row in rows[: starts[0]])
        starts = [0, *(starts if has_preamble else starts[1:])]
    ends = [*starts[1:], len(rows)] if starts else []
    return ["".join(rows[a:b]) for a, b in zip(starts, ends, strict=True)]


class RowParts:
    """Rows in parts of these lengths, in windows of five."""

    counted, identity = True, "rows of a test"

    def __init__(self, rows, lengths):
        ends = np.cumsum(lengths).tolist()
        self.rows = [rows[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        self.weights = [max(1, length) for length in lengths]

    def windows(self, part, first_window, *columns):
        for start in range(5 * first_window, len(self.rows[part]), 5):
            yield pa.table({"text": pa.array(self.rows[part][start : start + 5], pa.string())})


def read(parts, part=None):
    chosen = range(len(parts.weights)) if part is None else [part]
    windows = [window for number in chosen for window in parts.windows(number, 0, "text")]
    return [text for window in windows for text in window["text"].to_pylist()]


ROWS = [
    "",
    "",
    " = 1 = \n",
    " = 2 = \n",
    " = = 3 = = \n",
    " 4 5 \n",
    " \n",
    " = 6 = 7 = \n",
    " = \n",
]


@st.composite
def rows_in_parts(draw):
    rows = draw(st.lists(st.sampled_from(ROWS), max_size=40))
    lengths, left = [], len(rows)
    while left:
        lengths.append(draw(st.integers(0, min(left, 9))))
        left -= lengths[-1]
    return rows, lengths


@given(rows_in_parts(), st.integers(0, 6))
@example((["", " = 1 = \n", ""], [1, 1, 1]), 1)
@example((["a", " ", " = 1 = \n", "", "b", "", " = 2 = \n", ""], [1] * 8), 2)
def test_articles_are_those_of_a_plain_loop_whatever_the_parts(made, num_rows):
    rows, lengths = made
    due, source = due_of(rows), RowParts(rows, lengths)
    if rows and not due:
        with pytest.raises(ValueError, match="this source has no articles: none of its rows is"):
            ArticleParts(source)
        return
    parts = ArticleParts(source)
    assert "".join(due) == "".join(rows)
    assert read(parts) == due
    assert read(ArticleParts(RowParts(rows, [len(rows)] if rows else []))) == due
    assert read(ArticleParts(source, num_rows)) == due[:num_rows]
    assert read(pickle.loads(pickle.dumps(parts))) == due
    for part in range(len(lengths)):  # whoever reads one alone gets those that begin in it
        own = read(parts, part)
        before = len(headings_of(rows, sum(lengths[:part])))
        own_headings = len(headings_of(rows, sum(lengths[: part + 1]))) - before
        has_preamble = not before and own_headings and len(due) > len(headings_of(rows))
        assert len(own) == own_headings + bool(has_preamble)


def test_wikitext_2_has_600_articles_and_60(wikitext_2, mirror):
    for split, number in (("train", 600), ("validation", 60)):
        source = open_source("wikitext-2-v1", documents="articles")
        rows = open_source("wikitext-2-v1").load(split)["text"][:]
        due = due_of(rows)
        assert len(due) == number
        dataset = source.load(split)
        assert dataset["text"][:] == due
        assert dataset.features == open_source("wikitext-2-v1").load(split).features
        assert str(dataset.split) == split
        streamed = source.load(split, streaming=True)
        assert [row["text"] for row in streamed] == due
        assert read(source.parts(split)) == due
        assert "".join(due) == "".join(rows)
        for num_rows in (0, 7, 59, number, number + 1):
            assert source.load(split, num_rows=num_rows)["text"][:] == due[:num_rows]
            assert read(source.parts(split, num_rows)) == due[:num_rows]


def test_an_end_of_text_stands_between_articles_and_not_after_each_row(wikitext_2):
    tokenizer = load_tokenizer("gpt2")
    source = open_source("wikitext-2-v1", documents="articles")
    end = tokenizer.eos_token_id
    blocks = BlockStream(source, tokenizer, 128, separator=end, remainder="pad")
    ids = np.concatenate([np.array(real_ids(block)) for block in blocks])
    due = [tokenizer.encode(text).ids for text in source.load()["text"][:]]
    assert np.count_nonzero(ids == end) == len(due) == 600
    assert np.array_equal(ids, np.concatenate([np.append(each, end) for each in due]))


class DigitTokenizer(NumberTokenizer):
    """The whole numbers in a text, whatever stands around them."""

    def encode(self, texts):
        rows = [list(map(int, re.findall(r"\d+", t))) for t in text_column(texts).to_pylist()]
        ids = np.array([number for row in rows for number in row], np.uint32)
        return Tokens(ids, np.cumsum([0, *map(len, rows)], dtype=np.int64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 articles of up to 40 rows, numbered through, in row groups that begin anywhere."""
    folder, rows, number = tmp_path_factory.mktemp("articles"), [""], 0
    generator = np.random.default_rng(0)
    for _ in range(60):
        rows += [f" = {number} = \n", ""]
        for _ in range(generator.integers(1, 40)):
            number += 1
            rows += [f" {number} \n"]
        rows += [""]
        number += 1
    pq.write_table(pa.table({"text": rows[:700]}), folder / "a.parquet", row_group_size=97)
    pq.write_table(pa.table({"text": rows[700:]}), folder / "b.parquet", row_group_size=31)
    return folder


def stream_of(folder, **options):
    source = open_source(folder, documents="articles")
    return BlockStream(source, DigitTokenizer(), 4, remainder="pad", **options)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 2)])
def test_every_article_goes_to_one_consumer_and_stays_whole(
    folder, shuffle, world_size, num_workers
):
    rows = open_source(folder).load()["text"][:]
    due = [list(map(int, re.findall(r"\d+", text))) for text in due_of(rows)]
    assert len(due) == 60
    seen = []
    for stream, context in consumers(
        lambda rank, size: stream_of(folder, shuffle=shuffle, rank=rank, world_size=size),
        world_size,
        num_workers,
    ):
        with context():
            ids = [number for item in stream for number in real_ids(item)]
        by_first = {article[0]: article for article in due}
        while ids:  # articles of a consumer stand one after the other
            article = by_first[ids[0]]
            assert ids[: len(article)] == article
            seen.append(article)
            ids = ids[len(article) :]
    assert sorted(seen) == sorted(due)
    assert shuffle or world_size > 1 or seen == due


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "seed": 3}, {"num_rows": 23}])
def test_a_state_goes_on_with_the_same_articles_on_any_number_of_ranks(folder, options):
    whole = [real_ids(item) for item in stream_of(folder, **options)]
    everything = sorted(number for ids in whole for number in ids)
    for position in (1, 5, len(whole) // 2, len(whole) - 1):
        stream = stream_of(folder, **options)
        for _, item in zip(range(position), stream, strict=False):
            assert real_ids(item)
        state = json.loads(json.dumps(stream.state_dict()))
        again = stream_of(folder, **options)
        again.load_state_dict(state)
        assert [real_ids(item) for item in again] == whole[position:]
        rest = []
        for rank in range(2):
            own = stream_of(folder, **options).resume([state], rank=rank, world_size=2)
            rest += [number for item in own for number in real_ids(item)]
        given = [number for ids in whole[:position] for number in ids]
        assert sorted(given + rest) == everything


def test_a_state_of_rows_is_not_one_of_articles(folder):
    rows = BlockStream(open_source(folder), DigitTokenizer(), 4, remainder="pad")
    next(iter(rows))
    with pytest.raises(ValueError, match="articles of"):
        stream_of(folder).load_state_dict(rows.state_dict())
    assert open_source(folder).parts().identity != stream_of(folder).processor.parts.identity


def test_shares_and_real_workers_read_each_article_once(folder):
    source = open_source(folder, documents="articles")
    due = sorted(source.load()["text"][:])
    for strategy in ("rows", "batches", "parts", "contiguous"):
        shares = [Share(source.parts(), World(rank, 3), strategy) for rank in range(3)]
        tables = [table for share in shares for table in share.tables("text")]
        assert sorted(text for table in tables for text in table["text"].to_pylist()) == due
    loader = DataLoader(stream_of(folder), batch_size=None, num_workers=2)
    ids = sorted(number for item in loader for number in real_ids(item))
    assert ids == sorted(int(n) for text in due for n in re.findall(r"\d+", text))


def test_the_sample_and_lines_of_text_have_articles_too(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    rows = open_source("wikitext-2").load("validation")["text"][:]
    articles = open_source("wikitext-2", documents="articles")
    assert (str(articles), articles.splits) == (
        "articles of wikitext-2 from sample",
        ["train", "validation", "test"],
    )
    assert read(articles.parts("validation")) == due_of(rows)
    (tmp_path / "wiki.txt").write_text(" \n = A = \n \n One . \n \n = B = \n \n Two . \n")
    lines = open_source(tmp_path / "wiki.txt", documents="articles")
    assert [text.split() for text in lines.load()["text"][:]] == [
        ["=", "A", "=", "One", "."],
        ["=", "B", "=", "Two", "."],
    ]
    assert read(lines.parts()) == lines.load()["text"][:]


def test_what_has_no_articles_says_so_once(tmp_path):
    (tmp_path / "x.txt").write_text("no\nheading\n = = Part = = \n")
    source = open_source(tmp_path / "x.txt", documents="articles")
    for read_it in (
        source.load,
        source.parts,
        lambda: source.load(streaming=True),
        lambda: BlockStream(source, DigitTokenizer(), 4),
    ):
        with pytest.raises(ValueError, match=r"x\.txt from files has no articles: none of its row"):
            read_it()
    with pytest.raises(ValueError, match="documents must be 'rows' or 'articles', got 'pages'"):
        open_source("wikitext-2", documents="pages")
    with pytest.raises(ValueError, match="has no split 'dev'"):
        source.load("dev")
    (tmp_path / "y.jsonl").write_text('{"words": "a"}\n')
    with pytest.raises(KeyError, match=r"no column 'text'; there are \['words'\]"):
        open_source(tmp_path / "y.jsonl", documents="articles").parts()
