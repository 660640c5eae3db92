"""Streams that fail: never an early end, all that was due before is given, and they go on after."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, IterableDataset, Value
from stream_tools import number_stream, numbered, real_ids
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from llmpipe import QualityFilter, open_source
from llmpipe.classroom.server.replies import error_reply
from llmpipe.classroom.server.server import HubHandler, serving
from llmpipe.streaming.reader import SourceError

JOBS = Path(__file__).with_name("reader_jobs.py")
GO_ON = r"rows were read before it\. .* a stream that loads it goes on from there"
NUM_ROWS, GROUP_ROWS = 6000, 400
LIMIT_S = 300  # of a job; past it a test fails, however busy the machine is


def write_parquet(file, texts, **options):
    pq.write_table(pa.table({"text": texts}), file, row_group_size=GROUP_ROWS, **options)
    return file


def chunk_of(file, group):
    """First byte and length of a row group's column of text."""
    column = pq.read_metadata(file).row_group(group).column(0)
    pages = [column.dictionary_page_offset, column.data_page_offset]
    return min(page for page in pages if page), column.total_compressed_size


@pytest.fixture(scope="module")
def lengths():
    return random.Random(0).choices(range(31), k=NUM_ROWS)


@pytest.fixture(params=["snappy", "zstd", "none"])
def parquet(request, lengths, tmp_path):
    return write_parquet(tmp_path / "numbers.parquet", numbered(lengths), compression=request.param)


def until_it_fails(items, num_first=0, fault=None):
    """The ids of each item up to an error, and the error; `fault` is called after `num_first`."""
    seen, items = [], iter(items)
    try:
        while True:
            if fault and len(seen) == num_first:
                fault()
                fault = None
            seen.append(real_ids(next(items)))
    except StopIteration:
        pytest.fail(f"the stream ended, after {len(seen)} items, as if nothing had happened")
    except Exception as error:
        # torch's traceback keeps a loader in a cycle, and its workers 5 s each until it is found.
        return seen, error.with_traceback(None)


# A source that fails midway


def zero_the_middle(file):
    first, length = chunk_of(file, 8)
    with open(file, "r+b") as opened:
        opened.seek(first)
        opened.write(bytes(length))


PARQUET_FAULTS = {
    "zeroed": (zero_the_middle, "OSError: Couldn't deserialize"),
    "truncated": (lambda file: os.truncate(file, chunk_of(file, 8)[0] + 50), "OSError: .* shorter"),
    "deleted": (os.unlink, "FileNotFoundError: "),
    "replaced": (
        lambda file: write_parquet(file, numbered([3] * NUM_ROWS)),
        "OSError: .*another or shorter than when the stream was made",
    ),
}


