"""The fast backends: used where they are exact, bounded in memory, and else given up with words."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from llmpipe import load_tokenizer
from llmpipe.tokenization import backends, unicode
from llmpipe.tokenization.backends import TransformersBackend, choose_backend

GROWTH = """
import numpy, psutil
from llmpipe import load_tokenizer
from llmpipe.tokenization.backends import GigatokenBackend

GigatokenBackend.max_growth_bytes = 32 * 2**20
builds, build = [], GigatokenBackend._build
GigatokenBackend._build = lambda self: builds.append(1) or build(self)
tokenizer = load_tokenizer("gpt2")
for _ in range(60):
    tokenizer.encode([f"{number:x} storm" for number in range(20_000)])
print(len(builds))
before = psutil.Process().memory_info().rss
for part in range(40):
    words = numpy.random.default_rng(part).integers(2**48, size=100_000)
    tokenizer.encode([" ".join(map(hex, words[i : i + 100])) for i in range(0, 100_000, 100)])
print(len(builds), (psutil.Process().memory_info().rss - before) // 2**20)
"""


def test_memory_is_bounded_on_a_vocabulary_without_end():
    """Past the stated growth the backend is made anew; text that repeats itself never costs that.

    In a process of its own: here, growth could hide in what earlier tests have freed.
    """
    command = [sys.executable, "-c", GROWTH]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "1"
    builds, grown_mib = map(int, lines[1].split())
    assert builds >= 2
    assert grown_mib < 150  # four million words would grow to about 340 MB without the bound


class Wrong(TransformersBackend):
    """A fast backend that is wrong on one probe."""

    name = "gigatoken"

    def __init__(self, contents, split_special_tokens):
        super().__init__(json.dumps(contents), split_special_tokens)

    def encode(self, texts, add_special_tokens, parallel):
        return super().encode(
            [text.replace("ﬁ", "fi") for text in texts], add_special_tokens, parallel
        )


def contents_of(name):
    """The contents of its `tokenizer.json`, and the reference."""
    text = (load_tokenizer(name).folder / "tokenizer.json").read_text(encoding="utf-8")
    return json.loads(text), TransformersBackend(text, split_special_tokens=True)


def test_a_backend_that_differs_gives_way_with_a_warning(monkeypatch):
    monkeypatch.setitem(backends.FAST, "gigatoken", Wrong)
    told = contents_of("distilbert")
    monkeypatch.setitem(backends.FAST_FOR_MODEL, "WordPiece", "gigatoken")
    with pytest.warns(RuntimeWarning, match=r"instead of gigatoken: .*ﬁne.* gives"):
        assert choose_backend(*told).name == "transformers"
    with pytest.raises(ValueError, match="not exact"):
        choose_backend(*told, "gigatoken")


def test_a_backend_that_is_not_installed_gives_way_with_a_warning(monkeypatch):
    told = contents_of("gpt2")
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.warns(RuntimeWarning, match="instead of gigatoken: it cannot be loaded"):
        assert choose_backend(*told).name == "transformers"
    with pytest.raises(ImportError):
        choose_backend(*told, "gigatoken")


def test_every_young_letter_is_found_by_its_first_byte():
    """The search in the bytes comes first: a letter it did not know would go to the wrong ids."""
    letters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF]
    column = pa.array(letters, pa.large_string())
    for pattern in (unicode.MARKS, unicode.UNICODE_17):
        young = pc.match_substring_regex(column, pattern).to_numpy(zero_copy_only=False)
        assert young.sum() > 200
        for place in np.flatnonzero(young):
            assert letters[place].encode()[0] in unicode.LEAD_BYTES
    # In slices too, whose bytes stand somewhere in those of the whole column.
    texts = pa.array(["plain", "", letters[int(np.flatnonzero(young)[0])], "é \u2013 中", "\u0e01"])
    for kind in (pa.string(), pa.large_string()):
        whole = pa.chunked_array([texts.cast(kind), texts.cast(kind)])
        for start in range(10):
            for stop in range(start, 11):
                held = unicode.holds_young(whole.slice(start, stop - start), False)
                assert held is any(place % 5 == 2 for place in range(start, stop))
