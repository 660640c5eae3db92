"""Shares: by every strategy disjoint and complete, whatever the parts and however many ranks."""

from itertools import chain, islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset, interleave_datasets
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from llmpipe import BlockStream, QualityFilter, Share, World, load_tokenizer, open_source
from llmpipe.columns import WINDOW_ROWS, exact_windows
from llmpipe.sharding.share import STRATEGIES
from llmpipe.sources.parts import parts_of

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


class FewParts:
    """Parts of these lengths, of rows numbered on from 0; remembers which parts were read."""

    def __init__(self, lengths, counted=True):
        self.weights = list(lengths) if counted else [1] * len(lengths)
        self.counted, self.identity, self.read = counted, "rows by number", set()
        ends = np.cumsum(lengths)
        self.rows = [
            range(end - size, end) for end, size in zip(ends.tolist(), lengths, strict=True)
        ]

    def windows(self, part, first_window, *columns):
        self.read.add(part)
        table = pa.table({column: list(self.rows[part]) for column in columns})
        yield from exact_windows([table], first_window)


def rows_of(share):
    return [n for table in share.tables("n") for n in table["n"].to_pylist()]


def shares_of(parts, world_size, strategy):
    return [Share(parts, World(rank, world_size), strategy) for rank in range(world_size)]


@every_strategy
@pytest.mark.parametrize("counted", [True, False])
def test_shares_are_disjoint_and_complete(strategy, counted):
    cases = 0
    for world_size in range(1, 10):
        for num_rows in range(21):
            for size in (1, 3, 20):
                lengths = [min(size, num_rows - start) for start in range(0, num_rows, size)]
                shares = shares_of(FewParts(lengths, counted), world_size, strategy)
                rows = [rows_of(share) for share in shares]
                assert sorted(chain(*rows)) == list(range(num_rows))
                assert all(own == sorted(own) for own in rows)
                for share, own in zip(shares, rows, strict=True):
                    assert share.num_rows == (len(own) if counted else None)
                    assert min(share.weights, default=1) >= 1
                cases += 1
    assert cases == 9 * 21 * 3


@every_strategy
@given(st.lists(st.integers(1, 2500), max_size=6), st.integers(1, 5), st.booleans())
def test_parts_longer_than_a_window_are_dealt_once_too(strategy, lengths, world_size, counted):
    shares = shares_of(FewParts(lengths, counted), world_size, strategy)
    rows = [rows_of(share) for share in shares]
    assert sorted(chain(*rows)) == list(range(sum(lengths)))
    for share, own in zip(shares, rows, strict=True):
        assert share.rows_read >= len(own)
        if counted:
            assert share.num_rows == len(own)


@every_strategy
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=4), st.integers(1, 3), st.data())
def test_a_window_of_a_share_is_the_same_however_it_is_reached(strategy, lengths, world_size, data):
    rank = data.draw(st.integers(0, world_size - 1))
    share = Share(FewParts(lengths), World(rank, world_size), strategy)
    for part in range(len(share.weights)):
        windows = [table["n"].to_pylist() for table in share.windows(part, 0, "n")]
        assert all(len(window) == WINDOW_ROWS for window in windows[:-1])
        first = data.draw(st.integers(0, len(windows)))
        again = [table["n"].to_pylist() for table in share.windows(part, first, "n")]
        assert again == windows[first:]


def test_rows_are_dealt_by_their_number_in_the_split():
    for lengths in ([7, 1, 12], [20]):
        for rank in range(3):
            share = Share(FewParts(lengths), World(rank, 3), "rows")
            assert rows_of(share) == list(range(rank, 20, 3))


def test_batches_are_dealt_by_their_number_in_the_split():
    parts = FewParts([1500, 1500, 700])
    first, second = (rows_of(share) for share in shares_of(parts, 2, "batches"))
    assert first == [*range(1000), *range(2000, 3000)]
    assert second == [*range(1000, 2000), *range(3000, 3700)]


