"""Quality rules: each is a question put to a whole column at once, and each names its reason.

A rule takes texts and returns a boolean array, True where it rejects. `QualityFilter` asks its
rules in order; the first to reject a document gives the reason that the ledger counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.columns import require_column, text_column, to_strings
from llmpipe.ledger import Entry, Ledger

# What `str.strip` and `str.split` call white space. Arrow's own idea of it lacks \x1c to \x1f.
WHITE_SPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
ROWS_PER_SLICE = 8192  # bounds the memory of a rule, whatever the size of the data set
REPETITION_CHARS = 1_000_000  # `repetition` judges a document by its beginning

Rule = Callable[[Any], np.ndarray]


def _stripped(texts: Any) -> pa.ChunkedArray:
    return pc.utf8_trim(text_column(texts), characters=WHITE_SPACE)


def _words(texts: Any) -> tuple[pa.Array, np.ndarray]:
    """The words `str.split` gives; those of document d are words[offsets[d]:offsets[d + 1]]."""
    spaced = pc.replace_substring_regex(text_column(texts), r"[\x1c-\x1f\x{85}]", " ")
    lists = pc.utf8_split_whitespace(pc.utf8_trim(spaced, characters=WHITE_SPACE)).combine_chunks()
    words, offsets = lists.flatten(), np.asarray(lists.offsets) - lists.offsets[0].as_py()
    real = pc.not_equal(words, "")  # splitting "" gives one empty word
    return words.filter(real), np.concatenate(([0], np.cumsum(real)))[offsets]


def blank(texts: Any) -> np.ndarray:
    """Reject documents that hold white space only.

    >>> blank(["", " x ", "\\t"]).tolist()
    [True, False, True]
    """
    return pc.equal(_stripped(texts), "").to_numpy()


def heading(texts: Any) -> np.ndarray:
    """Reject WikiText's headings: ` = Title = `, ` = = Part = = `.

    >>> heading([" = Storms = \\n", " 2 = 2 \\n"]).tolist()
    [True, False]
    """
    stripped = _stripped(texts)
    return pc.and_(pc.starts_with(stripped, "= "), pc.ends_with(stripped, " =")).to_numpy()


def too_short(texts: Any, min_chars: int = 40) -> np.ndarray:
    """Reject documents of fewer than `min_chars` code points, white space at both ends not counted.

    >>> too_short(["  abc  ", "abcd"], min_chars=4).tolist()
    [True, False]
    """
    return pc.less(pc.utf8_length(_stripped(texts)), min_chars).to_numpy()


def too_few_words(texts: Any, min_words: int = 10) -> np.ndarray:
    """Reject documents of fewer than `min_words` words between white space.

    For scale: C4 keeps lines of at least 3 words (Raffel et al. 2020, section 2.2), Gopher pages of
    at least 50 (Rae et al. 2021, appendix A.1.1); a WikiText row lies between a line and a page.

    >>> too_few_words(["one two", "one two three"], min_words=3).tolist()
    [True, False]
    """
    return np.diff(_words(texts)[1]) < min_words


def low_letter_ratio(texts: Any, min_letter_ratio: float = 0.6) -> np.ndarray:
    """Reject documents whose letters are less than `min_letter_ratio` of what is not white space.

    After Gopher's rule that 80 % of words hold a letter (Rae et al. 2021, appendix A.1.1), but
    counted in characters: WikiText sets punctuation as words of its own.

    >>> low_letter_ratio(["12 : 30 , 4", "half past 12"]).tolist()
    [True, False]
    """
    column = text_column(texts)
    length = pc.utf8_length(column).to_numpy()
    without_letters = pc.replace_substring_regex(column, r"[\pL\pM]+", "")
    others = pc.replace_substring_regex(without_letters, r"[\s\pZ\x0b\x1c-\x1f\x{85}]+", "")
    letters = length - pc.utf8_length(without_letters).to_numpy()
    visible = letters + pc.utf8_length(others).to_numpy()
    return letters < min_letter_ratio * visible


def repetition(texts: Any, max_ratios: tuple[float, ...] = (0.20, 0.18, 0.16)) -> np.ndarray:
    """Reject documents in which one pair, triple or quadruple of words holds too many characters.

    `max_ratios` are the shares allowed to one 2-gram, 3-gram and 4-gram: Gopher's (Rae et al. 2021,
    table A1), made for web pages: in a paragraph of three sentences one phrase said twice can be
    enough. An n-gram that occurs once is no repetition, and white space is not counted. A document
    is judged by its first million characters.

    >>> repetition(["tap here now " * 9, "rain fell on the town all night"]).tolist()
    [True, False]
    """
    column = pc.utf8_slice_codeunits(text_column(texts), 0, REPETITION_CHARS)
    # Slices of bounded size, so that long documents cannot fill the memory together.
    group = np.cumsum(pc.utf8_length(column).to_numpy()) // REPETITION_CHARS
    bounds = np.flatnonzero(np.diff(group, prepend=-1, append=-1)) if len(group) else [0]
    parts = [
        _repetitive(column.slice(start, stop - start), max_ratios)
        for start, stop in pairwise(bounds)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def _repetitive(texts: pa.ChunkedArray, max_ratios: tuple[float, ...]) -> np.ndarray:
    words, offsets = _words(texts)
    codes = words.dictionary_encode().indices.to_numpy().astype(np.uint64)
    lengths = pc.utf8_length(words).to_numpy()
    document = np.repeat(np.arange(len(texts)), np.diff(offsets))
    total = np.bincount(document, weights=lengths, minlength=len(texts))
    rejected = np.zeros(len(texts), bool)
    # A 64-bit hash stands for (document, word, word, ...): it wraps around, as a hash may.
    keys, covered = document.astype(np.uint64), np.zeros(len(codes), np.int64)
    for n, max_ratio in enumerate(max_ratios, start=1):
        if n == 1:
            keys = keys * np.uint64(0x9E3779B97F4A7C15) + codes
            covered = lengths
        keys = keys[:-1] * np.uint64(0x9E3779B97F4A7C15) + codes[n:]
        covered = covered[:-1] + lengths[n:]
        inside = document[: len(keys)] == document[n:]
        _, first, counts = np.unique(keys[inside], return_index=True, return_counts=True)
        characters = np.where(counts > 1, counts * covered[inside][first], 0)
        most = np.zeros(len(texts), np.int64)
        np.maximum.at(most, document[: len(keys)][inside][first], characters)
        rejected |= most > max_ratio * total
    return rejected


class Duplicates:
    """Reject documents that were met before, letter for letter.

    Remembers a 16-byte digest of each of the last `max_documents` distinct ones (about 100 bytes
    each in memory), so that a stream without end costs a bounded amount; what was met longer ago
    passes again.

    >>> duplicates = Duplicates()
    >>> duplicates(["a", "b", "a"]).tolist(), duplicates(["b", "c"]).tolist()
    ([False, False, True], [True, False])
    """

    def __init__(self, max_documents: int = 1_000_000) -> None:
        self.max_documents = max_documents
        self._seen: dict[bytes, None] = {}

    def __call__(self, texts: Any) -> np.ndarray:
        rejected = []
        for text in to_strings(text_column(texts)):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            rejected.append(digest in self._seen)
            self._seen[digest] = None
            if len(self._seen) > self.max_documents:
                del self._seen[next(iter(self._seen))]
        return np.array(rejected, bool)


class QualityFilter:
    """Keep the documents that no rule rejects, and say why the others went.

    By default rejects blank rows and those shorter than `min_chars` once stripped. The other rules
    are off until named: `drop_headings`, `min_words`, `min_letter_ratio`, `drop_repetition`,
    `drop_duplicates`. `rules()` gives them as a dict from reason to function, in the order asked.

    >>> kept, ledger = QualityFilter(min_chars=3)(pa.table({"text": ["", "ab", "abc"]}))
    >>> kept["text"].to_pylist(), ledger["filter", "documents"].dropped
    (['abc'], {'blank': 1, 'too_short': 1})
    """

    def __init__(
        self,
        min_chars: int = 40,
        *,
        drop_headings: bool = False,
        min_words: int | None = None,
        min_letter_ratio: float | None = None,
        drop_repetition: bool = False,
        drop_duplicates: bool = False,
        column: str = "text",
    ) -> None:
        self.min_chars = _checked("min_chars", min_chars, 0, None)
        self.min_words = _checked("min_words", min_words, 0, None)
        self.min_letter_ratio = _checked("min_letter_ratio", min_letter_ratio, 0, 1)
        self.drop_headings = drop_headings
        self.drop_repetition = drop_repetition
        self.drop_duplicates = drop_duplicates
        self.column = column

    def rules(self) -> dict[str, Rule]:
        """The rules that are on; a fresh memory for `duplicate` at each call."""
        rules: dict[str, Rule] = {"blank": blank}
        if self.drop_headings:
            rules["heading"] = heading
        if self.min_chars:
            rules["too_short"] = lambda texts: too_short(texts, self.min_chars)
        if self.min_words is not None:
            rules["too_few_words"] = lambda texts: too_few_words(texts, self.min_words)
        if self.min_letter_ratio is not None:
            rules["low_letter_ratio"] = lambda texts: low_letter_ratio(texts, self.min_letter_ratio)
        if self.drop_repetition:
            rules["repetition"] = repetition
        if self.drop_duplicates:
            rules["duplicate"] = Duplicates()
        return rules

    def __call__(self, documents: Any) -> tuple[Any, Ledger]:
        """Filter a `datasets.Dataset` or an Arrow table; returns the same kind, and the ledger.

        Raises KeyError naming the columns there are, TypeError or ValueError naming the row that is
        not text.
        """
        if hasattr(documents, "with_format"):
            return self._filter_dataset(documents)
        parts = list(self.stream([documents]))
        kept = pa.concat_tables([table for table, _ in parts])
        return kept, sum((ledger for _, ledger in parts), Ledger())

    def _filter_dataset(self, dataset: Any) -> tuple[Any, Ledger]:
        from datasets import Dataset
        from datasets.table import InMemoryTable

        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"a {type(dataset).__name__} has no end to wait for; "
                "iterate over quality_filter.stream(dataset) instead"
            )
        kept, ledger = self(dataset.with_format("arrow")[:])
        kept = Dataset(InMemoryTable(kept), info=dataset.info.copy(), split=dataset.split)
        return kept, ledger

    def stream(self, tables: Iterable[Any]) -> Iterator[tuple[pa.Table, Ledger]]:
        """Filter Arrow tables one by one (an `IterableDataset` is read as tables of 1,000 rows).

        Yields what was kept of each, with its part of the ledger; the parts add up.
        """
        if hasattr(tables, "with_format"):
            tables = tables.with_format("arrow").iter(batch_size=1000)
        rules, row = self.rules(), 0
        for table in tables:
            require_column(table, self.column)
            text_column(table[self.column], self.column, first_row=row)
            for start in range(0, max(1, table.num_rows), ROWS_PER_SLICE):
                yield self._filter_slice(table.slice(start, ROWS_PER_SLICE), rules)
            row += table.num_rows

    def _filter_slice(self, table: pa.Table, rules: dict[str, Rule]) -> tuple[pa.Table, Ledger]:
        kept, dropped = table, {}
        for reason, rejects in rules.items():
            rejected = rejects(kept[self.column])
            dropped[reason] = int(rejected.sum())
            if dropped[reason]:
                kept = kept.filter(pa.array(~rejected))
        entry = Entry("filter", "documents", table.num_rows, kept.num_rows, dropped=dropped)
        return kept, Ledger(entry)


def _checked(name: str, value: float | None, low: float, high: float | None) -> float | None:
    if value is None:
        return value
    allowed = f"in [{low}, {high}]" if high is not None else f"{low} or more"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number {allowed}, got {value!r}")
    if not low <= value <= (high if high is not None else value):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return value
