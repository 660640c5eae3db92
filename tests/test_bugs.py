"""Bugs that can be switched on: each breaks its invariant then, and only then."""

import json
import re
import subprocess
import sys
import tempfile
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.chunking.blocks import chunk
from llmpipe.classroom.bugs import BUGS, lab1, lab2, lab3, lab4
from llmpipe.classroom.exercises.shared import numbered
from llmpipe.classroom.statistics import chi_square

LENGTHS = st.lists(st.integers(0, 30), max_size=40)
DOCUMENTS = LENGTHS.map(numbered)
SHARDS = st.lists(st.integers(0, 9), max_size=8)
BUGS_OF_STATE = pytest.mark.parametrize("switch", [lab2.aliased_state, lab2.emit_before_refill])


def blocks_of(documents, block_size):
    return chunk(list(chain(*documents)), block_size).blocks.tolist()


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_violates_its_invariant_when_on_and_satisfies_it_when_off(name):
    bug = BUGS[name]
    assert bug.violation(False) is None
    message = bug.violation(True)
    assert any(character.isdigit() for character in message), "the message holds no number"


def test_bugs_are_known_by_name_and_lead_to_a_thread_of_their_own():
    names = [{bug.name for bug in lab.BUGS} for lab in (lab1, lab2, lab3, lab4)]
    assert names == [
        {"remainder_lost", "quadratic_join"},
        {"aliased_state", "emit_before_refill", "every_worker_reads_all"},
        {"same_shard", "more_ranks_than_shards", "unequal_ranks"},
        {"sep_in_review", "pad_not_masked", "contiguous_on_sorted"},
    ]
    assert set(BUGS) == set().union(*names)
    for name, bug in BUGS.items():
        assert bug.name == name
        assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+/(issues|pull)/\d+", bug.thread)
        assert bug.story.endswith(".")
        assert bug.invariant.endswith(".")
    assert len({bug.thread for bug in BUGS.values()}) == len(BUGS)


def test_importing_the_bugs_does_not_import_torch():
    code = "import sys; from llmpipe.classroom import bugs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@given(DOCUMENTS, st.integers(1, 12), st.integers(1, 50))
def test_grouping_gives_the_blocks_of_one_chunk_over_all(documents, block_size, batch_size):
    expected = chunk(list(chain(*documents)), block_size)
    blocks, ledger = lab1.group(documents, block_size, batch_size)
    assert blocks.shape == expected.blocks.shape
    assert blocks.tolist() == expected.blocks.tolist()
    assert ledger["chunk", "ids"].remainder == len(expected.remainder)
    assert sum(ledger["chunk", "ids"].dropped.values()) == 0


@given(LENGTHS, st.integers(1, 12), st.integers(1, 50))
def test_broken_grouping_loses_what_is_over_in_each_batch(lengths, block_size, batch_size):
    documents = numbered(lengths)
    batches = [lengths[s : s + batch_size] for s in range(0, len(lengths), batch_size)]
    closed_form = sum(sum(batch) % block_size for batch in batches)
    blocks, ledger = lab1.group(documents, block_size, batch_size, broken=True)
    assert lab1.ids_lost(lengths, block_size, batch_size) == closed_form
    assert ledger["chunk", "ids"].dropped == {lab1.REMAINDER_LOST: closed_form}
    assert sum(lengths) - blocks.size == closed_form
    # What is left is whole blocks, each of ids that follow one another in one batch.
    edges = np.cumsum([1, *map(sum, batches)])
    for first, *_, last in ([block[0], *block[1:], block[-1]] for block in blocks.tolist()):
        assert last - first == block_size - 1
        assert np.searchsorted(edges, first, "right") == np.searchsorted(edges, last, "right")


def test_one_batch_over_all_loses_less_than_a_block():
    lengths = [137] * 40
    lost = [lab1.ids_lost(lengths, 128, size) for size in (1, 7, 40)]
    assert lost == [40 * 9, 5 * (7 * 137 % 128) + 5 * 137 % 128, 40 * 137 % 128]
    assert [lab1.ids_lost(lengths, 128, size, broken=False) for size in (1, 7, 40)] == [0, 0, 0]


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=20))
def test_both_ways_of_joining_give_the_same_list_and_leave_theirs_as_they_were(lists):
    expected, before = list(chain(*lists)), [ids.copy() for ids in lists]
    assert lab1.join(lists) == lab1.join(lists, broken=True) == expected
    assert lab1.ids_copied(lists, broken=False) == len(expected) <= lab1.ids_copied(lists)
    assert lists == before


