"""States of streams: refused by name when they do not fit, and whole in a file or not at all."""

import copy
import json

import pytest
from datasets import Dataset
from stream_tools import NumberTokenizer, number_stream, numbered, run
from torchdata.stateful_dataloader import StatefulDataLoader

from llmpipe import BlockStream, QualityFilter, load_tokenizer, open_source
from llmpipe.streaming.partition import Span
from llmpipe.streaming.state import FORMAT, read_state, save_state


def dataset(count=20, length=5):
    return Dataset.from_dict({"text": numbered([length] * count)})


@pytest.fixture
def state():
    stream = number_stream(dataset(), 4)
    return run(stream, 3)[-1][1]


OTHERS = {
    "block_size": ({"block_size": 5}, "block_size 4, here 5"),
    "filter": ({"filter": QualityFilter(3)}, r"filter 'None', here .QualityFilter\(min_chars=3"),
    "separator": ({"separator": 7}, "separator None, here 7"),
    "shuffle": ({"shuffle": True, "seed": 9}, "shuffle None, here 'seed 9'"),
    "num_rows": ({"num_rows": 7}, "num_rows None, here 7"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("method", ["load_state_dict", "resume"])
def test_a_state_of_another_stream_is_refused_naming_both_values(state, name, method):
    options, message = OTHERS[name]
    other = number_stream(dataset(), **options)
    with pytest.raises(ValueError, match=message):
        getattr(other, method)(state)
    assert run(other, 1)  # and the stream is as it was: at its beginning


def test_another_seed_source_or_tokenizer_is_refused_naming_both(state):
    with pytest.raises(ValueError, match=r"20 rows, .*, here .*21 rows"):
        number_stream(dataset(21), 4).load_state_dict(state)
    shuffled = number_stream(dataset(), 4, shuffle=True, seed=1).state_dict()
    with pytest.raises(ValueError, match="'seed 1', here 'seed 2'"):
        number_stream(dataset(), 4, shuffle=True, seed=2).load_state_dict(shuffled)
    other = NumberTokenizer()
    other.name, other.digest = "digits", "1" * 64
    with pytest.raises(ValueError, match=r"'numbers, digest 0+', here 'digits, digest 1+'"):
        BlockStream(dataset(), other, 4).load_state_dict(state)


def test_a_source_and_its_split_are_part_of_the_state(tmp_path):
    tokenizer = load_tokenizer("gpt2")
    train, validation = (
        BlockStream(open_source("wikitext-2"), tokenizer, split=split, num_rows=50)
        for split in ("train", "validation")
    )
    with pytest.raises(ValueError, match=r"wikitext-2 from \w+, train', here .*, validation'"):
        validation.load_state_dict(train.state_dict())
    for name, count in (("a", 20), ("b", 21)):
        dataset(count).to_parquet(tmp_path / f"{name}.parquet")
    a, b = (number_stream(open_source(tmp_path / f"{n}.parquet"), 4) for n in "ab")
    with pytest.raises(ValueError, match=r"a\.parquet .* here .*b\.parquet"):
        b.load_state_dict(a.state_dict())


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_a_file_that_was_changed_since_is_refused(tmp_path, kind):
    file, texts = tmp_path / f"a.{kind}", numbered([5] * 20)

    def stream_of(texts):
        data = Dataset.from_dict({"text": texts})
        if kind == "txt":
            file.write_text("\n".join(texts) + "\n")
        else:
            getattr(data, "to_parquet" if kind == "parquet" else "to_json")(file)
        return number_stream(open_source(file), 4)

    state = run(stream_of(texts), 9)[-1][1]
    for changed in (["1 2 3", *texts], texts[:3], [*texts[:-1], "7 7 7 7 7"]):
        with pytest.raises(ValueError, match=r"saved with another stream: data .* here "):
            stream_of(changed).load_state_dict(state)
    stream_of(texts).load_state_dict(state)


def test_a_data_set_of_other_text_is_refused():
    state = number_stream(dataset(), 4).state_dict()
    other = Dataset.from_dict({"text": [text[::-1] for text in numbered([5] * 20)]})
    with pytest.raises(ValueError, match=r"Dataset of 20 rows, digest .* here "):
        number_stream(other, 4).load_state_dict(state)


def test_a_stream_that_was_changed_since_is_noticed_at_the_window_of_the_state():
    texts = numbered([5] * 20)

    def stream_of(texts):
        data = Dataset.from_dict({"text": texts}).to_iterable_dataset()
        return number_stream(data.map(dict), 4)

    state = run(stream_of(texts), 9)[-1][1]
    for changed in (["1 2 3", *texts], texts[:3]):
        stream = stream_of(changed)
        stream.load_state_dict(state)
        with pytest.raises(ValueError, match="is not the one that the state was saved in"):
            list(stream)


def test_a_state_of_another_consumer_leads_to_resume(state):
    stream = number_stream(dataset(), 4, rank=1, world_size=2)
    stream.load_state_dict(state)
    with pytest.raises(ValueError, match=r"consumer 0 of 1, but this is 1 of 2 .* to resume\(\)"):
        iter(stream)


def states_of(world_size, epoch=0):
    streams = [
        number_stream(dataset(), 4, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for stream in streams:
        stream.set_epoch(epoch)
        run(stream, 2)
    return [stream.state_dict() for stream in streams]


def test_states_that_are_not_those_of_all_consumers_are_refused():
    stream, states = number_stream(dataset(), 4), states_of(3)
    with pytest.raises(ValueError, match=r"all 3 consumers .* got those of \[0, 2\]"):
        stream.resume([states[0], states[2]])
    with pytest.raises(ValueError, match=r"got those of \[0, 1, 1, 2\]"):
        stream.resume([*states, states[1]])
    with pytest.raises(ValueError, match="one is of epoch 0 and 3 consumers, another of epoch 1"):
        stream.resume([states[0], states_of(3, epoch=1)[1], states[2]])
    with pytest.raises(ValueError, match="another of epoch 0 and 2"):
        stream.resume([states[0], *states_of(2)])
    with pytest.raises(ValueError, match="no states to resume from"):
        stream.resume([])
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        stream.resume(states, rank=2, world_size=2)
    assert stream.resume(states[::-1]).state_dict  # in any order


def test_a_loaders_state_behind_its_batches_is_refused():
    stream = number_stream(dataset(), 4)
    loader = StatefulDataLoader(stream, batch_size=1, num_workers=1, snapshot_every_n_steps=4)
    batches = iter(loader)
    for _ in range(6):
        next(batches)
    with pytest.raises(ValueError, match="2 batches behind its loader"):
        stream.resume(loader.state_dict())


def corruptions(state):
    """Each way to damage one field of a state."""
    for name in state:
        yield f"no {name}", {key: value for key, value in state.items() if key != name}
        if name != "fingerprint":
            yield f"{name} is text", {**state, name: "x"}
            yield f"{name} is None", {**state, name: None}
    yield "another format", {**state, "format": 99}
    yield "negative epoch", {**state, "epoch": -1}
    yield "consumer out of range", {**state, "consumer": [4, 4]}
    for index in range(7):
        changed = copy.deepcopy(state)
        changed["left"][0][index] = -1
        yield f"left {index} negative", changed
        changed = copy.deepcopy(state)
        changed["left"][0][index] = 1.5
        yield f"left {index} no integer", changed
    for what, *spans in (
        ("empty span", Span(5, 5)),
        ("no window", Span(0, 9, 3, 3)),
        ("shards that are not there", Span(0, 10**6)),
        ("a shard twice", Span(0, 9), Span(8, 20)),
        ("a window twice", Span(0, 9, 1, 3), Span(8, 20, 2)),
        ("ids of no known text", Span(0, 9, skip=3)),
    ):
        yield what, {**state, "left": [list(span) for span in spans]}
    yield "fingerprint a list", {**state, "fingerprint": [1]}
    yield "no fingerprint", {**state, "fingerprint": None}
    for number, entry in enumerate(state["done"]):
        for changed in (
            {**entry, "more": 1},
            {**entry, "num_in": -1},
            {**entry, "num_in": "x"},
            {},
        ):
            done = [*state["done"][:number], changed, *state["done"][number + 1 :]]
            yield f"entry {number}: {changed}", {**state, "done": done}
    yield "no entries", {**state, "done": []}
    yield "a list", [1]
    yield "nothing", None


def test_a_damaged_state_is_refused_whatever_is_wrong_with_it(state):
    stream, tried = number_stream(dataset(), 4), []
    for what, damaged in corruptions(state):
        for load in (stream.load_state_dict, lambda damaged: stream.resume([damaged])):
            with pytest.raises(
                ValueError, match=r"no whole state of a BlockStream|another stream|is damaged"
            ):
                load(damaged)
            tried.append(what)
    assert len(tried) > 50
    stream.load_state_dict(state)


def test_a_state_of_another_format_is_refused_naming_both(state):
    with pytest.raises(ValueError, match=f"format 1, this llmpipe reads {FORMAT}"):
        number_stream(dataset(), 4).load_state_dict({**state, "format": 1})


# In a file


def test_a_state_comes_back_from_a_file(tmp_path, state):
    path = tmp_path / "state.json"
    save_state(state, path)
    save_state([state, state], path)  # over the old one
    assert read_state(path) == [state, state]
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    json.loads(path.read_text())


def test_a_file_cut_anywhere_or_changed_in_any_byte_is_refused(tmp_path, state):
    path = tmp_path / "state.json"
    save_state(state, path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"state\.json is not a whole state file"):
            read_state(path)
        changed = bytearray(whole)
        changed[cut] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"state\.json is not a whole state file"):
            read_state(path)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, state):
    path = tmp_path / "state.json"
    save_state(state, path)
    with pytest.raises(TypeError):
        save_state({"tensor": object()}, path)
    assert read_state(path) == state
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "other.json")
