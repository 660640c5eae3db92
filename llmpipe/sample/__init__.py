"""The built-in corpora: articles in the shape of WikiText, reviews in the shape of IMDB.

They stand in for the real data where there is no network. A corpus comes in lanes of
`ROWS_PER_LANE` rows; a lane is made from (corpus, split, lane index) alone, in any process and in
any order, and is the same on every machine: the only randomness is PCG64's raw words, the only
arithmetic that of whole numbers. Row i of the articles is the same for every `num_rows` > i.
Nothing is held but the pool of finished sentences and one lane.

How a lane is made: choose plans (`plans.py`), roll the dice for each of their pieces, take
the strings from the pool, and join them row by row, all in NumPy and Arrow, without a Python
object a row.
"""

from __future__ import annotations

import operator
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.sample.articles import article_corpus
from llmpipe.sample.plans import Corpus, number_array
from llmpipe.sample.reviews import NUM_PLANS, review_corpus
from llmpipe.sample.text import DRAWS, NAMES_PER_SHEET, SHEETS, VARIANTS

ROWS_PER_LANE = 4096
SPLITS = {"articles": ("train", "validation", "test"), "reviews": ("train", "test")}


def num_lanes(num_rows: int) -> int:
    """How many lanes `num_rows` rows take: 10,000 -> 3, and 0 -> 0."""
    return -(-checked_rows(num_rows) // ROWS_PER_LANE)


def tables(corpus: str, split: str, num_rows: int) -> Iterator[pa.Table]:
    """All lanes in order; none for 0 rows. Raises as `lane` does, at once."""
    check_names(corpus, split)
    return (lane(corpus, split, num_rows, index) for index in range(num_lanes(num_rows)))


def lane(corpus: str, split: str, num_rows: int, index: int) -> pa.Table:
    """Rows from index * ROWS_PER_LANE on, of `num_rows` in all; only the last lane may be shorter.

    `articles` have one column, text: "" for a blank row, and otherwise one line of an article with
    a space before it and " \\n" behind. `reviews` have text and label (int64; 0 negative, 1
    positive), and are sorted by label: the first (num_rows + 1) // 2 rows are negative.

    >>> lane("articles", "train", 2, 0)["text"].to_pylist()[0]
    ''

    Raises ValueError for an unknown corpus or split, a negative `num_rows`, or a lane that is not
    there.
    """
    check_names(corpus, split)
    count = num_lanes(num_rows)
    if not 0 <= index < count:
        raise ValueError(f"lane index must be in [0, {count}) for {num_rows} rows, got {index}")
    bits = np.random.PCG64([zlib.crc32(f"{corpus}/{split}".encode()), index])
    first = index * ROWS_PER_LANE
    size = min(ROWS_PER_LANE, num_rows - first)
    if corpus == "articles":
        pages = articles()
        num_units = len(pages.piece_starts) - 1
        units = below(bits.random_raw(ROWS_PER_LANE // pages.rows_per_unit), num_units)
        text = texts(pages, units, bits)
        return pa.Table.from_arrays([text.slice(0, size)], names=["text"])
    plans = reviews()
    labels = (np.arange(first, first + ROWS_PER_LANE) >= (num_rows + 1) // 2).astype(np.int64)
    units = below(bits.random_raw(ROWS_PER_LANE), NUM_PLANS) + NUM_PLANS * labels
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
    """The rows of the given units, in order, with fresh dice for every piece."""
    row_lengths = corpus.row_lengths.reshape(-1, corpus.rows_per_unit)[units].ravel()
    row_starts = np.concatenate([[0], np.cumsum(row_lengths)]).astype(np.int32)
    starts = corpus.piece_starts[units]
    lengths = corpus.piece_starts[units + 1] - starts
    unit_of_piece = np.repeat(np.arange(len(units)), lengths)
    place = np.arange(row_starts[-1])
    shift = starts - (np.cumsum(lengths) - lengths)
    base, width, mask, slot, back = corpus.pieces[:, place + shift[unit_of_piece]]

    slots_per_unit = 1 + 2 * corpus.subjects_per_unit
    terms = np.zeros((len(units), slots_per_unit), dtype=np.int64)
    subjects = bits.random_raw(len(units) * corpus.subjects_per_unit)
    subjects = subjects.reshape(len(units), corpus.subjects_per_unit)
    sheet = below(subjects, SHEETS)
    terms[:, 1::2] = DRAWS * sheet
    terms[:, 2::2] = NAMES_PER_SHEET * sheet + below(subjects >> np.uint64(32), NAMES_PER_SHEET)

    rolls = bits.random_raw(len(place))[place - back].astype(np.int64)
    chosen = base + VARIANTS * ((rolls & 0xFFFF) * width >> 16) + ((rolls >> 20) & mask)
    chosen += terms.ravel()[unit_of_piece * slots_per_unit + slot]
    rows = pa.ListArray.from_arrays(
        number_array(row_starts), corpus.pool.take(number_array(chosen))
    )
    return pc.binary_join(rows, corpus.pool[0])


def below(words: np.ndarray, bound: int) -> np.ndarray:
    """Raw words to whole numbers below `bound`, by remainder."""
    return (words % np.uint64(bound)).astype(np.int64)


def check_names(corpus: str, split: str) -> None:
    if corpus not in SPLITS:
        raise ValueError(f"corpus must be one of {', '.join(SPLITS)}, got {corpus!r}")
    if split not in SPLITS[corpus]:
        allowed = ", ".join(SPLITS[corpus])
        raise ValueError(f"split of {corpus} must be one of {allowed}, got {split!r}")


def checked_rows(num_rows: int) -> int:
    try:
        rows = operator.index(num_rows)
    except TypeError:
        raise ValueError(f"num_rows must be a whole number, got {num_rows!r}") from None
    if rows < 0:
        raise ValueError(f"num_rows must be 0 or more, got {num_rows}")
    return rows
