"""Bugs that can be switched on: each breaks its invariant then, and only then."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.blocks import chunk
from llmpipe.kit import bugs

LENGTHS = st.lists(st.integers(0, 30), max_size=40)


def documents_of(lengths):
    """Documents of these lengths; no id occurs twice, so that a lost one is seen."""
    numbers = iter(range(sum(lengths)))
    return [[next(numbers) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("name", bugs.BUGS)
def test_a_bug_violates_its_invariant_when_on_and_satisfies_it_when_off(name):
    bug = bugs.BUGS[name]
    assert bug.violation(False) is None
    message = bug.violation(True)
    assert any(character.isdigit() for character in message), "the message holds no number"


def test_bugs_are_known_by_name_and_lead_to_a_thread():
    assert set(bugs.BUGS) == {"remainder_lost", "quadratic_join"}
    for name, bug in bugs.BUGS.items():
        assert bug.name == name
        assert bug.lab == "lab1"
        assert bug.thread.startswith("https://github.com/huggingface/transformers/")
        assert bug.story.endswith(".")
        assert bug.invariant.endswith(".")


@given(LENGTHS, st.integers(1, 12), st.integers(1, 50))
def test_grouping_gives_the_blocks_of_one_chunk_over_all(lengths, block_size, batch_size):
    documents = documents_of(lengths)
    expected = chunk(list(chain(*documents)), block_size)
    blocks, ledger = bugs.group(documents, block_size, batch_size)
    assert blocks.shape == expected.blocks.shape
    assert blocks.tolist() == expected.blocks.tolist()
    assert ledger["chunk", "ids"].remainder == len(expected.remainder)
    assert sum(ledger["chunk", "ids"].dropped.values()) == 0


@given(LENGTHS, st.integers(1, 12), st.integers(1, 50))
def test_broken_grouping_loses_what_is_over_in_each_batch(lengths, block_size, batch_size):
    documents = documents_of(lengths)
    batches = [lengths[s : s + batch_size] for s in range(0, len(lengths), batch_size)]
    closed_form = sum(sum(batch) % block_size for batch in batches)
    blocks, ledger = bugs.group(documents, block_size, batch_size, broken=True)
    assert bugs.ids_lost(lengths, block_size, batch_size) == closed_form
    assert ledger["chunk", "ids"].dropped == {bugs.REMAINDER_LOST: closed_form}
    assert sum(lengths) - blocks.size == closed_form
    # What is left is whole blocks, each of ids that follow one another in one batch.
    edges = np.cumsum([0, *map(sum, batches)])
    for first, *_, last in ([block[0], *block[1:], block[-1]] for block in blocks.tolist()):
        assert last - first == block_size - 1
        assert np.searchsorted(edges, first, "right") == np.searchsorted(edges, last, "right")


def test_one_batch_over_all_loses_less_than_a_block():
    lengths = [137] * 40
    lost = [bugs.ids_lost(lengths, 128, size) for size in (1, 7, 40)]
    assert lost == [40 * 9, 5 * (7 * 137 % 128) + 5 * 137 % 128, 40 * 137 % 128]
    assert [bugs.ids_lost(lengths, 128, size, broken=False) for size in (1, 7, 40)] == [0, 0, 0]


def test_a_batch_of_no_documents_is_refused():
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        bugs.group([[1]], 2, 0)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=20))
def test_both_ways_of_joining_give_the_same_list(lists):
    expected = list(chain(*lists))
    assert bugs.join(lists) == bugs.join(lists, broken=True) == expected


@given(st.integers(0, 60), st.integers(0, 10))
def test_joining_with_sum_copies_a_triangle_of_ids(num_lists, length):
    lists = [[1] * length] * num_lists
    assert bugs.ids_copied(lists) == length * num_lists * (num_lists + 1) // 2
    assert bugs.ids_copied(lists, broken=False) == length * num_lists


def test_joining_leaves_the_documents_as_they_were():
    lists = [[1], [2], [3]]
    bugs.join(lists), bugs.join(lists, broken=True), bugs.ids_copied(lists)
    assert lists == [[1], [2], [3]]


def test_seconds_are_given_for_each_size():
    for broken in (True, False):
        seconds = bugs.join_seconds([10, 20, 40], broken=broken)
        assert len(seconds) == 3
        assert min(seconds) > 0
