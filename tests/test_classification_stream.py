"""Labelled streams: every review once, labels mixed, resumed to the very suffix, redistributed."""

import json
import random
import warnings
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset
from hypothesis import given
from hypothesis import strategies as st
from label_tools import (
    NumberedTokenizer,
    OneAfterAnother,
    numbers,
    review_stream,
    reviews,
    run_labelled,
)
from stream_tools import consumers
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from llmpipe import ClassificationStream, load_tokenizer, open_source
from llmpipe.classification.labels import (
    batch_ledger,
    label_counts,
    padding_ratio,
    truncation_ratio,
)
from llmpipe.ledger import Ledger

PADDINGS = ("max_length", "longest", "buckets")
NUM_REVIEWS = 300
pytestmark = pytest.mark.filterwarnings("ignore:all .* labels of:RuntimeWarning")


@pytest.fixture(scope="module")
def lengths():
    return random.Random(0).choices(range(1, 15), k=NUM_REVIEWS)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory, lengths):
    """300 reviews, sorted by label, in row groups of 20."""
    file = tmp_path_factory.mktemp("labelled") / "reviews.parquet"
    pq.write_table(pa.table(reviews(lengths)), file, row_group_size=20)
    return open_source(file)


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    """So that a few hundred rows make many groups."""
    monkeypatch.setattr("llmpipe.classification.stream.GROUP_ROWS", 20)


@pytest.fixture(scope="module")
def distilbert():
    return load_tokenizer("distilbert")


def expected_row(number, length, max_length=8):
    ids = [101, number + 1000, *[1000] * (length - 1)]
    return [*ids[: max_length - 1], 102]


# What a batch is


@pytest.mark.parametrize("padding", PADDINGS)
def test_batches_are_int64_and_padded_as_the_padding_says(parquet, lengths, padding):
    batches = list(review_stream(parquet, padding=padding, batch_size=7))
    found = []
    for batch in batches:
        assert list(batch) == ["input_ids", "attention_mask", "labels"]
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
        ids, mask = batch["input_ids"], batch["attention_mask"]
        size = len(batch["labels"])
        assert ids.shape == mask.shape
        assert batch["labels"].shape == (size,)
        rows = [row[keep == 1].tolist() for row, keep in zip(ids, mask, strict=True)]
        width = 8 if padding == "max_length" else max(map(len, rows))
        assert ids.shape == (size, width)
        for number, row, keep in zip(numbers(batch), rows, mask.tolist(), strict=True):
            assert row == expected_row(number, lengths[number])
            assert keep == [1] * len(row) + [0] * (width - len(row))
        assert ids[mask == 0].eq(0).all()
        assert batch["labels"].tolist() == [int(n >= NUM_REVIEWS / 2) for n in numbers(batch)]
        found += numbers(batch)
    assert sorted(found) == list(range(NUM_REVIEWS))
    assert sorted(len(batch["labels"]) for batch in batches) == [6, *[7] * 42]


def test_single_rows_have_no_batch_dimension_and_a_loader_stacks_them(parquet):
    item = next(iter(review_stream(parquet)))
    assert [tuple(tensor.shape) for tensor in item.values()] == [(8,), (8,), ()]
    item = next(iter(review_stream(parquet, padding="longest")))
    assert item["attention_mask"].eq(1).all()
    for whole, stacked in zip(
        review_stream(parquet, batch_size=7),
        DataLoader(review_stream(parquet), batch_size=7),
        strict=True,
    ):
        assert whole.keys() == stacked.keys()
        assert all(torch.equal(whole[name], stacked[name]) for name in whole)


def test_buckets_leave_less_padding_and_the_ledger_says_so(parquet, lengths):
    ratios = {}
    for padding in PADDINGS:
        stream = review_stream(parquet, 16, padding=padding, batch_size=5)
        batches = list(stream)
        ledger = stream.ledger
        assert ledger["pad", "ids"] == batch_ledger(batches)["pad", "ids"]
        assert ledger["tokenize", "ids"].added == {"text": sum(lengths), "special": 600}
        ratios[padding] = padding_ratio(ledger)
    assert ratios["buckets"] < ratios["longest"] / 2
    assert ratios["longest"] < ratios["max_length"]


