import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmpipe import RollingBuffer, chunk

rows = hnp.arrays(np.uint32, st.integers(0, 200), elements=st.integers(0, 70000))
sizes = st.integers(1, 40)


def portions_of(ids, cuts):
    return np.split(ids, sorted(cut % (len(ids) + 1) for cut in cuts))


@given(rows, sizes)
def test_blocks_and_remainder_are_the_ids_in_order(ids, block_size):
    blocks, remainder = chunk(ids, block_size)
    assert blocks.shape == (len(ids) // block_size, block_size)
    assert len(remainder) == len(ids) % block_size
    assert np.array_equal(np.concatenate((blocks.ravel(), remainder)), ids)
    chunk(ids, block_size).ledger.check()


def test_blocks_are_a_view_not_a_copy():
    ids = np.arange(1000, dtype=np.uint32)
    blocks, remainder = chunk(ids, 7)
    assert np.shares_memory(blocks, ids)
    assert np.shares_memory(remainder, ids)


@given(rows, sizes, st.lists(st.integers(0, 1000)))
def test_blocks_do_not_depend_on_how_ids_arrive(ids, block_size, cuts):
    buffer = RollingBuffer(block_size)
    pushed = [buffer.push(portion) for portion in portions_of(ids, cuts)]
    expected = chunk(ids, block_size)
    assert np.array_equal(np.concatenate(pushed), expected.blocks)
    assert np.array_equal(buffer.remainder, expected.remainder)
    assert buffer.ledger["chunk", "ids"].num_in == len(ids)


@given(rows, sizes, st.sampled_from(["drop", "pad"]))
def test_every_id_is_out_dropped_or_waiting_after_finish(ids, block_size, policy):
    buffer = RollingBuffer(block_size)
    blocks = np.concatenate([buffer.push(ids), buffer.finish(policy, pad_id=0)])
    entry = buffer.ledger["chunk", "ids"]
    rest = len(ids) % block_size
    assert entry.num_out == blocks.size
    assert entry.dropped["remainder"] == (rest if policy == "drop" else 0)
    assert entry.remainder == 0
    assert entry.padded == (block_size - rest if policy == "pad" and rest else 0)
    real = blocks.ravel()[: blocks.size - entry.padded]
    assert np.array_equal(real, ids[: len(real)])
    assert (blocks.ravel()[len(real) :] == 0).all()


def test_a_million_documents_of_one_id_and_one_of_five_million_give_the_same_blocks():
    ids = np.arange(5_000_000, dtype=np.uint32)
    whole = RollingBuffer(128).push(ids)
    buffer, count = RollingBuffer(128), 0
    for document in ids[:1_000_000].reshape(-1, 1):
        for block in buffer.push(document):
            assert block[0] == count * 128
            count += 1
    assert count == 1_000_000 // 128
    assert whole.shape == (5_000_000 // 128, 128)


@pytest.mark.parametrize("block_size", [0, -1])
def test_block_size_below_one_is_an_error(block_size):
    for cut in (lambda: chunk([1], block_size), lambda: RollingBuffer(block_size)):
        with pytest.raises(ValueError, match=f"block_size must be 1 or more, got {block_size}"):
            cut()


@pytest.mark.parametrize("block_size", [1.5, "128", None, True])
def test_block_size_that_is_no_integer_is_an_error(block_size):
    with pytest.raises(TypeError, match="block_size must be an integer, got"):
        chunk([1], block_size)


@pytest.mark.parametrize("ids", [[[1, 2]], [1.5], ["a"], [None]])
def test_ids_that_are_not_one_row_of_integers_are_an_error(ids):
    with pytest.raises(TypeError, match="one row of integers"):
        chunk(ids, 2)


def test_a_wrong_remainder_policy_names_what_was_given():
    buffer = RollingBuffer(3)
    buffer.push([1])
    with pytest.raises(ValueError, match="'drop' or 'pad', got 'lose'"):
        buffer.finish("lose")
    with pytest.raises(ValueError, match="needs a pad_id"):
        buffer.finish("pad")
    assert buffer.ledger["chunk", "ids"].remainder == 1, "a refused finish must lose nothing"


@pytest.mark.parametrize("pad_id", [-100, 2**40, "x", 1.5, True])
def test_a_pad_id_that_does_not_fit_is_refused_and_loses_nothing(pad_id):
    buffer = RollingBuffer(3)
    buffer.push(np.array([7], np.uint16))
    with pytest.raises((TypeError, ValueError), match="pad_id must be"):
        buffer.finish("pad", pad_id)
    assert buffer.ledger["chunk", "ids"].remainder == 1
    assert buffer.finish("pad", 0).tolist() == [[7, 0, 0]]


def test_a_refused_push_counts_and_changes_nothing():
    """No integer type holds both what waits and what comes: NumPy would make floats of them."""
    buffer = RollingBuffer(3)
    buffer.push(np.array([7], np.int64))
    before = buffer.ledger
    with pytest.raises(TypeError, match="one row of integers, got shape"):
        buffer.push(np.array([8, 9], np.uint64))
    assert buffer.ledger == before
    assert buffer.push(np.array([8, 9], np.int64)).tolist() == [[7, 8, 9]]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9), max_size=30))
def test_python_lists_are_welcome(ids):
    assert chunk(ids, 4).blocks.ravel().tolist() == ids[: len(ids) // 4 * 4]
