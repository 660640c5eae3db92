"""Quality filters: rules asked in order, where the first to reject a document gives the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import compress, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.arguments import check_number
from llmpipe.columns import (
    arrow_table,
    can,
    check_columns,
    check_split,
    is_dataset,
    is_dataset_column,
    is_in_parts,
    is_iterable_dataset,
    is_source,
    is_split,
    mask,
    numbers,
    text_column,
    to_strings,
    without_views,
)
from llmpipe.ledger import Entry, Ledger

# What `str.strip` and `str.split` call white space. Arrow's own idea of it lacks \x1c to \x1f.
WHITE_SPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
REPETITION_CHARS = 1_000_000  # `repetition` judges a document by its beginning
REMEMBERED_DOCUMENTS = 1_000_000  # by `drop_duplicates` in a stream
ROWS_PER_SLICE = 8192  # bounds the memory of a rule, whatever the size of the data set

# Of a column of text: which documents to reject, bool (num_documents,).
Rule = Callable[[Any], np.ndarray]


def _stripped(texts: Any) -> pa.ChunkedArray:
    return pc.utf8_trim(text_column(texts), characters=WHITE_SPACE)


def _words(texts: Any) -> tuple[pa.Array, np.ndarray]:
    """The words `str.split` gives; those of document d are words[offsets[d]:offsets[d + 1]]."""
    spaced = pc.replace_substring_regex(text_column(texts), r"[\x1c-\x1f\x{85}]", " ")
    lists = pc.utf8_split_whitespace(pc.utf8_trim(spaced, characters=WHITE_SPACE)).combine_chunks()
    words, offsets = lists.flatten(), numbers(lists.offsets)
    offsets = offsets - offsets[0]
    real = numbers(pc.binary_length(words)) > 0  # "" gives one empty word
    return words.filter(mask(real)), np.concatenate(([0], np.cumsum(real)))[offsets]


def blank(texts: Any) -> np.ndarray:
    """Reject documents that hold white space only.

    >>> blank(["", " x ", "\\t"]).tolist()
    [True, False, True]
    """
    return numbers(pc.binary_length(_stripped(texts))) == 0


def heading(texts: Any) -> np.ndarray:
    """Reject WikiText's headings: ` = Title = `, ` = = Part = = `.

    >>> heading([" = Storms = \\n", " 2 = 2 \\n"]).tolist()
    [True, False]
    """
    stripped = _stripped(texts)
    return numbers(pc.and_(pc.starts_with(stripped, "= "), pc.ends_with(stripped, " =")))


def too_short(texts: Any, min_chars: int = 40) -> np.ndarray:
    """Reject documents of fewer than `min_chars` code points, white space at both ends not counted.

    >>> too_short(["  abc  ", "abcd"], min_chars=4).tolist()
    [True, False]
    """
    return numbers(pc.utf8_length(_stripped(texts))) < min_chars


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
    length = numbers(pc.utf8_length(column))
    without_letters = pc.replace_substring_regex(column, r"[\pL\pM]+", "")
    others = pc.replace_substring_regex(without_letters, r"[\s\pZ\x0b\x1c-\x1f\x{85}]+", "")
    letters = length - numbers(pc.utf8_length(without_letters))
    visible = letters + numbers(pc.utf8_length(others))
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
    group = np.cumsum(numbers(pc.utf8_length(column))) // REPETITION_CHARS
    bounds = np.flatnonzero(np.diff(group, prepend=-1, append=-1)) if len(group) else [0]
    parts = [
        _repetitive(column.slice(start, stop - start), max_ratios)
        for start, stop in pairwise(bounds)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def _repetitive(texts: pa.ChunkedArray, max_ratios: tuple[float, ...]) -> np.ndarray:
    words, offsets = _words(texts)
    codes = numbers(words.dictionary_encode().indices).astype(np.uint64)
    lengths = numbers(pc.utf8_length(words))
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

    Remembers a 16-byte digest of each distinct one, about 100 bytes in memory. With `max_documents`
    it remembers only those met last, so that a stream without end costs a bounded amount, and what
    was met longer ago passes again.

    >>> duplicates = Duplicates()
    >>> duplicates(["a", "b", "a"]).tolist(), duplicates(["b", "c"]).tolist()
    ([False, False, True], [True, False])
    """

    def __init__(self, max_documents: int | None = None) -> None:
        self.max_documents = max_documents
        self._seen: dict[bytes, None] = {}

    def __call__(self, texts: Any) -> np.ndarray:
        rejected = []
        for text in to_strings(text_column(texts)):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            rejected.append(digest in self._seen)
            self._seen.pop(digest, None)  # met again: now the youngest
            self._seen[digest] = None
            if self.max_documents is not None and len(self._seen) > self.max_documents:
                del self._seen[next(iter(self._seen))]
        return np.array(rejected, bool)


