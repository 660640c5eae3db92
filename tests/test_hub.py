"""The hub's path, against a local server that answers as the hub does.

Clients run in processes of their own: `huggingface_hub` reads HF_ENDPOINT when it is imported.
"""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from hub_faults import captive_portal, half_body, instead, redirect, unavailable, wrong_bytes

from llmpipe.classroom.server.mirror import write_sample
from llmpipe.classroom.server.replies import Reply
from llmpipe.classroom.server.server import serving
from llmpipe.sources.hub import SAMPLE_MARK

LOAD = """
import json, sys, time
from llmpipe import load_tokenizer, open_source
kind, name, *options = json.loads(sys.argv[1])
started = time.monotonic()
try:
    if kind == "tokenizer":
        tokenizer = load_tokenizer(name)
        ids = tokenizer.encode("The storm passed .").ids.tolist()
        result = {"origin": tokenizer.origin, "ids": ids}
    else:
        source = open_source(name)
        if kind == "parts":
            parts = source.parts(options[0])
            numbers = range(len(parts.weights))
            tables = [table for number in numbers for table in parts.windows(number, 0, "text")]
            texts = [text for table in tables for text in table["text"].to_pylist()]
        else:
            texts = [row["text"] for row in source.load(options[0], streaming=kind == "stream")]
        result = {"origin": source.origin, "texts": texts}
except Exception as error:
    result = {"error": type(error).__name__, "says": str(error)}
print(json.dumps({**result, "seconds": time.monotonic() - started}))
"""


@pytest.fixture(scope="session")
def classroom_mirror(tmp_path_factory):
    """The sample as a mirror of few rows, as `llmpipe mirror` writes it."""
    return write_sample(tmp_path_factory.mktemp("classroom"), num_rows=300)


@pytest.fixture(scope="session")
def sample_mirror(classroom_mirror, tmp_path_factory):
    """The same, but its data sets do not say that they are the sample: to clients, the real hub."""
    folder = shutil.copytree(classroom_mirror, tmp_path_factory.mktemp("mirror") / "hub")
    for card in folder.rglob("README.md"):
        card.write_text(card.read_text().replace(SAMPLE_MARK, "a test's data"))
    return folder


@pytest.fixture
def load(tmp_path):
    """Call the package in a new process with a cache of its own; returns result and stderr."""

    def call(*what, endpoint=None, source="hub", **settings):
        hidden = ("HF_", "LLMPIPE_", "HTTP", "http", "NO_PROXY", "no_proxy", "ALL_PROXY")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        environment |= {"HF_HOME": str(tmp_path / "cache"), "LLMPIPE_SOURCE": source, **settings}
        if endpoint:
            environment["HF_ENDPOINT"] = endpoint
        done = subprocess.run(
            [sys.executable, "-c", LOAD, json.dumps(what)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout, done.stderr
        return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}

    return call


def texts_of(split="validation"):
    from llmpipe import sample

    return [
        text
        for table in sample.tables("articles", split, 300)
        for text in table["text"].to_pylist()
    ]


@pytest.mark.parametrize("kind", ["whole", "stream", "parts"])
def test_a_data_set_comes_from_the_hub(load, sample_mirror, kind):
    with serving(sample_mirror) as hub:
        result = load(kind, "wikitext-2", "validation", endpoint=hub.endpoint)
    assert result.get("error") is None, result
    assert result["origin"] == "hub"
    assert result["texts"] == texts_of()
    assert result["stderr"] == ""


def test_what_was_fetched_is_found_again_without_the_hub(load, sample_mirror):
    with serving(sample_mirror) as hub:
        load("whole", "wikitext-2", "train", endpoint=hub.endpoint)
    again = load("whole", "wikitext-2", "train", endpoint="http://127.0.0.1:9")
    assert (again["origin"], again["texts"]) == ("hub cache", texts_of("train"))


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_hub_that_serves_the_sample_is_not_taken_for_the_real_one(load, classroom_mirror, kind):
    with serving(classroom_mirror) as hub:
        result = load(kind, "wikitext-2", "validation", endpoint=hub.endpoint)
    assert (result["origin"], result["texts"]) == ("sample", texts_of())


def test_what_a_classroom_served_does_not_stay_as_the_real_data(load, classroom_mirror):
    with serving(classroom_mirror) as hub:
        load("whole", "wikitext-2", "train", endpoint=hub.endpoint)
    result = load("whole", "wikitext-2", "train", endpoint="http://127.0.0.1:9")
    assert result["error"] == "ConnectionError"


def test_a_mirror_of_the_sample_says_so(load, classroom_mirror):
    result = load(
        "whole", "wikitext-2", "train", source="mirror", LLMPIPE_MIRROR=str(classroom_mirror)
    )
    assert (result["origin"], result["texts"]) == ("sample", texts_of("train"))


def test_a_proxy_that_denies_everything_is_no_hub(load, sample_mirror):
    denial = instead(Reply(404, {"Content-Type": "text/html"}, b"blocked"), "", None)
    with serving(sample_mirror, handler=denial) as hub:
        result = load("tokenizer", "gpt2", endpoint=hub.endpoint, source="auto")
    assert result["origin"] == "sample"
    assert "404" in result["stderr"]
    assert len(result["stderr"].splitlines()) == 1


def test_a_tokenizer_comes_from_the_hub(load, sample_mirror, tmp_path):
    own = tmp_path / "own" / "example" / "storms"
    shutil.copytree(sample_mirror / "openai-community" / "gpt2", own)
    with serving(sample_mirror) as hub:
        result = load("tokenizer", "example/storms", endpoint=hub.endpoint)
        assert result["error"] in ("FileNotFoundError", "PermissionError")
        assert "example/storms" in result["says"]
    with serving(tmp_path / "own") as hub:
        result = load("tokenizer", "example/storms", endpoint=hub.endpoint)
    assert result.get("error") is None, result
    assert result["origin"] == "hub"
    assert result["ids"] == load("tokenizer", "gpt2", source="sample")["ids"]


def test_a_hub_that_serves_the_samples_tokenizer_is_not_taken_for_gpt2(load, sample_mirror):
    with serving(sample_mirror) as hub:
        result = load("tokenizer", "gpt2", endpoint=hub.endpoint)
    assert result["origin"] == "sample"


def test_another_vocabulary_under_a_known_name_is_refused(load, sample_mirror, tmp_path):
    swapped = tmp_path / "swapped" / "openai-community" / "gpt2"
    shutil.copytree(sample_mirror / "distilbert" / "distilbert-base-uncased", swapped)
    with serving(tmp_path / "swapped") as hub:
        result = load("tokenizer", "gpt2", endpoint=hub.endpoint)
    assert result["error"] == "ValueError"
    assert "is not the vocabulary of openai-community/gpt2" in result["says"]


def test_any_data_set_of_the_hub_can_be_named(load, sample_mirror):
    with serving(sample_mirror) as hub:
        result = load("whole", "stanfordnlp/imdb", "test", endpoint=hub.endpoint)
        parts = load("parts", "stanfordnlp/imdb", "test", endpoint=hub.endpoint)
        missing = load("whole", "stanfordnlp/imdb", "validation", endpoint=hub.endpoint)
    assert (result["origin"], len(result["texts"])) == ("hub", 300)
    assert parts["texts"] == result["texts"]
    assert missing["error"] == "ValueError"
    assert "has no split 'validation'; it has ['train', 'test']" in missing["says"]


def test_missing_and_refused_repositories_are_told_apart(load, sample_mirror):
    with serving(sample_mirror, gated=["stanfordnlp/imdb"]) as hub:
        missing = load("whole", "no-one/nothing", "train", endpoint=hub.endpoint, source="auto")
        refused = load("whole", "imdb", "train", endpoint=hub.endpoint)
        allowed = load("whole", "imdb", "train", endpoint=hub.endpoint, HF_TOKEN="hf_of_a_test")
    assert missing["error"] == "FileNotFoundError"
    assert "no-one/nothing" in missing["says"]
    assert refused["error"] == "PermissionError"
    assert "stanfordnlp/imdb" in refused["says"]
    assert len(allowed["texts"]) == 300


@pytest.fixture
def black_hole():
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=["nothing listens", "black hole", "portal", "offline"])
def no_hub(request, black_hole, sample_mirror):
    if request.param == "portal":
        with serving(sample_mirror, handler=captive_portal()) as hub:
            yield {"endpoint": hub.endpoint}
    elif request.param == "offline":
        yield {"endpoint": black_hole, "HF_HUB_OFFLINE": "1"}
    else:
        yield {"endpoint": {"black hole": black_hole}.get(request.param, "http://127.0.0.1:9")}


