"""The fork server: started ahead, it has imported what ranks need, and no more."""

import subprocess
import sys
from pathlib import Path

import pytest

from llmpipe.launching.start import START_METHOD

pytestmark = pytest.mark.skipif(START_METHOD != "forkserver", reason="no fork server by default")

SCRIPT = """
import sys
from multiprocessing import forkserver

sys.path.insert(0, sys.argv[1])
import start_jobs
from llmpipe.launching.start import start_fork_server

if __name__ == "__main__":
    start_fork_server()
    from llmpipe import load_tokenizer, open_source, run_ranks
    from llmpipe.classroom.ranks import jobs

    assert "torch" not in sys.modules
    parts = open_source("wikitext-2").parts("train", 100)
    blocks = jobs.stream_batches, jobs.Settings(parts, load_tokenizer("gpt2"))
    parts = open_source("imdb").parts("train", 100)
    reviews = jobs.classify_batches, jobs.ReviewSettings(parts, load_tokenizer("distilbert"))
    servers = set()
    for told, preload in ((blocks, jobs.PRELOAD), (reviews, ["wave"])):
        print(run_ranks(start_jobs.imported, 1, *told, preload=preload)[0])
        servers.add(forkserver._forkserver._forkserver_pid)
    print(len(servers))
"""


AT_ONCE = """
import sys

sys.path.insert(0, sys.argv[1])
import launch_jobs
from llmpipe.launching.launch import run_ranks
from llmpipe.launching.start import start_fork_server

start_fork_server(["torch"])
print([torch for *_, torch in run_ranks(launch_jobs.surroundings, 2, preload=["wave"])])
"""


def output_of(code):
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_ranks_that_are_started_at_once_have_what_the_server_was_told_first():
    assert output_of(AT_ONCE) == ["[True, True]"]


def test_a_server_started_ahead_serves_all_ranks_and_none_of_them_imports_pandas(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    before = "{'gc': True, 'before': ['torch'], 'after': ['torch'], 'batches': True}"
    assert output_of(SCRIPT) == [before, before, "1"]