def test_contiguous_shares_follow_each_other_and_differ_by_one_row_at_most():
    for num_rows, world_size in [(3700, 3), (20, 7), (5, 9), (2500, 1)]:
        parts = FewParts([min(1300, num_rows - start) for start in range(0, num_rows, 1300)])
        rows = [rows_of(share) for share in shares_of(parts, world_size, "contiguous")]
        assert list(chain(*rows)) == list(range(num_rows))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_what_each_strategy_reads():
    lengths, world_size = [1000] * 10, 4
    reads = {}
    for strategy in STRATEGIES:
        shares = shares_of(FewParts(lengths), world_size, strategy)
        for share in shares:
            rows_of(share)
        reads[strategy] = [share.rows_read for share in shares]
        assert [share.bytes_read for share in shares] == [8 * n for n in reads[strategy]]
    assert reads["rows"] == reads["batches"] == [10_000] * 4
    assert reads["parts"] == [3000, 3000, 2000, 2000]
    assert reads["contiguous"] == [3000] * 4  # the two in the middle of a part share it


def test_by_parts_the_bytes_of_other_ranks_are_never_looked_at(tmp_path):
    """Real Parquet, whose other row groups are filled with zeros: only their own rank notices."""
    file, texts = tmp_path / "x.parquet", [f"row {number}" for number in range(4000)]
    pq.write_table(pa.table({"n": texts}), file, row_group_size=1000, compression="none")
    metadata = pq.read_metadata(file)
    data = bytearray(file.read_bytes())
    for group in (1, 3):
        column = metadata.row_group(group).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
        data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    file.write_bytes(data)
    even, odd = shares_of(open_source(file).parts(), 2, "parts")
    assert rows_of(even) == texts[:1000] + texts[2000:3000]
    with pytest.raises(OSError, match=r"[Pp]age|[Tt]hrift"):
        rows_of(odd)


def test_more_ranks_than_parts_leave_some_without_rows():
    shares = shares_of(FewParts([10, 10]), 5, "parts")
    assert [share.num_rows for share in shares] == [10, 10, 0, 0, 0]
    assert [rows_of(share) for share in shares[2:]] == [[], [], []]


def generate():
    yield from ({"n": number} for number in range(100))


def stream_of(num_rows, num_shards=1):
    return Dataset.from_dict({"n": list(range(num_rows))}).to_iterable_dataset(num_shards)


STREAMS = {
    "sharded": lambda: stream_of(100, 10),
    "generator": lambda: IterableDataset.from_generator(generate),
    "take": lambda: stream_of(100, 10).take(25),
    "skip": lambda: stream_of(100, 10).skip(5),
    "map that drops a last batch": lambda: stream_of(100, 10).map(
        lambda rows: rows, batched=True, batch_size=7, drop_last_batch=True
    ),
    "seeded shuffle": lambda: stream_of(100, 10).shuffle(seed=1, buffer_size=10),
    "interleave": lambda: interleave_datasets(
        [stream_of(100, 10), stream_of(7)], stopping_strategy="all_exhausted"
    ),
}


@every_strategy
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_of_datasets_is_read_once_by_all_ranks_together(stream, strategy):
    stream = STREAMS[stream]()
    whole = [row["n"] for row in stream]
    shares = shares_of(parts_of(stream), 3, strategy)
    assert sorted(chain(*map(rows_of, shares))) == sorted(whole)
    assert len(whole) > 10


def test_row_groups_of_wikitext_2_go_to_the_ranks_in_turn(wikitext_2):
    parts = open_source("wikitext-2-v1").parts()
    shares = shares_of(parts, 4, "parts")
    assert [share.num_rows for share in shares] == [9718, 9000, 9000, 9000]
    for rank, share in enumerate(shares):
        groups = [wikitext_2.slice(start, 1000) for start in range(rank * 1000, 36_718, 4000)]
        assert pa.concat_tables(share.tables("text"))["text"].equals(
            pa.concat_tables(groups)["text"]
        )
        assert share.rows_read == share.num_rows


# Under a stream of blocks


def ids_of(stream, num_workers=0):
    """All ids of a stream, those of its padded last blocks too."""
    loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
    blocks = [batch["labels"].numpy().ravel() for batch in loader]
    ids = np.concatenate([np.zeros(0, np.int64), *blocks])
    return ids[ids >= 0]  # without padding


