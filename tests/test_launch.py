"""Ranks that end well and ranks that do not: real processes, real signals, nothing left over."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import launch_jobs as jobs
import psutil
import pytest

from llmpipe.launching import start as rank_start
from llmpipe.launching.launch import RankError, run_ranks
from llmpipe.launching.rank import PACKET_BYTES

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

# Set LLMPIPE_LAUNCH_REPEATS=20 for figures that deserve to be published.
REPEATS = int(os.environ.get("LLMPIPE_LAUNCH_REPEATS", "1"))
repeated = pytest.mark.parametrize("repeat", range(REPEATS))
HANG_S = 60
SCRIPT = Path(jobs.__file__)


@pytest.fixture(autouse=True)
def no_hang():
    """Turn a hang of any test into an error; the limit is wide, and not a measurement."""

    def give_up(number, frame):
        pytest.fail(f"no end within {HANG_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANG_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_rank_left(request):
    """Compare this process's descendants before and after: only idle helpers may stay."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    left = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.pid not in before and not is_helper(process)
    ]
    _, alive = psutil.wait_procs(left, timeout=2)
    assert alive == [], f"left behind: {alive}"


def is_helper(process: psutil.Process) -> bool:
    """Whether this is the fork server or the resource tracker, which end with their parent."""
    try:
        command = " ".join(process.cmdline())
        forked = process.parent() is not None and process.parent().cmdline() == process.cmdline()
    except psutil.NoSuchProcess:
        return True
    return not forked and ("forkserver import main" in command or "resource_tracker" in command)


class Heard:
    """An `on_message` that keeps the messages, and the processes of ranks that sent their pid."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, object]] = []
        self.ranks: dict[int, psutil.Process] = {}

    def __call__(self, rank: int, message: object) -> None:
        self.messages.append((rank, message))
        if str(message).startswith("pid "):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended since
                self.ranks[rank] = psutil.Process(int(message.split()[1]))


def alive(processes) -> list[psutil.Process]:
    """Those that run; a zombie, which waits only for its parent to look, does not."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def run_until_error(job, world_size, *args, **options) -> tuple[RankError, Heard]:
    """Run; return the error, and what was heard of ranks of which none is alive any more."""
    heard = Heard()
    with pytest.raises(RankError) as caught:
        run_ranks(job, world_size, *args, on_message=heard, **options)
    assert alive(heard.ranks.values()) == []
    return caught.value, heard


# ---- ranks that end well ----------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_results_come_in_rank_order(start_method):
    for world_size in (1, 2, 5):
        results = run_ranks(jobs.index, world_size, start_method=start_method)
        assert results == [(rank, world_size) for rank in range(world_size)]


@pytest.mark.parametrize("num_rows", [0, 1, 3])
@pytest.mark.parametrize("world_size", range(1, 9))
def test_ranks_above_the_number_of_rows_have_empty_shards(world_size, num_rows):
    shards = run_ranks(jobs.shard, world_size, list(range(num_rows)))
    assert len(shards) == world_size
    assert sorted(row for shard in shards for row in shard) == list(range(num_rows))


def test_every_rank_is_a_process_of_its_own():
    assert len({os.getpid(), *run_ranks(jobs.process_ids, 3)}) == 4


def test_ten_thousand_messages_a_rank_all_arrive_in_each_ranks_order():
    received = {rank: [] for rank in range(4)}
    threads = set()

    def note(rank, message):
        received[rank].append(message)
        threads.add(threading.current_thread())

    assert run_ranks(jobs.count, 4, 10_000, on_message=note) == [10_000] * 4
    for rank in range(4):
        assert received[rank] == [(rank, number) for number in range(10_000)]
    assert threads == {threading.main_thread()}


EDGE = PACKET_BYTES


@pytest.mark.parametrize("num_bytes", [0, 1, *range(EDGE - 40, EDGE, 4), 2 * EDGE, 50_000_000])
def test_message_and_result_of_any_size_arrive_whole(num_bytes):
    received = []
    results = run_ranks(
        jobs.send_bytes, 1, num_bytes, on_message=lambda rank, data: received.append(data)
    )
    assert len(received) == 1
    assert len(received[0]) == num_bytes
    assert received == results


