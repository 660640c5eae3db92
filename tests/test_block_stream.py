"""Streams: the blocks of the whole corpus, each document once, and resumed to the very suffix."""

import json
import random
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from stream_tools import (
    NUM_IDS,
    NumberTokenizer,
    collated,
    consumers,
    number_stream,
    numbered,
    real_ids,
    run,
)
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from llmpipe import BlockStream, QualityFilter, World, chunk, load_tokenizer, open_source
from llmpipe.columns import WINDOW_ROWS
from llmpipe.ledger import Ledger

LENGTHS = st.lists(st.integers(0, 11), max_size=40)
WORLDS = range(1, 6)
WORKERS = (0, 1, 2, 4)


def dataset_of(lengths):
    return Dataset.from_dict({"text": numbered(lengths)})


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """300 documents of 0 to 30 ids in row groups of 40, and all their ids."""
    lengths = random.Random(0).choices(range(31), k=300)
    file = tmp_path_factory.mktemp("stream") / "numbers.parquet"
    pq.write_table(pa.table({"text": numbered(lengths)}), file, row_group_size=40)
    return open_source(file), sum(lengths)


@pytest.fixture(scope="module")
def gpt2():
    return load_tokenizer("gpt2")


@pytest.fixture(scope="module")
def whole(mirror, gpt2):
    """All blocks of WikiText-2's train split, filtered, cut at once."""
    kept, _ = QualityFilter(40)(open_source("wikitext-2-v1").load("train"))
    return chunk(gpt2.encode(kept["text"]).ids, 128).blocks


# The blocks of one consumer


@given(LENGTHS, st.integers(1, 9), st.sampled_from(["drop", "pad"]), st.integers(0, 4))
def test_blocks_are_those_of_one_chunk_over_all(lengths, block_size, remainder, batch_size):
    stream = number_stream(
        dataset_of(lengths), block_size, remainder=remainder, batch_size=batch_size or None
    )
    expected = chunk(np.arange(sum(lengths)), block_size)
    items = list(stream)
    ids = [number for item in items for number in real_ids(item)]
    num_kept = sum(lengths) if remainder == "pad" else expected.blocks.size
    assert ids == list(range(num_kept))
    blocks = [b for item in items for b in item["input_ids"].reshape(-1, block_size)]
    assert len(blocks) == len(expected.blocks) + (
        remainder == "pad" and len(expected.remainder) > 0
    )
    if batch_size:
        assert [len(item["input_ids"]) for item in items[:-1]] == [batch_size] * (len(items) - 1)
    entry = stream.ledger["chunk", "ids"]
    assert entry.num_in == sum(lengths)
    assert entry.dropped["remainder"] == sum(lengths) - num_kept
    assert entry.num_out == len(blocks) * block_size


@pytest.mark.parametrize("batch_size", [None, 8])
def test_wikitext_2_streams_to_the_blocks_of_lab_1(whole, gpt2, batch_size):
    stream = BlockStream(
        open_source("wikitext-2-v1"), gpt2, filter=QualityFilter(40), batch_size=batch_size
    )
    blocks = collated(DataLoader(stream, batch_size=None if batch_size else 8))
    assert np.array_equal(blocks, whole)
    ledger = stream.ledger
    assert ledger["filter", "documents"].num_in == 36_718
    assert ledger["filter", "documents"].num_out == 16_859
    assert ledger["chunk", "ids"].dropped == {"remainder": 54}


def test_items_are_int64_tensors_whose_labels_are_the_ids_and_their_own():
    for item in number_stream(dataset_of([5] * 9), 4):
        assert item.keys() == {"input_ids", "labels"}
        assert item["input_ids"].dtype == item["labels"].dtype == torch.int64
        assert item["input_ids"].shape == (4,)
        item["labels"][:] = -100
        assert (item["input_ids"] >= 0).all()


