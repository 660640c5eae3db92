import json
from dataclasses import asdict

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


GOOD = Entry("chunk", "ids", 9, 10, {"padding": 2}, {"too_short": 1})
DAMAGE = {
    "no dict": ["chunk", "ids"],
    "nothing": None,
    "a key too few": {key: value for key, value in asdict(GOOD).items() if key != "remainder"},
    "a key too many": {**asdict(GOOD), "num_lost": 0},
    "a negative count": {**asdict(GOOD), "num_in": -9, "num_out": -8},
    "a fraction": {**asdict(GOOD), "num_in": 9.0},
    "a truth": {**asdict(GOOD), "remainder": False},
    "text for a count": {**asdict(GOOD), "num_out": "10"},
    "a count without reasons": {**asdict(GOOD), "added": 2},
    "a list of reasons": {**asdict(GOOD), "dropped": ["too_short"]},
    "a reason without count": {**asdict(GOOD), "added": {"padding": None}},
    "a reason that is no text": {**asdict(GOOD), "added": {2: 2}},
    "a stage that is no text": {**asdict(GOOD), "stage": 7},
    "a sum that is wrong": {**asdict(GOOD), "num_in": 8},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_dicts_are_refused(damage):
    assert Ledger.from_dicts([asdict(GOOD)]) == Ledger(GOOD)
    with pytest.raises((TypeError, ValueError)):
        Ledger.from_dicts([asdict(GOOD), DAMAGE[damage]])


@given(entries(), entries("chunk", "ids"))
def test_plain_dicts_survive_json_and_are_copies(filtered, chunked):
    ledger = Ledger(filtered, chunked)
    plain = ledger.to_dicts()
    assert Ledger.from_dicts(json.loads(json.dumps(plain))) == ledger
    plain[0]["added"]["padding"] = plain[1]["dropped"]["blank"] = 10**13
    assert Ledger(filtered, chunked) == ledger
    assert ledger["filter", "documents"].added.get("padding") != 10**13


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
