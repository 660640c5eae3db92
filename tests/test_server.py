"""The classroom's hub, asked by the real clients, by raw sockets, and by clients that misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hub_faults
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmpipe import sample
from llmpipe.classroom.server.mirror import NOTE, ROWS, ROWS_PER_GROUP, write_sample
from llmpipe.classroom.server.replies import byte_range, error_reply
from llmpipe.classroom.server.repository import Mirror
from llmpipe.classroom.server.server import HubHandler, serving

NUM_ROWS = 2_500
WIKITEXT, IMDB = "Salesforce/wikitext", "stanfordnlp/imdb"
GPT2, DISTILBERT = "openai-community/gpt2", "distilbert/distilbert-base-uncased"
VALIDATION = "wikitext-2-v1/validation-00000-of-00001.parquet"
HANG_LIMIT_S = 120


# ------------------------------------------------------------------------------------- the set-up


@pytest.fixture(scope="session")
def sample_mirror(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), num_rows=NUM_ROWS)


@pytest.fixture(params=["sample", "LLMPIPE_MIRROR"])
def served(request) -> Path:
    """Each test that takes this runs on the sample, and on the real mirror where there is one."""
    if request.param == "sample":
        return request.getfixturevalue("sample_mirror")
    if not os.environ.get("LLMPIPE_MIRROR"):
        pytest.skip("LLMPIPE_MIRROR is not set: there are no real corpora here")
    return Path(os.environ["LLMPIPE_MIRROR"])


@pytest.fixture
def small_mirror(tmp_path) -> Path:
    """`group/repo` with an empty file, one of 10 bytes, and one of 10 MB."""
    folder = tmp_path / "mirror"
    (folder / "group/repo/deep").mkdir(parents=True)
    (folder / "group/repo/empty.txt").write_bytes(b"")
    (folder / "group/repo/ten.txt").write_bytes(b"0123456789")
    noise = hashlib.shake_256(b"noise").digest(10_000_000)
    (folder / "group/repo/deep/noise.bin").write_bytes(noise)
    return folder


IN_CLIENT = """
import json
from huggingface_hub import dataset_info, hf_hub_download, snapshot_download
out = {}
def failure(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]
def download(*arguments, **options):
    return failure(hf_hub_download, *arguments, **options)[0]
"""


def client(endpoint: str, home: Path, code: str) -> dict:
    """What `code` leaves in the dict `out`, run by a new Python that knows only this hub.

    A process of its own, since `huggingface_hub` reads HF_ENDPOINT once, when it is imported.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("HF_", "HUGGING")) and "PROXY" not in name.upper()
    }
    kept |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-c", f"{IN_CLIENT}\n{code}\nprint(json.dumps(out))"],
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_LIMIT_S,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def connect(server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*server.server_address[:2], timeout=HANG_LIMIT_S)


