"""Jobs of test_reader.py that need a process of their own, since they kill, stop or starve.

`python reader_jobs.py JOB ARGUMENT...` prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time
from itertools import islice
from pathlib import Path

import psutil
from stream_tools import number_stream, real_ids
from torch.multiprocessing import set_sharing_strategy
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from llmpipe import open_source

LOADERS = {"torch": DataLoader, "torchdata": StatefulDataLoader}


def children():
    """Processes that this one started, without the helper that multiprocessing keeps for itself."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill_a_worker(file, loader_name, start, num_workers, persistent):
    loader = LOADERS[loader_name](
        number_stream(open_source(file), 8),
        batch_size=4,
        num_workers=int(num_workers),
        multiprocessing_context=start,
        persistent_workers=persistent == "persistent",
    )
    batches = iter(loader)
    num_batches = len(list(islice(batches, 10)))
    started = children()
    pid = batches._workers[0].pid
    outcome = failed_after(lambda: os.kill(pid, signal.SIGKILL), batches)
    del batches, loader
    gc.collect()
    _, left = psutil.wait_procs(started, timeout=30)
    return {
        **outcome,
        "pid": pid,
        "num_batches": num_batches,
        "num_started": len(started),
        "num_left": len(left),
    }


def stop_a_worker(file):
    """Batches go through named files: else torch asks the stopped worker for the next, for ever."""
    set_sharing_strategy("file_system")
    loader = DataLoader(number_stream(open_source(file), 8), batch_size=4, num_workers=2, timeout=5)
    batches = iter(loader)
    num_batches = len(list(islice(batches, 10)))
    pid = batches._workers[0].pid
    outcome = failed_after(lambda: os.kill(pid, signal.SIGSTOP), batches)
    os.kill(pid, signal.SIGKILL)  # torch's own end would wait for it
    return {**outcome, "num_batches": num_batches}


def starve(file, kind):
    """Batches of 4 MB through a /dev/shm of 1 MB."""
    whole = kind == "whole batches"
    stream = number_stream(open_source(file), 1024, batch_size=256 if whole else None)
    loader = DataLoader(stream, batch_size=None if whole else 256, num_workers=2, timeout=60)
    return failed_after(lambda: None, iter(loader))


def failed_after(fault, batches):
    """What iterating over the rest raises once `fault` was called, and how long that took.

    torch's handler of SIGCHLD raises at any moment, also while another error is handled.
    """
    began = time.monotonic()
    try:
        try:
            fault()
            outcome = {"type": None, "text": f"it ended, after {sum(1 for _ in batches)} batches"}
        except Exception as error:
            outcome = told(error)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except RuntimeError as error:
        outcome = told(error)
    return {**outcome, "seconds": time.monotonic() - began}


def told(error):
    return {"type": type(error).__name__, "text": str(error)}


def fail_a_hub(fault_file, *faults):
    """Stream from the hub of HF_ENDPOINT, which fails as `fault_file` says after 30 blocks.

    The time that libraries sleep between their tries is added up and not slept.
    """
    slept = []
    time.sleep = slept.append

    def stream():
        return number_stream(open_source("wikitext-2-v1"), 8, remainder="pad")

    fault_file, outcomes = Path(fault_file), {}
    undisturbed = [real_ids(item) for item in stream()]
    for fault in faults:
        first, blocks, error = stream(), [], None
        slept.clear()
        try:
            for item in first:
                blocks.append(real_ids(item))
                if len(blocks) == 30:
                    fault_file.write_text(fault)
        except Exception as raised:
            error = raised
        fault_file.write_text("")
        state = json.loads(json.dumps(first.state_dict()))
        second = stream()
        second.load_state_dict(state)
        outcomes[fault] = {
            "type": type(error).__name__,
            "text": str(error),
            "waited_s": sum(slept),
            "blocks": blocks,
            "rest": [real_ids(item) for item in second],
        }
    return {"undisturbed": undisturbed, "outcomes": outcomes}


if __name__ == "__main__":
    job, *arguments = sys.argv[1:]
    result = globals()[job](*arguments)
    print(json.dumps(result), flush=True)