@given(st.integers(0, 60), st.integers(0, 10))
def test_joining_with_sum_copies_a_triangle_of_ids(num_lists, length):
    lists = [[1] * length] * num_lists
    assert lab1.ids_copied(lists) == length * num_lists * (num_lists + 1) // 2
    assert lab1.ids_copied(lists, broken=False) == length * num_lists


def test_seconds_are_given_for_each_size():
    for broken in (True, False):
        seconds = lab1.join_seconds([10, 20, 40], broken=broken)
        assert len(seconds) == 3
        assert min(seconds) > 0


@BUGS_OF_STATE
@given(documents=DOCUMENTS, block_size=st.integers(1, 12))
def test_uninterrupted_a_stream_gives_the_blocks_of_chunk_broken_or_not(
    switch, documents, block_size
):
    expected = blocks_of(documents, block_size)
    for broken in (True, False):
        assert list(switch(documents, block_size, broken=broken)) == expected


@BUGS_OF_STATE
@given(
    documents=st.lists(st.integers(0, 30), max_size=12).map(numbered), block_size=st.integers(1, 12)
)
def test_repaired_resuming_at_every_block_gives_the_very_suffix(switch, documents, block_size):
    expected = blocks_of(documents, block_size)
    for num_blocks in range(len(expected) + 1):
        due, resumed = lab2.resumed_after(
            num_blocks, switch, broken=False, documents=documents, block_size=block_size
        )
        assert due == resumed == expected[num_blocks:]


@given(DOCUMENTS, st.integers(1, 12), st.data())
def test_a_repaired_state_outlives_json_and_serves_twice(documents, block_size, data):
    expected = blocks_of(documents, block_size)
    num_blocks = data.draw(st.integers(0, len(expected)))
    stream = lab2.aliased_state(documents, block_size)
    assert list(islice(stream, num_blocks)) == expected[:num_blocks]
    state = json.loads(json.dumps(stream.state_dict()))
    for _ in range(2):
        stream.load_state_dict(state)
        assert list(stream) == expected[num_blocks:]


@given(LENGTHS, st.integers(1, 12), st.data())
def test_from_an_aliased_state_come_the_last_remainder_and_the_documents_not_read_by_then(
    lengths, block_size, data
):
    documents = numbered(lengths)
    blocks, remainder = chunk(list(chain(*documents)), block_size)
    num_blocks = data.draw(st.integers(0, len(blocks)))
    # So many documents it takes to fill the blocks, as the sums of their lengths say.
    num_read = int(np.searchsorted(np.cumsum(lengths), num_blocks * block_size)) + 1
    left = documents[num_read if num_blocks else 0 :]
    due, resumed = lab2.resumed_after(num_blocks, documents=documents, block_size=block_size)
    assert due == blocks[num_blocks:].tolist()
    assert resumed == chunk([*remainder.tolist(), *chain(*left)], block_size).blocks.tolist()


@given(LENGTHS, st.integers(1, 12), st.data())
def test_emitting_before_refilling_loses_the_document_in_hand_and_no_other(
    lengths, block_size, data
):
    documents = numbered(lengths)
    blocks = chunk(list(chain(*documents)), block_size).blocks
    num_blocks = data.draw(st.integers(0, len(blocks)))
    # Filled by document i, a block is yielded with document i + 1 in hand, where there is one.
    filled_by = int(np.searchsorted(np.cumsum(lengths), num_blocks * block_size))
    lost = range(filled_by + 1, filled_by + 2) if num_blocks else ()
    left = list(chain(*(ids for i, ids in enumerate(documents) if i not in lost)))
    due, resumed = lab2.resumed_after(
        num_blocks, lab2.emit_before_refill, documents=documents, block_size=block_size
    )
    assert due == blocks[num_blocks:].tolist()
    assert resumed == chunk(left[num_blocks * block_size :], block_size).blocks.tolist()