def test_the_ledger_counts_labels_and_what_was_cut(parquet, lengths):
    stream = review_stream(parquet, batch_size=7)
    list(stream)
    ledger = stream.ledger
    assert label_counts(ledger) == {0: 150, 1: 150}
    long = [length + 2 for length in lengths if length + 2 > 8]
    assert ledger["truncate", "truncated"].num_out == len(long)
    assert truncation_ratio(ledger) == len(long) / NUM_REVIEWS
    assert ledger["truncate", "ids"].dropped == {"too_long": sum(long) - 8 * len(long)}
    assert ledger["pad", "ids"].num_out == 8 * NUM_REVIEWS


# Mixing


@pytest.mark.parametrize("shuffle", [False, True])
def test_labels_are_mixed_though_the_source_is_sorted(parquet, shuffle):
    for size in (4, 16):
        stream = review_stream(parquet, batch_size=size, shuffle=shuffle)
        shares = [
            batch["labels"].double().mean() for batch in stream if len(batch["labels"]) == size
        ]
        assert len(shares) == NUM_REVIEWS // size
        assert 0.25 <= min(shares) <= max(shares) <= 0.75


def test_without_mixing_rows_come_in_the_order_of_the_source(parquet):
    found = [
        n for batch in review_stream(parquet, batch_size=16, cycle_length=1) for n in numbers(batch)
    ]
    assert found == list(range(NUM_REVIEWS))


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_every_rank_gets_both_labels(parquet, world_size):
    total = Ledger()
    for rank in range(world_size):
        stream = review_stream(parquet, batch_size=4, rank=rank, world_size=world_size)
        list(stream)
        counts = label_counts(stream.ledger)
        assert 0.3 <= counts[1] / sum(counts.values()) <= 0.7
        total += stream.ledger
    assert label_counts(total) == {0: 150, 1: 150}


