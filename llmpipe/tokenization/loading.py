"""From a name, a folder, a file or another library's object to the tokenizer its owner means.

What a tokenizer does stands in `tokenizer.json`, in settings beside it (`do_lower_case`), in tokens
that only the config adds, and in classes of `transformers` that make theirs anew from the files. So
`transformers` is asked, and what it made is taken over. Where the files alone decide, as for the
labs' own tokenizers, it is not even imported: `families` knows those.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmpipe.sources.hub import SAMPLE_STANDS_FOR, locate
from llmpipe.tokenization.backends import PROBES, TransformersBackend
from llmpipe.tokenization.families import family_of
from llmpipe.tokenization.tokenizer import Tokenizer, vocabulary_digest, vocabulary_of

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
FILES = ("tokenizer.json", "tokenizer_config.json")
# Where the class may stand, and special tokens with their ids.
MODEL_CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
SPECIAL_TOKENS, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"


def load_tokenizer(name: Any, *, split_special_tokens: bool = True) -> Tokenizer:
    """Load `gpt2`, `distilbert`, any `owner/name`, a folder, or a `tokenizer.json`.

    A tokenizer of `transformers` or of `tokenizers` is taken over as it is now. The ids are those
    of `AutoTokenizer.from_pretrained(name, split_special_tokens=...)`: nobody who writes text can
    end a document, since special tokens in it stay text. `split_special_tokens=False` makes them
    the special ids, as `transformers` does by default.

    Raises FileNotFoundError or ValueError naming the file that is missing or damaged; TypeError or
    ValueError for a tokenizer that cannot be taken over exactly (one written in Python, tiktoken's,
    BPE with dropout), with the way out. Code that a tokenizer brings along (`auto_map`) is refused,
    never run.
    """
    if hasattr(name, "digest"):  # one of ours, or what does as ours do
        return name
    if not isinstance(name, (str, Path)):
        return _taken_over(name, split_special_tokens)
    if not str(name):
        raise ValueError(f"name a tokenizer: {', '.join(SHORT_NAMES)}, owner/name or a folder")
    if name not in SHORT_NAMES and Path(name).is_dir():
        return _of_folder(str(name), "files", Path(name).resolve(), split_special_tokens)
    if name not in SHORT_NAMES and str(name).endswith(".json"):
        contents = read_tokenizer_json(Path(name).resolve())
        _check_added_tokens(contents, name)
        return _made(str(name), "files", contents, {}, split_special_tokens)
    repo_id = SHORT_NAMES.get(name, str(name))
    optional = (MODEL_CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS)
    place = locate(repo_id, "model", FILES, optional)
    tokenizer = _of_folder(name, place.origin, place.folder, split_special_tokens)
    known = KNOWN_DIGESTS.get(repo_id)
    if known and tokenizer.digest != known and place.origin != "sample":
        files = (folder / FILES[0] for folder in (place.folder, SAMPLE_STANDS_FOR[repo_id]))
        digest, of_sample = map(vocabulary_digest, map(read_tokenizer_json, files))
        if digest == of_sample:
            tokenizer.origin = "sample"  # a hub or mirror that serves the sample
        elif digest != known:
            raise ValueError(
                f"{place.folder / FILES[0]} is not the vocabulary of {repo_id} (digest "
                f"{digest[:12]}, expected {known[:12]}): it is damaged or another's; fetch it again"
            )
    return tokenizer


def _of_folder(name: str, origin: str, folder: Path, split_special_tokens: bool) -> Tokenizer:
    contents = read_tokenizer_json(folder / FILES[0])
    config = {**_read_config(folder / SPECIAL_TOKENS), **_read_config(folder / FILES[1])}
    model_config, digest = _read_config(folder / MODEL_CONFIG), vocabulary_digest(contents)
    family = family_of(contents, config, model_config, digest in KNOWN_DIGESTS.values())
    if family and not (folder / ADDED_TOKENS).exists():
        ids = {token["content"]: token["id"] for token in contents["added_tokens"]}
        contents["model"]["type"] = family.pipeline["model"]["type"]
        named = {"eos": ids.get(family.eos_token), "pad": ids.get(family.pad_token)}
        return _made(name, origin, contents, named, split_special_tokens, folder, digest)
    verdict = _verdict_file(folder)
    with contextlib.suppress(OSError, ValueError):  # not kept yet, or damaged
        contents, named = json.loads(verdict.read_text(encoding="utf-8"))
        return _made(name, origin, contents, named, split_special_tokens, folder)
    _check_added_tokens(contents, folder / FILES[0])
    from transformers import AutoTokenizer

    try:
        theirs = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # each class has errors of its own
        raise ValueError(f"transformers cannot load the tokenizer in {folder}: {error}") from error
    tokenizer = _taken_over(theirs, split_special_tokens, name, origin, folder)
    # A model's own configuration names ids that its tokenizer has none of.
    for config in (_read_config(folder / GENERATION_CONFIG), model_config):
        for which in ("eos_token_id", "pad_token_id"):
            number = config.get(which)
            number = number[0] if isinstance(number, list) and number else number
            if getattr(tokenizer, which) is None and isinstance(number, int):
                setattr(tokenizer, which, tokenizer.check_id(which, number))
    with contextlib.suppress(OSError):  # a cache that cannot be written: it is asked again
        _keep(verdict, tokenizer)
    return tokenizer


def _verdict_file(folder: Path) -> Path:
    """Where what `transformers` makes of a folder is kept: by a digest of all that it depends on.

    So only the first process imports it, and ranks that load a tokenizer by its name do not.
    """
    from huggingface_hub.constants import HF_HOME

    libraries = [f"{name} {version(name)}" for name in ("transformers", "tokenizers")]
    found = hashlib.sha256("\n".join([__name__, *libraries]).encode())
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".txt", ".model", ".jinja") and file.is_file():
            found.update(f"\n{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return Path(HF_HOME, "llmpipe", f"tokenizer-{found.hexdigest()[:32]}.json")


def _keep(verdict: Path, tokenizer: Tokenizer) -> None:
    """Write the verdict, whole or not at all."""
    ids = {"eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    sides = {"padding": tokenizer.padding_side, "truncation": tokenizer.truncation_side}
    verdict.parent.mkdir(parents=True, exist_ok=True)
    part = verdict.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps([json.loads(tokenizer.reference.json), {**ids, **sides}]))
    part.replace(verdict)


def _taken_over(
    theirs: Any,
    split_special_tokens: bool,
    name: str | None = None,
    origin: str = "object",
    folder: Path | None = None,
) -> Tokenizer:
    """The `Tokenizer` that gives the ids of another library's object."""
    from tokenizers import Tokenizer as Reference

    kind = f"{type(theirs).__module__.partition('.')[0]}'s {type(theirs).__name__}"
    backend = theirs if isinstance(theirs, Reference) else getattr(theirs, "backend_tokenizer", 0)
    if not isinstance(backend, Reference):
        raise TypeError(
            f"{name or kind} is no tokenizer of the `tokenizers` library, but {kind}; "
            + WAYS_OUT.get(kind.partition("'")[0], "pass a name, a folder, or a fast tokenizer")
        )
    try:
        contents = json.loads(backend.to_str())
    except Exception as error:  # what is written in Python has no JSON
        raise ValueError(f"{name or kind} cannot be taken over exactly: {error}") from error
    padding = backend.padding or {}
    named = {"pad": padding.get("pad_id"), "eos": None}
    if theirs is not backend:
        named = {"eos": theirs.eos_token_id, "pad": theirs.pad_token_id}
        named |= {"padding": theirs.padding_side, "truncation": theirs.truncation_side}
    name = name or str(getattr(theirs, "name_or_path", "")) or type(theirs).__name__
    tokenizer = _made(name, origin, contents, named, split_special_tokens, folder)
    if theirs is not backend:
        _check_same_ids(theirs, tokenizer)
    return tokenizer


