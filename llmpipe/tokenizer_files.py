"""The files of a tokenizer: read, compared with each other, and told apart by what they mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def read_tokenizer_folder(folder: Path) -> tuple[dict, dict]:
    """`tokenizer.json` and `tokenizer_config.json`, compared with the older files beside them."""
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
    vocabulary, merges = vocabulary_of(contents), merges_of(contents)
    older = {
        "vocab.json": lambda text: json.loads(text) == vocabulary,
        "vocab.txt": lambda text: (
            text.rstrip("\n").split("\n") == sorted(vocabulary, key=vocabulary.get)
        ),
        "merges.txt": lambda text: (
            [line for line in text.split("\n") if line and not line.startswith("#version")]
            == merges
        ),
    }
    for file_name, agrees in older.items():
        path = folder / file_name
        if path.exists() and not _agrees(path, agrees):
            raise ValueError(
                f"{path} does not agree with tokenizer.json beside it: one of them is damaged or "
                f"another's; fetch both again, or delete {file_name}, which is not used"
            )
    return contents, config


def _agrees(path: Path, agrees: Any) -> bool:
    try:
        return agrees(path.read_text(encoding="utf-8"))
    except ValueError:  # cut within a character, or no JSON any more
        return False


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


def merges_of(contents: dict) -> list[str]:
    merges = contents["model"].get("merges", [])
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def vocabulary_digest(contents: dict) -> str:
    """sha256 of vocabulary by id and merges by rank: equal for files that differ only in form."""
    vocabulary = sorted(vocabulary_of(contents).items(), key=lambda item: (item[1], item[0]))
    canonical = json.dumps([vocabulary, merges_of(contents)], ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
