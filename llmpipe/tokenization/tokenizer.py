"""Text to token ids: one contract, a fast backend where one is exact, the reference otherwise.

Ids of many documents stand in one row, with offsets to tell the documents apart:

    load_tokenizer("gpt2").encode(["Hello world", ""])    ids [15496, 995], offsets [0, 2, 2]

A special token that is written in a document, such as `<|endoftext|>`, stays text.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmpipe.columns import text_column, to_strings
from llmpipe.ledger import Entry, Ledger
from llmpipe.sources.hub import SAMPLE_STANDS_FOR, locate
from llmpipe.tokenization.backends import BACKENDS, Backend, TransformersBackend, choose_backend

DOCUMENTS_PER_CALL = 4096  # bounds the Python strings alive at once
PARALLEL_BYTES = 32 * 2**20

SHORT_NAMES = {
    "gpt2": "openai-community/gpt2",
    "distilbert": "distilbert/distilbert-base-uncased",
}
# Vocabulary and merges of the labs' tokenizers, whichever files they came in.
KNOWN_DIGESTS = {
    "openai-community/gpt2": "6b81dbd64442b650b767e6e6aa14045b56f3503a1341ba574de0ad9977262983",
    "distilbert/distilbert-base-uncased": (
        "f511ff2a44f4d7976024ac2f6359a9c380da1db6d106492373c07edbbf5149fc"
    ),
}

# `transformers` knows these by the tokenizer's class; the hub's tokenizer_config.json is silent.
IMPLIED_TOKENS = {
    KNOWN_DIGESTS["openai-community/gpt2"]: {"eos_token": "<|endoftext|>"},
    KNOWN_DIGESTS["distilbert/distilbert-base-uncased"]: {"pad_token": "[PAD]"},
}


def load_tokenizer(name: str | Path, *, split_special_tokens: bool = True) -> Tokenizer:
    """Load `gpt2`, `distilbert`, any `owner/name`, or a folder with a `tokenizer.json`.

    Nobody who writes text can end a document: special tokens in it stay text.
    `split_special_tokens=False` makes them the special ids, as `transformers` does by default.

    Raises FileNotFoundError or ValueError naming the file that is missing or damaged. Code that a
    tokenizer brings along (`auto_map`) is refused, never run.
    """
    if not isinstance(name, (str, Path)) or not str(name):
        raise ValueError(f"name a tokenizer: {', '.join(SHORT_NAMES)}, owner/name or a folder")
    if name not in SHORT_NAMES and Path(name).is_dir():
        return Tokenizer(str(name), "files", Path(name).resolve(), split_special_tokens)
    repo_id = SHORT_NAMES.get(name, str(name))
    place = locate(repo_id, "model", ("tokenizer.json", "tokenizer_config.json"))
    tokenizer = Tokenizer(name, place.origin, place.folder, split_special_tokens)
    known = KNOWN_DIGESTS.get(repo_id)
    if known is None or tokenizer.digest == known or place.origin == "sample":
        return tokenizer
    sample_contents, _ = read_tokenizer_folder(SAMPLE_STANDS_FOR[repo_id])
    if tokenizer.digest == vocabulary_digest(sample_contents):
        tokenizer.origin = "sample"  # a hub or mirror that serves the sample
        return tokenizer
    raise ValueError(
        f"{place.folder / 'tokenizer.json'} is not the vocabulary of {repo_id} "
        f"(digest {tokenizer.digest[:12]}, expected {known[:12]}): it is damaged or another's; "
        "fetch it again"
    )


class Tokens(NamedTuple):
    """Ids of many documents in one row: `ids` (N,) uint32, `offsets` (D + 1,) int64.

    Document d has `ids[offsets[d]:offsets[d + 1]]`; `lengths` (D,) are the numbers of ids.
    """

    ids: np.ndarray
    offsets: np.ndarray

    @property
    def num_documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def ledger(self) -> Ledger:
        documents, ids = self.num_documents, len(self.ids)
        return Ledger(
            Entry("tokenize", "documents", documents, documents),
            Entry("tokenize", "ids", 0, ids, added={"text": ids}),
        )


class Tokenizer:
    """What `load_tokenizer` gives. Can be pickled: a process that receives it skips the checks.

    `name`, `origin` (hub, hub cache, mirror, sample, files), `backend_name`, `vocab_size`,
    `digest` (of vocabulary and merges), `special_ids` (special token to id), `eos_token_id` and
    `pad_token_id` (None where there is none).
    """

    def __init__(self, name: str, origin: str, folder: Path, split_special_tokens: bool) -> None:
        self.name, self.origin, self.folder = name, origin, Path(folder)
        self.split_special_tokens = split_special_tokens
        contents, config = read_tokenizer_folder(self.folder)
        self.digest = vocabulary_digest(contents)
        added = contents["added_tokens"]
        ids = {token["content"]: token["id"] for token in added}
        self.special_ids = {t["content"]: t["id"] for t in added if t.get("special")}
        self.vocab_size = 1 + max([*vocabulary_of(contents).values(), *ids.values()])
        named = {**IMPLIED_TOKENS.get(self.digest, {}), **config}
        self.eos_token_id = ids.get(_content(named.get("eos_token")))
        self.pad_token_id = ids.get(_content(named.get("pad_token")))
        if split_special_tokens:
            # Without them in the list, `<|endoftext|>` in a document is text like any other.
            contents["added_tokens"] = [t for t in added if not t.get("special")]
        self._json = json.dumps(contents, ensure_ascii=False)
        self.backend = choose_backend(self._json, contents["model"].get("type"))
        self.backend_name = self.backend.name

    # Each is made anew where it is first needed in another process.

    @cached_property
    def backend(self) -> Backend:
        return BACKENDS[self.backend_name](self._json)

    @cached_property
    def _reference(self) -> Backend:
        return TransformersBackend(self._json)

    @cached_property
    def _decoder(self) -> Any:
        from tokenizers import Tokenizer as Reference

        return Reference.from_file(str(self.folder / "tokenizer.json"))

    def __getstate__(self) -> dict:
        made_anew = ("backend", "_reference", "_decoder")
        return {key: value for key, value in vars(self).items() if key not in made_anew}

    def encode(
        self, texts: Any, *, add_special_tokens: bool = True, parallel: bool | None = None
    ) -> Tokens:
        """Tokenize a column, an Arrow array, a list of strings, or one string.

        `add_special_tokens` is that of `transformers`: [CLS] and [SEP] around a text for
        DistilBERT, nothing for GPT-2. `parallel` uses all cores. By default a column of less than
        `PARALLEL_BYTES` does not, since waking the threads costs more than they save, nor does a
        process that another one started, where the ranks share the cores already.

        Raises TypeError or ValueError naming the row that is not text.
        """
        column = text_column(texts)
        if parallel is None and column.nbytes < PARALLEL_BYTES:
            parallel = False
        ids, lengths = [np.zeros(0, np.uint32)], [np.zeros(1, np.int64)]
        for start in range(0, len(column), DOCUMENTS_PER_CALL):
            documents = column.slice(start, DOCUMENTS_PER_CALL)
            strings = to_strings(documents, first_row=start)
            inexact = self.backend.inexact_on(documents)
            backend = self._reference if inexact else self.backend
            some, offsets = backend.encode(strings, add_special_tokens, parallel)
            if len(offsets) != len(strings) + 1:
                raise RuntimeError(
                    f"{backend.name}: {len(strings)} texts in, {len(offsets) - 1} out"
                )
            ids.append(some)
            lengths.append(np.diff(offsets))
        if len(ids) == 2:  # one call, nothing to join
            return Tokens(ids[1], np.asarray(offsets, np.int64))
        return Tokens(np.concatenate(ids), np.cumsum(np.concatenate(lengths)))

    def decode(self, ids: Any) -> str:
        """The text of one row of ids, special tokens written out."""
        return self._decoder.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    @property
    def pad_id(self) -> int:
        """The id to pad with; any would do, since padding is masked by its place."""
        pads = (self.pad_token_id, self.eos_token_id, 0)
        return next(pad for pad in pads if pad is not None)

    def to_transformers(self) -> Any:
        """The same vocabulary as a tokenizer of `transformers`."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            self.folder, split_special_tokens=self.split_special_tokens
        )

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, origin={self.origin!r}, backend={self.backend_name!r})"


