"""What an exercise is, and how a wrong answer is found: inputs from small to large, then shrunk."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

LONGEST_SHOWN = 300  # characters of an input or an output in a message
# Parts of an input that are 1 or more in every exercise.
SIZES = ("batch_size", "block_size", "every", "max_length", "num_cores", "num_ranks", "world_size")


class Exercise:
    """One exercise; each lab's are subclasses, and the arguments of their methods are the input.

    An input is a tuple of plain data (numbers, strings, lists), so that it can be copied, shrunk
    and shown; `arguments` makes of it what the student's function is called with, and `output` says
    what counts as its output, where that is more than what it returns. The parameters of `due` name
    the parts of an input; all but the first have the names of the student's function.
    """

    signature: str

    @property
    def task(self) -> str:
        """What the student is asked to do: the docstring, Markdown of at most 60 words."""
        return " ".join(self.__doc__.split())

    @property
    def name(self) -> str:
        """What the student's function or class is called, and the exercise too."""
        return self.signature.partition("(")[0]

    def inputs(self) -> Iterable[tuple]:
        """Inputs to try, from small to large. The first to fail is the one that is shown."""
        raise NotImplementedError

    def due(self, *data: Any) -> tuple[Any, str]:
        """The right output for an input and, in a few words, how it comes about."""
        raise NotImplementedError

    def allowed(self, *data: Any) -> bool:
        """Whether an input keeps to what the task promises, beside `SIZES`; a shrunk one must."""
        return True

    @property
    def parts(self) -> list[str]:
        """The names of an input's parts."""
        return list(inspect.signature(self.due).parameters)

    def simpler(self, *data: Any) -> Iterator[tuple]:
        """Inputs one step simpler that keep to what the task promises."""
        sizes = [index for index, name in enumerate(self.parts) if name in SIZES]
        for smaller in simpler(data):
            if all(smaller[index] >= 1 for index in sizes) and self.allowed(*smaller):
                yield smaller

    def arguments(self, *data: Any) -> tuple:
        """What the student's function is called with: fresh at each call, so that it can be
        changed without harm."""
        return copy.deepcopy(data)

    def output(self, answer: Any, *data: Any) -> Any:
        """What the student's answer gives for an input, to compare with `due`."""
        return answer(*self.arguments(*data))

    def shown(self, *data: Any) -> str:
        """The call as one would type it, all arguments but the first by name."""
        first, *others = self.arguments(*data)
        named = map("{}={!r}".format, self.parts[1:], others)
        return f"{self.name}({', '.join([self.shown_first(first), *named])})"

    def shown_first(self, value: Any) -> str:
        """The first argument as one would type it."""
        return repr(value)

    def shown_output(self, value: Any) -> str:
        """An output, the student's or the right one, for a message."""
        return repr(value)

    @property
    def stub(self) -> str:
        """The code cell to start from."""
        return f"def {self.signature}:\n    raise NotImplementedError"


class Attempt:
    """One student's function or class on an exercise; `current` is the input it is at work on."""

    def __init__(self, exercise: Exercise, function: Any) -> None:
        self.exercise, self.function = exercise, function
        self.current: tuple | None = None
        self.num_tried = 0

    def counterexample(self) -> str | None:
        """The smallest input found that breaks the function, in words; None if there is none.

        Raises NotImplementedError where the function does so on its first input.
        """
        for data in self.exercise.inputs():
            if self.failure(*data):
                return self.failure(*self._shrunk(data))
        return None

    def failure(self, *data: Any) -> str | None:
        """What is wrong on one input, as three lines, or None."""
        exercise = self.exercise
        self.current = data
        first, self.num_tried = self.num_tried == 0, self.num_tried + 1
        due, why = exercise.due(*data)
        try:
            got = plain(exercise.output(self.function, *data))
            if alike(got, due):
                return None
            came_out = cut(exercise.shown_output(got))
        except NotImplementedError:
            if first:
                raise
            came_out = "NotImplementedError"
        except (Exception, SystemExit) as error:  # whatever it is, the student is shown it
            came_out = cut(f"{type(error).__name__}: {error}".splitlines()[0])
        return (
            f"  input      {cut(exercise.shown(*data))}\n"
            f"  came out   {came_out}\n"
            f"  was due    {cut(exercise.shown_output(due))}   ({why})"
        )

    def _shrunk(self, data: tuple) -> tuple:
        """The smallest input that still fails, by making one part of it simpler at a time."""
        for smaller in self.exercise.simpler(*data):
            if self.failure(*smaller):
                return self._shrunk(smaller)
        return data


def simpler(value: Any) -> Iterator[Any]:
    """Values one step simpler: shorter, or with one part simpler; the boldest step first.

    >>> list(simpler([4])), list(simpler("ab"))
    ([[], [2], [0], [2], [3]], ['', 'b', 'a'])
    """
    if isinstance(value, tuple):
        for index, part in enumerate(value):
            for smaller in simpler(part):
                yield (*value[:index], smaller, *value[index + 1 :])
    elif isinstance(value, (str, list)):
        step = len(value)
        while step:
            for start in range(0, len(value), step):
                yield value[:start] + value[start + step :]
            step //= 2
        if isinstance(value, list):
            if value and all(type(part) is int and part > 1 for part in value):
                yield [part // 2 for part in value]  # keeps their proportions
            for index, part in enumerate(value):
                for smaller in simpler(part):
                    yield [*value[:index], smaller, *value[index + 1 :]]
    elif isinstance(value, int):
        yield from sorted(part for part in {0, value // 2, value - 1} if 0 <= part < value)


def plain(value: Any) -> Any:
    """Arrays, tensors and tuples as lists, NumPy's numbers as Python's: to compare and to show.

    >>> import numpy as np
    >>> plain((np.arange(2), np.int64(5)))
    [[0, 1], 5]
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


def alike(got: Any, due: Any) -> bool:
    """Whether an output is right: whole numbers exactly, and as such; others to nine digits.

    >>> alike(True, 1), alike(1.0, 1), alike(1, 1.0), alike([0.1 + 0.2], [0.3])
    (True, False, True, True)
    """
    if isinstance(due, list):
        same_length = isinstance(got, list) and len(got) == len(due)
        return same_length and all(map(alike, got, due))
    if isinstance(due, dict):
        same_keys = isinstance(got, dict) and got.keys() == due.keys()
        return same_keys and all(alike(got[key], due[key]) for key in due)
    if isinstance(due, float):
        return isinstance(got, Real) and math.isclose(got, due, rel_tol=1e-9)
    if isinstance(due, int):
        return isinstance(got, Integral) and got == due
    return type(got) is type(due) and got == due


def cut(text: str) -> str:
    """`text` if it is short enough for a message, else its beginning."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 4] + " ..."
