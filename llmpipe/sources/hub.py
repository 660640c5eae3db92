"""Where a repository of the hub is found: a mirror, the local cache, the hub itself, or the sample.

`LLMPIPE_SOURCE` decides. `hub`, `mirror` and `sample` are strict; `auto` tries the mirror, the
cache, the hub if it answers within two seconds, and for the labs' own repositories the sample.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpipe.arguments import check_choice

MODES = ("auto", "hub", "mirror", "sample")
SAMPLE_TOKENIZERS = Path(__file__).parents[1] / "sample" / "data" / "tokenizers"
# What the built-in sample can stand in for; a folder where it has files to give.
SAMPLE_STANDS_FOR = {
    "Salesforce/wikitext": None,
    "stanfordnlp/imdb": None,
    "openai-community/gpt2": SAMPLE_TOKENIZERS / "gpt2",
    "distilbert/distilbert-base-uncased": SAMPLE_TOKENIZERS / "distilbert",
}
SAMPLE_MARK = "llmpipe's built-in sample"  # in the README of a repository that holds it
SAMPLE_TAG = "llmpipe-sample"  # among the tags that a hub tells of it
HUB_PATIENCE_S = 2.0
FORGET_SILENCE_S = 60  # after which a hub that did not answer is asked again
_silent_since: dict[str, tuple[float, str]] = {}


@dataclass(frozen=True)
class Place:
    """`origin` is hub, hub cache, mirror or sample; `folder` is None where no files are here.

    `origin` is also sample where a mirror or a hub serves the sample under the real names.
    """

    origin: str
    folder: Path | None
    built_in: bool = False


def locate(repo_id: str, kind: str, patterns: Sequence[str], optional: Sequence[str] = ()) -> Place:
    """Find `repo_id` (kind "model" or "dataset"), with files matching each of `patterns`, and
    those of `optional` that there are.

    Without patterns the files are not known here, and the cache cannot be seen to be complete: then
    it is left to `datasets`, which reads its own when HF_HUB_OFFLINE is set.

    Raises FileNotFoundError if what was asked for is not there, PermissionError if the hub refuses
    it, ConnectionError if the hub does not answer and nothing may stand in for it.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(
            f"{repo_id!r} is neither a short name, an owner/name of the hub nor a path"
        )
    mode = os.environ.get("LLMPIPE_SOURCE") or "auto"
    check_choice("LLMPIPE_SOURCE", mode, MODES)
    has_stand_in = repo_id in SAMPLE_STANDS_FOR
    if mode in ("auto", "mirror"):
        place = _in_mirror(repo_id, patterns, required=mode == "mirror")
        if place:
            return place
    if mode == "sample":
        if not has_stand_in:
            raise FileNotFoundError(
                f"the sample does not stand in for {repo_id} (LLMPIPE_SOURCE=sample), only for "
                f"{', '.join(SAMPLE_STANDS_FOR)}; set LLMPIPE_SOURCE=auto or hub"
            )
        return Place("sample", SAMPLE_STANDS_FOR[repo_id], built_in=True)
    cached = _in_cache(repo_id, kind, patterns, optional) if patterns else None
    if cached:
        return Place("hub cache", cached)
    silence, is_sample = ask_hub(repo_id, kind)
    if silence and not patterns and _is_offline():
        return Place("hub cache", None)
    if silence is None:
        folder = fetch(repo_id, kind, patterns, optional) if kind == "model" else None
        return Place("sample" if is_sample else "hub", folder)
    if mode == "auto" and has_stand_in:
        print(f"llmpipe: {silence}; THE BUILT-IN SAMPLE STANDS IN FOR {repo_id}", file=sys.stderr)
        return Place("sample", SAMPLE_STANDS_FOR[repo_id], built_in=True)
    sample_way = "set LLMPIPE_SOURCE=sample to work on the built-in sample, or "
    raise ConnectionError(
        f"{repo_id} cannot be fetched: {silence}; {sample_way if has_stand_in else ''}"
        "set LLMPIPE_MIRROR=FOLDER to read a mirror, or HF_ENDPOINT to another hub"
    )


def files_matching(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern, sorted; FileNotFoundError if a set of `-of-00003` is not complete."""
    files = sorted(folder.glob(pattern))
    for file in files:
        number = re.search(r"-of-(\d+)\.", file.name)
        if number and int(number[1]) != len(files):
            raise FileNotFoundError(
                f"{folder / pattern} should be {int(number[1])} files, but there are {len(files)}: "
                f"{[f.name for f in files]}; fetch the missing ones"
            )
    return files


def holds_sample(folder: Path) -> bool:
    """Whether a data set's README says that its text is the built-in sample."""
    card = folder / "README.md"
    return card.exists() and SAMPLE_MARK in card.read_text(encoding="utf-8", errors="replace")


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


def _in_cache(
    repo_id: str, kind: str, patterns: Sequence[str], optional: Sequence[str]
) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"repo_type": kind, "local_files_only": True}
    wanted["allow_patterns"] = [*patterns, *optional]
    try:
        folder = Path(snapshot_download(repo_id, **wanted))
        if holds_sample(folder):  # from a classroom's hub: not what was asked for
            return None
        return folder if all(files_matching(folder, pattern) for pattern in patterns) else None
    except (LocalEntryNotFoundError, FileNotFoundError):  # never fetched, or not all of it
        return None


