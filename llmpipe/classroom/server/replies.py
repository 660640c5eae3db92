"""What the Hugging Face hub says: a request about a mirror in, the reply out, no network here.

    /api/{models,datasets}/OWNER/NAME[/revision/REVISION]         the repository and its file names
    /api/{models,datasets}/OWNER/NAME/tree/REVISION[/FOLDER]      files and folders with digests
    POST /api/{models,datasets}/OWNER/NAME/paths-info/REVISION    the same, for paths in the form
    /[datasets/]OWNER/NAME/resolve/REVISION/FILE                  the file, or the `Range` of it

Anything else is a 404. Status codes, headers and fields are those that `huggingface_hub` 2.x reads.
A request names a key in a table of what the mirror lists, never a path on this machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from llmpipe.classroom.server.repository import Mirror, MirrorFile, Repository
from llmpipe.sources.hub import SAMPLE_TAG, holds_sample

API = re.compile(
    r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?"
)
RESOLVE = re.compile(r"/(?:datasets/)?([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)")
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass
class Request:
    """`target` is the path and query as sent; `form` the body of a POST; `headers` as received."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    form: str = ""


@dataclass
class Reply:
    """What is sent back: `body`, or else `length` bytes of `file` from `start`."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: MirrorFile | None = None
    start: int = 0
    length: int = 0


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Reply(status, headers, json.dumps(value).encode())


def error_reply(
    status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    """An error as the hub words it; clients go by `code` (`RepoNotFound`, ...), if there is one."""
    headers = dict(headers or {})
    headers["X-Error-Message"] = message
    if code:
        headers["X-Error-Code"] = code
    return json_reply({"error": message}, status, headers)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and length of the range asked for, cut to `size`; None stands for the whole file.

    A header that is not `bytes=A-B`, `bytes=A-` or `bytes=-LAST`, or has several ranges, counts
    as absent, as RFC 9110, section 14.2, allows. `ValueError`: nothing of the range is in the file.
    `byte_range("bytes=2-", 10)` -> `(2, 8)`
    """
    match = RANGE.fullmatch(header)
    first, last = match.groups() if match else ("", "")
    if not (first or last) or (first and last and int(first) > int(last)):
        return None
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise ValueError(f"{header} is not within {size} bytes")
    return start, stop - start


def file_reply(file: MirrorFile, request: Request, headers: dict[str, str]) -> Reply:
    """200 with the whole file, 206 with a part of it, or 416 with its size."""
    etag = f'"{file.sha256}"'
    # `If-Range` holds the ETag of what a client has of the file: of another version it wants all.
    unchanged = request.headers.get("If-Range", etag) == etag
    wanted = request.headers.get("Range", "") if request.method == "GET" and unchanged else ""
    try:
        part = byte_range(wanted, file.size)
    except ValueError as error:
        return error_reply(
            416, str(error), "", {**headers, "Content-Range": f"bytes */{file.size}"}
        )
    start, length = part or (0, file.size)
    headers = {
        **headers,
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "X-Linked-Etag": etag,
        "X-Linked-Size": str(file.size),
    }
    if part:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{file.size}"
    return Reply(206 if part else 200, headers, file=file, start=start, length=length)


def describe(repository: Repository, name: str) -> dict:
    """A file or a folder as in the hub's tree, where every file is stored in Git LFS."""
    if name not in repository.files:
        return {"type": "directory", "path": name, "oid": repository.digest(name), "size": 0}
    file = repository.files[name]
    spec = "version https://git-lfs.github.com/spec/v1"
    pointer = f"{spec}\noid sha256:{file.sha256}\nsize {file.size}\n".encode()
    # Git's id of the pointer file, which is what a commit of the repository would hold.
    oid = hashlib.sha1(b"blob %d\0%s" % (len(pointer), pointer), usedforsecurity=False).hexdigest()
    lfs = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}
    return {"type": "file", "path": name, "oid": oid, "size": file.size, "lfs": lfs}


def information(repository: Repository, is_gated: bool, with_blobs: bool) -> dict:
    """The repository as `model_info` and `dataset_info` of `huggingface_hub` read it."""
    card = repository.files.get("README.md")
    siblings = []
    for name in repository.files:
        entry = describe(repository, name)
        lfs = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
        blob = {"size": entry["size"], "blobId": entry["oid"], "lfs": lfs} if with_blobs else {}
        siblings.append({"rfilename": name, **blob})
    return {
        "id": repository.id,
        "author": repository.id.partition("/")[0],
        "sha": repository.commit,
        "private": False,
        "disabled": False,
        "gated": "auto" if is_gated else False,
        "tags": [SAMPLE_TAG] if card and holds_sample(card.location.parent) else [],
        "siblings": siblings,
    }


def answer(mirror: Mirror, request: Request, gated: Collection[str] = ()) -> Reply:
    """The reply to `request`; files of the repositories in `gated` want an `Authorization: Bearer`.

    `answer(mirror, Request("GET", "/api/models/openai-community/gpt2")).status` -> `200`
    """
    path, _, query = request.target.partition("?")
    options = {name for name, values in parse_qs(query).items() if values[-1].lower() == "true"}
    if path == "/":
        return json_reply({"repositories": mirror.repo_ids()})
    if request.method not in ("GET", "HEAD", "POST"):
        return error_reply(405, f"nothing can be written here: {request.method!a} is refused")
    match = API.fullmatch(path) or RESOLVE.fullmatch(path)
    if match is None:
        return error_reply(404, f"this hub has no page {path!a}")
    repo_id, question, revision, inner = (unquote(part or "") for part in match.groups())
    if (request.method == "POST") != (question == "paths-info"):
        return error_reply(405, f"{path!a} does not take {request.method}")
    repository = mirror.find(repo_id)
    if repository is None:
        # The hub says 401 to clients without a token, so as not to tell what is private from
        # what is missing. Nothing is private here, and clients go by the code in either case.
        return error_reply(404, f"this hub has no repository {repo_id!a}", "RepoNotFound")
    commit = {"X-Repo-Commit": repository.commit}
    if revision not in ("", "main", repository.commit):
        message = f"{repo_id} has no revision {revision!a}, only 'main', now {repository.commit}"
        return error_reply(404, message, "RevisionNotFound", commit)

    if question == "resolve":
        if repo_id in gated and not request.headers.get("Authorization", "").startswith("Bearer "):
            message = f"access to {repo_id} is restricted: log in, or pass a token"
            return error_reply(401, message, "GatedRepo", commit)
        if inner in repository.files:
            return file_reply(repository.files[inner], request, commit)
    elif question == "tree":
        prefix = f"{inner}/" if inner else ""
        names = [name for name in repository.names() if name.startswith(prefix)]
        if names or not inner:
            if "recursive" not in options:
                names = [name for name in names if "/" not in name[len(prefix) :]]
            return json_reply([describe(repository, name) for name in names], headers=commit)
    elif question == "paths-info":
        asked, names = parse_qs(request.form).get("paths", []), set(repository.names())
        entries = [describe(repository, name) for name in asked if name in names]
        return json_reply(entries, headers=commit)
    else:
        described = information(repository, repo_id in gated, "blobs" in options)
        return json_reply(described, headers=commit)
    return error_reply(404, f"{repo_id} has no file {inner!a}", "EntryNotFound", commit)
