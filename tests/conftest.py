"""What the tests share: the real data where there is some, and the sample everywhere else."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("notebook_runs")
# Tests run on all cores already: more threads of torch would wait for each other, by minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    """By default a property is tried on few examples; among the slow tests on many.

    However long that takes: how busy the machine is decides nothing.
    """
    patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("few", max_examples=30, **patient)
    settings.register_profile("many", max_examples=200, **patient)
    settings.load_profile("many" if is_slow_run(config) else "few")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Files are begun in this order: those of one long test first, so that no process waits."""
    items.sort(key=lambda item: not item.path.name.startswith("test_lab"))
    for item in items:
        if is_slow_run(config) and getattr(getattr(item, "obj", None), "hypothesis", None):
            item.add_marker("slow")


def is_slow_run(config):
    return config.option.markexpr == "slow"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    """A developer's own settings must not change what the tests see."""
    for name in ("LLMPIPE_SOURCE", "LLMPIPE_TOKENIZER_BACKEND", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    if not os.environ.get("LLMPIPE_MIRROR"):
        monkeypatch.setenv("LLMPIPE_SOURCE", "sample")


@pytest.fixture(scope="module", autouse=True)
def _freed_memory_is_given_back():
    """After each file: else a worker keeps gigabytes of pages that the C library has free."""
    yield
    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library has no such call
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heeded():
    """A shell starts what it runs in the background (`pytest &`) with SIGINT ignored, and so would
    be every process that a test starts and sends a Ctrl-C to."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mirror() -> Path:
    setting = os.environ.get("LLMPIPE_MIRROR")
    if not setting:
        pytest.skip("needs real data: set LLMPIPE_MIRROR to a mirror of the hub")
    return Path(setting)


@pytest.fixture(scope="session")
def wikitext_2(mirror):
    """The train split of WikiText-2 (word level), an Arrow table of 36,718 rows."""
    folder = mirror / "Salesforce" / "wikitext" / "wikitext-2-v1"
    return pq.read_table(folder / "train-00000-of-00001.parquet")


@pytest.fixture(scope="session")
def imdb(mirror):
    """The train split of IMDB, an Arrow table of 25,000 reviews."""
    return pq.read_table(
        mirror / "stanfordnlp" / "imdb" / "plain_text" / "train-00000-of-00001.parquet"
    )
