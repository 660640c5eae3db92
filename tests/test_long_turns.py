import ctypes
import platform
import struct
import subprocess
import sys

import pytest

from llmpipe import run_ranks
from llmpipe.launching.long_turns import SCHED_SETATTR, TURN_NS, take_long_turns

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}


def turn_here(world=None, send=None):
    """The turn that the system grants this process, in ns; None where it does not say."""
    attributes = ctypes.create_string_buffer(48)
    call = SCHED_GETATTR.get(platform.machine())
    if sys.platform != "linux" or ctypes.CDLL(None).syscall(call, 0, attributes, 48, 0):
        return None
    return struct.unpack("IIQiIQQQ", attributes.raw)[5]


def test_ranks_have_long_turns_and_this_process_keeps_its_own():
    before = turn_here()
    if before is None or not all(turn == TURN_NS for turn in run_ranks(turn_here, 2)):
        release = tuple(int(number) for number in platform.release().split(".")[:2])
        assert sys.platform != "linux" or release < (6, 12), platform.release()
        pytest.skip(f"{platform.platform()} grants none")
    assert turn_here() == before != TURN_NS


@pytest.mark.skipif(sys.platform != "linux", reason="there are no such turns")
def test_a_polite_process_stays_polite():
    code = "import os; from llmpipe.long_turns import take_long_turns; take_long_turns();"
    code += "print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == os.SCHED_BATCH)"
    before = "import os; os.nice(7); os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0));"
    done = subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True)
    assert done.stdout == "7 True\n", done.stderr


def test_where_it_cannot_be_asked_for_nothing_happens(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" not in SCHED_SETATTR
    assert take_long_turns() is False
