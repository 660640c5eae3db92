"""Long turns on a core: what ranks ask of Linux when there are more of them than cores.

Processes that share a core take turns of about 3 ms, and each finds the core's caches filled by the
other. With turns of up to 100 ms four ranks on two cores tokenize about a tenth more. It changes
nothing where each rank has a core, and cannot be asked for before Linux 6.12 or on other systems.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the number of the system call
TURN_NS = 100_000_000  # the longest that Linux grants


def take_long_turns() -> bool:
    """Ask for long turns for the calling thread; whether the system took the request.

    Python's `os` has no function for it. Priority and scheduling class stay what they are.
    """
    call = SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or call is None:
        return False
    policy, nice = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    if policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return False
    # struct sched_attr (man 2 sched_setattr): size, policy, flags, nice, priority, runtime (the
    # turn), deadline, period.
    attributes = struct.pack("IIQiIQQQ", 48, policy, 0, nice, 0, TURN_NS, 0, 0)
    return ctypes.CDLL(None).syscall(call, 0, attributes, 0) == 0
