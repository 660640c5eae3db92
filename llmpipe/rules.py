"""Quality rules: each is a question put to a whole column at once.

A rule takes texts and returns a boolean array of shape (num_documents,), True where it rejects.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.columns import mask, numbers, text_column, to_strings

# What `str.strip` and `str.split` call white space. Arrow's own idea of it lacks \x1c to \x1f.
WHITE_SPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
REPETITION_CHARS = 1_000_000  # `repetition` judges a document by its beginning


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