def _content(token: Any) -> Any:
    """`"[PAD]"` of `"[PAD]"` or `{"content": "[PAD]", ...}`: a config may say either."""
    return token.get("content") if isinstance(token, dict) else token


def read_tokenizer_folder(folder: Path) -> tuple[dict, dict]:
    """The contents of `tokenizer.json` and `tokenizer_config.json`."""
    contents = _read_json(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    if "auto_map" in config:
        raise ValueError(
            f"{folder / 'tokenizer_config.json'} asks to run code of its own (auto_map); "
            "this is refused: use a tokenizer that needs none"
        )
    if not isinstance(contents.get("model"), dict) or "vocab" not in contents["model"]:
        raise ValueError(f"{folder / 'tokenizer.json'} holds no model with a vocabulary")
    contents["added_tokens"] = contents.get("added_tokens") or []
    return contents, config


def _read_json(path: Path) -> dict:
    if not path.exists():
        held = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else "nothing"
        raise FileNotFoundError(f"{path} is missing; the folder holds {held}")
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path} holds a {type(contents).__name__}, not an object; fetch it again")
    return contents


def vocabulary_of(contents: dict) -> dict[str, int]:
    vocabulary = contents["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {token: index for index, (token, _) in enumerate(vocabulary)}  # Unigram: (token, score)


def vocabulary_digest(contents: dict) -> str:
    """sha256 of vocabulary by id and merges by rank: equal for files that differ only in form."""
    vocabulary = sorted(vocabulary_of(contents).items(), key=lambda item: (item[1], item[0]))
    merges = contents["model"].get("merges", [])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    canonical = json.dumps([vocabulary, merges], ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
