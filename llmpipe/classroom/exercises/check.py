"""Self-checks of the labs' exercises: a wrong answer gets a counterexample, not a diff.

    check("ids_lost", ids_lost)

says one of three things: not attempted (the function still raises NotImplementedError), wrong (with
the smallest input found that breaks it, what came out and what was due), right. The notebook
continues whatever it says. An answer that would never end, or fill the memory, is stopped.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmpipe.classroom.exercises import lab1, lab2, lab3, lab4
from llmpipe.classroom.exercises.exercise import Attempt, Exercise
from llmpipe.metrics import resident_bytes

LABS: dict[str, tuple[Exercise, ...]] = {
    "Lab1": lab1.EXERCISES,
    "Lab2": lab2.EXERCISES,
    "Lab3": lab3.EXERCISES,
    "Lab4": lab4.EXERCISES,
}
EXERCISES = {exercise.name: exercise for lab in LABS.values() for exercise in lab}

# An answer on such small inputs takes milliseconds; a loop without end is stopped at these.
MAX_SECONDS = 3.0
MAX_BYTES = 500_000_000
CHECK_EVERY_S = 0.05
STOP_SECONDS = 10.0  # how long a thread is asked to end

NOT_ATTEMPTED, WRONG, RIGHT = "not attempted", "wrong", "right"


@dataclass(frozen=True)
class Result:
    """What `check` found: `state` is one of the three, `message` what it printed."""

    exercise: str
    state: str
    message: str

    @property
    def right(self) -> bool:
        return self.state == RIGHT

    def _ipython_display_(self) -> None:
        """Nothing: as the last line of a cell, `check` has printed all there is to say."""


def check(exercise_name: str, answer: Any) -> Result:
    """Try a student's function on inputs from small to large, print the outcome, and return it.

    `None` and `...` are taken as not attempted. What the function prints is not shown: there are
    too many inputs. It is stopped after 3 s in all, or when it fills the memory.

    >>> def ids_lost(lengths, batch_size, block_size):
    ...     return sum(lengths) % block_size
    >>> check("ids_lost", ids_lost).state
    ids_lost: wrong
      input      ids_lost([1, 1], batch_size=1, block_size=2)
      came out   0
      was due    2   (left over of each map batch: [1, 1])
    'wrong'

    Raises KeyError naming the exercises if there is none of this name.
    """
    if exercise_name not in EXERCISES:
        raise KeyError(f"no exercise {exercise_name!r}; there are {', '.join(EXERCISES)}")
    result = examine(EXERCISES[exercise_name], answer)
    print(result.message)
    return result


def examine(exercise: Exercise, answer: Any) -> Result:
    """As `check`, without printing."""
    name = exercise.name
    pending = f"{name}: not attempted yet. Write it, run its cell, then run this one again."
    if answer is None or answer is ...:
        return Result(name, NOT_ATTEMPTED, pending)
    if not callable(answer):
        return Result(name, WRONG, f"{name}: wrong\n  a function is due, came {answer!r:.200}")
    attempt = Attempt(exercise, answer)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            failure = bounded(attempt.counterexample)
    except NotImplementedError:
        return Result(name, NOT_ATTEMPTED, pending)
    except OutOfBoundsError as bound:
        shown = exercise.shown(*attempt.current)
        failure = f"  input      {shown}\n  came out   nothing: stopped after {bound}"
    if failure:
        return Result(name, WRONG, f"{name}: wrong\n{failure}")
    return Result(name, RIGHT, f"{name}: right, on all of {attempt.num_tried:,} inputs")


class OutOfBoundsError(Exception):
    """Some work took too long or too much memory; says which."""


class _StopError(BaseException):
    """Raised inside a thread to end it; no Exception, so that no student's `except` takes it."""


def bounded(work: Callable[[], Any]) -> Any:
    """Return `work()`, or raise OutOfBoundsError after `MAX_SECONDS` or `MAX_BYTES` more memory.

    Errors of `work` pass through. A thread, since a signal would not do on Windows; a single long
    call into compiled code cannot be stopped, only left behind.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    started, bytes_before = time.monotonic(), resident_bytes()
    thread.start()
    try:
        while thread.is_alive():
            thread.join(CHECK_EVERY_S)
            if thread.is_alive() and time.monotonic() - started > MAX_SECONDS:
                raise OutOfBoundsError(f"{MAX_SECONDS:g} s")
            if thread.is_alive() and resident_bytes() - bytes_before > MAX_BYTES:
                raise OutOfBoundsError(f"{MAX_BYTES / 1e6:,.0f} MB")
    finally:
        if thread.is_alive():
            _stop(thread)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def _stop(thread: threading.Thread) -> None:
    stop, deadline = ctypes.py_object(_StopError), time.monotonic() + STOP_SECONDS
    # Again and again: raised inside a callback of the garbage collector, it would be swallowed.
    while thread.is_alive() and time.monotonic() < deadline:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), stop)
        thread.join(0.1)