def judge(texts: pa.ChunkedArray, rules: dict[str, Rule]) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Verdicts on all texts, and the texts that are kept.

    A verdict is 0 if no rule rejects the text, else the number of the first that does, from 1 on:
    shape (num_documents,), int8. A rule is asked only about what those before it let pass.

    >>> verdicts, kept = judge(text_column(["", "ab", "abc"]), QualityFilter(min_chars=3).rules())
    >>> verdicts.tolist(), kept.to_pylist()
    ([1, 2, 0], ['abc'])
    """
    verdicts, left = np.zeros(len(texts), np.int8), np.arange(len(texts))
    for number, rejects in enumerate(rules.values(), start=1):
        rejected = rejects(texts)
        if rejected.any():
            verdicts[left[rejected]] = number
            texts, left = texts.filter(mask(~rejected)), left[~rejected]
    return verdicts, texts


@dataclass(frozen=True, repr=False)
class QualityFilter:
    """Keep the documents that no rule rejects, and say why the others went.

    By default rejects blank rows and those shorter than `min_chars` once stripped. The other rules
    are off until named: `drop_headings`, `min_words`, `min_letter_ratio`, `drop_repetition`,
    `drop_duplicates`. `rules()` gives them as a dict from reason to function, in the order asked.

    >>> kept, ledger = QualityFilter(min_chars=3)(pa.table({"text": ["", "ab", "abc"]}))
    >>> kept["text"].to_pylist(), ledger["filter", "documents"].dropped
    (['abc'], {'blank': 1, 'too_short': 1})
    """

    min_chars: int | None = 40
    _: KW_ONLY
    drop_headings: bool = False
    min_words: int | None = None
    min_letter_ratio: float | None = None
    drop_repetition: bool = False
    drop_duplicates: bool = False
    text_column: str = "text"

    def __post_init__(self) -> None:
        for name, most in (("min_chars", None), ("min_words", None), ("min_letter_ratio", 1)):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, 0, most)

    def rules(self, max_documents: int | None = None) -> dict[str, Rule]:
        """The rules that are on; `duplicate` starts anew and remembers `max_documents`, or all."""
        chosen: dict[str, Rule] = {"blank": blank}
        if self.drop_headings:
            chosen["heading"] = heading
        if self.min_chars:
            chosen["too_short"] = partial(too_short, min_chars=self.min_chars)
        if self.min_words is not None:
            chosen["too_few_words"] = partial(too_few_words, min_words=self.min_words)
        if self.min_letter_ratio is not None:
            chosen["low_letter_ratio"] = partial(
                low_letter_ratio, min_letter_ratio=self.min_letter_ratio
            )
        if self.drop_repetition:
            chosen["repetition"] = repetition
        if self.drop_duplicates:
            chosen["duplicate"] = Duplicates(max_documents)
        return chosen

    def __call__(self, documents: Any, split: str = "train") -> tuple[Any, Ledger]:
        """What is kept of `documents`, of the kind that came in, and the ledger.

        Takes what streams take. A `Dataset` keeps its features, format and split, a frame of pandas
        its index, as `frame[mask]` does. Of a source this is its `split`, loaded. An
        `IterableDataset` is read through once for the ledger, and filtered anew whenever the kept
        one is read: for what has no end there is `stream`. What has Arrow's C stream, but is of
        none of these libraries, comes back as an Arrow table.

        Raises KeyError naming the columns there are, TypeError or ValueError naming the row that is
        not text, and for what is no table of documents.
        """
        check_split(documents)
        if is_in_parts(documents):
            raise TypeError(
                "parts are read by streams, which have a filter of their own (filter=...); "
                "or filter the tables of a Share: quality_filter.stream(share.tables('text'))"
            )
        if is_source(documents):
            documents = documents.load(split)
        if is_iterable_dataset(documents):
            return self._filter_iterable(documents)
        if is_dataset(documents):
            return self._filter_dataset(documents)
        if is_dataset_column(documents):
            documents = documents[:]
        if hasattr(documents, "__arrow_c_stream__") and not _is_of_a_known_kind(documents):
            documents = arrow_table(documents)  # at once: a stream can be read once only
        keep, ledger = self._verdicts(arrow_table(documents, {self.text_column: text_column}))
        return _chosen(documents, keep), ledger

    def _filter_dataset(self, dataset: Any) -> tuple[Any, Ledger]:
        from datasets import Dataset
        from datasets.fingerprint import Hasher
        from datasets.table import InMemoryTable

        table = dataset.with_format("arrow")[:]
        if not table.column_names:  # of no rows
            return dataset, Ledger(self._entry(np.zeros(0, np.int8), self.rules()))
        keep, ledger = self._verdicts(table)
        table = InMemoryTable(_chosen(table, keep))
        # Without a fingerprint of ours `datasets` would hash every byte to make one.
        fingerprint = Hasher.hash([dataset._fingerprint, vars(self)])
        options = {"info": dataset.info.copy(), "split": dataset.split, "fingerprint": fingerprint}
        return Dataset(table, **options).with_format(**dataset.format), ledger

    def _filter_iterable(self, stream: Any) -> tuple[Any, Ledger]:
        from datasets import IterableDataset

        nothing = Ledger(self._entry(np.zeros(0, np.int8), self.rules()))
        ledger = sum((ledger for _, ledger in self.stream(stream)), nothing)
        kept = IterableDataset.from_generator(
            _kept_rows,
            gen_kwargs={"quality": self, "stream": stream},
            features=stream.features,
            **({} if stream.split is None else {"split": stream.split}),
        )
        return kept, ledger

    def stream(self, tables: Iterable[Any]) -> Iterator[tuple[pa.Table, Ledger]]:
        """Filter tables one after the other (a source or a data set of `datasets` by 1,000 rows).

        Yields what was kept of each slice of at most `ROWS_PER_SLICE` rows, as Arrow, and its
        ledger; they add up. Errors count rows from the first that was given here. `drop_duplicates`
        remembers the last `REMEMBERED_DOCUMENTS` distinct ones.
        """
        check_split(tables)
        tables = tables.load(streaming=True) if is_source(tables) else tables
        if isinstance(tables, Mapping) or hasattr(tables, "columns"):  # one table
            tables = [tables]
        elif is_split(tables):
            tables = tables.with_format("arrow").iter(batch_size=1000)
        rules, first_row = self.rules(REMEMBERED_DOCUMENTS), 0
        for table in tables:
            table = table if isinstance(table, pa.Table) else arrow_table(table)
            for start, verdicts in self._judged(table, rules, first_row):
                kept = _chosen(table.slice(start, len(verdicts)), verdicts == 0)
                yield kept, Ledger(self._entry(verdicts, rules))
            first_row += table.num_rows

    def _verdicts(self, table: pa.Table) -> tuple[np.ndarray, Ledger]:
        """Which rows of a whole table stay, bool (num_rows,), and its ledger."""
        rules = self.rules()
        verdicts = np.concatenate([each for _, each in self._judged(table, rules)])
        return verdicts == 0, Ledger(self._entry(verdicts, rules))

    def _judged(
        self, table: pa.Table, rules: dict[str, Rule], first_row: int = 0
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Where each slice of a table begins, one at least, and the verdicts on its rows."""
        name = self.text_column
        check_columns(table.column_names, [name])
        for start in range(0, max(1, table.num_rows), ROWS_PER_SLICE):
            # The rules get plain Arrow strings, whatever the column's own type is.
            rows = table.column(name).slice(start, ROWS_PER_SLICE)
            texts = text_column(rows, name, first_row + start)
            try:
                yield start, judge(texts, rules)[0]
            except pa.ArrowInvalid:
                to_strings(texts, name, first_row + start)  # names the row
                raise

    @staticmethod
    def _entry(verdicts: np.ndarray, rules: dict[str, Rule]) -> Entry:
        num_out, *dropped = np.bincount(verdicts, minlength=len(rules) + 1).tolist()
        reasons = dict(zip(rules, dropped, strict=True))
        return Entry("filter", "documents", len(verdicts), num_out, dropped=reasons)

    def __repr__(self) -> str:
        """With the rules that are on: states of streams are compared by it."""
        chosen = {name: value for name, value in vars(self).items() if value not in (None, False)}
        return f"QualityFilter({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"