WAYS_OUT = {
    "transformers": "it is written in Python: take its fast one, of AutoTokenizer.from_pretrained",
    "tiktoken": "load the same vocabulary by its name, as load_tokenizer('gpt2'), or write it as a "
    "tokenizer.json with transformers.integrations.tiktoken.convert_tiktoken_to_fast",
}


def _made(
    name: str,
    origin: str,
    contents: dict,
    named: Mapping[str, Any],
    split_special_tokens: bool,
    folder: Path | None = None,
    digest: str | None = None,
) -> Tokenizer:
    """The tokenizer of a whole `tokenizer.json`; ValueError where its ids would be random."""
    if contents["model"].get("dropout"):
        raise ValueError(
            f"{name} drops merges by chance (dropout {contents['model']['dropout']}), and gives "
            "other ids at every call: set the dropout of its model to null"
        )
    # Neither is a part of `encode`, and a backend keeps those of its last call.
    contents = {**contents, "truncation": None, "padding": None}
    return Tokenizer(
        name,
        origin,
        contents,
        split_special_tokens=split_special_tokens,
        folder=folder,
        digest=digest,
        eos_token_id=named.get("eos"),
        pad_token_id=named.get("pad"),
        padding_side=named.get("padding", "right"),
        truncation_side=named.get("truncation", "right"),
    )


