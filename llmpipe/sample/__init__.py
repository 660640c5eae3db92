"""The built-in corpora: articles in the shape of WikiText, reviews in the shape of IMDB.

They stand in for the real data where there is no network. A corpus comes in parts of
`ROWS_PER_PART` rows; a part is made from (corpus, split, part index) alone, in any process and in
any order, and is the same on every machine: the only randomness is PCG64's raw words, the only
arithmetic that of whole numbers. Row i of the articles is the same for every `num_rows` > i.
Nothing is held but the pool of finished sentences and one part.

How a part is made: choose plans (`plans.py`), roll the dice for each of their segments, take
the strings from the pool, and join them row by row, all in NumPy and Arrow, without a Python
object a row.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.arguments import check_choice, check_count
from llmpipe.sample.articles import article_corpus
from llmpipe.sample.plans import Corpus, number_array
from llmpipe.sample.reviews import NUM_PLANS, review_corpus
from llmpipe.sample.text import DRAWS, NAMES_PER_SHEET, SHEETS, VARIANTS

ROWS_PER_PART = 4096
SPLITS = {"articles": ("train", "validation", "test"), "reviews": ("train", "test")}


def num_parts(num_rows: int) -> int:
    """How many parts `num_rows` rows take: 10,000 -> 3, and 0 -> 0."""
    return -(-check_count("num_rows", num_rows) // ROWS_PER_PART)


def tables(corpus: str, split: str, num_rows: int) -> Iterator[pa.Table]:
    """All parts in order; none for 0 rows. Raises as `part` does, at once."""
    check_names(corpus, split)
    return (part(corpus, split, num_rows, index) for index in range(num_parts(num_rows)))


def part(corpus: str, split: str, num_rows: int, index: int) -> pa.Table:
    """Rows from index * ROWS_PER_PART on, of `num_rows` in all; only the last part may be shorter.

    `articles` have one column, text: "" for a blank row, and otherwise one line of an article with
    a space before it and " \\n" behind. `reviews` have text and label (int64; 0 negative, 1
    positive), and are sorted by label: the first (num_rows + 1) // 2 rows are negative.

    >>> part("articles", "train", 2, 0)["text"].to_pylist()[0]
    ''

    Raises ValueError for an unknown corpus or split, a negative `num_rows`, or a part that is not
    there.
    """
    check_names(corpus, split)
    check_count(f"part index of {num_rows} rows", index, 0, below=num_parts(num_rows))
    bits = np.random.PCG64([zlib.crc32(f"{corpus}/{split}".encode()), index])
    first = index * ROWS_PER_PART
    size = min(ROWS_PER_PART, num_rows - first)
    if corpus == "articles":
        pages = articles()
        num_units = len(pages.segment_starts) - 1
        units = below(bits.random_raw(ROWS_PER_PART // pages.rows_per_unit), num_units)
        text = texts(pages, units, bits)
        return pa.Table.from_arrays([text.slice(0, size)], names=["text"])
    plans = reviews()
    labels = (np.arange(first, first + ROWS_PER_PART) >= (num_rows + 1) // 2).astype(np.int64)
    units = below(bits.random_raw(ROWS_PER_PART), NUM_PLANS) + NUM_PLANS * labels
    text = texts(plans, units, bits)
    columns = [text.slice(0, size), number_array(labels[:size])]
    return pa.Table.from_arrays(columns, names=["text", "label"])


@cache
def articles() -> Corpus:
    return article_corpus()


@cache
def reviews() -> Corpus:
    return review_corpus()


def texts(corpus: Corpus, units: np.ndarray, bits: np.random.PCG64) -> pa.StringArray:
    """The rows of the given units, in order, with fresh dice for every segment."""
    row_lengths = corpus.row_lengths.reshape(-1, corpus.rows_per_unit)[units].ravel()
    row_starts = np.concatenate([[0], np.cumsum(row_lengths)]).astype(np.int32)
    starts = corpus.segment_starts[units]
    lengths = corpus.segment_starts[units + 1] - starts
    unit_of_segment = np.repeat(np.arange(len(units)), lengths)
    place = np.arange(row_starts[-1])
    shift = starts - (np.cumsum(lengths) - lengths)
    base, width, mask, slot, back = corpus.segments[:, place + shift[unit_of_segment]]

    slots_per_unit = 1 + 2 * corpus.subjects_per_unit
    terms = np.zeros((len(units), slots_per_unit), dtype=np.int64)
    subjects = bits.random_raw(len(units) * corpus.subjects_per_unit)
    subjects = subjects.reshape(len(units), corpus.subjects_per_unit)
    sheet = below(subjects, SHEETS)
    terms[:, 1::2] = DRAWS * sheet
    terms[:, 2::2] = NAMES_PER_SHEET * sheet + below(subjects >> np.uint64(32), NAMES_PER_SHEET)

    rolls = bits.random_raw(len(place))[place - back].astype(np.int64)
    chosen = base + VARIANTS * ((rolls & 0xFFFF) * width >> 16) + ((rolls >> 20) & mask)
    chosen += terms.ravel()[unit_of_segment * slots_per_unit + slot]
    rows = pa.ListArray.from_arrays(
        number_array(row_starts), corpus.pool.take(number_array(chosen))
    )
    return pc.binary_join(rows, corpus.pool[0])


def below(words: np.ndarray, bound: int) -> np.ndarray:
    """Raw words to whole numbers below `bound`, by remainder."""
    return (words % np.uint64(bound)).astype(np.int64)


def check_names(corpus: str, split: str) -> None:
    check_choice("corpus", corpus, SPLITS)
    check_choice(f"split of {corpus}", split, SPLITS[corpus])
