"""Checks of arguments: what is allowed passes, all else is one error with its name and value."""

import numpy as np
import pytest

from llmpipe.arguments import (
    check_choice,
    check_count,
    check_number,
    check_writable,
    whole_number,
)


@pytest.mark.parametrize("value", [0, 3, np.int64(3), np.uint8(3)])
def test_counts_come_back_as_plain_ints(value):
    assert type(check_count("n", value)) is int
    assert check_count("n", value) == value


@pytest.mark.parametrize(
    ("value", "bounds", "error", "message"),
    [
        (True, {}, TypeError, "n must be an integer, got True"),
        (3.0, {}, TypeError, "n must be an integer, got 3.0"),
        ("3", {}, TypeError, "n must be an integer, got '3'"),
        (None, {}, TypeError, "n must be an integer, got None"),
        (-1, {}, ValueError, "n must be 0 or more, got -1"),
        (0, {"least": 1}, ValueError, "n must be 1 or more, got 0"),
        (4, {"below": 4}, ValueError, r"n must be in \[0, 4\), got 4"),
    ],
)
def test_other_counts_are_refused(value, bounds, error, message):
    with pytest.raises(error, match=message):
        check_count("n", value, **bounds)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_numbers_within_bounds_pass(value):
    check_number("ratio", value, 0, 1)


@pytest.mark.parametrize(
    ("value", "most", "error", "message"),
    [
        (1.5, 1, ValueError, r"ratio must be in \[0, 1\], got 1.5"),
        (-1, None, ValueError, "ratio must be 0 or more, got -1"),
        (float("nan"), None, ValueError, "ratio must be 0 or more, got nan"),
        (float("nan"), 1, ValueError, r"ratio must be in \[0, 1\], got nan"),
        (False, 1, TypeError, r"ratio must be a number in \[0, 1\], got False"),
        ("1", None, TypeError, "ratio must be a number 0 or more, got '1'"),
    ],
)
def test_other_numbers_are_refused(value, most, error, message):
    with pytest.raises(error, match=message):
        check_number("ratio", value, 0, most)


def test_choices_are_named():
    check_choice("remainder", "pad", ("drop", "pad", "keep"))
    with pytest.raises(ValueError, match="remainder must be 'drop', 'pad' or 'keep', got 'padd'"):
        check_choice("remainder", "padd", ("drop", "pad", "keep"))


def test_whole_numbers_of_a_state_are_plain():
    assert whole_number(7) == 7
    for wrong in (-1, 7.0, True, "7", None, np.int64(7)):
        with pytest.raises(ValueError, match="a whole number of 0 or more is due"):
            whole_number(wrong)


def test_a_file_that_cannot_be_written_is_refused_and_nothing_is_left_behind(tmp_path):
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    old.write_text("kept")
    check_writable(new)
    check_writable(old)
    assert old.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [old]
    with pytest.raises(ValueError, match=r"cannot write .*x.json: there is no folder .*none"):
        check_writable(tmp_path / "none" / "x.json")
    with pytest.raises(ValueError, match=r"cannot write .*: Is a directory"):
        check_writable(tmp_path)
    with pytest.raises(ValueError, match=r"cannot write .*: File name too long"):
        check_writable(tmp_path / ("x" * 300))
