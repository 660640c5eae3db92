"""The report on ranks, on results written by hand."""

import pytest

from llmpipe.classroom.ranks import report as rank_report
from llmpipe.classroom.ranks.script import one_line
from llmpipe.launching.launch import RankError

ALONE = {
    "ids_per_s": 50.0,
    "samples_per_s": 50.0,
    "own_rows": 9,
    "batches": 2,
    "first_batch_at": 0.0,
    "finished": 1.5,
}


def result(rank, started, first, finished, count):
    moments = {"started": started, "first_batch_at": first, "finished": finished}
    return {"rank": rank, "ids": count, "samples": count, "own_rows": 10 * rank, **moments}


RESULTS = [result(0, 10.5, 12.0, 15.0, 100), result(1, 11.0, 13.0, 16.0, 300)]


@pytest.mark.parametrize(("unit", "since"), [("ids", 12.0), ("samples", 10.5)])
def test_totals_of_two_ranks(unit, since, monkeypatch):
    monkeypatch.setattr(rank_report, "usable_cores", lambda: 1)
    found = rank_report.totals(RESULTS, ALONE, opened=10.0, closed=17.0, unit=unit)
    rate = 400 / (16.0 - since)
    assert found[unit] == 400
    assert (found["total_s"], found["start_up_s"], found["steady_s"]) == (7.0, 3.0, 16.0 - since)
    assert found[f"{unit}_per_s"] == rate
    assert found["speed_up"] == rate / 50
    assert found["efficiency"] == rate / 100
    assert found["core_efficiency"] == rate / 50
    assert (found["alone_s"], found["alone_rows"]) == (1.5, 9)
    card = rank_report.totals_card(found)
    assert f"{rate / 50:.2f} with 2 ranks on 1 cores" in card


def test_what_is_too_short_to_tell_is_not_told():
    alone = {**ALONE, "ids_per_s": 0.0}
    short = [result(0, 10.0, 10.1, 10.2, 5)]
    found = rank_report.totals(short, alone, opened=10.0, closed=10.5)
    for name in ("ids_per_s", "alone_ids_per_s", "speed_up", "efficiency"):
        assert found[name] is None
    assert rank_report.totals_card(found).count("too short to tell") == 2


def test_the_skew_of_a_rank_is_how_much_later_it_ends_than_the_first():
    lines = rank_report.coordination_table(RESULTS, opened=10.0).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["0", "0.50", "5.00", "0", "0.00"],
        ["1", "1.00", "6.00", "10", "1.00"],
    ]


def test_an_error_of_a_rank_is_one_line_with_rank_and_pid():
    trace = "Traceback (most recent call last):\n  File x\nValueError: row 7:\n  see below"
    error = RankError(2, 17, f"raised ValueError\n\n{trace}")
    assert one_line(error) == "rank 2 (pid 17): ValueError: row 7: see below"
    assert (
        one_line(RankError(1, 5, "was killed by SIGKILL"))
        == "rank 1 (pid 5): was killed by SIGKILL"
    )
