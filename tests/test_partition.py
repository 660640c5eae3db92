"""Virtual shards: each row is in one; shares are disjoint and complete; few rows reach all."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.sharding.world import World
from llmpipe.streaming.partition import PER_PART, Partition, Span
from llmpipe.streaming.state import check_spans


@st.composite
def spans_apart(draw):
    """Spans that do not overlap, in any order, some of them begun."""
    spans, first = [], 0
    for _ in range(draw(st.integers(0, 8))):
        first += draw(st.integers(0, 20))
        stop = first + draw(st.integers(1, 30))
        spans.append(Span(first, stop, draw(st.integers(0, 9))))
        first = stop
    return draw(st.permutations(spans))


EQUAL = Partition((1, 1, 1))


def everything(partition):
    return [Span(0, partition.num_shards)] if partition.num_shards else []


def shards_of(spans):
    return [
        (shard, *span[2:]) for span in spans for shard in range(span.first_shard, span.stop_shard)
    ]


@given(spans_apart(), st.integers(1, 12))
def test_distributing_is_disjoint_complete_and_even(spans, number):
    shares = [EQUAL.distribute(spans, index, number) for index in range(number)]
    shared = [shard for share in shares for shard in shards_of(share)]
    assert shared == sorted(shards_of(spans))
    sizes = [len(shards_of(share)) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(spans_apart(), st.integers(1, 6), st.integers(1, 6))
def test_distributing_twice_keeps_every_shard_with_its_row(spans, first, second):
    shares = [EQUAL.distribute(spans, index, first) for index in range(first)]
    left = [span for share in shares for span in share]
    again = [EQUAL.distribute(left, index, second) for index in range(second)]
    assert [shard for share in again for shard in shards_of(share)] == sorted(shards_of(spans))


@pytest.mark.parametrize("num_parts", [0, 1, 2, 37, 5000])
def test_all_partition_by_part_are_the_parts_in_order(num_parts):
    partition = Partition((9,) * num_parts)
    spans = [part for part, _ in partition.by_part(everything(partition))]
    assert [span.first_shard // PER_PART for span in spans] == list(range(num_parts))
    assert all(span.stop_shard - span.first_shard == PER_PART for span in spans)


@given(spans_apart())
def test_a_part_and_what_comes_after_it_are_what_was_left(spans):
    """So a state holds few spans, however many parts are left."""
    partition, left = Partition((9,) * 3), shards_of(spans)
    for part, later in partition.by_part(spans):
        assert shards_of([part, *later])[: part.stop_shard - part.first_shard] == shards_of([part])
        rest = shards_of([part, *later])
        assert [shard for shard, *_ in rest] == [shard for shard, *_ in left]
        assert len(later) <= len(spans)
        left = shards_of(later)
    assert left == [] or not spans


def test_rows_fill_all_shards_of_a_part_evenly():
    shard = Partition((9,) * 1).shard_of(np.arange(10 * PER_PART))
    assert np.bincount(shard).tolist() == [10] * PER_PART


@pytest.mark.parametrize("number", range(1, 21))
def test_few_rows_are_work_for_all_consumers(number):
    """As long as there are two rows each, and from one part: a share is a run of its partition."""
    partition = Partition((9,) * 1)
    shard = partition.shard_of(np.arange(2 * number))
    counts = [
        int(((shard >= share[0].first_shard) & (shard < share[0].stop_shard)).sum())
        for share in (partition.share(World(index, number)) for index in range(number))
    ]
    assert sum(counts) == 2 * number
    assert min(counts) >= 1


@given(st.integers(0, 300), st.integers(0, 2**32), st.integers(0, 1000))
def test_an_order_is_a_permutation_that_follows_from_seed_and_epoch(num_parts, seed, epoch):
    partition = Partition((9,) * num_parts, True, seed, epoch)
    assert sorted(partition.parts.tolist()) == list(range(num_parts))
    assert partition.parts.tolist() == Partition((9,) * num_parts, True, seed, epoch).parts.tolist()
    rows = partition.order(50, 3, 0).tolist()
    assert sorted(rows) == list(range(50))


def test_orders_differ_by_seed_epoch_part_and_window():
    orders = [
        Partition((9,) * 50, True, seed, epoch).order(50, part, window).tolist()
        for seed in range(3)
        for epoch in range(3)
        for part in range(3)
        for window in range(3)
    ] + [
        Partition((9,) * 50, True, seed, epoch).parts.tolist()
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len({tuple(order) for order in orders}) == len(orders) == 90


def test_an_order_is_the_same_in_every_version():
    """A state saved with one NumPy is loaded with another."""
    assert Partition((9,) * 10, True, 1, 2).parts.tolist() == [5, 6, 9, 3, 2, 1, 0, 8, 4, 7]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(1, 20))
def test_parts_of_unequal_weights_are_shared_evenly(weights, number):
    partition = Partition(tuple(weights))
    shares = [partition.share(World(index, number)) for index in range(number)]
    assert [shard for share in shares for shard in shards_of(share)] == shards_of(
        everything(partition)
    )
    sizes = [
        sum(partition.depth(span.stop_shard) - partition.depth(span.first_shard) for span in share)
        for share in shares
    ]
    assert sum(sizes) == sum(weights) * PER_PART
    assert max(sizes) - min(sizes) <= 2 * max(weights)  # a shard at each end


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(2, 9),
    st.integers(1, 7),
    st.integers(1, 7),
    st.booleans(),
)
def test_of_every_section_every_consumer_gets_its_share(
    weights, cycle_length, first, second, shuffle
):
    """Also where what one of them had left is shared again."""
    partition = Partition(tuple(weights), shuffle, cycle_length=cycle_length)
    shares = [partition.distribute(everything(partition), index, first) for index in range(first)]
    again = [
        partition.distribute([p for share in shares for p in share], index, second)
        for index in range(second)
    ]
    for number, shared in ((first, shares), (second, again)):
        assert sorted(shard for share in shared for shard in shards_of(share)) == sorted(
            shards_of(everything(partition))
        )
        num_found = set()
        for share in shared:
            sections = partition.sections(share)
            num_found.add(len(sections))
            for spans in sections.values():
                due = sum(weights) * PER_PART / min(cycle_length, len(weights)) / number
                size = sum(
                    partition.depth(p.stop_shard) - partition.depth(p.first_shard) for p in spans
                )
                assert abs(size - due) <= 2 * max(weights)
        assert max(num_found) == min(cycle_length, len(weights))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_section_is_of_parts_that_lie_near_each_other_and_neighbours_are_not(shuffle):
    partition = Partition((9,) * 64, shuffle, seed=3, cycle_length=8)
    spans = partition.share(World())
    assert [(p.stop_shard - p.first_shard) // PER_PART for p in spans] == [8] * 8
    parts = [partition.parts[p.first_shard // PER_PART : p.stop_shard // PER_PART] for p in spans]
    assert sorted(tuple(sorted(own // 8)) for own in parts) == [(n,) * 8 for n in range(8)]
    halves = [own[0] >= 32 for own in parts]
    assert all(1 <= sum(halves[start : start + 4]) <= 3 for start in range(5))
    assert (partition.parts.tolist() == list(range(64))) != shuffle


@st.composite
def windows_left(draw):
    """What is left of some parts: begun, open or whole, cut into runs of shards in any way."""
    spans = []
    for part in range(draw(st.integers(1, 3))):
        bounds = sorted({0, 256, *draw(st.lists(st.integers(1, 255), max_size=3))})
        for first, stop in pairwise(bounds):
            window, is_open = draw(st.integers(0, 5)), draw(st.booleans())
            limit = draw(st.sampled_from([0, window + 1, window + 3]))
            place = (window, limit, 7, 1, 1, "abc") if is_open else (window, limit)
            spans.append(Span(part * 256 + first, part * 256 + stop, *place))
    return draw(st.permutations(spans))


def cells(spans):
    """What is left as (shard, window), for the first ten windows of each part."""
    return [
        (shard, window)
        for span in spans
        for shard in range(span.first_shard, span.stop_shard)
        for window in range(span.window, span.stop_window or 10)
    ]


@given(windows_left(), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 8]))
def test_redistributed_twice_every_window_is_left_once_and_open_ones_stay_whole(
    spans, first, second, cycle_length
):
    partition, left = Partition((9, 5, 7), cycle_length=cycle_length), spans
    for number in (first, second):
        shares = [partition.distribute(left, index, number) for index in range(number)]
        left = [span for share in shares for span in share]
        assert sorted(cells(left)) == sorted(cells(spans))
        opened = [span for span in left if span.skip]
        assert sorted(opened) == sorted(span.open_window for span in spans if span.skip)
        of_each = [sum(bool(span.skip) for span in share) for share in shares]
        assert max(of_each) - min(of_each) <= 1
        check_spans(left, partition.num_shards)


@given(windows_left())
def test_a_span_comes_back_from_json_and_what_is_left_twice_is_refused(spans):
    for span in spans:
        assert Span.from_list(json.loads(json.dumps(span))) == span
    check_spans(spans, 3 * 256)
    with pytest.raises(ValueError, match="the state is damaged: of 768 virtual shards"):
        check_spans([*spans, spans[0]], 3 * 256)