def _is_of_a_known_kind(documents: Any) -> bool:
    is_arrow = isinstance(documents, (pa.Table, pa.RecordBatch, pa.ChunkedArray))
    return is_arrow or hasattr(documents, "iloc") or can(documents, "gather_every")


def _chosen(documents: Any, keep: np.ndarray) -> Any:
    """The rows of a table, or the values of a column, that are to be kept: of the same kind."""
    if isinstance(documents, (pa.Table, pa.RecordBatch)):
        kept = documents if keep.all() else without_views(documents).filter(mask(keep))
        return kept if kept.schema == documents.schema else kept.cast(documents.schema)
    if isinstance(documents, (pa.Array, pa.ChunkedArray)):
        is_view = documents.type == pa.string_view()
        texts = documents.cast(pa.large_string()) if is_view else documents
        return texts.filter(mask(keep)).cast(documents.type)
    if isinstance(documents, Mapping):
        lengths = {name: len(column) for name, column in documents.items()}
        if set(lengths.values()) != {len(keep)}:
            raise ValueError(f"the columns are not of one length: {lengths}")
        return {name: _chosen(column, keep) for name, column in documents.items()}
    if isinstance(documents, (list, tuple)):
        return type(documents)(compress(documents, keep))
    if hasattr(documents, "iloc"):  # of pandas
        return documents.iloc[keep]
    if can(documents, "gather_every"):  # of Polars
        return documents.filter(keep)
    return np.asarray(documents)[keep]


def _kept_rows(quality: QualityFilter, stream: Any) -> Iterator[dict]:
    for table, _ in quality.stream(stream):
        yield from table.to_pylist()