def test_messages_of_several_threads_of_a_rank_stay_whole():
    received = []
    num_bytes = 5 * PACKET_BYTES
    run_ranks(
        jobs.send_from_threads, 2, 4, 100, num_bytes, on_message=lambda *pair: received.append(pair)
    )
    for rank in range(2):
        for index in range(4):
            mine = [
                message for sender, message in received if (sender, message[0]) == (rank, index)
            ]
            expected = bytes([index]) * num_bytes
            assert mine == [(index, number, expected) for number in range(100)]
    assert len(received) == 800


def test_send_waits_for_a_slow_parent_and_drops_nothing():
    numbers, stamps = [], []

    def note(rank, message):
        numbers.append(message[0])
        stamps.append(message[1])
        if len(numbers) == 1:
            time.sleep(0.5)
            stamps.append("awake")
            note.awake_s = time.monotonic()

    run_ranks(jobs.send_stamped, 1, 200, 10_000, on_message=note)
    assert numbers == list(range(200))
    ahead = sum(1 for stamp in stamps if stamp != "awake" and stamp < note.awake_s)
    assert 1 <= ahead <= 20  # a pipe holds 64 KiB, six such messages: the others were not yet made


def test_rubbish_on_stdout_and_stderr_does_no_harm(capfd):
    received = []
    results = run_ranks(jobs.print_rubbish, 4, on_message=lambda rank, _: received.append(rank))
    capfd.readouterr()
    assert results == [0, 1, 2, 3]
    assert [received.count(rank) for rank in range(4)] == [50] * 4


def test_ranks_have_the_present_environment_and_folder(monkeypatch, tmp_path):
    for value in ("first", "second"):  # the fork server kept the environment of its own start
        monkeypatch.setenv("LLMPIPE_LAUNCH_TEST", value)
        (tmp_path / value).mkdir()
        monkeypatch.chdir(tmp_path / value)
        folder = str((tmp_path / value).resolve())
        assert [one[:2] for one in run_ranks(jobs.surroundings, 2)] == [(value, folder)] * 2


def test_neither_launch_nor_a_rank_imports_torch_by_itself():
    code = """
        import sys
        import launch_jobs
        import llmpipe.launching.distributed
        from llmpipe.launching.launch import run_ranks
        heavy = {"torch", "transformers", "pandas", "numpy", "psutil"} & {*sys.modules}
        print(sorted(heavy), [one[2] for one in run_ranks(launch_jobs.surroundings, 1)])
    """
    assert python(code).stdout == "[] [False]\n"


def test_preload_spares_the_ranks_an_import():
    code = """
        import launch_jobs
        from llmpipe.launching.launch import run_ranks
        ranks = run_ranks(launch_jobs.surroundings, 2, preload=["torch"], start_method="forkserver")
        print([one[2] for one in ranks])
    """
    assert python(code).stdout == "[True, True]\n"


def test_log_records_are_handled_by_the_parent_with_their_rank(caplog):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[%(rank)s] %(levelname)s %(message)s"))
    logger = logging.getLogger("llmpipe")
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, logger="llmpipe")
    try:
        run_ranks(jobs.log_lines, 3, 500)
    finally:
        logger.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    for rank in range(3):
        mine = [line for line in lines if line.endswith(f"of rank {rank}")]
        assert mine == [f"[{rank}] INFO line {number} of rank {rank}" for number in range(500)]
        assert f"[{rank}] ERROR with its traceback" in lines
    assert lines.count("LookupError: row 17 is missing") == 3
    assert "too much detail" not in stream.getvalue()


def test_quiet_parent_hears_no_info_from_ranks(caplog):
    caplog.set_level(logging.ERROR, logger="llmpipe")
    run_ranks(jobs.log_lines, 2, 5)
    assert [record.rank for record in caplog.records if record.name == "llmpipe.test"] in (
        [0, 1],
        [1, 0],
    )


def test_a_fork_of_a_rank_cannot_tear_the_ranks_messages():
    received = []
    assert run_ranks(
        jobs.send_from_a_fork, 2, on_message=lambda rank, text: received.append(text)
    ) == [0, 0]
    assert received == ["whole", "whole"]


def test_a_rank_can_start_ranks():
    assert run_ranks(jobs.call_again, 2) == [[(0, 2), (1, 2)]] * 2


def test_runs_in_a_thread_beside_another_run():
    results = {}

    def run(name):
        results[name] = run_ranks(jobs.index, 2)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert results == {name: [(0, 2), (1, 2)] for name in range(3)}


