"""Labelled data sets: the ids of `transformers`, every review once, bad rows by their number."""

import json
import warnings
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset
from hypothesis import given
from hypothesis import strategies as st
from label_tools import NumberedTokenizer, numbers, review_stream, reviews
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from llmpipe import (
    BucketBatchSampler,
    ClassificationDataset,
    ClassificationStream,
    load_tokenizer,
    open_source,
)
from llmpipe.classification.labels import (
    batch_ledger,
    label_column,
    label_counts,
    padding_ratio,
    truncation_ratio,
)
from llmpipe.ledger import Ledger

collate = ClassificationDataset.collate


@pytest.fixture(scope="module")
def distilbert():
    return load_tokenizer("distilbert")


@pytest.fixture(scope="module")
def reference(distilbert):
    """The tokenizer of `transformers` as it is loaded by default."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(distilbert.folder)


@pytest.fixture(scope="module")
def whole(distilbert, imdb):
    return ClassificationDataset(imdb, distilbert)


def review_dataset(data, max_length=8, **options):
    return ClassificationDataset(data, NumberedTokenizer(), max_length, **options)


# As transformers does it


@pytest.fixture(scope="module")
def due(imdb, reference):
    """The ids of every review, cut to 256 and not padded."""
    texts = imdb["text"].to_pylist()
    batches = (texts[start : start + 1000] for start in range(0, 25_000, 1000))
    return [
        ids
        for batch in batches
        for ids in reference(batch, truncation=True, max_length=256)["input_ids"]
    ]


def padded(rows, width):
    """Ids and mask as `transformers` pads, to which both tests compare some batches as well."""
    ids = np.array([row + [0] * (width - len(row)) for row in rows])
    return ids, np.arange(width) < np.array([[len(row)] for row in rows])


@pytest.mark.slow
def test_all_of_imdb_equals_transformers_padded_to_max_length(imdb, whole, due, reference):
    compared = 0
    for start in range(0, 25_000, 1000):
        rows = range(start, start + 1000)
        batch = collate(whole.__getitems__(rows))
        ids, mask = padded([due[row] for row in rows], 256)
        assert np.array_equal(batch["input_ids"], ids)
        assert np.array_equal(batch["attention_mask"], mask)
        compared += len(ids)
    assert compared == len(whole) == 25_000
    assert np.array_equal(whole.labels, imdb["label"].to_numpy())
    texts = imdb["text"][24_000:].to_pylist()
    last = reference(texts, truncation=True, max_length=256, padding="max_length")
    assert np.array_equal(batch["input_ids"], last["input_ids"])
    assert np.array_equal(batch["attention_mask"], last["attention_mask"])


@pytest.mark.slow
def test_all_of_imdb_equals_transformers_padded_to_the_longest(imdb, distilbert, due, reference):
    dataset = ClassificationDataset(imdb, distilbert, padding="longest")
    sampler = BucketBatchSampler(dataset.lengths, 100, seed=3)
    compared, widths = 0, set()
    for indices, batch in zip(
        sampler, DataLoader(dataset, batch_sampler=sampler, collate_fn=collate), strict=True
    ):
        rows = [due[index] for index in indices]
        ids, mask = padded(rows, max(map(len, rows)))
        assert np.array_equal(batch["input_ids"], ids)
        assert np.array_equal(batch["attention_mask"], mask)
        assert batch["labels"].tolist() == imdb["label"].take(indices).to_pylist()
        if len(widths) < 10:
            texts = imdb["text"].take(indices).to_pylist()
            again = reference(texts, truncation=True, max_length=256, padding="longest")
            assert np.array_equal(batch["input_ids"], again["input_ids"])
            assert np.array_equal(batch["attention_mask"], again["attention_mask"])
        compared += len(indices)
        widths.add(ids.shape[1])
    assert compared == 25_000
    assert len(widths) > 20


def test_a_stream_of_imdb_in_its_order_gives_the_batches_of_the_data_set(distilbert, whole):
    stream = ClassificationStream(open_source("imdb"), distilbert, batch_size=32, cycle_length=1)
    with pytest.warns(RuntimeWarning, match="all 992 labels of the first rows"):
        batches = list(stream)
    due = DataLoader(whole, batch_size=32, collate_fn=collate)
    assert len(batches) == len(due) == 782
    for batch, expected in zip(batches, due, strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


@given(
    st.lists(
        st.text(st.sampled_from("aé🎬 .<>[]SEPCLS/br\n東"), max_size=40), min_size=1, max_size=9
    ),
    st.integers(3, 20),
)
def test_any_text_cut_to_any_length_equals_transformers(distilbert, texts, max_length):
    texts += ["[SEP] [CLS] [PAD]", "", "<br /><br />"]
    labels = [number % 2 for number in range(len(texts))]
    split = distilbert.to_transformers()  # which takes `[SEP]` in a text for text, as ours does
    for padding in ("max_length", "longest"):
        due = split(
            texts, truncation=True, max_length=max_length, padding=padding, return_tensors="pt"
        )
        data = {"text": texts, "label": labels}
        dataset = ClassificationDataset(data, distilbert, max_length, padding=padding)
        batch = collate(dataset.__getitems__(range(len(texts))))
        assert torch.equal(batch["input_ids"], due["input_ids"])
        assert torch.equal(batch["attention_mask"], due["attention_mask"])
        assert batch["labels"].tolist() == labels


def test_a_control_token_written_in_a_review_stays_text(distilbert, reference):
    text = "good [SEP] bad [CLS] [PAD] [MASK]"
    row = ClassificationDataset({"text": [text, ""], "label": [0, 1]}, distilbert, 64)[0]
    ids = row["input_ids"][row["attention_mask"] == 1].tolist()
    controls = set(distilbert.special_ids.values())
    assert ids[0] == distilbert.special_ids["[CLS]"]
    assert ids[-1] == distilbert.special_ids["[SEP]"]
    assert not controls & set(ids[1:-1])
    assert controls & set(reference(text)["input_ids"][1:-1])  # which by default it does not


def test_real_pad_ids_are_not_masked():
    """Padding is known by its place: an id of the text that equals the pad id is text."""

    class ZeroTokenizer(NumberedTokenizer):
        pad_id = 1000  # what "x" becomes

    dataset = ClassificationDataset(reviews([4, 1]), ZeroTokenizer(), 8)
    batch = collate(dataset.__getitems__([0, 1]))
    assert batch["attention_mask"].tolist() == [[1] * 6 + [0] * 2, [1] * 3 + [0] * 5]


# Items, batches and ledgers


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("padding", ["max_length", "longest"])
@pytest.mark.parametrize("fast", [False, True])
def test_an_epoch_holds_every_review_once(fast, padding, num_workers):
    dataset = review_dataset(reviews(range(1, 21)), padding=padding)
    options = {"collate_fn": dataset.collate} if fast else {}
    loader = DataLoader(dataset, batch_size=3, shuffle=True, num_workers=num_workers, **options)
    found = []
    for batch in loader:
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
        longest = int(batch["attention_mask"].sum(1).max())
        assert batch["input_ids"].shape[1] == (8 if padding == "max_length" else longest)
        assert batch["labels"].tolist() == [int(number >= 10) for number in numbers(batch)]
        found += numbers(batch)
    assert sorted(found) == list(range(20))


def test_an_item_is_a_row_of_its_batch_and_a_lone_one_is_not_padded():
    dataset = review_dataset(reviews([1, 3, 9]))
    assert [item.tolist() for item in dataset[1].values()] == [
        [101, 1001, 1000, 1000, 102, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        0,
    ]
    assert dataset[-1]["input_ids"].tolist() == [101, 1002, *[1000] * 5, 102]
    with pytest.raises(IndexError, match="review 3 of 3"):
        dataset[3]
    lone = review_dataset(reviews([1, 3, 9]), padding="longest")[0]
    assert lone["input_ids"].tolist() == [101, 1000, 102]


def test_masking_a_batch_changes_neither_the_data_set_nor_the_next_batch():
    dataset = review_dataset(reviews([1, 3, 9]))
    for _ in range(2):
        batch = collate(dataset.__getitems__(range(3)))
        assert batch["labels"].tolist() == [0, 0, 1]
        for tensor in batch.values():
            tensor[:] = -100
    dataset[0]["labels"].fill_(7)
    assert dataset.labels.tolist() == [0, 0, 1]


def test_the_ledger_counts_labels_and_what_was_cut():
    dataset = review_dataset(reviews([1, 3, 9, 20], [0, 2, 2, 1]), padding="longest")
    ledger = dataset.ledger
    assert label_counts(ledger) == {0: 1, 1: 1, 2: 2}
    assert dataset.num_labels == 3
    assert truncation_ratio(ledger) == 0.5
    assert ledger["tokenize", "ids"].added == {"text": 33, "special": 8}
    assert ledger["truncate", "ids"].dropped == {"too_long": 3 + 14}
    batches = list(DataLoader(dataset, batch_size=2, collate_fn=collate))
    whole = (ledger + batch_ledger(batches)).check()
    assert whole["pad", "ids"].num_in == 3 + 5 + 8 + 8
    assert padding_ratio(whole) == 2 / 26


@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_ranks_share_imdb_and_count_half_and_half(imdb, distilbert, world_size):
    total, labels = Ledger(), []
    for rank in range(world_size):
        dataset = ClassificationDataset(imdb, distilbert, rank=rank, world_size=world_size)
        total += dataset.ledger
        labels += dataset.labels.tolist()
        assert abs(dataset.labels.mean() - 0.5) < 0.02  # of 6,250 by chance: three deviations
    assert label_counts(total) == {0: 12_500, 1: 12_500}
    assert np.bincount(labels).tolist() == [12_500, 12_500]
    assert total["truncate", "truncated"].num_out == 11_063


@pytest.mark.parametrize("num_labels", [2, 3, 5])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_labels_that_come_in_turn_reach_every_rank(num_labels, world_size):
    """Every n-th row as it stands would be of few classes; `seed` chooses other rows."""
    data = reviews([1] * 300, np.arange(300) % num_labels)
    found = []
    for seed in (0, 1):
        ranks = [
            review_dataset(data, rank=rank, world_size=world_size, seed=seed)
            for rank in range(world_size)
        ]
        for rank in ranks:
            counts = np.bincount(rank.labels, minlength=num_labels)
            assert counts.min() > 0.5 * 300 / world_size / num_labels
        rows = [[numbers(rank[i])[0] for i in range(len(rank))] for rank in ranks]
        assert sorted(chain(*rows)) == list(range(300))
        found.append(rows)
    assert found[0] != found[1]


def test_ranks_are_disjoint_and_complete_whatever_their_number():
    for world_size in (1, 2, 5, 8):
        found = []
        for rank in range(world_size):
            options = {"rank": rank, "world_size": world_size, "num_labels": 2}
            dataset = review_dataset(reviews([2] * 6), **options)
            found += [numbers(item)[0] for item in map(dataset.__getitem__, range(len(dataset)))]
        assert sorted(found) == list(range(6))


@pytest.mark.parametrize("kind", ["dataset", "selected", "table", "dict"])
def test_every_kind_of_labelled_documents_is_taken(kind):
    data = reviews(range(1, 9))
    dataset = Dataset.from_dict({**data, "more": [0.5] * 8})
    documents = {
        "dataset": dataset,
        "selected": dataset.select(range(7, -1, -1)).with_format("torch"),
        "table": pa.table(data),
        "dict": {name: np.array(column) for name, column in data.items()},
    }[kind]
    labels = review_dataset(documents).labels.tolist()
    assert labels == (data["label"][::-1] if kind == "selected" else data["label"])


# Buckets


@given(
    st.lists(st.integers(1, 300), max_size=200),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 3),
)
def test_bucketed_batches_hold_every_index_exactly_once(lengths, batch_size, shuffle, epoch):
    sampler = BucketBatchSampler(lengths, batch_size, shuffle=shuffle)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    sizes = [len(batch) for batch in batches]
    rest = len(lengths) % batch_size
    assert sizes == [batch_size] * (len(lengths) // batch_size) + [rest] * bool(rest)


@pytest.mark.parametrize("num_processes", [2, 3])
def test_accelerate_loses_no_review_of_buckets_and_passes_the_epoch_on(num_processes):
    """It fills up the end with the first ones, which it finds by the short batch being the last."""
    from accelerate.data_loader import prepare_data_loader

    lengths = np.random.PCG64(3).random_raw(1001) % 200
    for seed in range(50):
        epochs = []
        for epoch in (0, 1):
            found = []
            for rank in range(num_processes):
                sampler = BucketBatchSampler(lengths, 8, seed=seed)
                loader = prepare_data_loader(
                    DataLoader(range(1001), batch_sampler=sampler, collate_fn=list),
                    num_processes=num_processes,
                    process_index=rank,
                    put_on_device=False,
                )
                loader.set_epoch(epoch)
                found += chain(*loader.batch_sampler)
            assert set(found) == set(range(1001))
            epochs.append(found)
        assert epochs[0] != epochs[1]


def test_buckets_of_imdb_pad_little_and_hold_every_review_once(distilbert, imdb, whole):
    dataset = ClassificationDataset(imdb, distilbert, padding="longest")
    ratios = {}
    for name, options in {
        "buckets": {"batch_sampler": BucketBatchSampler(dataset.lengths, 32)},
        "in order": {"batch_size": 32},
    }.items():
        batches = list(DataLoader(dataset, collate_fn=collate, **options))
        assert sum(len(batch["labels"]) for batch in batches) == 25_000
        ledger = (dataset.ledger + batch_ledger(batches)).check()
        ratios[name] = padding_ratio(ledger)
    assert ratios["buckets"] < 0.02 < 0.15 < ratios["in order"]
    indices = [index for batch in BucketBatchSampler(dataset.lengths, 32) for index in batch]
    assert sorted(indices) == list(range(25_000))


def test_buckets_depend_on_seed_and_epoch_alone():
    lengths = np.arange(200) % 37 + 1

    def batches(seed, epoch):
        sampler = BucketBatchSampler(lengths, 7, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    orders = {str(batches(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert batches(1, 1) == batches(1, 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_resumes_buckets_at_every_batch(num_workers):
    dataset = review_dataset(reviews(np.arange(60) % 9 + 1), padding="longest")

    def loader():
        sampler = BucketBatchSampler(dataset.lengths, 7)
        sampler.set_epoch(2)
        return StatefulDataLoader(
            dataset, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers
        )

    first = loader()
    seen = [(numbers(batch), json.loads(json.dumps(first.state_dict()))) for batch in first]
    assert len(seen) == 9
    for place, (_, state) in enumerate(seen[:-1]):
        second = loader()
        second.load_state_dict(state)
        assert [numbers(batch) for batch in second] == [own for own, _ in seen[place + 1 :]]


# Training


def trained(data, padding_collator=None, num_steps=2, batch_size=4, folder=None):
    """What a tiny DistilBERT was given by `Trainer`, and whether its weights moved."""
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        Trainer,
        TrainingArguments,
    )

    torch.manual_seed(0)
    sizes = {"vocab_size": 2000, "dim": 8, "hidden_dim": 8, "n_layers": 1, "n_heads": 1}
    config = DistilBertConfig(**sizes, max_position_embeddings=8, num_labels=2)
    model, given_to = DistilBertForSequenceClassification(config), []
    model.register_forward_pre_hook(
        lambda module, args, given: given_to.append(
            {name: value.clone() for name, value in given.items() if torch.is_tensor(value)}
        ),
        with_kwargs=True,
    )
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    arguments = TrainingArguments(
        str(folder),
        max_steps=num_steps,
        per_device_train_batch_size=batch_size,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        report_to=[],
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=data, data_collator=padding_collator
    )
    trainer.train()
    after = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    return given_to


@pytest.mark.parametrize("kind", ["data set", "data set, longest", "stream", "stream, longest"])
def test_trainer_takes_data_sets_and_streams_as_they_are(kind, tmp_path):
    from transformers import DataCollatorWithPadding

    data = reviews([3] * 20)
    padding = "longest" if kind.endswith("longest") else "max_length"
    collator = None
    if kind.startswith("stream"):
        train = review_stream(data, padding=padding, cycle_length=1)
        if padding == "longest":
            collator = DataCollatorWithPadding(load_tokenizer("distilbert").to_transformers())
    else:
        train = review_dataset(data, padding=padding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given_to = trained(train, collator, folder=tmp_path)
    assert len(given_to) == 2
    found = []
    for batch in given_to:
        assert batch.keys() - {"num_items_in_batch"} == {"input_ids", "attention_mask", "labels"}
        width = 5 if padding == "longest" else 8
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, width)
        assert batch["attention_mask"].sum(1).tolist() == [5] * 4
        assert batch["labels"].tolist() == [int(number >= 10) for number in numbers(batch)]
        found += numbers(batch)
    assert len(set(found)) == 8
    if kind.startswith("stream"):
        assert found == list(range(8))


# Bad input

GOOD = {"text": ["a", "b", "c"], "label": [0, 1, 0]}


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        ([0, None, 1], TypeError, r"row 1 of column 'label' is null, not a label \(int\)"),
        (pa.array([0, None, 1]), ValueError, "row 1 of column 'label' is null: it has no label"),
        ([0, 0.5, 1], TypeError, r"row 1 of column 'label' is of type float \(0.5\)"),
        ([0, "pos", 1], TypeError, r"row 1 of column 'label' is of type str \('pos'\)"),
        ([0, True, 1], TypeError, r"row 1 of column 'label' is of type bool \(True\)"),
        ([0, 1, -1], ValueError, r"row 2 of column 'label' is -1: it has no label \(the hub marks"),
        ([0, 1, -7], ValueError, "row 2 of column 'label' is -7; labels are numbers of classes"),
        ([0, 1, 2], ValueError, r"row 2 .* is 2, but labels must be in \[0, 2\)"),
        ([0, 1, 2**70], ValueError, rf"row 2 of column 'label' is {2**70}, but labels"),
        (pa.array([0, 1, 2**63], pa.uint64()), ValueError, rf"is {2**63}, but labels"),
        (pa.array([0.0, 1.0, 1.0]), TypeError, "column 'label' holds double, not labels"),
        (pa.array(["a", "b", "b"]), TypeError, r"holds string.*class_encode_column\('label'\)"),
        (pa.array([[0], [1], [1]]), TypeError, r"holds list<item: int64>, not labels"),
        (pa.nulls(3), ValueError, "row 0 of column 'label' is null"),
        ([0, 1], ValueError, "not of one length: {'text': 3, 'label': 2}"),
    ],
)
def test_a_row_without_a_label_is_named(label, error, message):
    num_labels = None if "-7" in message else 2
    with pytest.raises(error, match=message):
        review_dataset({**GOOD, "label": label}, num_labels=num_labels)


def test_labels_of_every_width_and_booleans_are_taken():
    for label in (
        pa.array([0, 1, 0], pa.uint8()),
        pa.array([0, 1, 0], pa.int32()),
        pa.array([0, 1, 0]).dictionary_encode(),
        pa.chunked_array([[0], [1, 0]]),
        [False, True, False],
        np.array([0, 1, 0]),
        torch.tensor([0, 1, 0]).numpy(),
    ):
        assert review_dataset({**GOOD, "label": label}).labels.tolist() == [0, 1, 0]
    assert label_column([]).type == pa.int64()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (["a", None, "c"], TypeError, "row 1 of column 'text' is null"),
        (["a", 5, "c"], TypeError, "row 1 of column 'text' is of type int"),
        (["a", "b", "\ud800"], ValueError, "row 2 of column 'text' is not valid text"),
    ],
)
def test_a_row_without_text_is_named(text, error, message):
    with pytest.raises(error, match=message):
        review_dataset({**GOOD, "text": text})


def test_reviews_of_nothing_of_html_and_of_a_megabyte_of_emoji_are_reviews(distilbert):
    emoji = "🎬" * 250_000
    texts = ["", "   \n", "<br /><br />", emoji, "🎬 " * 200_000]
    dataset = ClassificationDataset({"text": texts, "label": [0, 1, 0, 1, 0]}, distilbert)
    assert dataset.lengths.tolist()[:2] == [2, 2]  # [CLS] and [SEP] alone, as transformers
    assert dataset.lengths.tolist()[2:] == [10, 3, 256]
    assert dataset[4]["input_ids"][-1] == distilbert.special_ids["[SEP]"]
    assert truncation_ratio(dataset.ledger) == 0.2


def test_one_class_alone_is_warned_of():
    with pytest.warns(RuntimeWarning, match="all 4 labels of this data set are 1: nothing can be"):
        review_dataset(reviews([1] * 4, [1] * 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        review_dataset(reviews([1] * 4))
        review_dataset(reviews([1], [1]))
        review_dataset(reviews([1] * 40, [0, 1] * 20), rank=1, world_size=2)
    # What counts is what a rank got of them.
    rows = reviews([1] * 38, [1] + [0] * 37)
    with pytest.warns(RuntimeWarning, match="all 19 labels of rank [01] of 2 are 0: nothing"):
        _ = [review_dataset(rows, rank=rank, world_size=2) for rank in (0, 1)]


def test_no_reviews_make_an_empty_data_set():
    dataset = review_dataset({"text": [], "label": []})
    assert len(dataset) == dataset.num_labels == 0
    assert list(DataLoader(dataset, batch_size=2)) == []
    assert truncation_ratio(dataset.ledger) is None
    assert list(BucketBatchSampler(dataset.lengths, 3)) == []


def test_a_column_that_is_not_there_is_named_with_those_there_are():
    data = {"review": ["a", "b"], "stars": [0, 1]}
    for documents in (data, pa.table(data), Dataset.from_dict(data)):
        with pytest.raises(KeyError, match=r"no column 'text'; there are \['review', 'stars'\]; n"):
            review_dataset(documents)
        with pytest.raises(KeyError, match=r"no column 'label'.* text_column and label_column"):
            review_dataset(documents, text_column="review")
        dataset = review_dataset(documents, text_column="review", label_column="stars")
        assert dataset.labels.tolist() == [0, 1]


def test_the_classes_of_a_class_label_are_known():
    data = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    data = data.cast_column("label", ClassLabel(names=["neg", "pos", "mixed"]))
    assert review_dataset(data).num_labels == 3
    with pytest.raises(ValueError, match=r"is 1, but labels must be in \[0, 1\)"):
        review_dataset(data, num_labels=1)


def test_what_is_no_split_of_labelled_documents_is_refused():
    for wrong in ("a", None, 5, iter(["a"]), b"a"):
        with pytest.raises(
            TypeError, match=r"a \w+ is no table of documents: pass what open_source"
        ):
            review_dataset(wrong)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_length": 2}, ValueError, r"must be 3 or more, got 2: \[CLS\] and \[SEP\] take 2 pl"),
        ({"max_length": 2.5}, TypeError, "max_length must be an integer, got 2.5"),
        (
            {"padding": "buckets"},
            ValueError,
            "padding must be 'max_length' or 'longest', got 'buckets'",
        ),
        ({"padding": None}, ValueError, "padding must be 'max_length' or 'longest', got None"),
        ({"num_labels": True}, TypeError, "num_labels must be an integer, got True"),
        ({"rank": 3, "world_size": 2}, ValueError, r"rank must be in \[0, 2\), got 3"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(options, error, message):
    with pytest.raises(error, match=message):
        review_dataset(GOOD, **options)


def test_max_length_of_three_leaves_one_id_of_text():
    dataset = review_dataset(reviews([5, 1]), 3)
    assert collate(dataset.__getitems__([0, 1]))["input_ids"].tolist() == [
        [101, 1000, 102],
        [101, 1001, 102],
    ]


def test_a_tokenizer_without_special_tokens_needs_no_place_for_them():
    gpt2 = load_tokenizer("gpt2")
    dataset = ClassificationDataset({"text": ["Hello world", "a"], "label": [0, 1]}, gpt2, 1)
    assert dataset.lengths.tolist() == [1, 1]
    padded = ClassificationDataset({"text": ["Hello world", ""], "label": [0, 1]}, gpt2, 4)[1]
    assert padded["attention_mask"].tolist() == [0, 0, 0, 0]
    assert padded["input_ids"].tolist() == [gpt2.eos_token_id] * 4
