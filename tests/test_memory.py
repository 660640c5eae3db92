"""The memory meter sees what was allocated, whichever way the machine lets it look."""

import mmap
import platform
import time

import pytest

from llmpipe.classroom.bench import memory

MB = 2**20
SIZE = 64 * MB
# The kernel counts pages a thread at a time, and an interpreter allocates a little of its own.
SLACK = 8 * MB


@pytest.fixture(params=["set back", "rose", "samples"])
def way(request, monkeypatch):
    """The three ways the meter knows, each made to be the one that is there."""
    # For "rose" too: as in a process that never held more than now.
    if request.param != "samples" and not memory.reset_mark():
        pytest.skip("only Linux sets the mark of a process back")
    if request.param != "set back":
        monkeypatch.setattr(memory, "reset_mark", lambda: False)
    if request.param == "samples":
        monkeypatch.setattr(memory, "high_water_mark", lambda: None)
    return request.param


def hold(size, peak):
    """Take memory, wait for the meter's thread to have looked, and give the memory back.

    Pages from the system: what `bytearray` takes may be free pages that are resident already.
    """
    with mmap.mmap(-1, size) as pages:
        pages[:: mmap.PAGESIZE] = b"a" * (size // mmap.PAGESIZE)
        for _ in range(10_000):
            if not peak.is_sampling or peak.sampled_bytes >= peak.base_bytes + size - SLACK:
                break
            time.sleep(0.001)
        return len(pages)


def test_memory_that_was_held_for_a_while_is_seen(way):
    with memory.PeakMemory() as peak:
        assert hold(SIZE, peak) == SIZE
    assert way in peak.how
    assert SIZE - SLACK <= peak.bytes <= SIZE + SLACK
    assert peak.base_bytes > 10 * MB


@pytest.mark.parametrize("way", ["set back", "samples"], indirect=True)
def test_memory_that_was_given_back_before_is_not_counted(way):
    with memory.PeakMemory() as before:
        hold(SIZE, before)
    with memory.PeakMemory() as peak:
        pass
    assert peak.bytes <= SLACK


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives pages back")
def test_memory_out_of_pages_that_were_free_but_resident_is_seen():
    def take():
        return [bytearray(SIZE // 1000) for _ in range(1000)]  # too small to have pages of its own

    def free():
        """Memory that the C library keeps, as what was taken after it is still there."""
        freed, last = take(), bytearray(SIZE // 1000)
        del freed
        return last

    last = free()
    with memory.PeakMemory() as peak:
        taken = take()
    assert len(taken) == 1000
    assert len(last) == SIZE // 1000
    assert SIZE - SLACK <= peak.bytes <= SIZE + SLACK


def test_a_mark_that_stood_higher_before_gives_way_to_samples(monkeypatch):
    monkeypatch.setattr(memory, "reset_mark", lambda: False)
    monkeypatch.setattr(memory, "high_water_mark", lambda: 10**15)
    with memory.PeakMemory() as peak:
        hold(SIZE, peak)
    assert "samples" in peak.how
    assert SIZE - SLACK <= peak.bytes <= SIZE + SLACK


def test_without_the_kernels_files_the_mark_is_that_of_getrusage(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "_linux_mark", lambda: None)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    in_bytes = memory.high_water_mark()
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.high_water_mark() == 1024 * in_bytes > 0
    assert in_bytes == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_both_ways_read_the_same_ids_and_only_one_holds_them_all(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    found = {way: memory.measured(way, "wikitext-2", 40_000) for way in ("whole", "stream")}
    num_ids = found["whole"]["num_ids"]
    assert found["stream"]["num_ids"] == num_ids > 2_000_000
    # The text, the ids, and what the filter kept are all there at one moment.
    assert found["whole"]["peak_bytes"] > num_ids * 8
    assert 0 < found["stream"]["peak_bytes"] < found["whole"]["peak_bytes"]


def test_peak_memory_is_the_peak_in_a_process_of_its_own_with_the_system_s_pages(monkeypatch):
    asked = []

    def pretend(module, *arguments, **environment):
        asked.append((module, arguments, environment))
        return {"peak_bytes": 7, "base_bytes": 5}

    monkeypatch.setattr(memory, "answer", pretend)
    assert memory.peak_memory("stream", "wikitext-2", 5_000) == 7
    arguments = ("stream", "wikitext-2", "gpt2", "[5000, null]")
    assert asked == [(memory.__name__, arguments, {"ARROW_DEFAULT_MEMORY_POOL": "system"})]


def test_wrong_calls_say_what_is_wrong(monkeypatch):
    monkeypatch.setenv("LLMPIPE_SOURCE", "sample")
    with pytest.raises(ValueError, match="way must be 'whole' or 'stream', got 'half'"):
        memory.peak_memory("half", "wikitext-2", 10)
    with pytest.raises(RuntimeError, match="unknown source 'nothing'"):
        memory.peak_memory("whole", "nothing", 10)
