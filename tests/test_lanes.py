"""Lanes: every row belongs to one, dealing is disjoint and complete, and few rows reach all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.sharding.world import World
from llmpipe.streaming.partition import PER_PART, Lanes, Piece


@st.composite
def pieces_apart(draw):
    """Pieces that do not overlap, in any order, some of them begun."""
    pieces, first = [], 0
    for _ in range(draw(st.integers(0, 8))):
        first += draw(st.integers(0, 20))
        stop = first + draw(st.integers(1, 30))
        pieces.append(Piece(first, stop, draw(st.integers(0, 9))))
        first = stop
    return draw(st.permutations(pieces))


EQUAL = Lanes((1, 1, 1))


def lanes_of(pieces):
    return [
        (lane, *piece[2:]) for piece in pieces for lane in range(piece.first_lane, piece.stop_lane)
    ]


@given(pieces_apart(), st.integers(1, 12))
def test_dealing_is_disjoint_complete_and_even(pieces, number):
    shares = [EQUAL.deal(pieces, index, number) for index in range(number)]
    dealt = [lane for share in shares for lane in lanes_of(share)]
    assert dealt == sorted(lanes_of(pieces))
    sizes = [len(lanes_of(share)) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(pieces_apart(), st.integers(1, 6), st.integers(1, 6))
def test_dealing_twice_keeps_every_lane_with_its_row(pieces, first, second):
    shares = [EQUAL.deal(pieces, index, first) for index in range(first)]
    left = [piece for share in shares for piece in share]
    again = [EQUAL.deal(left, index, second) for index in range(second)]
    assert [lane for share in again for lane in lanes_of(share)] == sorted(lanes_of(pieces))


@pytest.mark.parametrize("num_parts", [0, 1, 2, 37, 5000])
def test_all_lanes_by_part_are_the_parts_in_order(num_parts):
    lanes = Lanes((9,) * num_parts)
    pieces = [part for part, _ in lanes.by_part(lanes.all)]
    assert [piece.first_lane // PER_PART for piece in pieces] == list(range(num_parts))
    assert all(piece.stop_lane - piece.first_lane == PER_PART for piece in pieces)


@given(pieces_apart())
def test_a_part_and_what_comes_after_it_are_what_was_left(pieces):
    """So a state holds few pieces, however many parts are left."""
    lanes, left = Lanes((9,) * 3), lanes_of(pieces)
    for part, later in lanes.by_part(pieces):
        assert lanes_of([part, *later])[: part.stop_lane - part.first_lane] == lanes_of([part])
        rest = lanes_of([part, *later])
        assert [lane for lane, *_ in rest] == [lane for lane, *_ in left]
        assert len(later) <= len(pieces)
        left = lanes_of(later)
    assert left == [] or not pieces


def test_rows_fill_all_lanes_of_a_part_evenly():
    lane = Lanes((9,) * 1).lane_of(np.arange(10 * PER_PART))
    assert np.bincount(lane).tolist() == [10] * PER_PART


@pytest.mark.parametrize("number", range(1, 21))
def test_few_rows_are_work_for_all_consumers(number):
    """As long as there are two rows each, and from one part: a share is a run of its lanes."""
    lanes = Lanes((9,) * 1)
    lane = lanes.lane_of(np.arange(2 * number))
    counts = [
        int(((lane >= share[0].first_lane) & (lane < share[0].stop_lane)).sum())
        for share in (lanes.share(World(index, number)) for index in range(number))
    ]
    assert sum(counts) == 2 * number
    assert min(counts) >= 1


@given(st.integers(0, 300), st.integers(0, 2**32), st.integers(0, 1000))
def test_an_order_is_a_permutation_that_follows_from_seed_and_epoch(num_parts, seed, epoch):
    lanes = Lanes((9,) * num_parts, True, seed, epoch)
    assert sorted(lanes.parts().tolist()) == list(range(num_parts))
    assert lanes.parts().tolist() == Lanes((9,) * num_parts, True, seed, epoch).parts().tolist()
    rows = lanes.rows(3, 0, 50).tolist()
    assert sorted(rows) == list(range(50))


def test_orders_differ_by_seed_epoch_part_and_window():
    orders = [
        Lanes((9,) * 50, True, seed, epoch).rows(part, window, 50).tolist()
        for seed in range(3)
        for epoch in range(3)
        for part in range(3)
        for window in range(3)
    ] + [
        Lanes((9,) * 50, True, seed, epoch).parts().tolist()
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len({tuple(order) for order in orders}) == len(orders) == 90


def test_an_order_is_the_same_in_every_version():
    """A state saved with one NumPy is loaded with another."""
    assert Lanes((9,) * 10, True, 1, 2).parts().tolist() == [5, 6, 9, 3, 2, 1, 0, 8, 4, 7]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(1, 20))
def test_parts_of_unequal_weights_are_dealt_evenly(weights, number):
    lanes = Lanes(tuple(weights))
    shares = [lanes.share(World(index, number)) for index in range(number)]
    assert [lane for share in shares for lane in lanes_of(share)] == lanes_of(lanes.all)
    sizes = [
        sum(lanes.depth(piece.stop_lane) - lanes.depth(piece.first_lane) for piece in share)
        for share in shares
    ]
    assert sum(sizes) == sum(weights) * PER_PART
    assert max(sizes) - min(sizes) <= 2 * max(weights)  # a lane at each end


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(2, 9),
    st.integers(1, 7),
    st.integers(1, 7),
    st.booleans(),
)
def test_of_every_pile_every_consumer_gets_its_share(weights, num_piles, first, second, shuffle):
    """Also where what one of them had left is dealt again."""
    lanes = Lanes(tuple(weights), shuffle, num_piles=num_piles)
    shares = [lanes.deal(lanes.all, index, first) for index in range(first)]
    again = [
        lanes.deal([p for share in shares for p in share], index, second) for index in range(second)
    ]
    for number, dealt in ((first, shares), (second, again)):
        assert sorted(lane for share in dealt for lane in lanes_of(share)) == sorted(
            lanes_of(lanes.all)
        )
        num_found = set()
        for share in dealt:
            piles = lanes.piles(share)
            num_found.add(len(piles))
            for pieces in piles.values():
                due = sum(weights) * PER_PART / min(num_piles, len(weights)) / number
                size = sum(lanes.depth(p.stop_lane) - lanes.depth(p.first_lane) for p in pieces)
                assert abs(size - due) <= 2 * max(weights)
        assert max(num_found) == min(num_piles, len(weights))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pile_is_of_parts_that_lie_near_each_other_and_neighbours_are_not(shuffle):
    lanes = Lanes((9,) * 64, shuffle, seed=3, num_piles=8)
    pieces = lanes.share(World())
    assert [(p.stop_lane - p.first_lane) // PER_PART for p in pieces] == [8] * 8
    parts = [lanes.parts()[p.first_lane // PER_PART : p.stop_lane // PER_PART] for p in pieces]
    assert sorted(tuple(sorted(own // 8)) for own in parts) == [(n,) * 8 for n in range(8)]
    halves = [own[0] >= 32 for own in parts]
    assert all(1 <= sum(halves[start : start + 4]) <= 3 for start in range(5))
    assert (lanes.parts().tolist() == list(range(64))) != shuffle


@given(st.sets(st.integers(0, 90)), st.integers(0, 40), st.sets(st.integers(0, 90)))
def test_rows_ahead_are_kept_when_a_piece_goes_on(first, row, second):
    piece = Piece(0, 256).with_ahead(first).beyond(row, "abc")
    piece = piece.with_ahead(number for number in second if number >= row)
    due = {number for number in first | second if number >= row}
    assert Piece.from_list(piece.to_list()) == piece
    found = np.flatnonzero(piece.is_ahead(np.arange(row, 100))) + row
    assert set(found.tolist()) == due
    assert bool(piece.ahead) == bool(due)
