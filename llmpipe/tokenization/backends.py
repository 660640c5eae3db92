"""Three ways to turn text into ids behind one method, and the check that the fast ones are exact.

`tokenizers`, the library inside `transformers`, is the reference. gigatoken (byte-level BPE) and
nanotoken (WordPiece) are 30 to 100 times faster, and young: each must give the reference's ids on
the probe strings before it is used.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmpipe.arguments import check_choice
from llmpipe.columns import text_column
from llmpipe.metrics import resident_bytes
from llmpipe.tokenization.unicode import holds_young

logger = logging.getLogger(__name__)


Encoded = tuple[np.ndarray, np.ndarray]


class Backend:
    """`encode` gives `(ids, offsets)`: document d has `ids[offsets[d]:offsets[d + 1]]`, uint32.

    `special` is `add_special_tokens` of `transformers`. A backend can be pickled: it builds its
    library's own object where it is first needed.
    """

    name: str
    json: str

    def inexact_on(self, texts: pa.ChunkedArray) -> bool:
        """Whether a column has text that must go to the reference instead."""
        return False

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        raise NotImplementedError

    def _build(self) -> Any:
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> Any:
        return self._build()

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "tokenizer"}


class TransformersBackend(Backend):
    """The reference: the `tokenizers` library, which the fast tokenizers of `transformers` wrap."""

    name = "transformers"

    def __init__(self, tokenizer_json: str, split_special_tokens: bool) -> None:
        self.json, self.split_special_tokens = tokenizer_json, split_special_tokens

    def _build(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"tokenizers cannot load this tokenizer.json: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = self.split_special_tokens
        return tokenizer

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        rows = self.tokenizer.encode_batch_fast(texts, add_special_tokens=special)
        rows = [np.array(row.ids, np.uint32) for row in rows]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return np.concatenate([np.zeros(0, np.uint32), *rows]), offsets


class FastBackend(Backend):
    """What the fast backends share: they know no `split_special_tokens`, and no flags of a token.

    Where special tokens are not among the added ones, they are text like any other. A text with a
    token that stands as a word only, or takes the white space beside it, goes to the reference.

    Raises ValueError for a tokenizer on which the backend is not known to be exact.
    """

    def __init__(self, contents: dict, split_special_tokens: bool) -> None:
        self.check_suited(contents)
        added = contents["added_tokens"]
        added = [t for t in added if not (split_special_tokens and t.get("special"))]
        self.json = json.dumps({**contents, "added_tokens": added}, ensure_ascii=False)
        flagged = [token["content"] for token in added if any(map(token.get, FLAGS))]
        self._flagged = "(?i)" + "|".join(map(re.escape, flagged)) if flagged else None

    def check_suited(self, contents: dict) -> None:
        raise NotImplementedError

    def inexact_on(self, texts: pa.ChunkedArray) -> bool:
        if self._flagged is None:
            return False
        return bool(pc.any(pc.match_substring_regex(texts, self._flagged)).as_py())


FLAGS = ("single_word", "lstrip", "rstrip")


class GigatokenBackend(FastBackend):
    """gigatoken. It cannot forget words, so past `max_growth_bytes` of growth it is made anew."""

    name = "gigatoken"
    max_growth_bytes = 16 * 2**20  # about 200,000 distinct words; making it anew takes 60 ms

    def __init__(self, contents: dict, split_special_tokens: bool) -> None:
        super().__init__(contents, split_special_tokens)
        self._is_normalized, self._growth_bytes = contents.get("normalizer") is not None, 0
        self.tokenizer  # noqa: B018  what it cannot load is found here

    def check_suited(self, contents: dict) -> None:
        if contents.get("normalizer") not in (None, {"type": "NFC"}):
            raise ValueError("of normalizers it is known to be exact on NFC alone")
        if '"ByteLevel"' not in json.dumps(contents.get("pre_tokenizer")):
            raise ValueError("it is known to be exact on byte-level BPE alone")

    def inexact_on(self, texts: pa.ChunkedArray) -> bool:
        return holds_young(texts, self._is_normalized) or super().inexact_on(texts)

    def _build(self) -> Any:
        import awkward  # noqa: F401  which it imports at its first call: no growth of its own
        from gigatoken import Tokenizer

        return Tokenizer.from_json(self.json)

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        if not texts:
            return np.zeros(0, np.uint32), np.zeros(1, np.int64)
        before = resident_bytes()
        layout = self.tokenizer.encode_batch(texts, parallel=parallel).layout
        ids, offsets = np.asarray(layout.content.data), np.asarray(layout.offsets.data)
        # What the process grew by, beyond the result itself, is what the backend remembers.
        self._growth_bytes += max(0, resident_bytes() - before - ids.nbytes)
        if self._growth_bytes > self.max_growth_bytes:
            logger.info("gigatoken is made anew: it had grown by %d bytes", self._growth_bytes)
            # When it is next needed, so that the old one and the new never lie in memory together.
            del self.tokenizer
            self._growth_bytes = 0
        return ids, offsets


class NanotokenBackend(FastBackend):
    """nanotoken. It remembers a bounded number of words: here a quarter of its default."""

    name = "nanotoken"
    cache_entries = 262_144  # as fast as the default on IMDB, at most 60 MB instead of 400

    def __init__(self, contents: dict, split_special_tokens: bool) -> None:
        super().__init__(contents, split_special_tokens)
        self.tokenizer  # noqa: B018  what it cannot load is found here

    def check_suited(self, contents: dict) -> None:
        kinds = [(contents.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
        if kinds != ["BertNormalizer", "BertPreTokenizer"]:
            raise ValueError("it is known to be exact on BERT's WordPiece alone")

    def _build(self) -> Any:
        import nanotoken

        nanotoken.set_cache_entries(self.cache_entries)
        return nanotoken.Tokenizer.from_json(self.json)

    def encode(self, texts: list[str], special: bool, parallel: bool | None) -> Encoded:
        rows = self.tokenizer.encode_batch(texts, add_special_tokens=special, parallel=parallel)
        return rows.ids, rows.offsets


FAST = {cls.name: cls for cls in (GigatokenBackend, NanotokenBackend)}
FAST_FOR_MODEL = {"BPE": "gigatoken", "WordPiece": "nanotoken"}


def choose_backend(
    contents: dict, reference: TransformersBackend, wanted: str | None = None
) -> Backend:
    """The fastest exact backend for the contents of a `tokenizer.json`.

    `wanted`, or else the environment variable LLMPIPE_TOKENIZER_BACKEND, names one of `FAST` or
    "transformers", and is then used or refused: ValueError if it is unknown or not exact,
    ImportError if absent. Without it, a fast backend that is absent or differs gives way to the
    reference, with a warning.
    """
    wanted = wanted or os.environ.get("LLMPIPE_TOKENIZER_BACKEND") or None
    if wanted is not None:
        check_choice("LLMPIPE_TOKENIZER_BACKEND", wanted, (*FAST, "transformers"))
    name = wanted or FAST_FOR_MODEL.get(contents["model"].get("type"), "transformers")
    if name == "transformers":
        return reference
    try:
        backend = FAST[name](contents, reference.split_special_tokens)
        difference = first_difference(backend, reference, probes_of(contents["added_tokens"]))
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
        stacklevel=4,
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


PROBED_TOKENS = 64  # of the added ones, the first; thousands are unused names, one like the other


def probes_of(added_tokens: list[dict]) -> list[str]:
    """`PROBES`, and texts with added tokens: within words, beside each other, and cut short."""
    probes = list(PROBES)
    for token, follower in zip(added_tokens, [*added_tokens[1:], *added_tokens[:1]], strict=True):
        text, other = token["content"], follower["content"]
        around = (
            f"a{text}b",
            f" {text} c",
            f"x  {text}\n",
            f"é{text}é",
            f"{text}{text}",
            f"1{text}2",
        )
        cut = (text[:-1], text[1:], text.lower(), text.upper(), text + other[1:], text[:-1] + other)
        probes += [text, *around, *cut]
        if len(probes) > PROBED_TOKENS * 12:
            break
    return probes


def first_difference(backend: Backend, reference: Backend, probes: list[str]) -> str | None:
    """The first probe on which two backends differ, with both rows of ids; None if they agree.

    Probes that are left to the reference anyway are no question.
    """
    probes = [text for text in probes if not backend.inexact_on(text_column([text]))]
    for special in (True, False):
        results = [b.encode(probes, special, parallel=False) for b in (backend, reference)]
        for index, probe in enumerate(probes):
            rows = [ids[offsets[index] : offsets[index + 1]].tolist() for ids, offsets in results]
            if rows[0] != rows[1]:
                return f"{probe!r:.60} gives {rows[0][:20]}, the reference {rows[1][:20]}"
    return None
