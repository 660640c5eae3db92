"""Jobs that test_launch.py gives to ranks; run as a script, the parent that it sends signals to.

`python launch_jobs.py JOB WORLD_SIZE [START_METHOD]` prints a line for each thing that happens:
`begin`, `message RANK TEXT`, `measured COUNT`, `result LIST`. JOB is a function of the module
`launch_jobs`; written `main:JOB`, it is the script's own.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time

from llmpipe.launching import launch


def index(world, send):
    return world.rank, world.world_size


def process_ids(world, send):
    return os.getpid()


def shard(world, send, rows):
    return rows[world.rank :: world.world_size]


def wait_for_ever(world, send):
    send(f"pid {os.getpid()}")
    threading.Event().wait()


def ignore_sigterm_for_ever(world, send):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait_for_ever(world, send)


def fail_in_rank_1(world, send, fault, num_messages=0):
    """Every rank sends; then rank 1 has the fault, and the others wait for ever."""
    for number in range(num_messages):
        send(number)
    send(f"pid {os.getpid()}")
    if world.rank != 1:
        threading.Event().wait()
    cause(fault)


def cause(fault):
    if fault == "raise":
        raise LookupError("row 17 is missing")
    if fault.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, fault))
        threading.Event().wait()
    elif fault == "os._exit":
        os._exit(0)
    elif fault == "interrupt":
        raise KeyboardInterrupt
    else:
        sys.exit({"exit 3": 3, "exit 0": 0, "exit text": "no rows left"}[fault])


def raise_beside_the_stubborn(world, send):
    if world.rank == 0:
        ignore_sigterm_for_ever(world, send)
    send(f"pid {os.getpid()}")
    time.sleep(0.3)
    cause("raise")


def fail_at_exit(world, send):
    multiprocessing.util.Finalize(None, os._exit, args=(9,), exitpriority=100)
    return "done"


def leave_a_thread(world, send):
    threading.Thread(target=threading.Event().wait).start()


def count(world, send, num_messages):
    for number in range(num_messages):
        send((world.rank, number))
    return num_messages


def send_stamped(world, send, num_messages, num_bytes):
    for number in range(num_messages):
        send((number, time.monotonic(), bytes(num_bytes)))


def send_bytes(world, send, num_bytes):
    block = os.urandom(1 << 20)
    data = (block * (num_bytes // len(block) + 1))[:num_bytes]
    send(data)
    return data


def stop_within_a_message(world, send, num_bytes):
    """Rank 1 is stopped while its message waits for a parent that does not read yet."""
    if world.rank == 1:
        send("reads nothing for a second")
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGSTOP)).start()
        send(bytes(num_bytes))
    threading.Event().wait()


def send_from_threads(world, send, num_threads, num_messages, num_bytes):
    def send_all(index):
        for number in range(num_messages):
            send((index, number, bytes([index]) * num_bytes))

    threads = [threading.Thread(target=send_all, args=(index,)) for index in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def print_rubbish(world, send):
    for _ in range(50):
        os.write(1, os.urandom(4000) + b"\x00\xff\n")
        os.write(2, b"\xff\xfe rubbish \x80\n")
        send(world.rank)
    return world.rank


def hold_the_lock(world, send, num_steps):
    return sum(range(num_steps))  # one native call: no other thread of this process runs meanwhile


def return_a_lock(world, send):
    return threading.Lock()


def send_a_lock(world, send):
    send([threading.Lock()])


class OnlyInRanks:
    """Pickles well, but cannot be made again in the parent."""

    def __reduce__(self):
        return must_be_a_rank, (os.getpid(),)


def must_be_a_rank(pid):
    if os.getpid() != pid:
        raise ValueError("made in a rank only")
    return OnlyInRanks()


def send_only_in_ranks(world, send):
    send(OnlyInRanks())


def log_lines(world, send, num_lines):
    logger = logging.getLogger("llmpipe.test")
    for number in range(num_lines):
        logger.info("line %d of rank %d", number, world.rank)
        logger.debug("too much detail")
    try:
        cause("raise")
    except LookupError:
        logger.exception("with its traceback")


def surroundings(world, send):
    return os.environ.get("LLMPIPE_LAUNCH_TEST"), os.getcwd(), "torch" in sys.modules


def send_from_a_fork(world, send):
    """Return 0 if a forked child of the rank may not send; the rank itself sends after it."""
    child = os.fork()
    if child == 0:
        try:
            logging.getLogger("llmpipe.test").warning("from the fork")
            send("torn")
        except RuntimeError as error:
            os._exit(0 if "children" in str(error) else 1)
        os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    send("whole")
    return status


def call_again(world, send):
    """A rank that starts ranks."""
    return launch.run_ranks(index, 2)


def main(job: str, world_size: str, start_method: str | None = None) -> None:
    num_messages = 0

    def print_message(rank, message):
        nonlocal num_messages
        num_messages += 1
        print(f"message {rank} {message}", flush=True)

    module, _, name = job.rpartition(":")
    job = globals()[name] if module else getattr(importlib.import_module("launch_jobs"), name)
    print("begin", flush=True)
    try:
        results = launch.run_ranks(
            job,
            int(world_size),
            on_message=print_message,
            start_method=start_method,
            heartbeat_timeout_s=float(os.environ.get("LLMPIPE_HEARTBEAT_S", "10")),
        )
    finally:
        print(f"measured {num_messages}", flush=True)
    print(f"result {results}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
elif __name__ == "__mp_main__":  # a rank imports the script, because the job is the script's own
    time.sleep(float(os.environ.get("LLMPIPE_SLOW_IMPORT", "0")))