def test_broken_resuming_loses_these_ids():
    documents = [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9]]
    due = [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert lab2.resumed_after(1, documents=documents, block_size=2) == (
        due,
        [[3, 4], [5, 6], [7, 8]],
    )
    without_3 = [[2, 4], [5, 6], [7, 8]]
    assert lab2.resumed_after(1, lab2.emit_before_refill, documents=documents, block_size=2) == (
        due,
        without_3,
    )


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_broken_every_row_comes_once_a_worker_and_repaired_once(num_workers):
    broken = lab2.rows_read(7, num_workers)
    assert broken.tolist() == [max(num_workers, 1)] * 7
    assert lab2.rows_read(7, num_workers, broken=False).tolist() == [1] * 7


def test_with_fewer_rows_than_workers_some_have_nothing():
    assert lab2.rows_read(1, broken=False).tolist() == [1]
    assert lab2.rows_read(0).shape == (0,)


def test_row_i_is_for_worker_i_modulo_their_number_also_where_workers_are_spawned():
    from torch.utils.data import DataLoader

    dataset = lab2.every_worker_reads_all(5)
    # A batch is of one worker, and workers alternate.
    loader = DataLoader(
        dataset, batch_size=3, num_workers=2, multiprocessing_context="spawn", collate_fn=list
    )
    assert list(loader) == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize(("num_documents", "world_size"), [(0, 2), (1, 3), (7, 3), (12, 4), (5, 1)])
def test_repaired_each_document_is_read_once_and_broken_the_first_share_by_all(
    num_documents, world_size
):
    numbers, ranks = np.arange(num_documents), np.arange(world_size)
    repaired = lab3.documents_read(num_documents, world_size, broken=False)
    assert repaired.tolist() == (numbers[:, None] % world_size == ranks).astype(int).tolist()
    assert repaired.sum(axis=1).tolist() == [1] * num_documents
    broken = lab3.documents_read(num_documents, world_size)
    expected = np.repeat(numbers[:, None] % world_size == 0, world_size, axis=1)
    assert broken.tolist() == expected.astype(int).tolist()


def test_on_one_machine_the_local_rank_is_the_rank():
    for rank in range(4):
        launched = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "4"}
        assert lab3.world_of(launched) == lab3.world_of(launched, broken=True)


@given(SHARDS, st.integers(1, 9))
def test_divided_by_rows_or_by_files_every_row_is_kept_once(sizes, world_size):
    for broken in (True, False):
        kept = [lab3.rows_kept(sizes, r, world_size, broken=broken) for r in range(world_size)]
        assert sorted(np.concatenate(kept)) == list(range(sum(sizes)))
        by_rank = lab3.rows_by_rank(sizes, world_size, broken=broken)
        assert by_rank.kept.tolist() == [len(rows) for rows in kept]
        assert by_rank.read.tolist() == [len(rows) if broken else sum(sizes) for rows in kept]


@given(SHARDS, st.integers(1, 9))
def test_divided_by_rows_no_two_ranks_differ_by_more_than_one(sizes, world_size):
    kept = lab3.rows_by_rank(sizes, world_size, broken=False).kept
    assert kept.max() - kept.min() <= 1


@given(st.lists(st.integers(1, 9), max_size=8), st.integers(1, 9))
def test_divided_by_files_the_ranks_above_their_number_are_idle(sizes, world_size):
    kept = lab3.rows_by_rank(sizes, world_size).kept
    assert (kept == 0).sum() == max(0, world_size - len(sizes))