def ask(server, target: str, method: str = "GET", body: bytes | None = None, **headers: str):
    """(status, headers, body) of one request on a connection of its own."""
    with contextlib.closing(connect(server)) as connection:
        connection.request(
            method, target, body, {name.replace("_", "-"): v for name, v in headers.items()}
        )
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def raw(server, request: bytes) -> bytes:
    """All that comes back for bytes sent as they are."""
    with socket.create_connection(server.server_address[:2], timeout=HANG_LIMIT_S) as wire:
        wire.sendall(request)
        wire.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: wire.recv(65536), b""))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of_rows(rows: list[dict]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


# ----------------------------------------------------------------------------- the clients' own way


def test_datasets_loads_the_same_rows_whole_and_streamed(served, tmp_path):
    code = f"""
import hashlib
from datasets import load_dataset
def digest(rows):
    return [len(rows), hashlib.sha256(json.dumps(rows).encode()).hexdigest()]
wanted = [("{WIKITEXT}", "wikitext-2-v1", "validation"), ("{IMDB}", None, "train")]
for name, config, split in wanted:
    streamed = load_dataset(name, config, split=split, streaming=True)
    out[name + " streamed"] = digest(list(streamed))
    out[name + " shards"] = streamed.reshard().num_shards
    whole = load_dataset(name, config, split=split)
    out[name + " whole"] = digest(whole.to_list())
    out[name + " features"] = {{n: type(f).__name__ for n, f in whole.features.items()}}
"""
    with serving(served) as server:
        out = client(server.endpoint, tmp_path, code)
    for name, path in [(WIKITEXT, VALIDATION), (IMDB, "plain_text/train-00000-of-00001.parquet")]:
        file = pq.ParquetFile(served / name / path)
        rows = file.read().to_pylist()
        due = [len(rows), digest_of_rows(rows)]
        assert due[0] >= 300
        assert out[f"{name} streamed"] == out[f"{name} whole"] == due
        assert out[f"{name} shards"] == file.num_row_groups
    if NOTE in (served / IMDB / "README.md").read_text():
        assert out[f"{IMDB} features"] == {"text": "Value", "label": "ClassLabel"}


def test_transformers_loads_the_tokenizers(served, tmp_path):
    text = "Hello world, it's 1912!\n\n  Straße naïve <|endoftext|> [SEP]"
    code = f"""
from transformers import AutoTokenizer
for name in {(GPT2, DISTILBERT)!r}:
    tokenizer = AutoTokenizer.from_pretrained(name)
    out[name] = [tokenizer.is_fast, tokenizer({text!r})["input_ids"]]
"""
    with serving(served) as server:
        out = client(server.endpoint, tmp_path, code)
    for name in (GPT2, DISTILBERT):
        reference = Tokenizer.from_file(str(served / name / "tokenizer.json"))
        assert out[name] == [True, reference.encode(text).ids]
        assert len(out[name][1]) > 10


def test_huggingface_hub_finds_and_downloads_everything(served, tmp_path):
    code = f"""
import os
from huggingface_hub import HfApi, HfFileSystem
api = HfApi()
for kind, repo_id in [("dataset", "{WIKITEXT}"), ("model", "{GPT2}")]:
    info = api.repo_info(repo_id, repo_type=kind, files_metadata=True)
    plain = api.repo_info(repo_id, repo_type=kind, revision=info.sha)
    folder = snapshot_download(repo_id, repo_type=kind)
    names = api.list_repo_files(repo_id, repo_type=kind)
    some = [names[-1], "none.txt", *{{os.path.dirname(name) for name in names}} - {{""}}]
    tree = list(api.list_repo_tree(repo_id, repo_type=kind, recursive=True, expand=True))
    paths = api.get_paths_info(repo_id, some, repo_type=kind, expand=True)
    verified = api.verify_repo_checksums(repo_id, repo_type=kind)
    out[repo_id] = dict(
        names=names, folder=folder, sha=info.sha, plain=plain.sha,
        sizes={{s.rfilename: [s.size, s.lfs.sha256, s.blob_id] for s in info.siblings}},
        files={{f.path: [f.size, f.lfs.sha256, f.blob_id] for f in tree if hasattr(f, "size")}},
        folders=[f.path for f in tree if not hasattr(f, "size")],
        paths=[f.path for f in paths], asked=some,
        checked=verified.checked_count,
        wrong=[verified.mismatches, verified.missing_paths, verified.extra_paths],
    )
fs = HfFileSystem()
out["glob"] = fs.glob("datasets/{WIKITEXT}/wikitext-2-v1/validation-*")
with fs.open(out["glob"][0]) as file:
    file.seek(-4, 2)
    out["magic"] = file.read().decode()
out["one"] = hf_hub_download("{WIKITEXT}", "{VALIDATION}", repo_type="dataset")
"""
    with serving(served) as server:
        out = client(server.endpoint, tmp_path, code)
    for repo_id in (WIKITEXT, GPT2):
        found, root = out[repo_id], served / repo_id
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        assert len(files) >= 3
        assert sorted(found["names"]) == sorted(files) == sorted(found["sizes"])
        for name, path in files.items():
            assert found["sizes"][name][:2] == [path.stat().st_size, sha256(path)]
            assert (Path(found["folder"]) / name).read_bytes() == path.read_bytes()
        assert found["files"] == found["sizes"]
        assert found["folders"] == sorted({n.split("/")[0] for n in files if "/" in n})
        assert sorted(found["paths"]) == sorted(set(found["asked"]) - {"none.txt"})
        assert re.fullmatch("[0-9a-f]{40}", found["sha"])
        assert found["sha"] == found["plain"] == Path(found["folder"]).name
        assert found["checked"] == len(files)
        assert found["wrong"] == [[], [], []]
    assert out["glob"] == [f"datasets/{WIKITEXT}/{VALIDATION}"]
    assert out["magic"] == "PAR1"
    assert Path(out["one"]).read_bytes() == (served / WIKITEXT / VALIDATION).read_bytes()


def test_clients_raise_the_hubs_own_errors(sample_mirror, tmp_path):
    code = f"""
from datasets import load_dataset
from transformers import AutoTokenizer
out["repository"] = download("nobody/nothing", "a.txt")
out["as data set"] = download("nobody/nothing", "a.txt", repo_type="dataset")
out["file"] = download("{GPT2}", "absent.txt")
out["revision"] = download("{GPT2}", "tokenizer.json", revision="v9")
out["snapshot"] = failure(snapshot_download, "nobody/nothing")[0]
out["info"] = failure(dataset_info, "nobody/nothing")[0]
out["load"] = failure(load_dataset, "nobody/nothing")[0]
out["config"] = failure(load_dataset, "{WIKITEXT}", "wikitext-9")
out["tokenizer"] = failure(AutoTokenizer.from_pretrained, "nobody/nothing")[0]
"""
    with serving(sample_mirror) as server:
        out = client(server.endpoint, tmp_path, code)
    assert out.pop("config")[0] == "ValueError"
    assert out == {
        "repository": "RepositoryNotFoundError",
        "as data set": "RepositoryNotFoundError",
        "file": "RemoteEntryNotFoundError",
        "revision": "RevisionNotFoundError",
        "snapshot": "RepositoryNotFoundError",
        "info": "RepositoryNotFoundError",
        "load": "DatasetNotFoundError",
        "tokenizer": "OSError",
    }


def test_clients_make_the_same_of_the_hubs_401_for_a_missing_repository(sample_mirror, tmp_path):
    class AsTheHub(HubHandler):
        def respond(self, request):
            return error_reply(401, "Invalid username or password.", "RepoNotFound")

    code = """
from datasets import load_dataset
out["file"] = download("nobody/nothing", "a.txt")
out["load"] = failure(load_dataset, "nobody/nothing")[0]
"""
    with serving(sample_mirror, handler=AsTheHub) as server:
        out = client(server.endpoint, tmp_path, code)
    assert out == {"file": "RepositoryNotFoundError", "load": "DatasetNotFoundError"}


def test_a_gated_repository_wants_a_token(sample_mirror, tmp_path):
    code = f"""
from datasets import load_dataset
out["gated"] = [dataset_info(name).gated for name in ("{WIKITEXT}", "{IMDB}")]
out["without"] = download("{WIKITEXT}", "README.md", repo_type="dataset")
out["load"] = failure(load_dataset, "{WIKITEXT}", "wikitext-2-v1")
out["other"] = download("{IMDB}", "README.md", repo_type="dataset")
path = hf_hub_download("{WIKITEXT}", "README.md", repo_type="dataset", token="any")
out["with"] = open(path).read()
"""
    with serving(sample_mirror, gated=[WIKITEXT]) as server:
        out = client(server.endpoint, tmp_path, code)
    assert out["gated"] == ["auto", False]
    assert out["without"] == "GatedRepoError"
    assert out["load"][0] == "DatasetNotFoundError"
    assert "gated" in out["load"][1]
    assert out["other"] == "none"
    assert out["with"] == (sample_mirror / WIKITEXT / "README.md").read_text()


def test_a_data_set_with_a_script_is_refused_and_the_script_not_run(tmp_path):
    repository = tmp_path / "mirror/evil/evil"
    repository.mkdir(parents=True)
    marker = tmp_path / "it-ran"
    (repository / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (repository / "train.jsonl").write_text('{"text": "a"}\n')
    code = 'from datasets import load_dataset\nout["load"] = failure(load_dataset, "evil/evil")'
    with serving(tmp_path / "mirror") as server:
        out = client(server.endpoint, tmp_path / "home", code)
    assert out["load"][0] == "RuntimeError"
    assert "scripts are no longer supported" in out["load"][1]
    assert not marker.exists()


# ------------------------------------------------------------------------------ what is not served


def test_nothing_outside_the_mirror_can_be_reached(tmp_path, caplog):
    secret = b"SECRET-4711"
    folder, repository = tmp_path / "mirror", tmp_path / "mirror/group/repo"
    repository.mkdir(parents=True)
    (repository / "ten.txt").write_bytes(b"0123456789")
    for folder_of_one in (".", "mirror", "mirror/group", "other/a"):
        path = f"{folder_of_one}/secret.txt"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(secret)
    (repository / ".hidden").write_bytes(secret)
    (repository / ".cache").mkdir()
    (repository / ".cache/secret.txt").write_bytes(secret)
    (repository / "link.txt").symlink_to(tmp_path / "secret.txt")
    (repository / "linked").symlink_to(tmp_path / "other")
    (repository / "gone.txt").symlink_to(tmp_path / "nowhere")
    (repository / "inside.txt").symlink_to(repository / "ten.txt")
    (folder / "group/linked").symlink_to(tmp_path / "other")
    (folder / "linked").symlink_to(tmp_path / "other")

    starts = ["/group/repo/resolve/main/", "/datasets/group/repo/resolve/main/", "/", "//"]
    starts += ["/api/models/group/repo/tree/main/", "/group/repo/resolve/"]
    climbs = ["../" * n for n in range(1, 9)] + ["%2e%2e/" * 4, "..%2f" * 4, "%2e%2e%2f" * 3]
    climbs += [part * 3 for part in ("..\\", "..%5c", "%252e%252e%252f", "....//")]
    climbs += [part * 3 for part in ("%c0%ae%c0%ae/", "..;/", "..%00/")]
    climbs += ["./../", "deep/../../../"]
    targets = [s + c + "secret.txt" for s in starts for c in climbs]
    targets += [s + str(tmp_path / "secret.txt") for s in starts]
    for name in ("link.txt", "linked/a/secret.txt", "linked", "gone.txt", ".hidden", "ten.txt%00"):
        targets += [s + name for s in starts[:2]]
    targets += [
        f"/{s}/.cache/secret.txt" for s in ("group/repo/resolve/main", "group/repo/resolve")
    ]
    targets += ["/group/../resolve/main/secret.txt", "/../mirror/resolve/main/secret.txt"]
    targets += ["/group/linked/resolve/main/secret.txt", "/linked/a/resolve/main/secret.txt"]
    targets += ["/%2e%2e/mirror/resolve/main/secret.txt", "/group%2frepo/x/resolve/main/ten.txt"]
    targets += ["file:///etc/passwd", str(tmp_path / "secret.txt"), "?", "/?", "*", "http://x/"]
    assert len(targets) == len(set(targets)) > 150

    with serving(folder) as server:
        for good in ("ten.txt", "inside.txt"):
            reply = raw(server, f"GET /group/repo/resolve/main/{good} HTTP/1.0\r\n\r\n".encode())
            assert reply.startswith(b"HTTP/1.1 200")
            assert reply.endswith(b"\r\n\r\n0123456789")
        for target in targets:
            reply = raw(server, f"GET {target} HTTP/1.0\r\n\r\n".encode())
            assert secret not in reply, target
            if target != "/?":
                assert re.match(rb"HTTP/1.1 (400|404) ", reply), (target, reply[:200])
        listed = json.loads(ask(server, "/api/models/group/repo/tree/main?recursive=true")[2])
        assert json.loads(ask(server, "/")[2]) == {"repositories": ["group/repo"]}
        assert ask(server, "/api/models/group/linked")[1]["X-Error-Code"] == "RepoNotFound"
    assert [entry["path"] for entry in listed] == ["inside.txt", "ten.txt"]
    warned = [r.args[0].name for r in caplog.records if r.levelno == logging.WARNING]
    assert sorted(warned) == ["gone.txt", "link.txt", "linked"]  # once each


PROBES = [
    "/api/whoami-v2",
    "/api/agent-harnesses",
    "/api/models/group/repo/xet-read-token/main",
    "/api/datasets/group/repo/discussions?status=open",
    "/api/models/group/repo/tree/main/additional_chat_templates?recursive=false&expand=false",
    "/api/models/group/repo/tree/main/ten.txt",
    "/group/repo/resolve/main/custom_generate/generate.py",
    "/group/repo/resolve/main/deep",
    "/group/repo/resolve/main/",
    "/datasets/group/repo/resolve/refs%2Fconvert%2Fparquet/ten.txt",
    "/api/datasets/group/repo/revision/refs%2Fconvert%2Fparquet",
    "/api/spaces/group/repo",
    "/parquet?dataset=group/repo",
    "/info?dataset=group/repo",
    "/gpt2/resolve/main/config.json",
    "/favicon.ico",
    "/group/repo/resolve/main/%ff%fe",
    "/group/repo/resolve/main/" + "x" * 60_000,
]


@pytest.mark.parametrize("target", PROBES, ids=lambda target: target[:60])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_here_is_a_404_with_a_reason(small_mirror, target, method):
    with serving(small_mirror) as server:
        status, headers, body = ask(server, target, method)
    assert status == 404
    assert headers["X-Error-Message"]
    assert headers["X-Error-Code"] in (None, "RepoNotFound", "EntryNotFound", "RevisionNotFound")
    if method == "GET":
        assert json.loads(body) == {"error": headers["X-Error-Message"]}
    if headers["X-Error-Code"] == "EntryNotFound":
        # By this header clients remember that the file is not there, and do not ask again.
        assert re.fullmatch("[0-9a-f]{40}", headers["X-Repo-Commit"])


def test_only_reading_is_allowed(small_mirror):
    def seen():  # but for the time of reading, which may change
        stats = {path: path.stat() for path in small_mirror.rglob("*")}
        return {p: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_mode) for p, s in stats.items()}

    before = seen()
    cases = 0
    with serving(small_mirror) as server:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "POST", "TRACE", "MKCOL"):
            for target in ("/group/repo/resolve/main/ten.txt", "/api/models/group/repo"):
                status, headers, _ = ask(server, target, method, b"overwritten")
                assert status in (405, 501)
                assert headers["X-Error-Message"]
                cases += 1
        assert ask(server, "/api/models/group/repo/paths-info/main")[0] == 405
        assert ask(server, "/group/repo/resolve/main/ten.txt")[2] == b"0123456789"
    assert cases == 14
    assert seen() == before