@pytest.mark.parametrize("fault", PARQUET_FAULTS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_parquet_file_damaged_midway_is_an_error_and_the_state_goes_on(parquet, fault, shuffle):
    def stream():
        return number_stream(open_source(parquet), 16, remainder="pad", shuffle=shuffle)

    damage, message = PARQUET_FAULTS[fault]
    undisturbed, whole = [real_ids(item) for item in stream()], parquet.read_bytes()
    first = stream()
    seen, error = until_it_fails(first, 1, lambda: damage(parquet))
    assert isinstance(error, SourceError)
    num_read = first.ledger["filter", "documents"].num_in
    assert_matches(
        rf"part \d+ of 1 Parquet files.* cannot be read further, from its row 0 on \({message}",
        error,
    )
    assert_matches(GO_ON, error)
    # Everything that the rows before it complete was given out.
    rows_before = int(str(error).split(" rows were read")[0].rsplit(maxsplit=1)[1].replace(",", ""))
    assert rows_before % GROUP_ROWS == 0
    assert num_read <= rows_before
    assert rows_before >= GROUP_ROWS
    assert seen == undisturbed[: len(seen)]
    if not shuffle:
        num_ids = sum(
            len(text.split())
            for text in pq.read_table(pa.BufferReader(whole))["text"][:rows_before].to_pylist()
        )
        assert len(seen) == num_ids // 16
        assert rows_before == (8 if fault == "zeroed" else 1) * GROUP_ROWS
    state = json.loads(json.dumps(first.state_dict()))
    parquet.write_bytes(whole)
    for again in (first, stream()):
        again.load_state_dict(state)
        assert [real_ids(item) for item in again] == undisturbed[len(seen) :]


def assert_matches(pattern, error):
    with pytest.raises(type(error), match=f"(?s){pattern}"):
        raise error


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_goes_on_where_a_damaged_file_stopped_it(lengths, tmp_path, num_workers):
    file = write_parquet(tmp_path / "numbers.parquet", numbered(lengths))

    def loader():
        stream = number_stream(open_source(file), 16, remainder="pad", batch_size=4)
        return StatefulDataLoader(stream, batch_size=None, num_workers=num_workers)

    undisturbed, whole = [real_ids(item) for item in loader()], file.read_bytes()
    first = loader()
    zero_the_middle(file)
    seen, error = until_it_fails(first)
    assert isinstance(error, SourceError)
    assert_matches(GO_ON, error)
    assert seen == undisturbed[: len(seen)]
    state = json.loads(json.dumps(first.state_dict()))
    file.write_bytes(whole)
    second = loader()
    second.load_state_dict(state)
    rest = [real_ids(item) for item in second]
    assert rest == undisturbed[len(seen) :]
    assert sorted(i for ids in seen + rest for i in ids) == list(range(sum(lengths)))


def write_lines(file, texts, broken_row=None):
    lines = [json.dumps({"text": text}) for text in texts]
    if broken_row is not None:
        lines[broken_row] = '{"text": "1 2'
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("fault", ["broken", "deleted"])
def test_a_later_jsonl_file_that_fails_is_an_error_and_the_state_goes_on(fault, tmp_path):
    texts, files = numbered([5] * 3000), [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write_lines(files[0], texts[:1700])
    write_lines(files[1], texts[1700:], broken_row=1250)

    def stream():
        return number_stream(open_source(tmp_path), 7, remainder="pad")

    first = stream()
    seen, error = until_it_fails(
        first, 1, (lambda: os.unlink(files[1])) if fault == "deleted" else None
    )
    assert isinstance(error, SourceError)
    row, num_read = ("0", 1700) if fault == "deleted" else ("1,000", 2700)
    reason = "FileNotFoundError" if fault == "deleted" else r"ValueError: .*b\.jsonl .*line 1251 is"
    found = rf"part 1 of .* from its row {row} on \({reason}.*, in .*b\.jsonl; {num_read:,} {GO_ON}"
    assert_matches(found, error)
    assert len(seen) == num_read * 5 // 7
    state = first.state_dict()
    write_lines(files[1], texts[1700:])
    second = stream()
    second.load_state_dict(state)
    ids = [i for item in second for i in real_ids(item)]
    assert [i for own in seen for i in own] + ids == list(range(15_000))


class Failing:
    """Documents of 5 ids each, a generator for each of `shards`; one fails while `flag` exists."""

    def __init__(self, flag, num_rows, failing_row, error, failing_shard=0):
        self.flag, self.num_rows, self.failing_row = flag, num_rows, failing_row
        self.error, self.failing_shard = error, failing_shard

    def __call__(self, shards):
        for shard in shards:
            for row in range(self.num_rows):
                if (shard, row) == (self.failing_shard, self.failing_row) and self.flag.exists():
                    raise self.error
                start = (shard * self.num_rows + row) * 5
                yield {"text": " ".join(map(str, range(start, start + 5)))}

    def dataset(self, num_shards):
        features = Features({"text": Value("string")})
        shards = {"shards": list(range(num_shards))}
        return IterableDataset.from_generator(self, features=features, gen_kwargs=shards)


ERRORS = [LookupError("document 17 is not to be had"), KeyError("txt"), ValueError("17"), OSError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_a_generator_is_told_with_its_type_text_and_part(tmp_path, num_workers, error):
    flag = tmp_path / "flag"
    flag.touch()
    stream = number_stream(Failing(flag, 100, 17, error, 2).dataset(4), 5)
    loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
    seen, raised = until_it_fails(loader)
    assert isinstance(raised, SourceError)
    told = f"{type(error).__name__}: {error}"
    assert "part 2 of an IterableDataset, split train cannot be read further" in str(raised)
    assert f"from its row 0 on ({told}); {0 if num_workers else 200} rows were read" in str(raised)
    if num_workers:  # the second begins with part 2
        assert "Caught SourceError in DataLoader worker process 1" in str(raised)
    else:
        assert len(seen) == 200
        assert raised.__cause__ is not None


@pytest.mark.parametrize("failing_row", [17, 1017, 2000])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_stream_goes_on_once_its_generator_is_mended(tmp_path, failing_row, batch_size):
    flag = tmp_path / "flag"
    flag.touch()
    failing = Failing(flag, 2500, failing_row, LookupError("not to be had"))

    def stream():
        return number_stream(failing.dataset(1), 7, remainder="pad", batch_size=batch_size)

    first = stream()
    seen, error = until_it_fails(first)
    num_whole = failing_row // 1000 * 1000  # rows are taken up in windows of 1,000
    assert_matches(rf"from its row {num_whole:,} on .*; {num_whole:,} {GO_ON}", error)
    assert len(seen) == num_whole * 5 // 7 // (batch_size or 1)
    state = first.state_dict()
    flag.unlink()
    second = stream()
    second.load_state_dict(state)
    ids = [i for item in second for i in real_ids(item)]
    assert [i for own in seen for i in own] + ids == list(range(12_500))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_that_failed_never_says_that_it_ended(tmp_path, num_workers):
    flag = tmp_path / "flag"
    flag.touch()
    stream = number_stream(Failing(flag, 100, 17, LookupError("gone"), 1).dataset(2), 50)
    items = iter(DataLoader(stream, batch_size=None, num_workers=num_workers))
    errors = []
    for _ in range(30):  # of which the part before, or the other worker, has 10
        try:
            next(items)
        except SourceError as error:
            errors.append(error.with_traceback(None))
    assert len(errors) == 20


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_a_file_of_lines_cut_between_two_of_them_midway_is_an_error(tmp_path, kind):
    texts, file = numbered([5] * 3000), tmp_path / f"a.{kind}"
    if kind == "jsonl":
        write_lines(file, texts)
    else:
        file.write_text("\n".join(texts) + "\n")
    stream, whole = number_stream(open_source(file), 7), file.read_bytes()
    os.truncate(file, whole.index(b"\n", len(whole) // 2) + 1)
    with pytest.raises(SourceError, match="is shorter than when the stream was made"):
        list(stream)
    state = stream.state_dict()
    file.write_bytes(whole)
    num_before = stream.ledger["chunk", "ids"].num_out
    stream.load_state_dict(state)
    ids = [i for item in stream for i in real_ids(item)]
    assert ids == list(range(num_before, 15_000 // 7 * 7))


# Flipped bytes


def flipped(file, place, bit):
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[place] ^= 1 << bit
    file.write_bytes(changed)
    return whole


@pytest.mark.parametrize("compression", ["none", "snappy"])
@pytest.mark.parametrize("use_dictionary", [False, True])
def test_every_flip_in_a_page_with_a_checksum_is_an_error(
    lengths, tmp_path, compression, use_dictionary
):
    file = write_parquet(
        tmp_path / "numbers.parquet",
        numbered(lengths),
        write_page_checksum=True,
        compression=compression,
        use_dictionary=use_dictionary,
    )
    texts, chooser = pq.read_table(file)["text"].to_pylist(), random.Random(0)
    first, length = chunk_of(file, 8)
    assert first + length < file.stat().st_size - 65_536  # where the file's own mark would tell
    stream, num_tried = number_stream(open_source(file), 16), 0
    num_blocks = sum(len(text.split()) for text in texts[: 8 * GROUP_ROWS]) // 16
    # The first page's head is before these places; of a dictionary's pages the last is short.
    for place in chooser.sample(range(first + 200, first + length * 9 // 10), 30):
        whole = flipped(file, place, chooser.randrange(8))
        seen, error = until_it_fails(stream)
        assert isinstance(error, SourceError)
        assert len(seen) == num_blocks
        file.write_bytes(whole)
        num_tried += 1
    assert num_tried == 30
    assert len(list(stream)) == sum(lengths) // 16


def test_without_checksums_a_changed_letter_is_not_noticed(lengths, tmp_path):
    """Why ours are written with them. What does not decode, or is no UTF-8, is noticed still."""
    file = write_parquet(
        tmp_path / "numbers.parquet", numbered(lengths), compression="none", use_dictionary=False
    )
    expected = [real_ids(item) for item in number_stream(open_source(file), 16)]
    first, length = chunk_of(file, 8)
    content = file.read_bytes()
    place = next(i for i in range(first + length // 2, first + length) if content[i] == ord("4"))
    flipped(file, place, 0)
    seen = [real_ids(item) for item in number_stream(open_source(file), 16)]
    assert len(seen) == len(expected)
    assert sum(a != b for a, b in zip(seen, expected, strict=True)) == 1
    file.write_bytes(content)
    flipped(file, place, 7)
    _, error = until_it_fails(number_stream(open_source(file), 16))
    assert_matches(r"part 8 of .*: row \d+ of column 'text' is not valid text", error)


# A hub that goes away

HUB_FAULTS = {
    "cut": (23, "RemoteProtocolError: Server disconnected"),
    "half": (23, "RemoteProtocolError: peer closed connection"),
    "silent": (23, "ReadTimeout: "),  # besides six times HF_HUB_DOWNLOAD_TIMEOUT, 10 s by default
    "404": (0, "RemoteEntryNotFoundError: 404"),
    "503": (23, "HfHubHTTPError: .*503 Service Unavailable"),
    "page": (0, "OSError: File too short"),
}


@pytest.fixture(scope="module")
def streamed_from_hub(tmp_path_factory):
    """What a stream made of each fault: in a process, for HF_ENDPOINT is read at import."""
    folder = tmp_path_factory.mktemp("hub")
    fault_file, repository = folder / "fault", folder / "mirror/Salesforce/wikitext/wikitext-2-v1"
    fault_file.write_text("")
    repository.mkdir(parents=True)
    texts = numbered(random.Random(0).choices(range(31), k=400))
    table = pa.table({"text": texts})
    pq.write_table(table, repository / "train-00000-of-00001.parquet", row_group_size=40)

    class FailingHub(HubHandler):
        def respond(self, request):
            fault = fault_file.read_text()
            if fault == "cut":
                raise ConnectionAbortedError("as a network does")
            if fault == "silent":
                self.connection.recv(1)
                raise ConnectionAbortedError("the client gave up")
            if fault == "page":
                return error_reply(200, "log in to this network first")
            if fault in ("404", "503"):
                code = "EntryNotFound" if fault == "404" else ""
                return error_reply(int(fault), "not now", code)
            return super().respond(request)

        def send_file(self, file, start, length):
            super().send_file(file, start, length // (2 if fault_file.read_text() else 1))

    with serving(folder / "mirror", handler=FailingHub) as server:
        outcome = run_job(
            "fail_a_hub",
            fault_file,
            *HUB_FAULTS,
            limit_s=LIMIT_S,
            HF_ENDPOINT=server.endpoint,
            HF_HOME=str(folder / "home"),
            HF_HUB_DOWNLOAD_TIMEOUT="1",
            LLMPIPE_SOURCE="hub",
        )
    ids = [i for block in outcome["undisturbed"] for i in block]
    assert ids == list(range(sum(len(text.split()) for text in texts)))
    return outcome


@pytest.mark.parametrize("fault", HUB_FAULTS)
def test_a_hub_that_goes_away_is_an_error_within_half_a_minute(streamed_from_hub, fault):
    most_s, message = HUB_FAULTS[fault]
    outcome = streamed_from_hub["outcomes"][fault]
    assert outcome["type"] == "SourceError"
    assert_matches(
        rf"part 1 of 1 Parquet files, digest \w+ cannot .* \({message}.*; 40 {GO_ON}",
        SourceError(outcome["text"]),
    )
    assert outcome["waited_s"] <= most_s
    assert len(outcome["blocks"]) > 30
    assert outcome["blocks"] + outcome["rest"] == streamed_from_hub["undisturbed"]


# Workers that are killed, stopped, or starved of shared memory


def run_job(job, *arguments, limit_s, before=(), **environment):
    """What a job printed; past the limit it hangs, and what is left of its group is an orphan."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("HF_", "HUGGING")) and "PROXY" not in name.upper()
    }
    process = subprocess.Popen(
        [*before, sys.executable, str(JOBS), job, *map(str, arguments)],
        env={**kept, "PYTHONWARNINGS": "ignore", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=limit_s)
        assert process.returncode == 0, errors
        assert psutil.wait_procs(members(process.pid), timeout=30)[1] == []
        return json.loads(out.splitlines()[-1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def members(group):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    """More than any loader reads ahead: 600,000 ids."""
    return write_parquet(tmp_path_factory.mktemp("long") / "long.parquet", numbered([30] * 20_000))


KILLS = [
    ("torch", "fork", 2, "not"),
    ("torch", "fork", 4, "persistent"),
    ("torch", "spawn", 2, "persistent"),
    pytest.param("torch", "spawn", 4, "not", marks=pytest.mark.slow),
    ("torchdata", "fork", 2, "persistent"),
]


@pytest.mark.parametrize(("loader", "start", "num_workers", "persistent"), KILLS)
def test_a_killed_worker_is_an_error_and_leaves_no_process(
    long_file, loader, start, num_workers, persistent
):
    outcome = run_job(
        "kill_a_worker", long_file, loader, start, num_workers, persistent, limit_s=LIMIT_S
    )
    assert outcome["num_batches"] == 10
    assert outcome["num_started"] == num_workers
    # Also where torch was just taking a batch from it, which a worker hands over in person.
    assert outcome["type"] == "RuntimeError"
    assert_matches(
        rf"DataLoader worker \(pid(\(s\))? {outcome['pid']}\)", RuntimeError(outcome["text"])
    )
    assert outcome["seconds"] < 60  # some seconds are due: more would be a hang
    assert outcome["num_left"] == 0


def test_a_stopped_worker_is_an_error_at_the_timeout(long_file):
    outcome = run_job("stop_a_worker", long_file, limit_s=LIMIT_S)
    assert outcome["num_batches"] == 10
    assert outcome["type"] == "RuntimeError"
    assert "timed out after 5 seconds" in outcome["text"]


@pytest.mark.parametrize("kind", ["single blocks", "whole batches"])
def test_too_little_shared_memory_is_an_error_that_names_it(long_file, kind):
    small = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    probe = ["unshare", "--mount", "sh", "-c", small]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small /dev/shm (root, on Linux)")
    before = ("unshare", "--mount", "sh", "-c", f'{small} && exec "$@"', "sh")
    outcome = run_job("starve", long_file, kind, limit_s=LIMIT_S, before=before)
    assert outcome["type"] == "RuntimeError"
    assert "unable to allocate shared memory" in outcome["text"]


# Sources with nothing in them


def nothing_from(kind, folder):
    """Documents and options of which no whole block of 8 ids comes."""
    texts, options = [], {}
    if kind == "all rejected":
        texts, options = numbered([9] * 3), {"filter": QualityFilter(min_chars=1000)}
    elif kind == "less than a block":
        texts = ["1 2", "", "3"]
    elif kind == "no text":
        texts = [""] * 5
    if kind == "empty generator":
        return IterableDataset.from_generator(list, features=Features({"text": Value("string")}))
    if kind == "empty data set":
        return Dataset.from_dict({"text": []})
    if kind == "an empty line":
        (folder / "a.txt").write_text("\n")
        return open_source(folder / "a.txt")
    table = pa.table({"text": pa.array(texts, pa.string())})
    pq.write_table(table, folder / "a.parquet")
    return open_source(folder / "a.parquet"), options


NOTHING = [
    "no rows",
    "all rejected",
    "less than a block",
    "no text",
    "empty generator",
    "empty data set",
    "an empty line",
]


@pytest.mark.parametrize("kind", NOTHING)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_where_there_is_nothing_every_rank_ends(kind, num_workers, tmp_path):
    documents = nothing_from(kind, tmp_path)
    documents, options = documents if isinstance(documents, tuple) else (documents, {})
    for rank in range(4) if not num_workers else (0, 3):
        stream = number_stream(documents, 8, rank=rank, world_size=4, **options)
        loader = DataLoader(
            stream, batch_size=2, num_workers=num_workers, timeout=120 if num_workers else 0
        )
        assert list(loader) == []
        assert list(loader) == []
    whole = number_stream(documents, 8, remainder="pad", **options)
    padded = [real_ids(item) for item in whole]
    assert padded == ([[1, 2, 3]] if kind == "less than a block" else [])
    state = whole.state_dict()
    whole.load_state_dict(state)
    assert list(whole) == []


def test_an_empty_text_file_is_refused_by_name(tmp_path):
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(ValueError, match=r"no document in .*a\.jsonl: 0 bytes"):
        number_stream(open_source(tmp_path / "a.jsonl"), 8)


# Rows that are out of the ordinary


@pytest.mark.parametrize("num_ids", [200_000, 5_000_000])
def test_one_document_of_any_length_is_cut_and_resumed_within(num_ids):
    """1 MB, and 5 million ids."""
    digits = "".join(map(str, np.arange(num_ids) % 7))
    stream = number_stream(Dataset.from_dict({"text": [" ".join(digits)]}), 1000, batch_size=10)
    blocks, state = [], None
    for item in stream:
        blocks.append(item["input_ids"].numpy())
        if len(blocks) == 13:
            state = stream.state_dict()
    expected = (np.arange(num_ids) % 7).reshape(-1, 1000)
    assert np.array_equal(np.concatenate(blocks), expected)
    stream.load_state_dict(state)
    rest = [item["input_ids"].numpy() for item in stream]
    assert np.array_equal(np.concatenate(rest), expected[130:])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("bad", ["null", "broken UTF-8"])
def test_a_bad_row_in_a_later_row_group_is_named(tmp_path, num_workers, bad):
    texts = [text.encode() for text in numbered([5] * 5 * GROUP_ROWS)]
    texts[3 * GROUP_ROWS + 7] = None if bad == "null" else b"1 \xff 2"
    # Arrow does not look at the bytes of a string, nor does Parquet.
    file = write_parquet(tmp_path / "a.parquet", pa.array(texts).view(pa.string()))
    stream = number_stream(open_source(file), 5)
    loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
    seen, error = until_it_fails(loader)
    assert isinstance(error, ValueError)
    what = "null" if bad == "null" else r"not valid text \(a lone surrogate or broken UTF-8\)"
    row = 3 * GROUP_ROWS + 7
    found = rf"part 3 of 1 Parquet files, .*/a\.parquet: row {row} of column 'text' is {what}"
    assert_matches(found, error)
    if not num_workers:
        assert len(seen) == 3 * GROUP_ROWS