@pytest.mark.parametrize(("num_shards", "world_size"), [(3, 4), (1, 2), (4, 3), (6, 2)])
def test_rows_and_files_are_divided_as_datasets_divides_examples_and_shards(num_shards, world_size):
    from datasets import Dataset
    from datasets.distributed import split_dataset_by_node

    num_rows = 12
    stream = Dataset.from_dict({"row": range(num_rows)}).to_iterable_dataset(num_shards=num_shards)

    def theirs(rank, strategy):
        own = split_dataset_by_node(stream, rank, world_size, strategy=strategy)
        return [example["row"] for example in own]

    sizes = [num_rows // num_shards] * num_shards
    for rank in range(world_size):
        ours = lab3.rows_kept(sizes, rank, world_size).tolist()
        assert ours == theirs(rank, "examples")
        if num_shards % world_size:
            assert ours == theirs(rank, "auto")
        if num_shards < world_size:
            with pytest.raises(ValueError, match="num_shards"):
                theirs(rank, "shards")
        else:
            files = lab3.rows_kept(sizes, rank, world_size, broken=True)
            assert files.tolist() == theirs(rank, "shards")


@pytest.mark.parametrize("num_batches", [(3, 2), (0, 2), (2, 2), (4,), (2, 3, 1)])
def test_broken_the_longer_ranks_wait_in_vain_and_repaired_all_stop_at_the_shortest(num_batches):
    least = min(num_batches)
    repaired = lab3.steps_by_rank(num_batches, broken=False)
    assert repaired == [(least, number - least, "done") for number in num_batches]
    waited = f"waited in vain at step {least + 1}"
    assert lab3.steps_by_rank(num_batches, wait_s=0.5) == [
        (least, number - least, "done" if number == least else waited) for number in num_batches
    ]


@pytest.fixture
def short_folder():
    """A folder whose path leaves room for that of a socket, which has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_ranks_that_wait_leave_no_file_and_print_nothing(short_folder):
    (own_tmp := short_folder / "tmp").mkdir()
    code = (
        f"import tempfile; tempfile.tempdir = {str(own_tmp)!r}\n"
        "from llmpipe.classroom import bugs\n"
        "if __name__ == '__main__':\n"
        "    for broken in (True, False):\n"
        "        bugs.steps_by_rank(broken=broken, wait_s=0.5)\n"
    )
    script = short_folder / "waiting.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(own_tmp.iterdir()) == []


SPECIAL = ["[SEP]", "[CLS]", "[PAD]", "[MASK]"]


def test_broken_a_writer_puts_in_as_many_special_tokens_as_transformers_finds():
    generator = np.random.default_rng(0)
    words = [*SPECIAL, "a", "Fine", "film", "[sep]", "SEP]", "[[PAD]]"]
    texts = [" ".join(generator.choice(words, size=i % 9)) for i in range(300)]
    reference = lab4.tokenizer_for_reviews(broken=True).to_transformers()
    ids = reference(texts, add_special_tokens=False).input_ids
    special = reference.convert_tokens_to_ids(SPECIAL)
    expected = [int(np.isin(row, special).sum()) for row in ids]
    assert sum(expected) > 300
    assert lab4.special_tokens_written(texts).tolist() == expected
    assert lab4.special_tokens_written(texts, broken=False).tolist() == [0] * 300
    assert lab4.special_tokens_written([]).shape == (0,)


def test_repaired_only_the_tokenizer_ends_a_review_and_what_was_written_stays_text():
    text = "[CLS] a film [SEP] a film [SEP] [PAD]"
    broken, repaired = lab4.tokens_of(text), lab4.tokens_of(text, broken=False)
    assert broken == ["[CLS]", *text.split(), "[SEP]"]
    assert (repaired[0], repaired[-1]) == ("[CLS]", "[SEP]")
    assert not {"[CLS]", "[SEP]", "[PAD]"} & set(repaired[1:-1])
    assert "".join(repaired[1:-1]).replace("##", "") == text.replace(" ", "").lower()


def test_the_mask_is_the_one_that_transformers_pads_with():
    reference = lab4.tokenizer_for_reviews().to_transformers()
    lengths = [3, 0, 5]
    padded = reference.pad({"input_ids": [[7] * length for length in lengths]})
    assert lab4.attention_mask(lengths, 5).tolist() == [list(m) for m in padded["attention_mask"]]
    assert lab4.attention_mask(lengths, 5, broken=True).tolist() == [[1] * 5] * 3
    assert lab4.attention_mask([], 5).shape == (0, 5)
    assert lab4.attention_mask([], 5, broken=True).shape == (0, 5)


def test_masked_padding_changes_no_logit_and_unmasked_padding_turns_the_verdict():
    paddings = (0, 1, 16, 503)
    repaired = lab4.logits_by_padding(paddings, broken=False)
    np.testing.assert_allclose(repaired, np.repeat(repaired[:1], 4, axis=0), atol=1e-4)
    broken = lab4.logits_by_padding(paddings)
    np.testing.assert_allclose(broken[0], repaired[0], atol=1e-4)  # nothing to mask
    assert broken.argmax(axis=1)[0] != broken.argmax(axis=1)[2]
    assert broken.shape == repaired.shape == (4, 2)


def test_the_small_model_leaves_the_random_numbers_of_others_alone():
    import torch

    before = torch.random.get_rng_state()
    first, second = lab4.logits_by_padding([0, 3]), lab4.logits_by_padding([0, 3])
    assert first.tolist() == second.tolist()
    assert torch.equal(torch.random.get_rng_state(), before)


@given(st.lists(st.integers(0, 3), min_size=9, max_size=60), st.integers(1, 9))
def test_the_table_of_classes_counts_every_row_once(labels, world_size):
    for broken in (True, False):
        counts = lab4.class_counts(labels, world_size, broken=broken)
        whole = np.bincount(labels, minlength=2)
        assert counts.sum(axis=0).tolist() == whole.tolist()
        assert np.ptp(counts.sum(axis=1)) <= 1
        shares = lab4.positives_by_rank(labels, world_size, broken=broken)
        assert shares.tolist() == [row[1] / sum(row) for row in counts.tolist()]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_round_robin_sorted_labels_lie_evenly_on_the_ranks(negatives, positives, world_size):
    labels = np.repeat([0, 1], [negatives, positives])
    if len(labels) >= world_size:
        counts = lab4.class_counts(labels, world_size, broken=False)
        assert np.ptp(counts, axis=0).max() <= 1


def test_sorted_labels_in_contiguous_shards_are_a_surprise_and_round_robin_is_none():
    labels = np.repeat([0, 1], 1000)
    assert lab4.positives_by_rank(labels).tolist() == [0, 0, 1, 1]
    assert chi_square(lab4.class_counts(labels)).surprising
    assert not chi_square(lab4.class_counts(labels, broken=False)).surprising


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lab1.group([[1]], 2, 0), "batch_size must be 1 or more, got 0"),
        (lambda: lab2.resumed_after(-1), r"num_blocks must be in \[0, 5\], got -1"),
        (lambda: lab2.resumed_after(6), r"num_blocks must be in \[0, 5\], got 6"),
        *(
            (lambda o=options: lab2.resumed_after(0, block_size=0, **o), "block_size must be 1 or")
            for options in (
                {"switch": switch, "broken": broken}
                for switch in (lab2.aliased_state, lab2.emit_before_refill)
                for broken in (True, False)
            )
        ),
        (
            lambda: lab3.world_of({"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}),
            r"rank must be in \[0, 2\), got 2",
        ),
        (lambda: lab3.documents_read(-1), "num_documents must be 0 or more, got -1"),
        (lambda: lab3.documents_read(1, 0), "world_size must be 1 or more, got 0"),
        (lambda: lab3.rows_kept([3, -1], 0, 2), "0 rows or more, got sizes"),
        (lambda: lab3.rows_kept([3, 1], 2, 2), r"must be in \[0, 2\), got 2"),
        (lambda: lab3.rows_kept([3, 1], 2, 2, broken=True), r"must be in \[0, 2\), got 2"),
        (lambda: lab3.steps_by_rank(()), "num_batches must be 0 or more for each rank"),
        (lambda: lab3.steps_by_rank((2, -1)), "num_batches must be 0 or more for each rank"),
        (lambda: lab4.attention_mask([2, 6], 5), r"lengths must be in \[0, 5\]"),
        (lambda: lab4.attention_mask([-1, 2], 5), r"lengths must be in \[0, 5\]"),
        (lambda: lab4.attention_mask([2, 6], 5, broken=True), r"lengths must be in \[0, 5\]"),
        (lambda: lab4.attention_mask([-1, 2], 5, broken=True), r"lengths must be in \[0, 5\]"),
        (lambda: lab4.logits_by_padding([-1]), r"paddings must be in \[0, 503\]"),
        (lambda: lab4.logits_by_padding([504]), r"paddings must be in \[0, 503\]"),
        (lambda: lab4.class_counts([0, 1], 3), "3 ranks need a row of as many labels or more"),
        (
            lambda: lab4.class_counts([[0, 1], [1, 0], [1, 1]], 3),
            "3 ranks need a row of as many labels or more",
        ),
        (lambda: lab4.class_counts([0, 1, -1], 3), "labels must be integers from 0, got"),
        (lambda: lab4.class_counts([0, 1, 0.5], 3), "labels must be integers from 0, got"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_launcher_that_gives_no_rank_is_refused():
    with pytest.raises(KeyError, match="RANK"):
        lab3.world_of({"WORLD_SIZE": "2"})
