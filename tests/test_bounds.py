"""Epochs of a stated length: `num_blocks` and `num_samples`, on any number of consumers.

And what depends on knowing where an epoch ends: forgotten epochs, and batches of batches.
"""

import json
import random
import sys
import warnings

import numpy as np
import pytest
from datasets import Dataset
from label_tools import numbers, review_stream, reviews
from stream_tools import number_stream, numbered, real_ids, run
from torch.utils.data import DataLoader, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

SIZE = 8


@pytest.fixture(scope="module")
def data():
    chooser = random.Random(0)
    lengths = [chooser.randrange(30) for _ in range(3000)]
    return Dataset.from_dict({"text": numbered(lengths)}), sum(lengths) // SIZE


def num_blocks_of(items):
    return sum(item["input_ids"].numel() // SIZE for item in items)


def ids_of(items):
    return [i for item in items for i in real_ids(item)]


@pytest.mark.parametrize("batch_size", [pytest.param(None, marks=pytest.mark.slow), 7])
def test_an_epoch_has_as_many_blocks_as_promised_and_a_length(data, batch_size):
    dataset, there = data
    for num_blocks in (1, 8, 500, int(0.95 * there)):
        for num_workers in (0, 1, 3):
            stream = number_stream(dataset, SIZE, num_blocks=num_blocks, batch_size=batch_size)
            loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # more workers than cores
                items = list(loader)
            assert num_blocks_of(items) == num_blocks
            assert len(items) == len(stream) == len(loader) == -(-num_blocks // (batch_size or 1))
        for world_size in (2, 5):
            ranks = [
                number_stream(
                    dataset,
                    SIZE,
                    num_blocks=num_blocks,
                    batch_size=batch_size,
                    rank=rank,
                    world_size=world_size,
                )
                for rank in range(world_size)
            ]
            found = [list(rank) for rank in ranks]
            assert [len(rank) for rank in ranks] == [len(items) for items in found]
            assert sum(map(num_blocks_of, found)) == num_blocks
    whole = ids_of(number_stream(dataset, SIZE))
    bounded = ids_of(number_stream(dataset, SIZE, num_blocks=500, batch_size=batch_size))
    assert bounded == whole[: 500 * SIZE]


def test_loaders_that_make_the_batches_know_how_many(data):
    """With workers, if each makes whole batches: torch cannot know more than the length."""
    for num_workers, num_blocks in ((0, 99), (2, 96)):
        stream = number_stream(data[0], SIZE, num_blocks=num_blocks)
        loader = DataLoader(stream, batch_size=6, num_workers=num_workers)
        assert len(list(loader)) == len(loader)


def test_without_a_bound_there_is_no_length_and_truth_all_the_same(data):
    stream = number_stream(data[0], SIZE)
    with pytest.raises(TypeError, match="a BlockStream has a length if it is given num_blocks"):
        len(stream)
    with pytest.raises(TypeError, match="has a length if it is given num_samples"):
        len(review_stream(reviews([1] * 4)))
    assert stream
    assert list(stream)


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_a_bound_past_the_end_is_an_error_that_says_how_many_there_were(
    data, batch_size, remainder
):
    dataset, there = data
    there += remainder == "pad"
    options = {"batch_size": batch_size, "remainder": remainder}
    exact = number_stream(dataset, SIZE, num_blocks=there, **options)
    assert num_blocks_of(exact) == there
    stream = number_stream(dataset, SIZE, num_blocks=there + 5, **options)
    found = []
    with pytest.raises(ValueError, match=rf"came to their end after {there:,} blocks, 5 short"):
        found.extend(stream)
    assert num_blocks_of(found) == there
    for num_before in (1, 100):
        state = run(stream, num_before)[-1][1]
        resumed = number_stream(dataset, SIZE, num_blocks=there + 5, **options)
        resumed.load_state_dict(state)
        with pytest.raises(ValueError, match=rf"after {there:,} blocks, 5 short"):
            list(resumed)
    ranks = {"rank": 1, "world_size": 2}
    with pytest.raises(ValueError, match="of consumer 1 of 2, a worker of a rank, came to"):
        list(number_stream(dataset, SIZE, num_blocks=there + 99, **ranks, **options))
    loader = DataLoader(stream, batch_size=None, num_workers=1)
    with pytest.raises(ValueError, match=rf"num_blocks={there + 5:,} promises more than"):
        list(loader)


def test_what_follows_the_bound_is_dropped_for_it_in_the_ledger(data):
    stream = number_stream(data[0], SIZE, num_blocks=100, batch_size=7)
    list(stream)
    ledger = stream.ledger
    assert ledger["filter", "documents"].num_in == 1000  # the window that it ended in
    chunked = ledger["chunk", "ids"]
    assert chunked.num_out == 100 * SIZE
    assert chunked.dropped == {"remainder": 0, "past_num_blocks": chunked.num_in - 100 * SIZE}
    assert chunked.num_in == ledger["tokenize", "ids"].num_out
    loader = StatefulDataLoader(stream, batch_size=None, num_workers=2)
    list(loader)
    total = stream.total_ledger(loader.state_dict())
    assert total["chunk", "ids"].num_out == 100 * SIZE


@pytest.mark.parametrize("shuffle", [False, True])
def test_resumed_at_any_batch_a_bounded_stream_gives_the_very_suffix(data, shuffle):
    def stream():
        return number_stream(data[0], SIZE, num_blocks=1001, batch_size=4, shuffle=shuffle)

    first = stream()
    seen = run(first)
    assert len(seen) == len(first) == 251
    for place in (*range(0, 251, 17), 249, 250):
        second = stream()
        second.load_state_dict(seen[place][1])
        assert [ids for ids, _ in run(second)] == [ids for ids, _ in seen[place + 1 :]]
        assert second.ledger == first.ledger
    with pytest.raises(ValueError, match="num_blocks 1001, here None"):
        number_stream(data[0], SIZE, shuffle=shuffle).load_state_dict(seen[3][1])
    damaged = {**seen[3][1], "due": 1002}
    with pytest.raises(ValueError, match="the state is damaged: 1002 are due, of num_blocks 1001"):
        stream().load_state_dict(damaged)


@pytest.mark.parametrize("stop", [0.1, 0.5, 0.97])
@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 1), (3, 2), (3, 7)])
def test_what_is_due_is_redistributed_with_what_is_left(data, old, new, stop):
    dataset, there = data
    num_blocks = int(0.94 * there)

    def stream(**place):
        return number_stream(
            dataset, SIZE, num_blocks=num_blocks, batch_size=4, shuffle=True, **place
        )

    ids, states = [], []
    for rank in range(old):
        one = stream(rank=rank, world_size=old)
        seen = run(one, max(1, int(stop * len(one))))
        ids += [i for own, _ in seen for i in own]
        states.append(seen[-1][1])
    ends = []
    for rank in range(new):
        one = stream().resume(states, rank=rank, world_size=new)
        ids += ids_of(one)
        ends.append(json.loads(json.dumps(one.state_dict())))
    assert len(ids) == len(set(ids)) == num_blocks * SIZE
    assert stream().total_ledger(ends)["chunk", "ids"].num_out == num_blocks * SIZE