def test_many_runs_leave_no_open_files_and_no_semaphores():
    def count():
        shared = len(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else 0
        return psutil.Process().num_fds(), shared, threading.active_count()

    run_ranks(jobs.index, 2)
    before = count()
    for _ in range(10):
        run_ranks(jobs.index, 2)
        with pytest.raises(RankError):
            run_ranks(jobs.fail_in_rank_1, 2, "raise")
    assert count() == before


# ---- L1, L2: ranks that fail ------------------------------------------------------------------

FAULTS = {
    "raise": ["raised LookupError", "Traceback", "row 17 is missing", "in cause"],
    "interrupt": ["raised KeyboardInterrupt", "in cause"],
    "exit 3": ["exited with status 3 before its job was done", "in cause"],
    "exit 0": ["exited with status 0 before its job was done", "in cause"],
    "exit text": ["exited with status 1 before its job was done", "no rows left"],
    "os._exit": ["exited with status 0 before its job was done"],
    "SIGKILL": ["was killed by SIGKILL (out of memory?)"],
    "SIGSEGV": ["was killed by SIGSEGV"],
    "SIGABRT": ["was killed by SIGABRT"],
    "SIGTERM": ["was killed by SIGTERM"],
}


@repeated
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_rank_is_named_and_the_others_are_stopped(fault, start_method, repeat):
    error, heard = run_until_error(jobs.fail_in_rank_1, 4, fault, 100, start_method=start_method)
    mine = [message for rank, message in heard.messages if rank == 1]
    assert error.rank == 1
    assert mine == [
        *range(100),
        f"pid {error.pid}",
    ]  # all that it sent before the fault has arrived
    assert str(error).startswith(f"rank 1 (pid {error.pid}) ")
    for part in FAULTS[fault]:
        assert part in str(error)


@repeated
def test_a_rank_killed_from_outside_is_named(repeat):
    heard = Heard()

    def note(rank, message):
        heard(rank, message)
        if len(heard.ranks) == 4:
            heard.ranks[2].kill()

    with pytest.raises(RankError, match="SIGKILL") as caught:
        run_ranks(jobs.wait_for_ever, 4, on_message=note)
    assert (caught.value.rank, caught.value.pid) == (2, heard.ranks[2].pid)
    assert alive(heard.ranks.values()) == []


@repeated
def test_a_stopped_rank_is_found_by_its_silence(repeat):
    error, _ = run_until_error(jobs.fail_in_rank_1, 4, "SIGSTOP", heartbeat_timeout_s=1)
    assert error.rank == 1
    assert "no sign of life for 1 s" in str(error)
    assert "stopped" in str(error)


@repeated
def test_a_rank_stopped_within_a_message_does_not_hang_the_parent(repeat):
    received = []

    def note(rank, message):
        received.append(message)
        time.sleep(1)

    with pytest.raises(RankError, match="no sign of life") as caught:
        run_ranks(jobs.stop_within_a_message, 2, 10_000_000, on_message=note, heartbeat_timeout_s=1)
    assert caught.value.rank == 1
    assert received == ["reads nothing for a second"]


def test_a_native_call_that_holds_the_lock_is_silence_unless_the_timeout_allows_it():
    error, _ = run_until_error(jobs.hold_the_lock, 1, 10**9, heartbeat_timeout_s=0.5)
    assert "raise heartbeat_timeout_s" in str(error)
    assert run_ranks(jobs.hold_the_lock, 1, 10**7) == [sum(range(10**7))]


def test_a_busy_parent_does_not_blame_its_ranks():
    def note(rank, message):
        if message == (0, 50):
            time.sleep(2.5)

    assert run_ranks(jobs.count, 3, 100, on_message=note, heartbeat_timeout_s=1) == [100] * 3


@repeated
def test_a_rank_that_ignores_sigterm_is_killed(repeat):
    error, heard = run_until_error(jobs.raise_beside_the_stubborn, 2)
    assert error.rank == 1
    assert "row 17 is missing" in str(error)
    assert len(heard.ranks) == 2


def test_a_rank_that_fails_after_its_result_has_failed():
    error, _ = run_until_error(jobs.fail_at_exit, 2)
    assert "exited with status 9 after its job was done" in str(error)


def test_a_rank_that_is_done_but_cannot_exit_has_failed():
    error, _ = run_until_error(jobs.leave_a_thread, 2, heartbeat_timeout_s=1)
    assert "finished its job but did not exit" in str(error)


@pytest.mark.parametrize(
    ("job", "parts"),
    [
        (jobs.return_a_lock, ["a result of type lock cannot be pickled", "in run_rank"]),
        (jobs.send_a_lock, ["a message of type list cannot be pickled", "in send_a_lock"]),
        (jobs.send_only_in_ranks, ["cannot be unpickled here", "made in a rank only"]),
    ],
)
def test_what_cannot_travel_back_names_rank_and_type(job, parts):
    error, _ = run_until_error(job, 1)
    assert error.rank == 0
    for part in parts:
        assert part in str(error)


def test_an_error_in_on_message_stops_the_ranks_and_is_raised_as_it_is():
    heard = Heard()

    def note(rank, message):
        heard(rank, message)
        if len(heard.ranks) == 3:
            raise ZeroDivisionError("in the parent")

    with pytest.raises(ZeroDivisionError, match="in the parent"):
        run_ranks(jobs.wait_for_ever, 3, on_message=note)
    assert len(heard.ranks) == 3
    assert alive(heard.ranks.values()) == []


def test_ranks_end_even_if_their_fork_server_is_killed():
    code = """
        import os, signal
        import launch_jobs, psutil
        from llmpipe.launching.launch import RankError, run_ranks

        ranks = []
        def note(rank, message):
            ranks.append(psutil.Process(int(message.split()[1])))
            if len(ranks) == 2:
                os.kill(ranks[0].ppid(), signal.SIGKILL)

        try:
            run_ranks(launch_jobs.wait_for_ever, 2, on_message=note, start_method="forkserver")
        except RankError as error:
            print(error)
        print(len(ranks), psutil.wait_procs(ranks, timeout=5)[1])
        print(run_ranks(launch_jobs.index, 2, start_method="forkserver"))
    """
    lines = python(code).stdout.splitlines()
    assert "exited with status 255" in lines[0]
    assert lines[1:] == ["2 []", "[(0, 2), (1, 2)]"]


def test_rank_error_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(RankError(3, 77, "raised")))
    assert (error.rank, error.pid, str(error)) == (3, 77, "rank 3 (pid 77) raised")


