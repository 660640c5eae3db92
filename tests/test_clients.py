"""Every client of a stream, whole runs and resumed ones, against `tokenizers` and NumPy alone."""

import random
import socket
from functools import cache
from itertools import chain, product

import client_jobs as jobs
import numpy as np
import pytest
from client_jobs import BATCH_SIZE, BLOCK_SIZE, NUM_BLOCKS, NUM_EPOCHS, Case
from tokenizers import Tokenizer

from llmpipe import run_ranks

PRELOAD = ("torch", "datasets", "accelerate", "transformers.trainer")


# The reference


@cache
def ids_of_texts():
    tokenizer = Tokenizer.from_file(str(jobs.gpt2().folder / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in jobs.texts()]


def permutation(length, *seed):
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable")


@cache
def blocks_of_consumer(epoch, shuffle, index, number):
    """The blocks of consumer `index` of `number`: shape (its part of the bound, block_size).

    The row that is read as number p of a part of w rows stands, of all weight n, behind the parts
    before it at w * (p * 159 % 256) / 256; consumer i has what stands from n * i / number on.
    """
    ids = ids_of_texts()
    sizes = [1000, len(ids) - 1000]
    total, before, own = 256 * len(ids), 0, []
    for part in permutation(2, 0, epoch) if shuffle else (0, 1):
        size = sizes[part]
        order = permutation(size, 0, epoch, part + 1, 1) if shuffle else np.arange(size)
        for number_read, row in enumerate(order.tolist()):
            place = before + size * (number_read * 159 % 256)
            if total * index // number <= place < total * (index + 1) // number:
                own += ids[1000 * part + row]
        before += 256 * size
    due = NUM_BLOCKS * (index + 1) // number - NUM_BLOCKS * index // number
    assert len(own) >= due * BLOCK_SIZE
    return np.array(own[: due * BLOCK_SIZE]).reshape(due, BLOCK_SIZE)


def in_batches(blocks):
    return [blocks[i : i + BATCH_SIZE].tolist() for i in range(0, len(blocks), BATCH_SIZE)]


def batches_of(case, epoch, rank, world_size):
    """The batches of one process in one epoch; workers give theirs in turn."""
    workers = max(1, case.num_workers)
    shards_itself = not case.client.startswith(("trainer", "accelerate"))
    of_workers = []
    for worker in range(workers):
        if shards_itself:
            consumer = rank * workers + worker, world_size * workers
        else:
            consumer = worker, workers
        blocks = blocks_of_consumer(epoch, case.shuffle, *consumer)
        if world_size > 1 and case.client in ("trainer, undispatched", "accelerate, stateful"):
            # accelerate's rule: of each round of blocks every process has its own.
            rounds = blocks.reshape(-1, world_size, BATCH_SIZE, BLOCK_SIZE)
            blocks = rounds[:, rank].reshape(-1, BLOCK_SIZE)
        of_workers.append(in_batches(blocks))
    batches = list(chain(*zip(*of_workers, strict=True)))
    if case.client in ("trainer", "accelerate"):  # process 0 reads, and hands out batch by batch
        return batches[rank::world_size]
    return batches


def whole_run(case, rank, world_size):
    return list(chain(*(batches_of(case, epoch, rank, world_size) for epoch in range(NUM_EPOCHS))))


# The runs


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_runs(cases, world_size, folder):
    """Whole runs, and in new processes runs from a random step of each epoch."""
    first = [(case, checkpoints(case, world_size), None) for case in cases]
    then = [(case, (), step) for case, steps, _ in first for step in steps]
    num_checked = 0
    for runs in (first, then):
        found = run_ranks(jobs.train, world_size, free_port(), str(folder), runs, preload=PRELOAD)
        for rank, of_rank in enumerate(found):
            for (case, _, step), given in zip(runs, of_rank, strict=True):
                due = whole_run(case, rank, world_size)[(step or 0) * case.accumulation :]
                assert len(given) == len(due) > 0, (case, step, rank)
                assert given == due, (case, step, rank)
                num_checked += 1
    assert num_checked == len(cases) * world_size * (1 + NUM_EPOCHS)


def checkpoints(case, world_size):
    """A step of each epoch, counted through, by chance but for its last."""
    per_epoch = NUM_BLOCKS // (BATCH_SIZE * world_size * case.accumulation)
    chooser = random.Random(repr((case, world_size)))
    return tuple(epoch * per_epoch + chooser.randrange(1, per_epoch) for epoch in range(NUM_EPOCHS))


def grid(client, world_size):
    """All cases of a client."""
    return [Case(client, *options) for options in product((0, 2), (False, True), (1, 3))]


@pytest.fixture(autouse=True)
def _needs(request):
    if "lightning" in request.node.name:
        pytest.importorskip("pytorch_lightning")


WITH_WORKERS = ("trainer", "lightning")  # the others by the grid
IN_TWO_PROCESSES = ("trainer", "accelerate, stateful", "stateful loader", "lightning")


@pytest.mark.parametrize("client", ["trainer", "accelerate", "stateful loader", "lightning"])
def test_a_client_trains_on_every_block_and_resumes_at_any_step(client, tmp_path):
    with_workers = [Case(client, 2, True, 1)] if client in WITH_WORKERS else []
    check_runs([Case(client, 0, True, 3), *with_workers], 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("client", IN_TWO_PROCESSES)
def test_a_client_in_two_processes_too(client, tmp_path):
    check_runs([Case(client, 0, True, 1)], 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("client", jobs.CLIENTS)
def test_a_client_with_all_options(client, world_size, tmp_path):
    check_runs(grid(client, world_size), world_size, tmp_path)