@every_strategy
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_ids_of_all_shares_are_those_of_one_process(strategy, num_workers):
    source, tokenizer = open_source("wikitext-2"), load_tokenizer("gpt2")
    options = {"remainder": "pad", "batch_size": 8, "filter": QualityFilter(min_chars=40)}
    whole = ids_of(BlockStream(source, tokenizer, num_rows=7000, **options))
    ids = [
        ids_of(BlockStream(share, tokenizer, **options), num_workers)
        for share in shares_of(source.parts("train", 7000), 3, strategy)
    ]
    assert np.array_equal(np.sort(np.concatenate(ids)), np.sort(whole))


@every_strategy
def test_the_ids_of_all_shares_are_those_of_one_process_on_wikitext_2(strategy, wikitext_2):
    source, tokenizer = open_source("wikitext-2-v1"), load_tokenizer("gpt2")
    kept, _ = QualityFilter(min_chars=40)(wikitext_2)
    whole = tokenizer.encode(kept["text"]).ids
    assert len(whole) == 2_357_942
    ids = []
    for share in shares_of(source.parts(), 4, strategy):
        stream = BlockStream(
            share, tokenizer, remainder="pad", batch_size=64, filter=QualityFilter(min_chars=40)
        )
        own = ids_of(stream)
        texts = QualityFilter(min_chars=40)(pa.concat_tables(share.tables("text")))[0]["text"]
        assert np.array_equal(own, tokenizer.encode(texts).ids)  # its own documents', in order
        ids.append(own)
    assert np.array_equal(np.sort(np.concatenate(ids)), np.sort(whole))


@every_strategy
def test_a_stream_of_a_share_resumes_and_its_state_is_for_no_other(strategy):
    source, tokenizer = open_source("wikitext-2"), load_tokenizer("gpt2")

    def stream(rank):
        share = Share(source.parts("train", 5000), World(rank, 2), strategy)
        return BlockStream(share, tokenizer, 128, batch_size=8)

    first = stream(0)
    batches = iter(first)
    for _ in range(20):
        next(batches)
    state = first.state_dict()
    rest = [batch["input_ids"].tolist() for batch in batches]
    again = stream(0)
    again.load_state_dict(state)
    assert [batch["input_ids"].tolist() for batch in again] == rest
    assert len(rest) > 10
    with pytest.raises(ValueError, match=f"by {strategy} for rank 0 of 2"):
        stream(1).load_state_dict(state)


def test_a_share_is_not_dealt_to_ranks_again():
    share = Share(FewParts([3]), World(1, 4))
    with pytest.raises(ValueError, match="the share of rank 1 of 4 already"):
        BlockStream(share, load_tokenizer("gpt2"), text_column="n", rank=1, world_size=4)


def test_a_share_of_everything_is_divided_by_the_stream_itself_and_divided_again():
    """Two ranks stop after five batches, three go on: every id once."""
    source, tokenizer = open_source("wikitext-2"), load_tokenizer("gpt2")
    states, ids, rows_read = [], [], []

    def stream(num_rows=3000, **place):
        share = Share(source.parts("train", num_rows), World())
        return share, BlockStream(share, tokenizer, remainder="pad", batch_size=8, **place)

    def add_ids(batches):
        labels = [batch["labels"].numpy().ravel() for batch in batches]
        ids.extend(own[own >= 0] for own in labels)

    for rank in range(2):
        _, own = stream(rank=rank, world_size=2)
        add_ids(islice(own, 5))
        states.append(own.state_dict())
    for rank in range(3):
        share, own = stream()
        add_ids(own.resume(states, rank=rank, world_size=3))
        rows_read.append(share.rows_read)
    whole = tokenizer.encode(source.load("train", num_rows=3000)["text"]).ids
    assert np.array_equal(np.sort(np.concatenate(ids)), np.sort(whole))
    assert all(rows_read)
    with pytest.raises(ValueError, match=r"3000 rows, by parts.*here.* 2999 rows"):
        stream(2999)[1].resume(states)


def test_what_a_share_cannot_be_made_of_is_refused():
    parts = FewParts([3])
    with pytest.raises(
        ValueError, match="strategy must be 'rows', 'batches', 'parts' or 'contiguous', got 'row'"
    ):
        Share(parts, World(), "row")
    with pytest.raises(ValueError, match="num_rows is for what is not yet in parts"):
        BlockStream(Share(parts, World()), load_tokenizer("gpt2"), num_rows=2)
    with pytest.raises(KeyError, match="no column 'words'"):
        list(Share(open_source("wikitext-2").parts("train", 10), World()).tables("words"))