# ---- L5: what cannot start --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world_size", "error"),
    [(0, ValueError), (-1, ValueError), (True, TypeError), (2.0, TypeError), ("4", TypeError)],
)
def test_a_wrong_world_size_is_refused_by_name(world_size, error):
    with pytest.raises(error, match=f"world_size.*{world_size!r}"):
        run_ranks(jobs.index, world_size)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"start_method": "fork"}, ValueError, "start_method.*'fork'"),
        ({"heartbeat_timeout_s": 0}, ValueError, "heartbeat_timeout_s.*0"),
        ({"preload": "torch"}, TypeError, "preload.*'torch'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options, error, match):
    with pytest.raises(error, match=match):
        run_ranks(jobs.index, 1, **options)


def nested():
    return lambda world, send: None


@pytest.mark.parametrize(
    ("job", "args", "match"),
    [
        (nested(), (), "job .*lambda.*move them there"),
        (jobs.shard, (threading.Lock(),), r"args\[0\] \(lock\) cannot be sent"),
        (jobs.shard, ([1, nested()],), r"args\[0\] \(list\) cannot be sent.*module"),
        (5, (), "job must be a function, got 5"),
    ],
)
def test_what_cannot_be_sent_to_a_rank_is_refused_before_any_start(monkeypatch, job, args, match):
    monkeypatch.setattr(rank_start.Starter, "start", lambda starter: pytest.fail("started"))
    with pytest.raises(TypeError, match=match):
        run_ranks(job, 2, *args)


NOTEBOOK = """
    import launch_jobs
    from llmpipe.launching.launch import run_ranks

    def job(world, send):
        return 1

    class Settings:
        pass

    print(run_ranks(launch_jobs.index, 2))
    for arguments in ((job, 2), (launch_jobs.shard, 2, Settings())):
        try:
            run_ranks(*arguments)
        except TypeError as error:
            print(error)
"""


def test_a_function_of_a_prompt_is_refused_and_one_of_a_module_works_there():
    lines = python(NOTEBOOK).stdout.splitlines()
    assert lines[0] == "[(0, 2), (1, 2)]"
    assert lines[1].startswith("job (job) cannot be sent to a rank")
    assert lines[2].startswith("args[0] (Settings) cannot be sent to a rank")
    assert all("module (a .py file): move them there" in line for line in lines[1:])
    assert len(lines) == 3


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_script_may_run_its_own_job_under_its_guard(tmp_path, start_method):
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
        from dataclasses import dataclass
        from llmpipe.launching.launch import run_ranks

        @dataclass
        class Settings:
            factor: int

        def job(world, send, settings):
            send(settings)
            return world.rank * settings.factor

        if __name__ == "__main__":
            settings, seen = Settings(10), []
            print(run_ranks(job, 3, settings, on_message=lambda rank, one: seen.append(one),
                            start_method="{start_method}"), seen == [settings] * 3)
        """)
    )
    assert python(tmp_path / "script.py").stdout == "[0, 10, 20] True\n"


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize("job", ["launch_jobs.index", "job"])
def test_a_script_without_a_guard_is_told_of_it(tmp_path, job, start_method):
    script = tmp_path / "script.py"
    head = "import launch_jobs\nfrom llmpipe.launching.launch import run_ranks\n"
    head += "def job(world, send): ...\n"
    script.write_text(head + f"run_ranks({job}, 2, start_method='{start_method}')\n")
    ended = python(script, check=False)
    assert ended.returncode == 1
    assert 'under `if __name__ == "__main__":`?' in ended.stderr.splitlines()[-1]


def test_a_script_on_standard_input_is_told_that_ranks_need_a_file():
    code = "import launch_jobs, llmpipe\nllmpipe.run_ranks(launch_jobs.index, 2)"
    ended = python(code, way="-", check=False)
    assert ended.returncode == 1
    assert "is run_ranks called in a file" in ended.stderr.splitlines()[-1]
    assert "<stdin>" in ended.stderr


def test_it_works_in_a_notebook_and_heeds_its_stop_button(tmp_path):
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(cwd=str(SCRIPT.parent))
    try:
        output = cell(client, textwrap.dedent(NOTEBOOK))
        assert output[0] == "[(0, 2), (1, 2)]"
        assert len([line for line in output if line.endswith("move them there")]) == 2
        wait = "run_ranks(launch_jobs.wait_for_ever, 2, on_message=lambda rank, text: print(text))"
        output = cell(client, wait, stop_after=2, interrupt=kernel.interrupt_kernel)
        pids = [int(line.split()[1]) for line in output if line.startswith("pid ")]
        assert len(pids) == 2
        assert "KeyboardInterrupt" in output
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert cell(client, "print(run_ranks(launch_jobs.index, 2))") == ["[(0, 2), (1, 2)]"]
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def cell(client, code: str, stop_after: int | None = None, interrupt=None) -> list[str]:
    """Run one cell; return its output lines and its error's name. Interrupt after so many lines."""
    request, lines = client.execute(code), []
    while True:
        message = client.get_iopub_msg(timeout=HANG_S)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            lines += content["text"].splitlines()
        elif message["msg_type"] == "error":
            lines.append(content["ename"])
        elif content.get("execution_state") == "idle":
            return lines
        if stop_after is not None and len(lines) >= stop_after:
            interrupt()
            stop_after = None


def python(code, way="-c", check=True) -> subprocess.CompletedProcess:
    """Run code (text, or the path of a script) in a Python of its own beside launch_jobs.py."""
    text = None if isinstance(code, Path) else textwrap.dedent(code)
    command = [str(code)] if text is None else ["-c", text] if way == "-c" else ["-"]
    paths = [str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *command],
        input=text if way == "-" else None,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=check,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


# ---- L3: a parent that is signalled -----------------------------------------------------------


class Target:
    """launch_jobs.py as a session and process group of its own; whoever is in it can be seen."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **environ},
        )
        assert self.process.stdout.readline() == "begin\n"

    def members(self) -> list[psutil.Process]:
        """Every process of the session that lives: parent, helpers, ranks."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
            except ProcessLookupError:
                continue
        return alive(found)

    def wait_for_messages(self, num_messages: int) -> list[psutil.Process]:
        lines = [self.process.stdout.readline().split() for _ in range(num_messages)]
        return [psutil.Process(int(line[3])) for line in lines]

    def wait_for_members(self, num_members: int) -> None:
        while len(self.members()) < num_members:
            assert self.process.poll() is None

    def signal(self, number: int, group: bool) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, stdout, stderr

    def orphans(self) -> list[psutil.Process]:
        """Who is left five seconds after the parent ended."""
        deadline = time.monotonic() + 5
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in left:
            process.kill()
        return left


def check_end(target: Target, number: int) -> None:
    returncode, stdout, stderr = target.end()
    expected = {signal.SIGINT: (-2, 130), signal.SIGTERM: (143,), signal.SIGKILL: (-9,)}
    assert returncode in expected[number], stderr
    assert target.orphans() == []
    if number != signal.SIGKILL:
        assert stdout.splitlines()[-1].startswith("measured ")
        # The parent's own KeyboardInterrupt is the only traceback: ranks print none.
        assert stderr.count("Traceback") == (1 if number == signal.SIGINT else 0), stderr


TO_PARENT, TO_GROUP = False, True
SIGNALS = [
    (signal.SIGINT, TO_PARENT),
    (signal.SIGINT, TO_GROUP),
    (signal.SIGTERM, TO_PARENT),
    (signal.SIGTERM, TO_GROUP),
    (signal.SIGKILL, TO_PARENT),
]


@repeated
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize(("number", "group"), SIGNALS)
def test_a_signal_to_the_parent_ends_all_ranks(number, group, start_method, repeat):
    target = Target("wait_for_ever", "4", start_method)
    ranks = target.wait_for_messages(4)
    assert len(set(ranks)) == 4
    target.signal(number, group)
    check_end(target, number)
    assert alive(ranks) == []


@repeated
@pytest.mark.parametrize(("number", "group"), SIGNALS[1:])
def test_a_signal_ends_ranks_that_ignore_sigterm(number, group, repeat):
    target = Target("ignore_sigterm_for_ever", "4")
    ranks = target.wait_for_messages(4)
    target.signal(number, group)
    check_end(target, number)
    assert alive(ranks) == []


# How many processes there are when the signal comes: the parent, the resource tracker, the fork
# server if that is the way, and then the ranks.
MOMENTS = [("forkserver", number) for number in (2, 3, 4, 5, 7)]
MOMENTS += [("spawn", number) for number in (2, 3, 6)]


@repeated
@pytest.mark.parametrize(
    ("number", "group", "start_method", "num_members"),
    [(*SIGNALS[4], *moment) for moment in MOMENTS]
    + [(*SIGNALS[1], *moment) for moment in MOMENTS]
    + [(*SIGNALS[index], *moment) for index in (0, 2, 3) for moment in MOMENTS[1::4]],
)
def test_a_signal_during_start_up_leaves_nobody(number, group, start_method, num_members, repeat):
    target = Target("wait_for_ever", "4", start_method)
    target.wait_for_members(num_members)
    target.signal(number, group)
    check_end(target, number)


@repeated
@pytest.mark.parametrize(("number", "group"), SIGNALS)
def test_a_signal_while_ranks_import_the_script_leaves_nobody(number, group, repeat):
    target = Target("main:wait_for_ever", "4", "spawn", LLMPIPE_SLOW_IMPORT="1")
    target.wait_for_members(6)
    time.sleep(0.3)
    target.signal(number, group)
    check_end(target, number)


def test_a_second_ctrl_c_leaves_nobody_either():
    target = Target("ignore_sigterm_for_ever", "4")
    ranks = target.wait_for_messages(4)
    target.signal(signal.SIGINT, group=True)
    time.sleep(0.3)
    target.signal(signal.SIGINT, group=True)
    returncode, _, stderr = target.end()
    assert returncode in (-2, 130), stderr
    assert target.orphans() == []
    assert alive(ranks) == []


def test_a_group_stopped_for_longer_than_the_timeout_goes_on_when_continued():
    target = Target("wait_for_ever", "2", LLMPIPE_HEARTBEAT_S="1")
    target.wait_for_messages(2)
    target.signal(signal.SIGSTOP, group=True)
    time.sleep(2)
    target.signal(signal.SIGCONT, group=True)
    time.sleep(1.5)
    assert target.process.poll() is None
    target.signal(signal.SIGINT, group=True)
    check_end(target, signal.SIGINT)


def test_a_failed_rank_makes_the_script_exit_with_1_and_its_traceback():
    target = Target("raise_beside_the_stubborn", "2")
    returncode, stdout, stderr = target.end()
    assert returncode == 1
    assert "rank 1 (pid " in stderr
    assert "row 17 is missing" in stderr
    assert stdout.splitlines()[-1] == "measured 2"
    assert target.orphans() == []


def test_sigterm_is_the_programs_own_again_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    run_ranks(jobs.index, 1)
    with pytest.raises(RankError):
        run_ranks(jobs.fail_in_rank_1, 2, "raise")
    assert signal.getsignal(signal.SIGTERM) is before
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        run_ranks(jobs.index, 1, on_message=None)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
