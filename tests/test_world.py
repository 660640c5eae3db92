from itertools import chain

import pytest

from llmpipe import World
from llmpipe.sharding.world import contiguous, round_robin


@pytest.mark.parametrize("plan", [round_robin, contiguous])
def test_plans_are_disjoint_complete_and_even(plan):
    cases = 0
    for number in range(1, 10):
        for num_items in range(21):
            shares = [list(plan(num_items, index, number)) for index in range(number)]
            assert sorted(chain(*shares)) == list(range(num_items))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            cases += 1
    assert cases == 189


def test_round_robin_has_the_stated_number_of_items():
    for number in range(1, 10):
        for num_items in range(21):
            for index in range(number):
                expected = max(0, -((index - num_items) // number))
                assert len(round_robin(num_items, index, number)) == expected


def test_worlds_number_their_consumers_without_gaps():
    indices = [World(r, 3, w, 4).consumer_index for r in range(3) for w in range(4)]
    assert indices == list(range(12))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((4, 4), ValueError, r"rank must be in \[0, 4\), got 4"),
        ((-1, 4), ValueError, "got -1"),
        ((0, 0), ValueError, "world_size must be 1 or more, got 0"),
        ((0, 1, 2, 2), ValueError, r"worker_id must be in \[0, 2\), got 2"),
        (("0", 4), TypeError, "rank must be an integer, got '0'"),
        ((True, 4), TypeError, "rank must be an integer, got True"),
    ],
)
def test_places_outside_the_world_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        World(*arguments)


def test_the_place_that_torchrun_gave_is_found():
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "PATH": "/bin"}
    assert World.from_environment(environment) == World(5, 8)
    assert World.from_environment({"PATH": "/bin", "LOCAL_RANK": "1"}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},
        {"WORLD_SIZE": "4"},
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "one", "WORLD_SIZE": "4"},
    ],
)
def test_an_environment_that_names_no_place_is_refused(environment):
    with pytest.raises(ValueError, match=r"names no place in a world.*start with torchrun"):
        World.from_environment(environment)