# Labelled rows


@pytest.mark.parametrize("padding", ["max_length", "buckets"])
def test_samples_are_bounded_resumed_and_redistributed(padding):
    chooser = random.Random(1)
    lengths = [chooser.randrange(1, 7) for _ in range(2300)]
    data = reviews(lengths, np.arange(2300) % 2)

    def stream(**place):
        options = {"padding": padding, "batch_size": 8, "shuffle": True, **place}
        return review_stream(data, num_samples=2101, **options)

    first, seen = stream(), []
    for batch in first:
        seen.append((numbers(batch), json.loads(json.dumps(first.state_dict()))))
    rows = [row for own, _ in seen for row in own]
    assert len(rows) == len(set(rows)) == first.ledger["read", "documents"].num_out == 2101
    assert len(first) == len(seen) == 263
    for place in (0, 100, 124, 125, 126, 261, 262):
        second = stream()
        second.load_state_dict(seen[place][1])
        assert [numbers(batch) for batch in second] == [own for own, _ in seen[place + 1 :]]
        assert second.ledger == first.ledger
        for number in (2, 3):
            ranks = [
                stream().resume(seen[place][1], rank=r, world_size=number) for r in range(number)
            ]
            rest = [row for rank in ranks for batch in rank for row in numbers(batch)]
            before = [row for own, _ in seen[: place + 1] for row in own]
            assert len(rest) + len(before) == len({*rest, *before}) == 2101
    for num_workers in (0, 2):
        loader = DataLoader(stream(), batch_size=None, num_workers=num_workers)
        assert sum(len(batch["labels"]) for batch in loader) == 2101
        assert len(loader) == 263
    with pytest.raises(ValueError, match="came to their end after 2,300 samples, 1 short"):
        list(review_stream(data, num_samples=2301))