def test_padding_is_masked_and_real_end_of_text_ids_are_not():
    end = NUM_IDS - 1
    stream = number_stream(dataset_of([3, 2, 1]), 4, separator=end, remainder="pad")
    first, second, third = stream
    assert first["input_ids"].tolist() == [0, 1, 2, end]
    assert second["input_ids"].tolist() == [3, 4, end, 5]
    assert third["input_ids"].tolist() == [end, end, end, end]  # padded with the same id
    assert first["labels"].tolist() == [0, 1, 2, end]
    assert third["labels"].tolist() == [end, -100, -100, -100]
    masks = [item["attention_mask"].tolist() for item in (first, second, third)]
    assert masks == [[1] * 4, [1] * 4, [1, 0, 0, 0]]
    ledger = stream.ledger
    assert ledger["tokenize", "ids"].added == {"text": 6, "separator": 3}
    assert ledger["chunk", "ids"].added == {"padding": 3}


def test_a_separator_stands_after_every_document_also_where_it_resumes():
    stream = number_stream(dataset_of([2, 0, 3]), 1, separator=77)
    assert [i for item in stream for i in real_ids(item)] == [0, 1, 77, 77, 2, 3, 4, 77]
    seen = run(stream)
    for index, (_, state) in enumerate(seen):
        stream.load_state_dict(state)
        assert run(stream) == seen[index + 1 :]


def test_the_filter_drops_rows_and_the_ledger_says_why():
    texts = ["1 2 3", "", "4", " 5 6 7 ", "\n"]
    stream = number_stream(Dataset.from_dict({"text": texts}), 2, filter=QualityFilter(min_chars=2))
    assert [real_ids(item) for item in stream] == [[1, 2], [3, 5], [6, 7]]
    assert stream.ledger["filter", "documents"].dropped == {"blank": 2, "too_short": 1}