def _is_offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def ask_hub(repo_id: str, kind: str) -> tuple[str | None, bool]:
    """Why no hub answers for `repo_id`, None if one does, and whether it serves the sample.

    Raises PermissionError or FileNotFoundError if the hub refuses it or has no such repository.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError

    endpoint = constants.ENDPOINT
    if _is_offline():
        return "HF_HUB_OFFLINE forbids to ask the hub", False
    since, silence = _silent_since.get(endpoint, (0.0, ""))
    if silence and time.monotonic() - since < FORGET_SILENCE_S:
        return silence, False  # every data set and tokenizer would wait again
    answers: list[Any] = [TimeoutError(f"no answer within {HUB_PATIENCE_S:g} s")]
    # A thread, since looking up a name has no time limit of its own.
    asking = threading.Thread(target=_ask, args=(repo_id, kind, answers), daemon=True)
    asking.start()
    asking.join(HUB_PATIENCE_S)
    answer = answers[-1]
    if not isinstance(answer, Exception):
        return None, SAMPLE_TAG in (answer.tags or ())
    # A proxy may say 401 or 404 to everything; the hub says why.
    if isinstance(answer, RepositoryNotFoundError) and "x-error-code" in answer.response.headers:
        status = answer.response.status_code
        if status != 404:
            raise PermissionError(_refusal(repo_id, kind, status))
        raise FileNotFoundError(f"the hub {endpoint} has no {kind} {repo_id}; check its spelling")
    said = f"{type(answer).__name__}: {answer}".splitlines()[0]
    if isinstance(answer, (ValueError, LookupError, TypeError)):  # a log-in page, for example
        said = "its answer is not a hub's"
    silence = f"the hub {endpoint} does not answer as a hub ({said})"
    _silent_since[endpoint] = (time.monotonic(), silence)
    return silence, False


def _ask(repo_id: str, kind: str, answers: list[Any]) -> None:
    """Append what the hub tells of a repository, or the error instead."""
    from huggingface_hub import HfApi

    deadline = time.monotonic() + HUB_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            told = HfApi().repo_info(repo_id, repo_type=kind, timeout=HUB_PATIENCE_S)
        except Exception as error:  # each HTTP library has its own; what it says goes in the report
            told = error
        answers.append(told)
        if getattr(getattr(told, "response", None), "status_code", 200) < 500:
            return
        time.sleep(0.3)  # a busy hub answers 503 and is well a moment later


def _refusal(repo_id: str, kind: str, status: int) -> str:
    return (
        f"the hub refuses {kind} {repo_id} (HTTP {status}): it does not exist, or needs you to "
        "accept its terms on its page and to log in (hf auth login)"
    )


def fetch(repo_id: str, kind: str, patterns: Sequence[str], optional: Sequence[str] = ()) -> Path:
    """Download files into the hub's cache, check their digests, and give the folder: those of
    `patterns`, and of `optional` what there is.

    Raises FileNotFoundError if the repository has no such file, ConnectionError if a download fails
    or arrives damaged; a damaged file does not stay in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    wanted = {"repo_type": kind, "etag_timeout": 5}
    wanted["allow_patterns"] = [*patterns, *optional, "README.md"]
    try:
        with quiet():
            folder = Path(snapshot_download(repo_id, **wanted))
    except GatedRepoError as error:
        raise PermissionError(_refusal(repo_id, kind, 401)) from error
    except Exception as error:  # the HTTP library has its own kinds for each way to fail
        raise ConnectionError(f"downloading {repo_id} failed: {error}; try again") from error
    for pattern in patterns:
        files = files_matching(folder, pattern)
        if not files:
            raise FileNotFoundError(f"{kind} {repo_id} has no file {pattern} on the hub")
    for pattern in (*patterns, *optional):
        for file in files_matching(folder, pattern):
            _check_digest(file)
    return folder


def _check_digest(file: Path) -> None:
    """The cache names a file by the digest the hub announced: delete the file if it has another."""
    blob = file.resolve()
    announced = blob.name
    if len(announced) not in (40, 64):
        return  # a cache without links (Windows) keeps no digest
    contents = hashlib.sha256() if len(announced) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(announced) == 40:
        contents.update(b"blob %d\0" % blob.stat().st_size)  # as git does for small files
    with open(blob, "rb") as stream:
        while some := stream.read(2**20):
            contents.update(some)
    if contents.hexdigest() != announced:
        file.unlink()
        blob.unlink(missing_ok=True)
        raise ConnectionError(
            f"{file.name} arrived damaged: its digest is {contents.hexdigest()[:12]}, the hub "
            f"announced {announced[:12]}; it was deleted, try again"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of `datasets` and `huggingface_hub`: they would land in saved outputs."""
    import datasets
    from huggingface_hub import utils

    were_on = [each for each in (datasets, utils) if not each.are_progress_bars_disabled()]
    for library in were_on:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in were_on:
            library.enable_progress_bars()
