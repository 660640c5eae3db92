"""Three ways to turn text into ids behind one method, and the check that the fast ones are exact.

`tokenizers`, the library inside `transformers`, is the reference. gigatoken (byte-level BPE) and
nanotoken (WordPiece) are 30 to 100 times faster, and young: each must give the reference's ids on
the probe strings before it is used.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.arguments import check_choice
from llmpipe.metrics import resident_bytes

logger = logging.getLogger(__name__)


Encoded = tuple[np.ndarray, np.ndarray]


class Backend:
    """`encode` gives `(ids, offsets)`: document d has `ids[offsets[d]:offsets[d + 1]]`, uint32.

    `special` is `add_special_tokens` of `transformers`.
    """

    name: str

    def inexact_on(self, texts: pa.ChunkedArray) -> bool:
        """Whether a column has text that must go to the reference instead."""
        return False

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        raise NotImplementedError


class TransformersBackend(Backend):
    """The reference: the `tokenizers` library, which the fast tokenizers of `transformers` wrap."""

    name = "transformers"

    def __init__(self, tokenizer_json: str) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"tokenizers cannot load this tokenizer.json: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        rows = self._tokenizer.encode_batch_fast(texts, add_special_tokens=special)
        rows = [np.array(row.ids, np.uint32) for row in rows]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return np.concatenate([np.zeros(0, np.uint32), *rows]), offsets


# Letters that Unicode 17 added: gigatoken 0.10 takes them for letters, tokenizers 0.23 does not.
# A test compares the two on every code point there is.
YOUNG_LETTERS = (
    r"[\x{88f}\x{c5c}\x{cdc}\x{a7ce}\x{a7cf}\x{a7d2}\x{a7d4}\x{a7f1}\x{10940}-\x{10959}"
    r"\x{10ec5}-\x{10ec7}\x{11db0}-\x{11ddb}\x{11de0}-\x{11de9}\x{16ea0}-\x{16eb8}"
    r"\x{16ebb}-\x{16ed3}\x{16ff2}-\x{16ff6}\x{187f8}-\x{187ff}\x{18d09}-\x{18d1e}"
    r"\x{18d80}-\x{18df2}\x{1e6c0}-\x{1e6ff}\x{2b73a}-\x{2b73f}\x{2cea2}-\x{2cead}"
    r"\x{323b0}-\x{33479}]"
)
# All of them begin with one of these bytes in UTF-8, which texts in Latin letters hardly hold.
YOUNG_LEAD_BYTES = (0xE0, 0xEA, 0xF0)


def holds_young_letters(texts: pa.ChunkedArray) -> bool:
    """Whether a column has one of `YOUNG_LETTERS`: the bytes are searched before the letters."""
    for chunk in filter(len, texts.chunks):
        _, offsets, data = chunk.buffers()
        width = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
        bounds = np.frombuffer(offsets, width)[chunk.offset : chunk.offset + len(chunk) + 1]
        utf_8 = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]] if data else b""
        if any(np.any(utf_8 == byte) for byte in YOUNG_LEAD_BYTES):
            return pc.any(pc.match_substring_regex(texts, YOUNG_LETTERS)).as_py()
    return False


class GigatokenBackend(Backend):
    """gigatoken. It cannot forget words, so past `max_growth_bytes` of growth it is made anew."""

    name = "gigatoken"
    max_growth_bytes = 16 * 2**20  # about 200,000 distinct words; making it anew takes 60 ms

    def __init__(self, tokenizer_json: str) -> None:
        self._json, self._growth_bytes = tokenizer_json, 0
        self._build()

    def inexact_on(self, texts: pa.ChunkedArray) -> bool:
        return holds_young_letters(texts)

    def _build(self) -> Any:
        from gigatoken import Tokenizer

        self._tokenizer = Tokenizer.from_json(self._json)
        return self._tokenizer

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        if not texts:
            return np.zeros(0, np.uint32), np.zeros(1, np.int64)
        before = resident_bytes()
        tokenizer = self._tokenizer or self._build()
        layout = tokenizer.encode_batch(texts, parallel=parallel).layout
        ids, offsets = np.asarray(layout.content.data), np.asarray(layout.offsets.data)
        # What the process grew by, beyond the result itself, is what the backend remembers.
        self._growth_bytes += max(0, resident_bytes() - before - ids.nbytes)
        if self._growth_bytes > self.max_growth_bytes:
            logger.info("gigatoken is made anew: it had grown by %d bytes", self._growth_bytes)
            # When it is next needed, so that the old one and the new never lie in memory together.
            self._tokenizer, self._growth_bytes = None, 0
        return ids, offsets


class NanotokenBackend(Backend):
    """nanotoken. It remembers a bounded number of words: here a quarter of its default."""

    name = "nanotoken"
    cache_entries = 262_144  # as fast as the default on IMDB, at most 60 MB instead of 400

    def __init__(self, tokenizer_json: str) -> None:
        import nanotoken

        nanotoken.set_cache_entries(self.cache_entries)
        self._tokenizer = nanotoken.Tokenizer.from_json(tokenizer_json)

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        rows = self._tokenizer.encode_batch(texts, add_special_tokens=special, parallel=parallel)
        return rows.ids, rows.offsets


BACKENDS = {cls.name: cls for cls in (GigatokenBackend, NanotokenBackend, TransformersBackend)}
FAST_FOR_MODEL = {"BPE": "gigatoken", "WordPiece": "nanotoken"}


def choose_backend(tokenizer_json: str, model: str | None, wanted: str | None = None) -> Backend:
    """The fastest exact backend for a `tokenizer.json` whose model has the type `model`.

    `wanted`, or else the environment variable LLMPIPE_TOKENIZER_BACKEND, names one of `BACKENDS`
    and is then used or refused: ValueError if it is unknown or not exact, ImportError if absent.
    Without it, a fast backend that is absent or differs gives way to the reference, with a warning.
    """
    wanted = wanted or os.environ.get("LLMPIPE_TOKENIZER_BACKEND") or None
    if wanted is not None:
        check_choice("LLMPIPE_TOKENIZER_BACKEND", wanted, BACKENDS)
    reference = TransformersBackend(tokenizer_json)
    name = wanted or FAST_FOR_MODEL.get(model, "transformers")
    if name == "transformers":
        return reference
    try:
        backend = BACKENDS[name](tokenizer_json)
        difference = first_difference(backend, reference)
    except (ImportError, ValueError, RuntimeError) as error:
        if wanted:
            raise
        difference = f"it cannot be loaded ({error})"
    if difference is None:
        return backend
    if wanted:
        raise ValueError(f"backend {name} is not exact for this tokenizer: {difference}")
    warnings.warn(
        f"tokenizing with transformers, more slowly, instead of {name}: {difference}",
        RuntimeWarning,
        stacklevel=3,
    )
    return reference


# One line of everything that tokenizers have been caught to differ on.
PROBES = (
    "",
    " ",
    "Hello world",
    " The quick  brown\tfox\r\n\n jumps   over 13 lazy dogs , don't they ?  ",
    "I'll we've THEY'RE can't 'tis 'S",
    "naïve café Ångström ÆØÅ İstanbul straße ﬁne ½ ²",
    "e\u0301 a\u0308 \u1e9b\u0323 \u212b",
    "日本語のテキスト 中文字符 한국어 ไทย हिन्दी עברית العربية",
    "👩‍👩‍👧 🇳🇴 🏽 e\u200d\u200b \u00a0\u2003\u3000 \ufeff",
    "\x00\x01\x1c\x7f\x85\ufffd",
    "x" * 150 + " " + "ab" * 200,
    "http://a.b/c?d=e&f=%20 <br /> @-@ <unk> 3.14159 $1,000,000.00",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <|endoftext|> <s> </s>",
    "....!!!???---___===   (((())))",
)


def first_difference(backend: Backend, reference: Backend) -> str | None:
    """The first probe on which two backends differ, with both rows of ids; None if they agree."""
    for special in (True, False):
        results = [b.encode(list(PROBES), special, parallel=False) for b in (backend, reference)]
        for index, probe in enumerate(PROBES):
            rows = [ids[offsets[index] : offsets[index + 1]].tolist() for ids, offsets in results]
            if rows[0] != rows[1]:
                return f"{probe!r:.60} gives {rows[0][:20]}, the reference {rows[1][:20]}"
    return None