def test_sorted_labels_that_cannot_be_mixed_are_warned_of():
    one_part = Dataset.from_dict(reviews([3] * 3000)).to_iterable_dataset().map(dict)
    with pytest.warns(RuntimeWarning, match=r"all [\d,]+ labels of the first rows are 0: nothing"):
        next(iter(review_stream(one_part, batch_size=4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(iter(review_stream(reviews([3] * 3000), batch_size=4)))


def test_shuffling_depends_on_seed_and_epoch_alone(parquet):
    def order(seed, epoch, **options):
        stream = review_stream(parquet, batch_size=7, shuffle=True, seed=seed, **options)
        stream.set_epoch(epoch)
        return tuple(n for batch in stream for n in numbers(batch))

    orders = {(seed, epoch): order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert {tuple(sorted(each)) for each in orders.values()} == {tuple(range(NUM_REVIEWS))}
    assert orders[1, 1] == order(1, 1)
    assert order(1, 1, padding="buckets") == order(1, 1, padding="buckets") != orders[1, 1]


# Every review once, and states


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("num_rows", [0, 1, 3, 10, NUM_REVIEWS])
def test_consumers_read_every_review_once(parquet, num_rows, padding):
    for world_size in (1, 2, 4, 8):
        for num_workers in (0, 1, 2, 5):
            found, ledgers = [], Ledger()
            for stream, context in consumers(
                lambda rank, size: review_stream(
                    parquet,
                    padding=padding,
                    batch_size=3,
                    num_rows=num_rows,
                    shuffle=True,
                    rank=rank,
                    world_size=size,
                ),
                world_size,
                num_workers,
            ):
                with context():
                    found += [n for batch in stream for n in numbers(batch)]
                    ledgers += stream.ledger
            assert sorted(found) == list(range(num_rows))
            assert sum(label_counts(ledgers).values()) == num_rows


@given(
    st.lists(st.integers(1, 11), max_size=60),
    st.sampled_from(PADDINGS),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
)
def test_resumed_at_every_batch_it_gives_the_very_suffix(
    rows, padding, batch_size, cycle_length, window_rows, group_rows, shuffle
):
    """Over row groups of unequal length, so that spans end in the middle of a round."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("columns", "sources.parts", "streaming.reader"):
            patch.setattr(f"llmpipe.{module}.WINDOW_ROWS", window_rows)
        patch.setattr("llmpipe.classification.stream.GROUP_ROWS", group_rows)
        options = {"padding": padding, "batch_size": batch_size, "shuffle": shuffle}
        options |= {"cycle_length": cycle_length, "rank": 1, "world_size": 2}
        stream = review_stream(reviews(rows), num_labels=2, **options)
        stream.set_epoch(3)
        seen, ledger = run_labelled(stream), stream.ledger
        due = [(plain, state["done"]) for _, plain, state in seen]
        for index, (_, _, state) in enumerate(seen):
            for _ in range(2):  # and then from a state of the stream that was resumed
                other = review_stream(reviews(rows), num_labels=2, **options)
                other.load_state_dict(state)
                assert other.state_dict() == state
                rest = run_labelled(other)
                assert [(plain, state["done"]) for _, plain, state in rest] == due[index + 1 :]
                assert other.ledger == ledger
                if not rest:
                    break
                index, state = index + 1, rest[0][2]
            other.set_epoch(3)  # or it would be the next
            assert run_labelled(other) == seen


CONFIGURATIONS = [(world, workers) for world in (1, 2, 3, 5) for workers in (0, 1, 3)]


@given(st.data(), st.sampled_from(PADDINGS), st.booleans())
def test_redistributed_to_any_number_nothing_is_lost_or_duplicated(parquet, data, padding, shuffle):
    options = {"padding": padding, "batch_size": 3, "shuffle": shuffle}
    base, found, states = review_stream(parquet, **options), [], None
    rounds = data.draw(st.lists(st.sampled_from(CONFIGURATIONS), min_size=2, max_size=4))
    for number, (world_size, num_workers) in enumerate(rounds, start=1):
        most, new_states = 100 // (world_size * max(1, num_workers)), []

        def stream_of(rank, size, states=states):
            if states is None:
                return review_stream(parquet, **options, rank=rank, world_size=size)
            return base.resume(states, rank=rank, world_size=size)

        for stream, context in consumers(stream_of, world_size, num_workers):
            with context():
                stop = None if number == len(rounds) else data.draw(st.integers(1, 1 + most))
                seen = run_labelled(stream, stop)
                found += [n for own, _, _ in seen for n in own]
                new_states.append(json.loads(json.dumps(stream.state_dict())))
        states = data.draw(st.permutations(new_states))
    assert sorted(found) == list(range(NUM_REVIEWS))
    ledger = base.total_ledger(states)
    assert label_counts(ledger) == {0: 150, 1: 150}


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_last_state_is_an_end_and_holds_no_epoch_back(parquet, padding):
    stream = review_stream(parquet, padding=padding, batch_size=16, shuffle=True)
    whole = run_labelled(stream)
    state = stream.state_dict()
    assert state["left"] == []
    assert "groups" not in state
    stream = review_stream(parquet, padding=padding, batch_size=16, shuffle=True)
    stream.load_state_dict(state)
    assert run_labelled(stream) == []
    stream.load_state_dict(state)
    stream.set_epoch(1)
    assert sorted(n for own, _, _ in run_labelled(stream) for n in own) == list(range(NUM_REVIEWS))
    assert len(whole) == -(-NUM_REVIEWS // 16)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_a_stateful_loader_resumes_at_every_batch_in_a_later_epoch(parquet, num_workers, padding):
    def loader():
        stream = review_stream(parquet, padding=padding, batch_size=16, shuffle=True)
        return StatefulDataLoader(stream, batch_size=None, num_workers=num_workers), stream

    first, stream = loader()
    stream.set_epoch(2)
    seen = [(numbers(batch), json.loads(json.dumps(first.state_dict()))) for batch in first]
    assert sorted(n for own, _ in seen for n in own) == list(range(NUM_REVIEWS))
    total = stream.total_ledger(seen[-1][1])
    assert label_counts(total) == {0: 150, 1: 150}
    for place in range(0, len(seen), 1 if num_workers == 0 else 5):
        second, _ = loader()
        second.load_state_dict(seen[place][1])
        assert [numbers(batch) for batch in second] == [own for own, _ in seen[place + 1 :]]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_real_workers_read_every_review_once(parquet, start):
    """By each way to pad and to batch, in workers that are started once for all."""
    ways = [(padding, size) for padding in PADDINGS for size in (None, 7)]
    ways.remove(("buckets", None))
    streams = [
        review_stream(parquet, padding=padding, batch_size=size, shuffle=True)
        for padding, size in ways
    ]
    options = {"num_workers": 2, "multiprocessing_context": start}
    found = [[] for _ in ways]
    for way, item in DataLoader(OneAfterAnother(streams), batch_size=None, **options):
        found[way] += numbers(item)
    assert [sorted(own) for own in found] == [list(range(NUM_REVIEWS))] * 5


@pytest.mark.parametrize("padding", PADDINGS)
def test_states_are_small(mirror, distilbert, padding, monkeypatch):
    monkeypatch.undo()
    stream = ClassificationStream(
        open_source("imdb"), distilbert, padding=padding, batch_size=32, shuffle=True
    )
    sizes = []
    for number, _ in enumerate(stream):
        if number % 7 == 0:
            sizes.append(len(json.dumps(stream.state_dict())))
    assert len(sizes) > 100
    assert max(sizes) < 3000


def test_a_source_that_changed_is_noticed_at_the_windows_of_the_state(tmp_path):
    def stream_of(data):
        data = Dataset.from_dict(data).to_iterable_dataset().map(dict)
        return review_stream(data, batch_size=3)

    data = reviews([4] * 40)
    state = run_labelled(stream_of(data), 5)[-1][2]
    stream = stream_of(data)
    stream.load_state_dict(state)
    assert len(run_labelled(stream)) == 9
    for changed in (
        {**data, "text": ["other words", *data["text"][:-1]]},
        {**data, "label": [1 - label for label in data["label"]]},
        {name: column[:3] for name, column in data.items()},
    ):
        stream = stream_of(changed)
        stream.load_state_dict(state)
        with pytest.raises(ValueError, match="is not the one that the state was saved in"):
            list(stream)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 9}, "max_length 8, here 9"),
        ({"cycle_length": 3}, "cycle_length 8, here 3"),
        ({"label_column": "stars"}, r"columns \['text', 'label'\], here \['text', 'stars'\]"),
        ({"padding": "buckets", "batch_size": 4}, "buckets None, here 'of 4'"),
    ],
)
def test_a_state_of_another_stream_is_refused_naming_both_values(options, message):
    data = reviews([4] * 40)
    data["stars"] = data["label"]
    state = run_labelled(review_stream(data), 3)[-1][2]
    with pytest.raises(ValueError, match=message):
        review_stream(data, **options).load_state_dict(state)


def test_a_damaged_state_is_refused(parquet):
    stream = review_stream(parquet, padding="buckets", batch_size=3)
    state = run_labelled(stream, 3)[-1][2]
    assert state["groups"][0][1:] == [18, 9]
    (group,), read = state["groups"], state["done"][0]
    damages = [
        {"done": [{**read, "added": {"label 0": -1, "label 1": 10}}, *state["done"][1:]]},
        {"done": [{**read, "blocks": 3}, *state["done"][1:]]},
        {"left": [[*span[:7], 5, 5] for span in state["left"]]},
        {"left": [[*span[:7], ""] for span in state["left"]]},
        {"left": [span[:4] for span in state["left"]]},
        {"groups": [group[:2]]},
        {"groups": [[group[0], 18, 18]]},
        {"groups": [[group[0], 18, 0]]},
        {"groups": [[[[5, 5]], 18, 9]]},
        {"groups": "x"},
    ]
    for damage in damages:
        with pytest.raises(ValueError, match="no whole state of a ClassificationStream"):
            stream.load_state_dict({**state, **damage})
    for damage in ([group[0], 18, 8], [group[0], 10**6, 9]):  # known once the group is read again
        stream.load_state_dict({**state, "groups": [damage]})
        with pytest.raises(ValueError, match=r"the state is damaged: [89] of "):
            list(stream)
    stream.load_state_dict(state)


# IMDB


@pytest.mark.parametrize("world_size", [1, 3])
def test_imdb_over_all_ranks_is_half_and_half_and_every_id_is_there(
    imdb, distilbert, world_size, monkeypatch
):
    monkeypatch.undo()
    ids = distilbert.encode(imdb["text"])
    kept = np.minimum(ids.lengths, 256)
    total, num_ids, labels = Ledger(), 0, Counter()
    for rank in range(world_size):
        stream = ClassificationStream(
            open_source("imdb"),
            distilbert,
            batch_size=32,
            padding="buckets",
            shuffle=True,
            rank=rank,
            world_size=world_size,
        )
        for batch in DataLoader(stream, batch_size=None):
            num_ids += int(batch["attention_mask"].sum())
            labels.update(batch["labels"].tolist())
            if len(batch["labels"]) == 32:
                assert 0 < batch["labels"].sum() < 32
        total += stream.ledger
    assert labels == label_counts(total) == {0: 12_500, 1: 12_500}
    assert num_ids == kept.sum()
    assert total["truncate", "truncated"].num_out == np.count_nonzero(ids.lengths > 256)
    assert padding_ratio(total) < 0.03


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 2}, r"max_length must be 3 or more, got 2: \[CLS\] and \[SEP\] take 2"),
        ({"max_length": 0}, "max_length must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"cycle_length": 0}, r"cycle_length must be in \[1, 257\), got 0"),
        ({"cycle_length": 257}, r"cycle_length must be in \[1, 257\), got 257"),
        ({"num_labels": 0}, "num_labels must be 1 or more, got 0"),
        ({"num_rows": -1}, "num_rows must be 0 or more, got -1"),
        ({"padding": "left"}, "padding must be 'max_length', 'longest' or 'buckets', got 'left'"),
        ({"padding": "buckets"}, "sorts rows into batches: give a batch_size"),
        ({"rank": 2, "world_size": 2}, r"rank must be in \[0, 2\), got 2"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(options, message):
    with pytest.raises(ValueError, match=message):
        review_stream(reviews([1, 2]), **options)


def read(data, num_workers=0, **options):
    stream = review_stream(Dataset.from_dict(data), batch_size=2, **options)
    list(DataLoader(stream, batch_size=None, num_workers=num_workers))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_rows_without_a_text_or_a_label_are_named(num_workers):
    good = {"text": ["a", "b", "c"], "label": [0, 1, 0]}
    with pytest.raises(ValueError, match="row 1 of column 'text' is null"):
        read({**good, "text": ["a", None, "c"]}, num_workers)
    with pytest.raises(ValueError, match="row 2 of column 'label' is null: it has no label"):
        read({**good, "label": [0, 1, None]}, num_workers)
    with pytest.raises(ValueError, match=r"row 1 of column 'label' is -1: it has no label \(the"):
        read({**good, "label": [0, -1, 0]}, num_workers)
    with pytest.raises(ValueError, match=r"row 1 .* is 2, but labels must be in \[0, 2\)"):
        read({**good, "label": [0, 2, 0]}, num_workers, num_labels=2)
    with pytest.raises(ValueError, match=r"is 70000; .* more than 1,000 classes, say so with num_"):
        read({**good, "label": [0, 70_000, 0]}, num_workers)
    for wrong, kind in (([0.0, 1.0, 0.5], "double"), (["pos", "neg", "pos"], "string")):
        with pytest.raises(TypeError, match=f"column 'label' holds {kind}, not labels"):
            read({**good, "label": wrong}, num_workers)


def test_a_column_that_is_not_there_is_named_with_those_there_are(tmp_path):
    data = {"review": ["a", "b"], "stars": [0, 1]}
    with pytest.raises(KeyError, match=r"no column 'text'; there are \['review', 'stars'\]; name"):
        read(data)
    pq.write_table(pa.table(data), tmp_path / "a.parquet")
    stream = review_stream(open_source(tmp_path / "a.parquet"), text_column="review")
    with pytest.raises(KeyError, match=r"no column 'label'; there are .*with text_column and lab"):
        list(stream)
    read(data, text_column="review", label_column="stars")


def test_the_classes_of_a_class_label_are_known():
    data = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    named = data.cast_column("label", ClassLabel(names=["neg", "pos"]))
    assert review_stream(named).processor.checks["label"].keywords == {"num_labels": 2}
    assert review_stream(data).processor.checks["label"].keywords == {"num_labels": None}
    sample = open_source("imdb").load("train", num_rows=20)
    stream = ClassificationStream(sample, NumberedTokenizer(), num_labels=1)
    with pytest.raises(ValueError, match=r"is 1, but labels must be in \[0, 1\)") as caught:
        list(ClassificationStream(named, NumberedTokenizer(), num_labels=1))
    assert "num_labels is the number of classes" in str(caught.value)
    assert stream.processor.checks["label"].keywords == {"num_labels": 1}


def test_what_is_there_before_an_error_is_given_out(tmp_path):
    """The state then tells where, and a mended source is read on from there."""
    data = reviews([3] * 4000)
    broken = {**data, "label": [*data["label"][:3500], -1, *data["label"][3501:]]}
    files = {}
    for name, rows in (("good", data), ("bad", broken)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(rows), tmp_path / name / "a.parquet", row_group_size=4000)
        files[name] = open_source(tmp_path / name / "a.parquet")
    stream, found = review_stream(files["bad"], batch_size=8), []
    batches = (found.extend(numbers(batch)) for batch in stream)
    with pytest.raises(ValueError, match="row 3500 of column 'label' is -1"):
        list(batches)
    assert len(found) >= 2900
    state = stream.state_dict()
    state["fingerprint"] = review_stream(files["good"]).fingerprint
    mended = review_stream(files["good"], batch_size=8)
    mended.load_state_dict(state)
    found += [n for batch in mended for n in numbers(batch)]
    assert sorted(found) == list(range(4000))