MALFORMED = [
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/9.9\r\n\r\n", 505),
    (b"GET / HTTP/one\r\n\r\n", 400),
    (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: ten\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_bytes", "status"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_request_gets_one_error_and_the_end(small_mirror, request_bytes, status, capfd):
    with serving(small_mirror) as server:
        reply = raw(server, request_bytes + b"GET / HTTP/1.1\r\n\r\n")
        assert ask(server, "/")[0] == 200
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert reply.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in capfd.readouterr().err


# --------------------------------------------------------------------------------- files and ranges


def test_the_head_of_a_file_says_all_that_clients_read(small_mirror):
    content = (small_mirror / "group/repo/deep/noise.bin").read_bytes()
    target = "/group/repo/resolve/main/deep/noise.bin"
    with serving(small_mirror) as server:
        status, head, nothing = ask(server, target, "HEAD", Accept_Encoding="gzip")
        assert ask(server, target, Accept_Encoding="gzip")[2] == content
        info = json.loads(ask(server, "/api/datasets/group/repo")[2])
    assert (status, nothing) == (200, b"")
    assert head["ETag"] == head["X-Linked-Etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert head["Content-Length"] == head["X-Linked-Size"] == str(len(content))
    assert head["X-Repo-Commit"] == info["sha"]
    assert head["Accept-Ranges"] == "bytes"
    assert head["Content-Encoding"] is None


@given(
    size=st.integers(0, 40),
    first=st.none() | st.integers(0, 50),
    last=st.none() | st.integers(0, 50) | st.just(10**17),
)
@settings(max_examples=500, deadline=None)
def test_a_range_covers_the_bytes_between_its_ends(size, first, last):
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is None and last is None:
        due = "whole"
    elif first is None:
        due = [i for i in range(size) if i >= size - last]
    elif last is not None and last < first:
        due = "whole"
    else:
        due = [i for i in range(size) if first <= i <= (size if last is None else last)]
    if due == []:
        with pytest.raises(ValueError, match="is not within"):
            byte_range(header, size)
    elif due == "whole":
        assert byte_range(header, size) is None
    else:
        assert byte_range(header, size) == (due[0], len(due))


@pytest.fixture(scope="module")
def range_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranges")
    (folder / "group/repo").mkdir(parents=True)
    (folder / "group/repo/f").write_bytes(bytes(range(256)) * 400)
    with serving(folder) as server:
        yield server


@given(first=st.integers(0, 103_000), length=st.integers(1, 103_000))
@settings(max_examples=200, deadline=None)
def test_ranges_over_the_wire_are_slices(range_server, first, length):
    content = bytes(range(256)) * 400
    status, headers, body = ask(
        range_server, "/group/repo/resolve/main/f", Range=f"bytes={first}-{first + length - 1}"
    )
    part = content[first : first + length]
    if part:
        assert (status, body) == (206, part)
        assert headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        assert headers["X-Linked-Size"] == str(len(content))
    else:
        assert status == 416
        assert headers["Content-Range"] == f"bytes */{len(content)}"


IGNORED_RANGES = ["bytes=1-2,4-5", "lines=1-2", "bytes=a-b", "bytes=", "bytes=-", "bytes=5-2"]
IGNORED_RANGES += ["bytes=1-2 ", "1-2", "bytes=" + "9" * 5000 + "-", "bytes=\u0661-\u0662"]


@pytest.mark.parametrize("header", IGNORED_RANGES, ids=lambda header: header[:20])
def test_a_range_of_another_form_counts_as_absent(header):
    assert byte_range(header.strip() if header.endswith(" ") else header, 10) in (None, (1, 2))
    assert byte_range(header, 10) is None


def test_a_resumed_download_of_a_replaced_file_starts_over(small_mirror):
    target, path = "/group/repo/resolve/main/ten.txt", small_mirror / "group/repo/ten.txt"
    with serving(small_mirror) as server:
        old = ask(server, target, "HEAD")[1]
        resume = {"Range": "bytes=4-", "If_Range": old["ETag"]}
        assert ask(server, target, **resume)[::2] == (206, b"456789")
        path.write_bytes(b"abcdefghij")
        assert ask(server, target, **resume)[::2] == (200, b"abcdefghij")
        new = ask(server, target, "HEAD")[1]
        assert new["ETag"] != old["ETag"]
        assert new["X-Repo-Commit"] != old["X-Repo-Commit"]
        status, gone, _ = ask(server, target.replace("main", old["X-Repo-Commit"]))
        assert (status, gone["X-Error-Code"]) == (404, "RevisionNotFound")
        assert ask(server, target.replace("main", new["X-Repo-Commit"]))[2] == b"abcdefghij"


def test_a_file_replaced_while_it_is_asked_for_is_not_sent_under_the_old_etag(small_mirror):
    path = small_mirror / "group/repo/ten.txt"

    class Replacing(HubHandler):
        def respond(self, request):
            reply = super().respond(request)
            if path.read_bytes() == b"0123456789":
                path.write_bytes(b"abcdefghij")
            return reply

    with serving(small_mirror, handler=Replacing) as server:
        status, headers, _ = ask(server, "/group/repo/resolve/main/ten.txt")
        assert (status, headers["Retry-After"], headers["ETag"]) == (503, "1", None)
        status, headers, body = ask(server, "/group/repo/resolve/main/ten.txt")
    assert (status, body) == (200, b"abcdefghij")
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'


def test_the_commit_depends_on_names_and_contents_alone(small_mirror, tmp_path):
    shutil.copytree(small_mirror, tmp_path / "copy")
    commit = Mirror(small_mirror).find("group/repo").commit
    assert Mirror(tmp_path / "copy").find("group/repo").commit == commit
    os.replace(tmp_path / "copy/group/repo/ten.txt", tmp_path / "copy/group/repo/eleven.txt")
    assert Mirror(tmp_path / "copy").find("group/repo").commit != commit


def test_of_two_folders_with_a_repository_the_first_is_served(small_mirror, tmp_path):
    for owner in ("group", "second"):
        (tmp_path / "other" / owner / "repo").mkdir(parents=True)
        (tmp_path / "other" / owner / "repo/ten.txt").write_bytes(b"other")
    with serving(small_mirror, tmp_path / "other") as server:
        assert ask(server, "/group/repo/resolve/main/ten.txt")[2] == b"0123456789"
        assert ask(server, "/second/repo/resolve/main/ten.txt")[2] == b"other"
        assert json.loads(ask(server, "/")[2])["repositories"] == ["group/repo", "second/repo"]


# ------------------------------------------------------------------------------ many, rude and gone


def test_32_downloads_at_once_are_exact_and_not_held_in_memory(small_mirror):
    due = sha256(small_mirror / "group/repo/deep/noise.bin")
    start = threading.Barrier(32)

    def download(_: int) -> str:
        digest = hashlib.sha256()
        with contextlib.closing(connect(server)) as connection:
            start.wait()
            connection.request("GET", "/group/repo/resolve/main/deep/noise.bin")
            response = connection.getresponse()
            while chunk := response.read(1 << 16):
                digest.update(chunk)
        return digest.hexdigest()

    with serving(small_mirror) as server, ThreadPoolExecutor(32) as pool:
        tracemalloc.start()
        digests = list(pool.map(download, range(32)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert digests == [due] * 32
    assert peak < 40e6  # 32 whole files would be 320 MB


def test_a_client_that_hangs_up_leaves_one_line_and_no_traceback(small_mirror, capfd, caplog):
    caplog.set_level(logging.DEBUG, "llmpipe.serve")
    request = b"GET /group/repo/resolve/main/deep/noise.bin HTTP/1.1\r\n\r\n"
    with serving(small_mirror) as server:
        for number in range(40):
            wire = socket.create_connection(server.server_address[:2], timeout=HANG_LIMIT_S)
            if number % 2:
                wire.sendall(request)
                assert wire.recv(1000).startswith(b"HTTP/1.1 200")
            else:
                wire.sendall(request[:50])
            # Zero seconds of lingering: the connection is reset, as when a notebook is killed.
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.close()
        assert ask(server, "/group/repo/resolve/main/ten.txt")[2] == b"0123456789"
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.INFO]
    broken = [line for line in lines if "Error" in line]
    assert len(lines) == 21
    assert len(broken) == 20
    for line in broken:
        assert int(re.search(r"(\d+) bytes sent, then", line)[1]) < 10_000_000
    assert not [r for r in caplog.records if r.exc_info]
    assert capfd.readouterr().err == ""


def test_each_request_is_one_line_in_the_log(small_mirror, caplog):
    caplog.set_level(logging.INFO, "llmpipe.serve")
    escape = "/\x1b[31m" + "%1b[31m"
    with serving(small_mirror) as server, contextlib.closing(connect(server)) as connection:
        for target in ("/group/repo/resolve/main/ten.txt", "/group/repo/resolve/main/no", "/"):
            connection.request("GET", target)
            connection.getresponse().read()
        raw(server, f"GET {escape} HTTP/1.0\r\n\r\n".encode())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert "GET '/group/repo/resolve/main/ten.txt': 200, 10 bytes sent" in lines[0]
    assert "GET '/group/repo/resolve/main/no': 404" in lines[1]
    assert "\x1b" not in "".join(lines)


def test_a_server_stops_at_once_whatever_its_clients_do(small_mirror):
    threads = set(threading.enumerate())
    with serving(small_mirror) as server:
        idle, stalled = connect(server), connect(server)
        for connection, name in ((idle, "ten.txt"), (stalled, "deep/noise.bin")):
            connection.request("GET", f"/group/repo/resolve/main/{name}")
        assert idle.getresponse().read() == b"0123456789"
        assert stalled.getresponse().read(10)  # and never the rest
        address = server.server_address[:2]
        started = time.monotonic()
    assert time.monotonic() - started < 30  # it would be 60 s if clients were waited for
    assert set(threading.enumerate()) == threads
    with pytest.raises(ConnectionError):
        socket.create_connection(address, timeout=HANG_LIMIT_S)
    idle.sock.setblocking(True)
    assert idle.sock.recv(1) == b""
    idle.close()
    stalled.close()


def test_a_server_is_reachable_from_this_machine_alone_unless_told_otherwise(small_mirror):
    with serving(small_mirror) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.endpoint == f"http://127.0.0.1:{server.server_address[1]}"
    with serving(small_mirror, host="0.0.0.0") as server:
        assert re.fullmatch(r"http://[^/]+:\d+", server.endpoint)
        assert "0.0.0.0" not in server.endpoint


def test_an_unreadable_file_is_an_error_for_its_repository_only(small_mirror, monkeypatch, caplog):
    (small_mirror / "group/other").mkdir()
    (small_mirror / "group/other/a").write_bytes(b"a")
    opened = Path.open

    def refuse(path: Path, *arguments, **options):
        if path.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    with serving(small_mirror) as server:
        monkeypatch.setattr(Path, "open", refuse)
        status, headers, body = ask(server, "/group/other/resolve/main/a")
        assert ask(server, "/group/repo/resolve/main/ten.txt")[0] == 200
    assert (status, headers["X-Error-Message"]) == (500, "the server failed: PermissionError")
    assert str(small_mirror).encode() not in body
    assert str(small_mirror) in caplog.text


# --------------------------------------------------------------------------- faults for other tests


def test_the_fault_handlers_fail_as_they_say(small_mirror):
    target, content = "/group/repo/resolve/main/ten.txt", b"0123456789"

    def replies(handler, count: int = 4) -> list:
        with serving(small_mirror, handler=handler) as server:
            return [ask(server, target)[::2] for _ in range(count)]

    portal = (200, hub_faults.PORTAL)
    assert replies(hub_faults.captive_portal()) == [portal] * 4
    assert replies(hub_faults.captive_portal(only=".parquet")) == [(200, content)] * 4
    assert [status for status, _ in replies(hub_faults.unavailable())] == [503, 503, 200, 200]
    wrong = [body for _, body in replies(hub_faults.wrong_bytes(times=1))]
    assert wrong == [b"0123446789", content, content, content]
    with serving(small_mirror, handler=hub_faults.redirect()) as server:
        status, headers, _ = ask(server, target)
        assert (status, headers["Location"]) == (302, "file:///etc/passwd")
        assert headers["X-Repo-Commit"]
    with serving(small_mirror, handler=hub_faults.half_body(times=1)) as server:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(server, target)
        assert caught.value.partial == content[:5]
        assert ask(server, target)[2] == content
    with (
        serving(small_mirror, handler=hub_faults.silent()) as server,
        socket.create_connection(server.server_address[:2], timeout=0.3) as wire,
    ):
        wire.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(TimeoutError):
            wire.recv(1)


# -------------------------------------------------------------------------------- the sample mirror


def test_the_sample_mirror_holds_the_samples_rows(sample_mirror):
    cases = 0
    for repo_id, corpus in ((WIKITEXT, "articles"), (IMDB, "reviews")):
        for path in sorted((sample_mirror / repo_id).rglob("*.parquet")):
            split = path.name.split("-")[0]
            file = pq.ParquetFile(path, page_checksum_verification=True)
            due = [row for t in sample.tables(corpus, split, NUM_ROWS) for row in t.to_pylist()]
            assert file.read().to_pylist() == due
            assert len(due) == NUM_ROWS
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            assert groups == [ROWS_PER_GROUP, ROWS_PER_GROUP, NUM_ROWS - 2 * ROWS_PER_GROUP]
            assert ROWS[repo_id][path.parent.name][split] >= NUM_ROWS
            cases += 1
    assert cases == 3 * 3 + 2
    assert not list(sample_mirror.rglob(".*"))


def test_a_damaged_sample_file_is_noticed(sample_mirror, tmp_path):
    content = bytearray((sample_mirror / WIKITEXT / VALIDATION).read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(OSError, match=r"CRC|checksum"):
        pq.read_table(tmp_path / "damaged.parquet", page_checksum_verification=True)


def test_an_interrupted_sample_leaves_no_half_file_and_can_be_finished(tmp_path, monkeypatch):
    whole = sample.tables

    def breaks(corpus: str, split: str, num_rows: int):
        yield from whole(corpus, split, num_rows)
        if split == "validation":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample, "tables", breaks)
    with pytest.raises(OSError, match="No space"):
        write_sample(tmp_path, num_rows=20)
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(set(names)) == ["README.md", "train-00000-of-00001.parquet"]
    monkeypatch.setattr(sample, "tables", whole)
    write_sample(tmp_path, num_rows=20)
    for path in tmp_path.rglob("*.parquet"):
        assert pq.read_metadata(path).num_rows == 20


def test_the_sample_does_not_overwrite_what_it_did_not_write(tmp_path):
    theirs = tmp_path / WIKITEXT / "README.md"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("real data\n")
    with pytest.raises(FileExistsError, match="something else"):
        write_sample(tmp_path, num_rows=20)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]
    assert theirs.read_text() == "real data\n"


def test_the_number_of_rows_is_checked_before_anything_is_written(tmp_path):
    for wrong, kind in ((0, ValueError), (-1, ValueError), (1.5, TypeError)):
        with pytest.raises(kind, match="num_rows must be"):
            write_sample(tmp_path, num_rows=wrong)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------- the command


def llmpipe(*arguments: object, **environment: str) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if name != "LLMPIPE_MIRROR"}
    return subprocess.Popen(
        [sys.executable, "-c", "from llmpipe.cli import app; app()", *map(str, arguments)],
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_before_it_serves(process: subprocess.Popen) -> list[str]:
    """The lines that the command prints before it serves."""
    lines = []
    while not lines or "--host 0.0.0.0" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    return lines


def one_line(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=HANG_LIMIT_S)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), (out, err)
    return err


def test_the_command_says_what_is_wrong_in_one_line(small_mirror, tmp_path):
    with serving(small_mirror) as server:
        port = server.server_address[1]
        taken = llmpipe("serve", small_mirror, "--port", port)
        missing = llmpipe("serve", tmp_path / "nowhere")
        file = llmpipe("serve", small_mirror / "group/repo/ten.txt")
        nothing = llmpipe("serve")
        host = llmpipe("serve", small_mirror, "--host", "192.0.2.7", "--port", 0)
        over = llmpipe("mirror", small_mirror / "group/repo/ten.txt")
        assert f"port {port} is taken" in (line := one_line(taken))
        assert "--port" in line
    assert "nowhere" in one_line(missing)
    assert "ten.txt is a file" in one_line(file)
    assert "LLMPIPE_MIRROR" in one_line(nothing)
    assert "192.0.2.7 is no address of this machine" in one_line(host)
    assert "cannot write the sample" in one_line(over)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(small_mirror, tmp_path, ending):
    process = llmpipe("serve", "--port", 0, LLMPIPE_MIRROR=str(small_mirror))
    text = "".join(lines_before_it_serves(process))
    endpoint = re.search(r"export HF_ENDPOINT=http://127.0.0.1:(\d+)\n", text)
    assert f'$env:HF_ENDPOINT = "http://127.0.0.1:{endpoint[1]}"' in text
    assert "group/repo: 3 files, 10.0 MB" in text
    with socket.create_connection(("127.0.0.1", int(endpoint[1])), timeout=HANG_LIMIT_S) as wire:
        wire.sendall(b"GET /group/repo/resolve/main/ten.txt HTTP/1.0\r\n\r\n")
        assert wire.makefile("rb").read().endswith(b"\r\n\r\n0123456789")
        process.send_signal(ending)
        out, err = process.communicate(timeout=HANG_LIMIT_S)
    assert (process.returncode, out) == (0, "")
    assert re.fullmatch(r"[\d:]+ 127.0.0.1 GET '/group/repo.*': 200, 10 bytes sent, \d+ ms\n", err)


def test_the_command_serves_the_sample_and_takes_it_away_again(tmp_path):
    process = llmpipe("serve", "--sample", "--port", 0, "--quiet", TMPDIR=str(tmp_path))
    lines = lines_before_it_serves(process)
    assert [line.split(":")[0].strip() for line in lines[:4]] == sorted(
        [WIKITEXT, IMDB, GPT2, DISTILBERT]
    )
    assert len(list(tmp_path.rglob("*.parquet"))) == 11
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=HANG_LIMIT_S)
    assert (process.returncode, out, err) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_sample(tmp_path):
    process = llmpipe("mirror", tmp_path / "new", "--rows", 30)
    out, err = process.communicate(timeout=HANG_LIMIT_S)
    assert (process.returncode, err) == (0, "")
    assert f"{IMDB}: 3 files" in out
    assert f"export LLMPIPE_MIRROR={tmp_path / 'new'}" in out
    assert len(list((tmp_path / "new").rglob("*.parquet"))) == 11


AT_ITS_LIMIT = """
import http.client, json, os, resource, sys, time
from llmpipe.classroom.server.server import serving

with serving(sys.argv[1]) as server:
    address = server.server_address[:2]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    client = http.client.HTTPConnection(*address)  # its socket is there before the limit is
    client.connect()
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while not server.connections:
        time.sleep(0.01)
    late = http.client.HTTPConnection(*address)
    import socket
    late.sock = socket.socket()
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 60, hard))
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    before = time.process_time()
    late.sock.connect(address)  # into the queue: the server has no file left to take it
    late.request("GET", "/group/repo/resolve/main/ten.txt")
    while not server.is_full:
        time.sleep(0.01)
    calls, sleep = [], time.sleep
    time.sleep = lambda seconds: (calls.append(seconds), sleep(seconds))[1]
    sleep(1)
    waited = len(calls)
    for descriptor in taken:
        os.close(descriptor)
    print(json.dumps([waited, late.getresponse().read().decode()]))
"""


def test_at_the_limit_of_open_files_clients_wait_and_nothing_spins(small_mirror):
    """In a second of waiting it asks a few times, where it would have asked ten thousand times."""
    run = subprocess.run(
        [sys.executable, "-c", AT_ITS_LIMIT, str(small_mirror)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_LIMIT_S,
    )
    assert run.returncode == 0, run.stderr
    num_pauses, text = json.loads(run.stdout)
    assert 1 <= num_pauses <= 20
    assert text == "0123456789"
