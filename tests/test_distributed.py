"""Ranks of unequal length, made even by real votes of real processes."""

import pytest
import share_jobs as jobs
import torch

from llmpipe import run_ranks
from llmpipe.classroom.ranks.demos import give_out
from llmpipe.launching.distributed import UNEVEN, EvenBatches, meeting_point, padding_batch
from llmpipe.launching.launch import RankError

PRELOAD = ("torch",)


class Ranks:
    """All ranks in one process, in lock step: the votes of a round are counted when all are in."""

    def __init__(self, lengths, uneven):
        left = list(lengths)
        self.given = [[] for _ in lengths]
        votes = []
        self.even = [
            EvenBatches(range(n), uneven, lambda has, votes=votes: votes[-1], -1, len(lengths))
            for n in lengths
        ]
        streams = [iter(one) for one in self.even]
        while streams:
            votes.append(sum(n > 0 for n in left))
            left = [n - 1 for n in left]
            items = [next(stream, None) for stream in streams]
            for given, item in zip(self.given, items, strict=True):
                if item is not None:
                    given.append(item)
            if all(item is None for item in items):
                break


@pytest.mark.parametrize("lengths", [[3, 5], [0, 2, 1], [4], [2, 2], [0, 0], [7, 0]])
def test_the_ways_of_uneven_ranks(lengths):
    least, most = min(lengths), max(lengths)
    assert Ranks(lengths, "continue").given == [list(range(n)) for n in lengths]
    shortest = Ranks(lengths, "shortest")
    assert shortest.given == [list(range(least))] * len(lengths)
    assert [one.withheld for one in shortest.even] == [
        least if n > least else None for n in lengths
    ]
    padded = Ranks(lengths, "pad")
    assert padded.given == [[*range(n), *[-1] * (most - n)] for n in lengths]
    assert [one.num_padding for one in padded.even] == [most - n for n in lengths]


@pytest.mark.parametrize(
    ("lengths", "uneven", "given"),
    [
        ((4, 0, 2), "pad", [[0, 1, 2, 3], [-1] * 4, [0, 1, -1, -1]]),
        ((4, 2), "shortest", [[0, 1], [0, 1]]),
        ((3, 2), "continue", [[0, 1, 2], [0, 1]]),
    ],
)
def test_processes_vote(lengths, uneven, given):
    with meeting_point() as port:
        options = {"preload": PRELOAD}
        assert run_ranks(give_out, len(lengths), port, lengths, uneven, **options) == given


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("raise", "row 17 is missing"),
        ("SIGKILL", "killed by SIGKILL"),
        ("os._exit", "exited with status 0 before its job was done"),
    ],
)
def test_the_rank_that_failed_is_named_and_not_those_that_waited_for_it(fault, how):
    with meeting_point() as port, pytest.raises(RankError, match=how) as caught:
        run_ranks(jobs.fail_at_a_vote, 3, port, fault, preload=PRELOAD)
    assert caught.value.rank == 1


def test_padding_counts_for_nothing_in_a_loss():
    batch = padding_batch(2, 3, pad_id=5)
    assert all(tensor.shape == (2, 3) for tensor in batch.values())
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    logits = torch.randn(6, 7)
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"].ravel(), reduction="sum")
    assert loss == 0


def test_another_way_is_refused():
    assert UNEVEN == ("continue", "shortest", "pad")
    with pytest.raises(ValueError, match="'continue', 'shortest' or 'pad', got 'stop'"):
        EvenBatches([], "stop", int, None)