# Epochs that nobody set


def shuffled(data, epoch=None, **options):
    stream = number_stream(data[0].select(range(400)), SIZE, shuffle=True, **options)
    if epoch is not None:
        stream.set_epoch(epoch)
    return stream


def test_a_second_pass_in_one_process_is_the_next_epoch(data):
    due = [ids_of(shuffled(data, epoch)) for epoch in range(3)]
    assert due[0] != due[1] != due[2]
    for loader_of in (
        lambda stream: stream,
        lambda stream: DataLoader(stream, batch_size=3),
        lambda stream: StatefulDataLoader(stream, batch_size=None),
    ):
        stream = shuffled(data)
        loader = loader_of(stream)
        assert [ids_of(loader) for _ in range(3)] == due
        assert stream.epoch == 2
        stream.set_epoch(0)
        assert ids_of(loader) == due[0]
    stream = shuffled(data)
    next(iter(stream))  # no whole pass
    assert ids_of(stream) == due[0]
    end = stream.state_dict()
    again = shuffled(data)
    again.load_state_dict(end)
    assert [ids_of(again), ids_of(again)] == [[], due[1]]
    plain = number_stream(data[0], SIZE)
    assert ids_of(plain) == ids_of(plain)
    assert plain.epoch == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_a_second_pass_in_workers_is_the_same_again_and_warns(data, persistent, monkeypatch, capfd):
    def to_stderr(message, category, *args):
        print(f"{category.__name__}: {message}", file=sys.stderr, flush=True)

    monkeypatch.setattr(warnings, "showwarning", to_stderr)  # pytest keeps what a worker says
    stream = shuffled(data)
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=persistent)
    with warnings.catch_warnings():
        warnings.filterwarnings("always", "workers of a DataLoader read")
        monkeypatch.setattr(warnings, "showwarning", to_stderr)
        first = ids_of(loader)
        stream.set_epoch(1)
        assert ids_of(loader) != first
        stream.set_epoch(0)
        assert ids_of(loader) == first
        assert "RuntimeWarning" not in capfd.readouterr().err
        assert ids_of(loader) == first
    warned = capfd.readouterr().err
    assert (
        warned.count("RuntimeWarning: workers of a DataLoader read epoch 0 of this shuffled") == 1
    )
    assert "in the same order: call loader.dataset.set_epoch(epoch) before each pass" in warned


# Batches of batches


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_batches_are_refused(data, num_workers):
    labelled = review_stream(reviews([1] * 40, np.arange(40) % 2), batch_size=4)
    for stream in (number_stream(data[0], SIZE, batch_size=4), labelled):
        with pytest.raises(ValueError, match=r"use DataLoader\(stream, batch_size=None\)"):
            next(iter(DataLoader(stream, batch_size=8, num_workers=num_workers)))
        batch = next(iter(DataLoader(stream, batch_size=None, num_workers=num_workers)))
        assert len(batch["labels"]) == 4
        with pytest.raises(ValueError, match="gives whole batches"):
            default_collate([batch, batch])