def test_without_a_hub_auto_decides_in_two_seconds_and_says_so_in_one_line(load, no_hub):
    for kind in ("whole", "tokenizer"):
        name = {"whole": "wikitext-2", "tokenizer": "distilbert"}[kind]
        result = load(kind, name, "validation", source="auto", **no_hub)
        assert result["origin"] == "sample"
        lines = result["stderr"].splitlines()
        assert len(lines) == 1
        assert "THE BUILT-IN SAMPLE STANDS IN FOR" in lines[0]
        # Less than the 25 s that a data set would wait without us; the rest is imports and loading.
        assert result["seconds"] < 2 + 18


def test_without_a_hub_strict_mode_is_an_error_with_the_ways_out(load, no_hub):
    result = load("tokenizer", "gpt2", **no_hub)
    assert result["error"] == "ConnectionError"
    for way in ("LLMPIPE_SOURCE=sample", "LLMPIPE_MIRROR=", "HF_ENDPOINT"):
        assert way in result["says"]
    assert result["seconds"] < 5


def test_the_sample_never_stands_in_for_a_data_set_of_the_users_own(load):
    result = load("whole", "my/own", "train", endpoint="http://127.0.0.1:9", source="auto")
    assert result["error"] == "ConnectionError"
    assert "my/own" in result["says"]
    assert "LLMPIPE_SOURCE=sample" not in result["says"]
    assert result["stderr"] == ""


FAULTS = {
    "half a body": lambda: half_body(only=".parquet"),
    "wrong bytes": lambda: wrong_bytes(only=".parquet"),
    "redirect to a file": lambda: redirect(only="/resolve/"),
    "portal after the first answer": lambda: captive_portal(only="/resolve/"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_download_is_an_error_and_leaves_the_cache_good(load, sample_mirror, fault):
    with serving(sample_mirror, handler=FAULTS[fault]()) as hub:
        result = load("whole", "wikitext-2", "validation", endpoint=hub.endpoint)
    assert result.get("error") in ("ConnectionError", "ValueError"), result
    assert "wikitext" in result["says"] or "parquet" in result["says"]
    with serving(sample_mirror) as hub:
        result = load("whole", "wikitext-2", "validation", endpoint=hub.endpoint)
    assert result.get("error") is None, result
    assert result["texts"] == texts_of()


def test_a_hub_that_is_busy_for_a_moment_is_waited_for(load, sample_mirror):
    with serving(sample_mirror, handler=unavailable(only="/api/datasets", times=2)) as hub:
        result = load("whole", "wikitext-2", "validation", endpoint=hub.endpoint, source="auto")
    assert result.get("error") is None, result
    assert (result["origin"], result["texts"]) == ("hub", texts_of())
