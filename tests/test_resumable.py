"""Training from a stream with `transformers.Trainer` and `accelerate`, in one process and two."""

import json
import os
import socket
import subprocess
import sys
from multiprocessing import forkserver

import numpy as np
import pytest
import training_jobs as jobs
from torch.utils.data import DataLoader
from training_jobs import block_numbers, block_stream, epoch_batches, prepared_loader

from llmpipe import run_ranks

PRELOAD = ("torch", "datasets", "accelerate", "transformers.trainer")


@pytest.fixture(scope="module", autouse=True)
def _own_fork_server():
    """Who starts it decides what it imports: after another file's every rank imports Trainer."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


def two_processes(job, *args):
    """The results of `job` in two processes; the parent of both chooses a free port."""
    return run_ranks(job, 2, free_port(), *args, preload=PRELOAD)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def numbers_of(given):
    return [block_numbers(batch) for batch in given]


def flat(batches):
    return [number for batch in batches for number in batch]


# One process


def test_trainer_takes_the_first_blocks_in_order(tmp_path):
    arguments = jobs.trainer_arguments(tmp_path, 2)
    given, weights = jobs.trained_by_trainer(block_stream(9), arguments)
    assert numbers_of(given) == [[0, 1], [2, 3]]
    assert all(batch.keys() == {"input_ids", "labels"} for batch in given)
    assert all(batch["input_ids"].equal(batch["labels"]) for batch in given)
    assert not np.array_equal(weights, jobs.weights_of(jobs.watched_model()[0]))


@pytest.mark.parametrize("framework", ["trainer", "accelerate"])
def test_padding_reaches_the_model_with_its_mask(framework, tmp_path):
    stream, pad = jobs.stream_of([4, 4, 4, 1], remainder="pad"), jobs.NUM_IDS - 1
    if framework == "trainer":
        arguments = jobs.trainer_arguments(tmp_path, 2)
        (_, last), weights = jobs.trained_by_trainer(stream, arguments)
    else:
        (_, last), weights = jobs.trained_by_accelerate(stream)
    assert last["input_ids"].tolist() == [[8, 9, 10, 11], [12, pad, pad, pad]]
    assert last["labels"].tolist() == [[8, 9, 10, 11], [12, -100, -100, -100]]
    assert last["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert np.isfinite(weights).all()


def test_trainer_passes_its_epochs_on(tmp_path):
    """By `set_epoch` of the prepared loader: the stream is shuffled anew in each."""
    stream = block_stream(5, shuffle=True)
    given, _ = jobs.trained_by_trainer(stream, jobs.trainer_arguments(tmp_path, 7))
    due = [epoch_batches(epoch, 5, shuffle=True) for epoch in range(3)]
    assert due[0] != due[1] != due[2]
    assert numbers_of(given) == [*due[0], *due[1], *due[2][:1]]


def test_trainer_resumes_exactly_in_a_later_epoch_by_the_state_of_the_stream(tmp_path):
    """With a loader of its own, that reads nothing ahead, and `ignore_data_skip`."""
    from transformers import TrainerCallback

    class SaveStream(TrainerCallback):
        def on_save(self, args, state, control, train_dataloader, **kwargs):
            stream_state = train_dataloader.dataset.state_dict()
            file = tmp_path / f"checkpoint-{state.global_step}" / "stream.json"
            file.write_text(json.dumps(stream_state))

    def arguments(**options):
        saving = {"save_strategy": "steps", "save_steps": 5, "lr_scheduler_type": "constant"}
        return jobs.trainer_arguments(tmp_path, 9, **saving, **options)

    stream = block_stream(5, shuffle=True)
    whole, weights = jobs.trained_by_trainer(
        stream, arguments(), own_loader=True, callbacks=[SaveStream()]
    )
    due = flat(epoch_batches(epoch, 5, shuffle=True) for epoch in range(3))
    assert numbers_of(whole) == due
    checkpoint = tmp_path / "checkpoint-5"
    stream = block_stream(5, shuffle=True)
    stream.load_state_dict(json.loads((checkpoint / "stream.json").read_text()))
    assert stream.epoch == 1
    rest, again = jobs.trained_by_trainer(
        stream,
        arguments(ignore_data_skip=True),
        own_loader=True,
        resume_from_checkpoint=str(checkpoint),
    )
    assert numbers_of(rest) == due[5:]
    assert np.allclose(again, weights, atol=1e-6)


def test_accelerate_trains_two_steps_on_the_first_blocks():
    given, weights = jobs.trained_by_accelerate(block_stream(9))
    assert numbers_of(given) == [[0, 1], [2, 3]]
    assert not np.array_equal(weights, jobs.weights_of(jobs.watched_model()[0]))


@pytest.mark.parametrize("config", [{}, {"dispatch_batches": False}], ids=str)
@pytest.mark.parametrize("stateful", [False, True])
def test_every_pass_of_a_prepared_loader_is_the_next_epoch(config, stateful):
    loader = prepared_loader(
        block_stream(11, shuffle=True), use_stateful_dataloader=stateful, **config
    )
    passes = [[block_numbers(batch) for batch in loader] for _ in range(3)]
    assert passes == [epoch_batches(epoch, 11, shuffle=True) for epoch in range(3)]
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("stateful", [False, True])
def test_training_may_begin_in_a_later_epoch(stateful):
    """A stateful loader begins its first pass when it is prepared: the stream's epoch comes before.

    The loader counts on from its own.
    """
    stream = block_stream(11, shuffle=True)
    stream.set_epoch(2)
    loader = prepared_loader(stream, use_stateful_dataloader=stateful)
    loader.iteration = stream.epoch
    passes = [[block_numbers(batch) for batch in loader] for _ in range(2)]
    assert passes == [epoch_batches(epoch, 11, shuffle=True) for epoch in (2, 3)]
    assert epoch_batches(0, 11, shuffle=True) != passes[0] != passes[1]


def state_in_epoch_2(num_batches):
    """The state of a shuffled stream after so many batches of two, and what is left."""
    stream = block_stream(11, shuffle=True)
    stream.set_epoch(2)
    batches = iter(DataLoader(stream, batch_size=2))
    for _ in range(num_batches):
        next(batches)
    return stream.state_dict(), [block_numbers(batch) for batch in batches]


def test_a_state_of_a_later_epoch_wants_the_loader_to_count_from_there():
    state, rest = state_in_epoch_2(num_batches=2)
    stream = block_stream(11, shuffle=True)
    loader = prepared_loader(stream)
    stream.load_state_dict(state)
    with pytest.raises(ValueError, match=r"state in epoch 2 was loaded .* not with epoch 0"):
        next(iter(loader))
    loader.iteration = stream.epoch
    assert [block_numbers(batch) for batch in loader] == rest
    after = [block_numbers(batch) for batch in loader]
    assert after == epoch_batches(3, 11, shuffle=True)


def test_a_prepared_loader_reads_a_round_ahead_of_training():
    """So a state that the stream itself gives then is late by a batch: one would be lost."""
    due = epoch_batches(0, 11)
    stream = block_stream(11)
    states = []
    for _ in prepared_loader(stream):
        states.append(stream.state_dict())
    for place, state in enumerate(states[:-2]):
        other = block_stream(11)
        other.load_state_dict(state)
        rest = [block_numbers(batch) for batch in DataLoader(other, batch_size=2)]
        assert rest == due[place + 2 :]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_prepared_stateful_loader_resumes_at_every_batch(batch_size, num_workers):
    def loader():
        stream = block_stream(11, shuffle=True, batch_size=batch_size)
        size = None if batch_size else 2
        return prepared_loader(stream, size, num_workers, use_stateful_dataloader=True)

    first, passes = loader(), []
    for _ in range(4):
        seen = []
        for batch in first:
            seen.append((block_numbers(batch), json.loads(json.dumps(first.state_dict()))))
        passes.append(seen)
    third, fourth = ([numbers for numbers, _ in seen] for seen in passes[2:])
    assert sorted(flat(third)) == list(range(11))
    assert len(third) >= 6
    assert third != fourth
    for place, (_, state) in enumerate(passes[2][:-1]):
        second = loader()
        second.load_state_dict(state)
        second.iteration = 2
        assert [block_numbers(batch) for batch in second] == third[place + 1 :]
        assert [block_numbers(batch) for batch in second] == fourth


# The rule by which accelerate shards, without processes


def shares_of_processes(num_blocks, num_processes, both):
    """The numbers of the blocks that each process gets, where each reads for itself."""
    from accelerate.data_loader import IterableDatasetShard

    shares = []
    for rank in range(num_processes):
        place = {"rank": rank, "world_size": num_processes} if both else {}
        stream = block_stream(num_blocks, **place)
        shard = IterableDatasetShard(
            stream, batch_size=2, num_processes=num_processes, process_index=rank
        )
        shares.append(flat(block_numbers(item) for item in shard))
    return shares


@pytest.mark.parametrize("num_processes", range(1, 6))
def test_shards_by_accelerate_hold_every_block_and_repeat_the_first_ones(num_processes):
    for num_blocks in range(40):
        shares = shares_of_processes(num_blocks, num_processes, both=False)
        assert set(flat(shares)) == set(range(num_blocks))
        assert len(flat(shares)) == num_blocks + -num_blocks % (2 * num_processes)
        assert len({len(share) for share in shares}) == 1


@pytest.mark.parametrize("num_processes", range(2, 6))
def test_if_both_shard_one_part_in_the_number_of_processes_is_left(num_processes):
    found = set(flat(shares_of_processes(240, num_processes, both=True)))
    assert abs(len(found) - 240 / num_processes) <= 2 * num_processes


# Two processes


def rounds(num_blocks, per_process=2):
    """By `accelerate`, of two processes: rounds of four blocks in order, the last filled up.

    Dispatched batches get as many blocks more as make the last round even, all from the beginning.
    """
    numbers = list(range(num_blocks)) + [0] * (num_blocks % 2)
    size = 2 * per_process
    shares = ([], [])
    for start in range(0, len(numbers), size):
        part = numbers[start : start + size]
        half = len(part) // 2
        shares[0].append(part[:half])
        shares[1].append(part[half:])
    return shares


def test_accelerate_deals_every_block_to_one_process_and_repeats_at_the_end():
    sizes = [*range(1, 14), 20]
    whole_batches = {"batch_size": 2}
    cases = [
        *((n, False, {}, {}) for n in sizes),
        *((n, False, whole_batches, {}) for n in sizes),
        *((n, False, {}, {"dispatch_batches": False}) for n in sizes),
        *((n, False, {}, {"even_batches": False}) for n in sizes),  # for streams it does nothing
    ]
    found = two_processes(jobs.passes_of_prepared_loaders, cases)
    assert len(found[0]) == len(found[1]) == 4 * len(sizes)
    for case, (left,), (right,) in zip(cases, *found, strict=True):
        num_blocks, _, _, config = case
        assert len(left) == len(right), case
        shared = flat(left) + flat(right)
        assert set(shared) == set(range(num_blocks)), case
        if "dispatch_batches" in config:
            assert len(shared) == num_blocks + -num_blocks % 4, case
            assert {len(batch) for batch in left + right} == {2}, case
        else:
            assert (left, right) == rounds(num_blocks), case


def test_prepared_loaders_in_two_processes_pass_the_epochs_on():
    cases = [
        (12, False, {"shuffle": True}, {}),
        (12, False, {"shuffle": True}, {"dispatch_batches": False}),
    ]
    due = [epoch_batches(epoch, 12, shuffle=True) for epoch in range(3)]
    assert due[0] != due[1] != due[2]
    left, right = two_processes(jobs.passes_of_prepared_loaders, cases, 3)
    assert left == [[batches[::2] for batches in due]] * 2
    assert right == [[batches[1::2] for batches in due]] * 2


def test_if_both_shard_half_of_the_documents_are_lost():
    cases = [(40, True, {}, {}), (40, True, {}, {"dispatch_batches": False})]
    dispatched, undispatched = (
        set(flat(left) + flat(right))
        for (left,), (right,) in zip(
            *two_processes(jobs.passes_of_prepared_loaders, cases), strict=True
        )
    )
    # Process 0 reads its share for both, and the share of process 1 is never read.
    assert dispatched == set(flat(epoch_batches(0, 40, rank=0, world_size=2)))
    assert abs(len(dispatched) - 20) <= 2
    assert abs(len(undispatched) - 20) <= 4


def test_accelerate_in_two_processes_trains_as_one_on_all_of_the_blocks():
    """Two ways to shard: each sees its blocks, and weights move as with the batches in one."""
    cases = [(20, 2, False), (20, 2, True), (9, None, True), (11, None, False)]
    both_dealt, own, to_the_end, dealt_to_the_end = zip(
        *two_processes(jobs.steps_of_accelerate, cases), strict=True
    )
    assert [numbers for numbers, _ in both_dealt] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    _, weights = jobs.trained_by_accelerate(block_stream(20), batch_size=4)
    for _, found in both_dealt:
        assert np.allclose(found, weights, atol=1e-6)
    shares = [epoch_batches(0, 20, rank=rank, world_size=2)[:2] for rank in range(2)]
    assert [numbers for numbers, _ in own] == shares
    assert len(set(flat(flat(shares)))) == 8
    assert np.allclose(own[0][1], own[1][1], atol=1e-6)
    # To the end of a share of five blocks and of one of four: every document once.
    trained = flat(flat(numbers for numbers, _ in to_the_end))
    assert sorted(trained) == list(range(9))
    assert [len(numbers) for numbers, _ in to_the_end] == [3, 2]
    assert tuple(numbers for numbers, _ in dealt_to_the_end) == rounds(11)


def test_trainer_in_two_processes(tmp_path):
    """Trainer prepares its loader, so that it shards; with a loader of one's own the stream may."""
    undispatched = {"dispatch_batches": False}
    cases = [
        (20, 2, False, False, {}),
        (20, 2, False, False, undispatched),
        (20, 2, False, False, {"split_batches": True}),
        (40, 20, True, False, {}),
        (40, 20, True, False, undispatched),
        (40, 20, True, True, {}),
        (9, 5, True, True, {}),
    ]
    found = two_processes(jobs.steps_of_trainer, str(tmp_path), cases)
    for left, right in zip(*found, strict=True):
        assert np.allclose(left[1], right[1], atol=1e-6)
    numbers = [[case[0] for case in rank] for rank in found]
    for index in (0, 1):
        assert [rank[index] for rank in numbers] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    one = jobs.trainer_arguments(tmp_path, 2, batch_size=4)
    _, weights = jobs.trained_by_trainer(block_stream(20), one)
    assert np.allclose(found[0][0][1], weights, atol=1e-6)
    assert [rank[2] for rank in numbers] == [[[0], [2]], [[1], [3]]]
    shares = [epoch_batches(0, 40, rank=rank, world_size=2) for rank in range(2)]
    # Both shard: in what is one pass and a half over 40 blocks, half of them never come.
    assert {number for rank in numbers for number in flat(rank[3])} == set(flat(shares[0]))
    assert abs(len({number for rank in numbers for number in flat(rank[4])}) - 20) <= 4
    # The stream alone shards: each process goes through its own share, and begins again.
    assert [rank[5] for rank in numbers] == [(share * 2)[:20] for share in shares]
    assert sorted(flat(flat(shares))) == list(range(40))
    # Shares of five and of four blocks: who is through begins its next epoch, and none waits.
    assert [len(rank[6]) for rank in numbers] == [5, 5]


@pytest.mark.parametrize("dispatch", [False, True])
def test_a_stateful_loader_in_two_processes_loses_a_batch_if_it_dispatches(dispatch):
    """The state that `accelerate` keeps while it dispatches is a batch late, as of 1.15."""
    config = {"dispatch_batches": dispatch}
    results = two_processes(jobs.resumed_loaders, 16, config)
    whole = [batches for batches, _ in results]
    assert sorted(flat(flat(whole))) == list(range(16))
    for place in range(len(whole[0]) - 1):
        due = set(flat(flat(batches[place + 1 :] for batches in whole)))
        found = set(flat(flat(rests[place] for _, rests in results)))
        if dispatch:
            assert due - found == set(whole[0][place + 1])
        else:
            assert [rests[place] for _, rests in results] == [
                batches[place + 1 :] for batches in whole
            ]


def test_started_by_torchrun(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    command += [jobs.__file__, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [rank["numbers"] for rank in ranks] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert np.allclose(ranks[0]["weights"], ranks[1]["weights"], atol=1e-6)
