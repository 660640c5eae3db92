"""Bugs that can be switched on: each breaks its invariant then, and only then."""

import json
import re
import subprocess
import sys
from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.blocks import chunk
from llmpipe.kit import bugs

LENGTHS = st.lists(st.integers(0, 30), max_size=40)
NAMES = {
    "lab1": {"remainder_lost", "quadratic_join"},
    "lab2": {"aliased_state", "emit_before_refill", "every_worker_reads_all"},
}
BUGS_OF_STATE = pytest.mark.parametrize("switch", [bugs.aliased_state, bugs.emit_before_refill])


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


def test_bugs_are_known_by_name_and_lead_to_a_thread_of_their_own():
    assert set(bugs.BUGS) == set(chain(*NAMES.values()))
    for name, bug in bugs.BUGS.items():
        assert bug.name == name
        assert name in NAMES[bug.lab]
        assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+/(issues|pull)/\d+", bug.thread)
        assert bug.story.endswith(".")
        assert bug.invariant.endswith(".")
    assert len({bug.thread for bug in bugs.BUGS.values()}) == len(bugs.BUGS)


def test_importing_the_bugs_does_not_import_torch():
    code = "import sys; from llmpipe.kit import bugs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


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


@BUGS_OF_STATE
@given(lengths=LENGTHS, block_size=st.integers(1, 12))
def test_uninterrupted_a_stream_gives_the_blocks_of_chunk_broken_or_not(
    switch, lengths, block_size
):
    documents = documents_of(lengths)
    expected = chunk(list(chain(*documents)), block_size).blocks.tolist()
    for broken in (True, False):
        assert list(switch(documents, block_size, broken=broken)) == expected


@BUGS_OF_STATE
@given(lengths=st.lists(st.integers(0, 30), max_size=12), block_size=st.integers(1, 12))
def test_repaired_resuming_at_every_block_gives_the_very_suffix(switch, lengths, block_size):
    documents = documents_of(lengths)
    expected = chunk(list(chain(*documents)), block_size).blocks.tolist()
    for num_blocks in range(len(expected) + 1):
        due, resumed = bugs.resumed_after(
            num_blocks, switch, broken=False, documents=documents, block_size=block_size
        )
        assert due == resumed == expected[num_blocks:]


@given(LENGTHS, st.integers(1, 12), st.data())
def test_a_repaired_state_outlives_json_and_serves_twice(lengths, block_size, data):
    documents = documents_of(lengths)
    expected = chunk(list(chain(*documents)), block_size).blocks.tolist()
    num_blocks = data.draw(st.integers(0, len(expected)))
    stream = bugs.aliased_state(documents, block_size)
    assert list(islice(stream, num_blocks)) == expected[:num_blocks]
    state = json.loads(json.dumps(stream.state_dict()))
    for _ in range(2):
        stream.load_state_dict(state)
        assert list(stream) == expected[num_blocks:]


@given(LENGTHS, st.integers(1, 12), st.data())
def test_from_an_aliased_state_come_the_last_remainder_and_the_documents_not_read_by_then(
    lengths, block_size, data
):
    documents = documents_of(lengths)
    blocks, remainder = chunk(list(chain(*documents)), block_size)
    num_blocks = data.draw(st.integers(0, len(blocks)))
    # So many documents it takes to fill the blocks, as the sums of their lengths say.
    num_read = int(np.searchsorted(np.cumsum(lengths), num_blocks * block_size)) + 1
    left = documents[num_read if num_blocks else 0 :]
    due, resumed = bugs.resumed_after(num_blocks, documents=documents, block_size=block_size)
    assert due == blocks[num_blocks:].tolist()
    assert resumed == chunk([*remainder.tolist(), *chain(*left)], block_size).blocks.tolist()


@given(LENGTHS, st.integers(1, 12), st.data())
def test_emitting_before_refilling_loses_the_document_in_hand_and_no_other(
    lengths, block_size, data
):
    documents = documents_of(lengths)
    blocks = chunk(list(chain(*documents)), block_size).blocks
    num_blocks = data.draw(st.integers(0, len(blocks)))
    # Filled by document i, a block is yielded with document i + 1 in hand, where there is one.
    filled_by = int(np.searchsorted(np.cumsum(lengths), num_blocks * block_size))
    lost = range(filled_by + 1, filled_by + 2) if num_blocks else ()
    left = list(chain(*(ids for i, ids in enumerate(documents) if i not in lost)))
    due, resumed = bugs.resumed_after(
        num_blocks, bugs.emit_before_refill, documents=documents, block_size=block_size
    )
    assert due == blocks[num_blocks:].tolist()
    assert resumed == chunk(left[num_blocks * block_size :], block_size).blocks.tolist()


def test_broken_resuming_loses_these_ids():
    documents = [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9]]
    due = [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert bugs.resumed_after(1, documents=documents, block_size=2) == (
        due,
        [[3, 4], [5, 6], [7, 8]],
    )
    without_3 = [[2, 4], [5, 6], [7, 8]]
    assert bugs.resumed_after(1, bugs.emit_before_refill, documents=documents, block_size=2) == (
        due,
        without_3,
    )


@pytest.mark.parametrize("num_blocks", [-1, 6])
def test_more_blocks_than_there_are_cannot_come_before_a_state(num_blocks):
    with pytest.raises(ValueError, match=rf"num_blocks must be in \[0, 5\], got {num_blocks}"):
        bugs.resumed_after(num_blocks)


@BUGS_OF_STATE
def test_a_block_of_no_ids_is_refused(switch):
    for broken in (True, False):
        with pytest.raises(ValueError, match="block_size must be 1 or more, got 0"):
            bugs.resumed_after(0, switch, broken=broken, block_size=0)


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_broken_every_row_comes_once_a_worker_and_repaired_once(num_workers):
    broken = bugs.rows_read(7, num_workers)
    assert broken.tolist() == [max(num_workers, 1)] * 7
    assert bugs.rows_read(7, num_workers, broken=False).tolist() == [1] * 7


def test_with_fewer_rows_than_workers_some_have_nothing():
    assert bugs.rows_read(1, broken=False).tolist() == [1]
    assert bugs.rows_read(0).shape == (0,)


def test_row_i_is_for_worker_i_modulo_their_number_also_where_workers_are_spawned():
    from torch.utils.data import DataLoader

    dataset = bugs.every_worker_reads_all(5)
    # A batch is of one worker, and workers take turns.
    loader = DataLoader(
        dataset, batch_size=3, num_workers=2, multiprocessing_context="spawn", collate_fn=list
    )
    assert list(loader) == [[0, 2, 4], [1, 3]]
