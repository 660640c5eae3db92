"""Where a repository of the hub is found: a mirror, the local cache, the hub itself, or the sample.

`LLMPIPE_SOURCE` decides. `hub`, `mirror` and `sample` are strict; `auto` tries the mirror, the
cache, the hub if it answers within two seconds, and for the labs' own repositories the sample.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmpipe.download import ask_hub, fetch, files_matching, holds_sample, is_offline

MODES = ("auto", "hub", "mirror", "sample")
SAMPLE_TOKENIZERS = Path(__file__).parent / "data" / "tokenizers"
# What the built-in sample can stand in for; a folder where it has files to give.
SAMPLE_STANDS_FOR = {
    "Salesforce/wikitext": None,
    "stanfordnlp/imdb": None,
    "openai-community/gpt2": SAMPLE_TOKENIZERS / "gpt2",
    "distilbert/distilbert-base-uncased": SAMPLE_TOKENIZERS / "distilbert",
}
MIRROR_WAYS_OUT = "set LLMPIPE_MIRROR=FOLDER to read a mirror, or HF_ENDPOINT to another hub"
SAMPLE_WAY_OUT = "set LLMPIPE_SOURCE=sample to work on the built-in sample, or "


@dataclass(frozen=True)
class Place:
    """`origin` is hub, hub cache, mirror or sample; `folder` is None where no files are here.

    `origin` is also sample where a mirror or a hub serves the sample under the real names.
    """

    origin: str
    folder: Path | None
    built_in: bool = False


def source_mode() -> str:
    """The value of LLMPIPE_SOURCE; ValueError if it is not one of `MODES`."""
    mode = os.environ.get("LLMPIPE_SOURCE") or "auto"
    if mode not in MODES:
        raise ValueError(f"LLMPIPE_SOURCE must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def locate(repo_id: str, kind: str, patterns: Sequence[str]) -> Place:
    """Find `repo_id` (kind "model" or "dataset"), with files matching each of `patterns`.

    Without patterns the files are not known here, and the cache cannot be seen to be complete: then
    it is left to `datasets`, which reads its own when HF_HUB_OFFLINE is set.

    Raises FileNotFoundError if what was asked for is not there, PermissionError if the hub refuses
    it, ConnectionError if the hub does not answer and nothing may stand in for it.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(
            f"{repo_id!r} is neither a short name, an owner/name of the hub nor a path"
        )
    mode = source_mode()
    if mode in ("auto", "mirror"):
        place = _in_mirror(repo_id, patterns, required=mode == "mirror")
        if place:
            return place
    if mode == "sample":
        if repo_id not in SAMPLE_STANDS_FOR:
            raise FileNotFoundError(
                f"the sample does not stand in for {repo_id} (LLMPIPE_SOURCE=sample), only for "
                f"{', '.join(SAMPLE_STANDS_FOR)}; set LLMPIPE_SOURCE=auto or hub"
            )
        return Place("sample", SAMPLE_STANDS_FOR[repo_id], built_in=True)
    cached = _in_cache(repo_id, kind, patterns) if patterns else None
    if cached:
        return Place("hub cache", cached)
    silence, is_sample = ask_hub(repo_id, kind)
    if silence and not patterns and is_offline():
        return Place("hub cache", None)
    if silence is None:
        folder = fetch(repo_id, kind, patterns) if kind == "model" else None
        return Place("sample" if is_sample else "hub", folder)
    if mode == "auto" and repo_id in SAMPLE_STANDS_FOR:
        print(f"llmpipe: {silence}; THE BUILT-IN SAMPLE STANDS IN FOR {repo_id}", file=sys.stderr)
        return Place("sample", SAMPLE_STANDS_FOR[repo_id], built_in=True)
    raise ConnectionError(f"{repo_id} cannot be fetched: {silence}; {_ways_out(repo_id)}")


def _ways_out(repo_id: str) -> str:
    return (SAMPLE_WAY_OUT if repo_id in SAMPLE_STANDS_FOR else "") + MIRROR_WAYS_OUT


def _in_mirror(repo_id: str, patterns: Sequence[str], required: bool) -> Place | None:
    setting = os.environ.get("LLMPIPE_MIRROR")
    if not setting:
        if required:
            raise ValueError("LLMPIPE_SOURCE=mirror needs LLMPIPE_MIRROR, the folder of the mirror")
        return None
    mirror = Path(setting)
    if not mirror.is_dir():
        raise FileNotFoundError(f"LLMPIPE_MIRROR is {setting!r}, and there is no such folder")
    folder = mirror / repo_id
    missing = [pattern for pattern in patterns if not files_matching(folder, pattern)]
    if folder.is_dir() and not missing:
        return Place("sample" if holds_sample(folder) else "mirror", folder)
    if required:
        held = sorted(str(f.relative_to(mirror).parent) for f in mirror.glob("*/*/**/*.*"))
        raise FileNotFoundError(
            f"the mirror {mirror} does not hold {'/'.join([repo_id, *missing[:1]])}; "
            f"it holds {', '.join(dict.fromkeys(held)) or 'nothing'}"
        )
    return None


def _in_cache(repo_id: str, kind: str, patterns: Sequence[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repo_id, repo_type=kind, local_files_only=True, allow_patterns=list(patterns)
            )
        )
        if holds_sample(folder):  # from a classroom's hub: not what was asked for
            return None
        return folder if all(files_matching(folder, pattern) for pattern in patterns) else None
    except (LocalEntryNotFoundError, FileNotFoundError):  # never fetched, or not all of it
        return None