def _check_added_tokens(contents: dict, where: Any) -> None:
    """ValueError for an added token whose id the `tokenizers` library would not give it."""
    try:
        given = TransformersBackend(json.dumps(contents), False).tokenizer.token_to_id
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for token in contents["added_tokens"]:
        if given(token["content"]) != token["id"]:
            raise ValueError(
                f"{where}: the added token {token['content']!r} has the id {token['id']}, but the "
                f"vocabulary gives it {given(token['content'])}; correct its id"
            )


def _check_same_ids(theirs: Any, ours: Tokenizer) -> None:
    """ValueError if a class of `transformers` does more to a text than its backend."""
    options = {"split_special_tokens": ours.split_special_tokens, "verbose": False}
    for text in PROBES:
        got = ours.encode([text]).ids.tolist()
        try:
            due = theirs(text, **options)["input_ids"]
        except Exception as error:  # a class that wants more than a text
            raise ValueError(f"{ours.name} cannot be asked for a text alone: {error}") from error
        if due != got:
            raise ValueError(
                f"{ours.name}: {type(theirs).__name__} gives {due[:20]} for {text!r:.60}, and its "
                f"backend alone {got[:20]}: it cannot be taken over exactly; pass its "
                "backend_tokenizer if that is what you mean"
            )


def read_tokenizer_json(path: Path) -> dict:
    """The contents of a `tokenizer.json`; FileNotFoundError or ValueError naming it otherwise."""
    if not path.exists():
        held = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else "nothing"
        raise FileNotFoundError(
            f"{path} is missing; the folder holds {held}. Where there is another form only, write "
            "it with AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    contents = _read_json(path)
    added = contents["added_tokens"] = contents.get("added_tokens") or []
    try:
        is_whole = all(type(number) is int for number in vocabulary_of(contents).values())
        is_whole = is_whole and all({"id", "content"} <= token.keys() for token in added)
    except (KeyError, TypeError, ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"{path} holds no model with a vocabulary and a list of added tokens")
    return contents


def _read_config(path: Path) -> dict:
    config = _read_json(path) if path.exists() else {}
    if path.name == FILES[1] and "auto_map" in config:
        raise ValueError(
            f"{path} asks to run code of its own (auto_map); this is refused: use a tokenizer that "
            "needs none"
        )
    return config


def _read_json(path: Path) -> dict:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path} holds a {type(contents).__name__}, not an object; fetch it again")
    return contents