def test_one_document_of_many_blocks_and_windows_of_many_rows():
    lengths = [5000, *[1] * (2 * WINDOW_ROWS + 7), 0, 3]
    stream = number_stream(dataset_of(lengths), 7, batch_size=3)
    ids = [i for item in stream for i in real_ids(item)]
    assert ids == list(range(sum(lengths) // 7 * 7))


def test_slices_of_long_documents_make_the_same_blocks(monkeypatch):
    dataset = dataset_of([40, 3, 0, 700, 5, 60, 1, 1])
    expected = [real_ids(item) for item in number_stream(dataset, 8)]
    monkeypatch.setattr("llmpipe.streaming.block_stream.SLICE_BYTES", 50)
    stream = number_stream(dataset, 8)
    seen = run(stream)
    assert [ids for ids, _ in seen] == expected
    for index, (_, state) in enumerate(seen):
        stream.load_state_dict(state)
        assert run(stream) == seen[index + 1 :]


# Every document once, whatever the number of consumers


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("num_rows", [0, 1, 3, 10, 300])
def test_consumers_read_every_document_once(parquet, num_rows, shuffle):
    source, _ = parquet
    lengths = [len(text.split()) for text in source.load("train")["text"][:num_rows]]
    for world_size in (1, 2, 4, 8):
        for num_workers in (0, 1, 2, 5):
            ids, ledgers = [], Ledger()
            for stream, context in consumers(
                lambda rank, size: number_stream(
                    source,
                    remainder="pad",
                    num_rows=num_rows,
                    shuffle=shuffle,
                    rank=rank,
                    world_size=size,
                ),
                world_size,
                num_workers,
            ):
                with context():
                    own = [i for item in stream for i in real_ids(item)]
                    ledgers += stream.ledger
                ids += own
                if not shuffle:
                    assert own == sorted(own)
            assert sorted(ids) == list(range(sum(lengths)))
            assert ledgers["filter", "documents"].num_in == num_rows


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet", "sample", "dataset", "mapped"])
@pytest.mark.parametrize("num_workers", [0, 2, 3])
def test_real_workers_read_every_row_of_every_kind_of_source_once(kind, num_workers, tmp_path):
    documents, count = None, 40
    if kind == "sample":
        documents, count = open_source("wikitext-2"), 5000
    elif kind in ("dataset", "mapped"):
        documents = Dataset.from_dict({"text": numbered([3] * count)})
        if kind == "mapped":
            documents = documents.to_iterable_dataset(4).map(lambda row: row)
    else:
        dataset = Dataset.from_dict({"text": numbered([3] * count)})
        for name, rows in (("a", range(13)), ("b", range(13, 40))):
            part, file = dataset.select(rows), tmp_path / f"{name}.{kind}"
            if kind == "txt":
                file.write_text("\n".join(part["text"]) + "\n")
            elif kind == "jsonl":
                part.to_json(file)
            else:
                part.to_parquet(file)
        documents = open_source(tmp_path)
    if kind == "sample":
        tokenizer = load_tokenizer("gpt2")
        stream = BlockStream(documents, tokenizer, 8, num_rows=count, batch_size=512)
        expected = tokenizer.encode(documents.load("train", num_rows=count)["text"]).ids.tolist()
        stream.remainder = "pad"
    else:
        stream = number_stream(documents, 8, remainder="pad")
        expected = list(range(3 * count))
    loader = StatefulDataLoader(stream, batch_size=None, num_workers=num_workers)
    ids = [i for item in loader for i in real_ids(item)]
    assert sorted(ids) == sorted(expected)
    ledger = stream.total_ledger(loader.state_dict())
    assert ledger["filter", "documents"].num_in == count
    assert ledger["chunk", "ids"].dropped == {"remainder": 0}
    workers = loader.state_dict().get("_snapshot", {}).get("_worker_snapshots", {})
    assert all(worker["dataset_state"]["done"][0]["num_in"] for worker in workers.values())


@pytest.mark.parametrize(("num_rows", "batch_size"), [(2000, 1), (2000, 4), (4358, 8)])
def test_what_follows_the_last_batch_belongs_to_its_state(num_rows, batch_size):
    """Rows that were read after it, or whose ids are dropped, would be in no worker's ledger."""
    lengths = [3] * (num_rows - 30) + [0] * 29 + [4]
    data = Dataset.from_dict({"text": numbered(lengths)})
    stream = number_stream(data, 128, batch_size=batch_size)
    loader = StatefulDataLoader(stream, batch_size=None, num_workers=1)
    num_blocks = sum(len(batch["input_ids"]) for batch in loader)
    ledger = stream.total_ledger(loader.state_dict())
    assert (num_blocks, sum(lengths) - 128 * num_blocks) == (
        sum(lengths) // 128,
        sum(lengths) % 128,
    )
    assert ledger["filter", "documents"].num_out == num_rows
    assert ledger["chunk", "ids"].dropped == {"remainder": sum(lengths) % 128}
    assert ledger["chunk", "ids"].num_out == 128 * num_blocks


def test_num_rows_is_the_beginning_of_the_source_however_it_is_divided(parquet):
    source, _ = parquet
    beginning = source.load("train", num_rows=95)["text"]
    expected = sorted(int(number) for text in beginning for number in text.split())
    for world_size in (1, 3):
        streams = [
            number_stream(source, remainder="pad", num_rows=95, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        ids = sorted(i for stream in streams for item in stream for i in real_ids(item))
        assert ids == expected


# Shuffling and epochs


def test_shuffling_depends_on_seed_and_epoch_alone(parquet):
    source, num_ids = parquet

    def ids(seed, epoch, **options):
        stream = number_stream(source, shuffle=True, seed=seed, remainder="pad", **options)
        stream.set_epoch(epoch)
        return tuple(i for item in stream for i in real_ids(item))

    orders = {(seed, epoch): ids(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert {tuple(sorted(order)) for order in orders.values()} == {tuple(range(num_ids))}
    assert orders[1, 1] == ids(1, 1) == ids(1, 1, batch_size=5)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_the_epoch_changes_by_set_epoch_alone(parquet, num_workers, persistent):
    if persistent and not num_workers:
        pytest.skip("without workers there are none to persist")
    stream = number_stream(parquet[0], shuffle=True)
    loader = DataLoader(
        stream, batch_size=4, num_workers=num_workers, persistent_workers=persistent
    )
    passes = []
    for epoch in (0, 0, 1, 1, 0):
        stream.set_epoch(epoch)
        passes.append(collated(loader).tolist())
    assert passes[0] == passes[1] == passes[4]
    assert passes[2] == passes[3] != passes[0]


# Resuming with as many consumers


@given(LENGTHS, st.integers(1, 9), st.booleans(), st.integers(0, 3), st.booleans())
def test_resumed_at_every_block_it_gives_the_very_suffix(
    lengths, block_size, shuffle, batch_size, has_separator
):
    options = {"shuffle": shuffle, "remainder": "pad", "batch_size": batch_size or None}
    options["separator"] = NUM_IDS - 2 if has_separator else None
    stream = number_stream(dataset_of(lengths), block_size, **options)
    stream.set_epoch(3)
    seen, ledger = run(stream), stream.ledger
    for index, (_, state) in enumerate(seen):
        other = number_stream(dataset_of(lengths), block_size, **options)
        other.load_state_dict(state)
        assert other.state_dict() == state
        assert run(other) == seen[index + 1 :]
        assert other.ledger == ledger
        assert run(other) == seen  # the next pass begins at the beginning


@pytest.mark.parametrize("num_places", [3, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_resumed_at_random_blocks_of_wikitext_2(whole, gpt2, shuffle, num_places):
    def stream():
        return BlockStream(
            open_source("wikitext-2-v1"), gpt2, filter=QualityFilter(40), shuffle=shuffle, seed=5
        )

    chooser, reference = random.Random(0), [item["input_ids"] for item in stream()]
    assert len(reference) == len(whole)
    for _ in range(num_places):
        place = chooser.randrange(len(reference))
        first, second = stream(), stream()
        assert len(list(islice(first, place + 1))) == place + 1
        state = json.loads(json.dumps(first.state_dict()))
        assert len(json.dumps(state)) < 2000
        second.load_state_dict(state)
        rest = reference[place + 1 :]
        got = [item["input_ids"] for item in islice(second, 400)]
        assert len(got) == min(400, len(rest))
        assert all(map(torch.equal, got, rest[:400]))


@pytest.mark.parametrize("num_places", [2, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_stateful_loader_resumes_at_any_batch_in_a_later_epoch(
    parquet, num_workers, batch_size, num_places
):
    def loader():
        stream = number_stream(parquet[0], 16, shuffle=True, remainder="pad", batch_size=batch_size)
        size = None if batch_size else 3
        return stream, StatefulDataLoader(stream, batch_size=size, num_workers=num_workers)

    stream, first = loader()
    passes = []
    for epoch in (1, 2):
        stream.set_epoch(epoch)
        states, batches = [], []
        for batch in first:
            batches.append(real_ids(batch))
            states.append(json.loads(json.dumps(first.state_dict())))
        passes.append((batches, states))
    batches, states = passes[0]
    assert len(batches) > 80
    chooser = random.Random(num_workers)
    places = chooser.sample(range(len(batches)), num_places if num_workers else 40)
    for place in [*places, len(batches) - 1]:
        stream, second = loader()
        second.load_state_dict(states[place])
        rest = [real_ids(batch) for batch in second]
        if place + 1 < len(batches):
            assert rest == batches[place + 1 :]
            stream.set_epoch(2)
            assert [real_ids(batch) for batch in second] == passes[1][0]
        else:
            # What the loader makes of a state at the very end is its own: nothing, or the next.
            assert rest in ([], batches)


def test_a_state_is_a_copy_that_later_blocks_do_not_change(parquet):
    stream = number_stream(parquet[0], 8)
    kept = []
    for _ in stream:
        state = stream.state_dict()
        kept.append((state, json.dumps(state)))
    assert len(kept) > 100
    assert all(json.dumps(state) == text for state, text in kept)
    kept[0][0]["fingerprint"]["block_size"] = 0
    kept[0][0]["left"].clear()
    stream.load_state_dict(kept[1][0])


def test_the_last_state_yields_nothing_again_and_then_all(parquet):
    stream = number_stream(parquet[0], 8)
    everything = run(stream)
    end = stream.state_dict()
    assert end["left"] == []
    stream.load_state_dict(end)
    assert run(stream) == []
    assert run(stream) == everything


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_state_loaded_before_workers_begin_is_taken_up_by_one_pass_only(parquet, start):
    stream = number_stream(parquet[0], 8, remainder="pad")
    everything = [ids for ids, _ in run(stream)]
    run(stream, 9)
    state = stream.state_dict()
    fresh = number_stream(parquet[0], 8, remainder="pad")
    fresh.load_state_dict(state)
    loader = DataLoader(fresh, batch_size=None, num_workers=1, multiprocessing_context=start)
    passes = [[real_ids(item) for item in loader] for _ in range(2)]
    assert passes == [everything[9:], everything]


def test_set_epoch_does_not_silently_drop_a_loaded_state(parquet):
    stream = number_stream(parquet[0], shuffle=True)
    stream.set_epoch(2)
    run(stream, 3)
    other = number_stream(parquet[0], shuffle=True)
    other.load_state_dict(stream.state_dict())
    assert other.epoch == 2
    with pytest.raises(ValueError, match=r"state in epoch 2 was loaded .* not with epoch 0"):
        other.set_epoch(0)
    other.set_epoch(2)
    assert run(other) == run(stream)[3:]
    other.set_epoch(3)
    assert other.state_dict()["epoch"] == 3


# What workers, the epoch and a state have to do with each other


def loader_of(stream, num_workers=2, stateful=False, **options):
    kind = StatefulDataLoader if stateful else DataLoader
    return kind(stream, batch_size=None, num_workers=num_workers, **options)


def all_ids(items):
    return [i for item in items for i in real_ids(item)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_state_from_the_end_of_an_epoch_holds_the_next_one_back_in_nothing(parquet, num_workers):
    def shuffled():
        return number_stream(parquet[0], 8, shuffle=True)

    first = shuffled()
    loader = loader_of(first, num_workers, stateful=True)
    list(loader)
    end = json.loads(json.dumps(loader.state_dict()))
    first.set_epoch(1)
    due = all_ids(loader)
    second = shuffled()
    loader = loader_of(second, num_workers, stateful=True)
    loader.load_state_dict(end)
    second.set_epoch(1)
    assert all_ids(loader) == due
    assert second.epoch == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_state_and_another_epoch_are_an_error_whichever_comes_first(parquet, num_workers):
    stream = number_stream(parquet[0], 8, shuffle=True)
    stream.set_epoch(1)
    loader = loader_of(stream, num_workers, stateful=True)
    next(iter(loader))
    state = json.loads(json.dumps(loader.state_dict()))
    stream = number_stream(parquet[0], 8, shuffle=True)
    loader = loader_of(stream, num_workers, stateful=True)
    loader.load_state_dict(state)
    stream.set_epoch(2)
    with pytest.raises(ValueError, match=r"state is in epoch 1, but set_epoch\(2\) was called"):
        list(loader)


def stopped_state(source, num_blocks=9):
    stream = number_stream(source, 8, remainder="pad")
    return run(stream, num_blocks)[-1][1]


def test_a_stream_resumed_in_workers_goes_on_to_the_next_epoch(parquet):
    source, num_ids = parquet
    state = stopped_state(source)
    stream = number_stream(source, 8, remainder="pad").resume([state])
    stream.set_epoch(0)
    loader = loader_of(stream)
    assert sorted(all_ids(loader)) == list(range(9 * 8, num_ids))
    for epoch in (1, 2):
        stream.set_epoch(epoch)
        assert sorted(all_ids(loader)) == list(range(num_ids))
    assert sorted(all_ids(stream)) == list(range(num_ids))


def test_a_state_is_taken_up_once_by_workers_or_by_their_parent(parquet):
    source, num_ids = parquet
    state = stopped_state(source)
    for first, second in ((0, 1), (1, 0), (1, 3), (3, 1)):
        stream = number_stream(source, 8, remainder="pad").resume([state])
        assert sorted(all_ids(loader_of(stream, first))) == list(range(9 * 8, num_ids))
        assert sorted(all_ids(loader_of(stream, second))) == list(range(num_ids))
    stream = number_stream(source, 8, remainder="pad").resume([state])
    torch.manual_seed(0)  # both passes get the same seed
    next(iter(loader_of(stream, 1)))
    torch.manual_seed(0)
    assert sorted(all_ids(loader_of(stream, 3))) == list(range(num_ids))


def test_a_state_that_was_refused_goes_on_waiting(parquet):
    stream = number_stream(parquet[0], 8, rank=0, world_size=2)
    stream.load_state_dict(number_stream(parquet[0], 8).state_dict())
    for _ in range(2):
        with pytest.raises(ValueError, match="consumer 0 of 1, but this is 0 of 2"):
            list(stream)
    with pytest.raises(ValueError, match="consumer 0 of 1, but this is 0 of 4"):
        list(loader_of(stream))


def test_a_state_loaded_after_persistent_workers_began_is_an_error(parquet):
    stream = number_stream(parquet[0], 8)
    state = run(stream, 9)[-1][1]
    loader = loader_of(stream, 1, persistent_workers=True)
    list(loader)
    stream.load_state_dict(state)
    with pytest.raises(ValueError, match="loaded after the workers of this loader began"):
        list(loader)


def test_the_parent_of_workers_does_not_make_up_their_state(parquet):
    stream = number_stream(parquet[0], 8)
    for loader in (loader_of(stream), loader_of(stream, 1)):
        for _ in range(2):
            items = iter(loader)
            next(items)
            for ask in (stream.state_dict, lambda: stream.ledger):
                with pytest.raises(ValueError, match="workers of a DataLoader read this stream"):
                    ask()
        stream.set_epoch(stream.epoch + 1)
        assert stream.state_dict()["epoch"] == stream.epoch


def test_a_state_names_the_epoch_of_its_own_pass(parquet):
    stream = number_stream(parquet[0], 8, shuffle=True)
    first = iter(stream)
    next(first)
    stream.set_epoch(1)
    second = iter(stream)
    next(second)
    assert stream.state_dict()["epoch"] == 1
    next(first)
    assert stream.state_dict()["epoch"] == 0
    before = stream.state_dict()
    stream.set_epoch(0)  # the same: nothing to forget
    assert stream.state_dict() == before


def test_few_parts_of_unequal_size_are_work_for_all_ranks(tmp_path):
    for name, count in (("a", 1), ("b", 4000)):
        (tmp_path / f"{name}.txt").write_text("\n".join(numbered([3] * count)) + "\n")
    rows = [
        len(list(number_stream(open_source(tmp_path), 3, rank=rank, world_size=3)))
        for rank in range(3)
    ]
    assert sum(rows) == 4001
    assert min(rows) > 1000


def test_more_ranks_than_parts_have_work_each():
    dataset = Dataset.from_dict({"text": ["1"] * 5000})
    rows = [
        len(list(number_stream(dataset, 1, rank=rank, world_size=16, shuffle=True)))
        for rank in range(16)
    ]
    assert sum(rows) == 5000
    assert min(rows) > 250


# Resuming with another number of consumers

CONFIGURATIONS = [(world, workers) for world in WORLDS for workers in WORKERS]


@pytest.mark.parametrize("num_others", [4, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("old", CONFIGURATIONS, ids=str)
def test_from_any_number_of_ranks_and_workers_to_any_other(parquet, old, num_others):
    """Simulated workers: 20 to 20, and on from there to a third number."""
    source, num_ids = parquet
    chooser = random.Random(str(old))

    def stream_of(rank, world_size):
        return number_stream(
            source, 6, remainder="pad", shuffle=True, rank=rank, world_size=world_size
        )

    def stopped(stream_of, world_size, num_workers, most):
        """All consumers, each stopped somewhere: the ids they gave, and their states."""
        ids, states = [], []
        for stream, context in consumers(stream_of, world_size, num_workers):
            with context():
                seen = run(stream, chooser.randint(1, most))
                state = json.loads(json.dumps(stream.state_dict()))
            ids += [i for own, _ in seen for i in own]
            states.append(state)
        return ids, chooser.sample(states, len(states))

    def resumed(states):
        base = number_stream(source, 6, remainder="pad", shuffle=True)
        return lambda rank, world_size: base.resume(states, rank=rank, world_size=world_size)

    first, states = stopped(stream_of, *old, most=1 + 800 // (old[0] * max(1, old[1])))
    for new in chooser.sample(CONFIGURATIONS, num_others):
        more, again = stopped(resumed(states), *new, most=40)
        third = chooser.choice(CONFIGURATIONS)
        last, end = stopped(resumed(again), *third, most=10**6)
        assert sorted(first + more + last) == list(range(num_ids))
        ledger = number_stream(source, 6, remainder="pad", shuffle=True).total_ledger(end)
        assert ledger["filter", "documents"].num_in == 300
        assert ledger["tokenize", "ids"].num_out == num_ids


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((2, 2), (3, 0)),
        ((1, 4), (2, 1)),
        pytest.param((3, 0), (1, 2), marks=pytest.mark.slow),
        pytest.param((1, 2), (1, 2), marks=pytest.mark.slow),
    ],
)
def test_real_stateful_loaders_of_other_numbers_share_the_rest(mirror, gpt2, old, new):
    """WikiText-2's validation split, loaders with processes: all ids once, in blocks or left."""

    def loader(stream, num_workers):
        return StatefulDataLoader(stream, batch_size=4, num_workers=num_workers)

    def stream_of(**options):
        return BlockStream(
            open_source("wikitext-2-v1"),
            gpt2,
            64,
            split="validation",
            filter=QualityFilter(40),
            remainder="pad",
            shuffle=True,
            **options,
        )

    kept, _ = QualityFilter(40)(open_source("wikitext-2-v1").load("validation"))
    expected = np.bincount(gpt2.encode(kept["text"]).ids, minlength=50257)
    counts, states = np.zeros(50257, np.int64), []

    def count(batches):
        for batch in batches:
            counts[:] += np.bincount(real_ids(batch), minlength=50257)

    for rank in range(old[0]):
        first = loader(stream_of(rank=rank, world_size=old[0]), old[1])
        batches = iter(first)
        count(next(batches) for _ in range(30 + 7 * rank))
        states.append(json.loads(json.dumps(first.state_dict())))
        del batches
    for rank in range(new[0]):
        stream = stream_of().resume(states, rank=rank, world_size=new[0])
        count(loader(stream, new[1]))
    assert np.array_equal(counts, expected)


def test_as_many_consumers_as_before_go_on_with_the_very_blocks(parquet):
    def streams():
        return [number_stream(parquet[0], 5, rank=rank, world_size=3) for rank in range(3)]

    whole = [run(stream) for stream in streams()]
    stopped = [run(stream, 5 + rank)[-1][1] for rank, stream in enumerate(streams())]
    for rank in range(3):
        again = number_stream(parquet[0], 5).resume(stopped, rank=rank, world_size=3)
        assert run(again) == whole[rank][5 + rank :]
        assert run(again) == whole[rank]


def test_a_rank_with_nothing_ends_and_says_so():
    for world_size in (4, 9):
        streams = [
            number_stream(dataset_of([6, 6]), 2, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        items = [run(stream) for stream in streams]
        assert sum(len(own) for own in items) == 6
        assert sum(not own for own in items) == world_size - 2
        for stream, own in zip(streams, items, strict=True):
            assert stream.ledger["filter", "documents"].num_in == (1 if own else 0)
    empty = number_stream(dataset_of([]), 2)
    assert list(DataLoader(empty, batch_size=2, num_workers=2)) == []
    assert list(empty) == []
    assert empty.ledger["chunk", "ids"].num_out == 0


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_states_after_resume_are_those_of_all_consumers_again(parquet, num_workers):
    """Resumed, stopped, and resumed again by the loaders' own states."""
    num_ids = parquet[1]
    stream = number_stream(parquet[0], 8, remainder="pad")
    ids, states = [], [stream.state_dict()]
    for workers in (num_workers, 0, num_workers):
        loader = StatefulDataLoader(
            number_stream(parquet[0], 8, remainder="pad").resume(states),
            batch_size=2,
            num_workers=workers,
        )
        batches = iter(loader)
        for _ in range(40):
            ids += real_ids(next(batches))
        states = json.loads(json.dumps(loader.state_dict()))
    last = stream.resume(states)
    ids += [i for item in last for i in real_ids(item)]
    assert sorted(ids) == list(range(num_ids))
    assert last.ledger["tokenize", "ids"].num_out == num_ids


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"num_rows": -1}, "num_rows must be 0 or more, got -1"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"separator": NUM_IDS}, r"separator must be in \[0, 1000000\), got 1000000"),
        ({"remainder": "keep"}, "remainder must be 'drop' or 'pad', got 'keep'"),
        ({"rank": 2, "world_size": 2}, r"rank must be in \[0, 2\), got 2"),
        (
            {"filter": QualityFilter(text_column="review")},
            "reads column 'review', the stream 'text'",
        ),
        ({"filter": QualityFilter(drop_duplicates=True)}, "drop duplicates before"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(options, message):
    with pytest.raises(ValueError, match=message):
        number_stream(dataset_of([1]), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 2.5}, "batch_size must be an integer, got 2.5"),
        ({"seed": True}, "seed must be an integer, got True"),
        ({"filter": len}, "filter must be a QualityFilter"),
    ],
)
def test_options_of_another_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        number_stream(dataset_of([1]), **options)
    with pytest.raises(TypeError, match="a str is no table of documents"):
        number_stream("a text")


def test_rows_that_are_not_text_are_named():
    def read(data, num_workers=0, **options):
        stream = number_stream(Dataset.from_dict(data), **options)
        list(DataLoader(stream, batch_size=None, num_workers=num_workers))

    for num_workers in (0, 1):
        with pytest.raises(ValueError, match="row 1 of column 'text' is null"):
            read({"text": ["1", None, "2"]}, num_workers, block_size=1)
    with pytest.raises(TypeError, match="column 'text' holds int64"):
        read({"text": [1, 2]}, block_size=1)
    with pytest.raises(KeyError, match=r"no column 'text'; there are \['review'\]"):
        read({"review": ["1"]}, block_size=1)
    read({"review": ["1"]}, block_size=1, text_column="review")


def test_broken_utf_8_is_named(tmp_path):
    texts = pa.array([b"1 2", b"3 \xff 4"]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    stream = number_stream(open_source(tmp_path / "a.parquet"), 1)
    with pytest.raises(ValueError, match="row 1 of column 'text' is not valid text"):
        list(stream)


# Interrupted, and what is held


class Interrupted(NumberTokenizer):
    """Is cut in by Ctrl-C, once, when it has been asked so many times."""

    def __init__(self, calls):
        self.calls = calls

    def encode(self, texts):
        self.calls -= 1
        if not self.calls:
            raise KeyboardInterrupt
        return super().encode(texts)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_ctrl_c_loses_no_item_and_is_no_end(calls):
    data = Dataset.from_dict({"text": numbered([5] * 3000)})
    stream, found = BlockStream(data, Interrupted(calls), 7), []
    iterator = iter(stream)
    ids = (found.extend(real_ids(item)) for item in iterator)
    with pytest.raises(KeyboardInterrupt):
        list(ids)
    state = stream.state_dict()
    ids = (found.extend(real_ids(item)) for item in iterator)
    with pytest.raises(KeyboardInterrupt):  # and not StopIteration, after what was made before it
        list(ids)
    whole = number_stream(data, 7)
    whole.load_state_dict(state)
    rest = [i for item in whole for i in real_ids(item)]
    assert rest[-1] == 15_000 // 7 * 7 - 1
    assert found[: rest[0]] == list(range(rest[0]))


def test_rejected_windows_are_not_held_while_a_block_waits():
    texts = ["1 2 3", *["x" * 1000] * 20_000]
    data = Dataset.from_dict({"text": texts})
    stream = number_stream(data, 4, filter=QualityFilter(min_chars=0))
    stream.processor.rules["x"] = lambda texts: np.array(["x" in str(text) for text in texts], bool)
    assert list(stream) == []
    assert stream.ledger["filter", "documents"].dropped["x"] == 20_000
    reading = stream._iterator(stream._partition(0), stream._beginning(World()))
    for _ in reading._blocks():
        pass
    assert len(reading._open) == 21
    assert [len(opened.window.columns) for opened in reading._open] == [1, *[0] * 20]


def test_a_state_that_another_epoch_refused_goes_on_waiting():
    data = Dataset.from_dict({"text": numbered([5] * 40)})
    state = run(number_stream(data), 9)[-1][1]
    stream = number_stream(data)
    stream.set_epoch(1)
    stream.load_state_dict(state)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"the state is in epoch 0, but set_epoch\(1\)"):
            list(stream)


def test_before_its_first_item_a_resumed_rank_tells_of_its_own_part():
    data = Dataset.from_dict({"text": numbered([5] * 3000)})
    old = number_stream(data)
    states = [run(old, 100)[-1][1]]
    ranks = [old.resume(states, rank=rank, world_size=2) for rank in range(2)]
    total = old.total_ledger(states)
    assert old.total_ledger([rank.state_dict() for rank in ranks]) == total
    assert ranks[1].ledger["chunk", "ids"].num_in == 0
