import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.ledger import Entry, Ledger

counts = st.integers(0, 10**12)
reasons = st.dictionaries(st.sampled_from(["blank", "too_short", "padding"]), counts)


@st.composite
def entries(draw, stage="filter", unit="documents"):
    added, dropped = draw(reasons), draw(reasons)
    remainder, num_out = draw(counts), draw(counts)
    num_in = num_out + sum(dropped.values()) + remainder - sum(added.values())
    if num_in < 0:
        num_in, num_out = 0, num_out - num_in
    return Entry(stage, unit, num_in, num_out, added, dropped, remainder)


@given(entries(), entries())
def test_parts_of_a_stage_add_up_field_by_field(left, right):
    total = (Ledger(left) + Ledger(right))["filter", "documents"]
    assert total.num_in == left.num_in + right.num_in
    assert total.num_out == left.num_out + right.num_out
    assert total.remainder == left.remainder + right.remainder
    for mapping in ("added", "dropped"):
        parts = [getattr(left, mapping), getattr(right, mapping)]
        for reason in {*parts[0], *parts[1]}:
            expected = sum(part.get(reason, 0) for part in parts)
            assert getattr(total, mapping)[reason] == expected


@given(entries(), st.integers(1, 100), st.sampled_from(["num_in", "num_out", "remainder"]))
def test_one_id_too_many_on_either_side_is_an_error(entry, extra, field):
    values = {name: getattr(entry, name) for name in ("num_in", "num_out", "remainder")}
    values[field] += extra
    with pytest.raises(ValueError, match="do not balance at stage 'filter'"):
        Entry("filter", "documents", added=entry.added, dropped=entry.dropped, **values)


def test_a_ledger_that_lost_ids_between_stages_is_an_error():
    tokenized = Ledger(Entry("tokenize", "ids", 0, 10, added={"text": 10}))
    chunked = Ledger(Entry("chunk", "ids", 9, 8, remainder=1))
    with pytest.raises(ValueError, match="10 ids left stage 'tokenize', but 9 entered 'chunk'"):
        (tokenized + chunked).check()


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="counts from 0"):
        Entry("filter", "documents", num_in=-1, num_out=-1)


def test_sum_of_many_parts_and_back_from_plain_dicts():
    part = Ledger(Entry("filter", "documents", 3, 2, dropped={"blank": 1}))
    total = sum([part] * 7, Ledger())
    assert total["filter", "documents"].num_in == 21
    assert Ledger.from_dicts(total.to_dicts()) == total
    with pytest.raises(KeyError, match="no entry"):
        total["chunk", "ids"]


def test_table_shows_every_figure():
    ledger = Ledger(
        Entry("filter", "documents", 36718, 16859, dropped={"blank": 12951, "too_short": 6908}),
        Entry("chunk", "ids", 10, 12, added={"padding": 2}),
    )
    text = str(ledger)
    for figure in ("36,718", "16,859", "blank 12,951", "too_short 6,908", "padding 2"):
        assert figure in text
    assert ledger["chunk", "ids"].padded == 2
    assert Entry("filter", "documents").kept_ratio is None
