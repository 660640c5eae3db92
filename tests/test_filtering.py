import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmpipe import QualityFilter
from llmpipe.classroom.bench.memory import PeakMemory
from llmpipe.filtering import (
    WHITE_SPACE,
    Duplicates,
    blank,
    heading,
    low_letter_ratio,
    repetition,
    too_few_words,
    too_short,
)
from llmpipe.ledger import Ledger

spaces = st.text(st.sampled_from(WHITE_SPACE), max_size=3)
# Characters that this Python's Unicode knows: Arrow's may be a newer one.
words = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=6)
documents = st.lists(
    st.lists(st.one_of(words, spaces, st.sampled_from(["the", "=", "rain"])), max_size=12).map(
        "".join
    ),
    max_size=8,
)
ALL_RULES = {
    "drop_headings": True,
    "min_words": 3,
    "min_letter_ratio": 0.5,
    "drop_repetition": True,
    "drop_duplicates": True,
}


def filtered(texts, **options):
    kept, ledger = QualityFilter(**options)(pa.table({"text": pa.array(texts, pa.string())}))
    return kept["text"].to_pylist(), ledger["filter", "documents"]


@settings(deadline=None)
@given(documents)
@example(["\x1c a \x1f", "\x85", "\u3000", "\u200b", "\ufeff", "\x00" * 100])
def test_blank_and_too_short_strip_as_python_does(texts):
    assert blank(texts).tolist() == [not text.strip() for text in texts]
    assert too_short(texts, 5).tolist() == [len(text.strip()) < 5 for text in texts]


@settings(deadline=None)
@given(documents)
@example(["a\x1cb\x85c\x1dd e"])
def test_words_are_those_of_python(texts):
    assert too_few_words(texts, 3).tolist() == [len(text.split()) < 3 for text in texts]


@settings(deadline=None)
@given(documents)
def test_letter_ratio_counts_what_unicode_calls_letters_and_marks(texts):
    import unicodedata

    expected = []
    for text in texts:
        visible = [c for c in text if not c.isspace() and unicodedata.category(c)[0] != "Z"]
        letters = sum(unicodedata.category(c)[0] in "LM" for c in visible)
        expected.append(letters < 0.6 * len(visible))
    assert low_letter_ratio(texts, 0.6).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=14), max_size=6))
def test_repetition_measures_the_commonest_n_grams(rows):
    """Against a plain count with a dictionary, one document at a time."""
    expected = []
    for row in rows:
        total, rejected = sum(map(len, row)), False
        for n, limit in ((2, 0.20), (3, 0.18), (4, 0.16)):
            grams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
            covered = [
                grams.count(gram) * sum(map(len, gram)) for gram in grams if grams.count(gram) > 1
            ]
            rejected |= max(covered, default=0) > limit * total
        expected.append(rejected)
    assert repetition([" ".join(row) for row in rows]).tolist() == expected


@settings(deadline=None)
@given(documents)
def test_every_document_is_kept_or_counted_under_the_first_rule_that_rejects_it(texts):
    kept, entry = filtered(texts, min_chars=4, **ALL_RULES)
    rules = QualityFilter(min_chars=4, **ALL_RULES).rules()
    assert list(entry.dropped) == list(rules)
    assert entry.num_in == len(texts)
    assert entry.num_out == len(kept)
    expected, reasons = [], dict.fromkeys(rules, 0)
    for text in texts:
        reason = next((name for name, rejects in rules.items() if rejects([text])[0]), None)
        if reason is None:
            expected.append(text)
        else:
            reasons[reason] += 1
    assert kept == expected
    assert dict(entry.dropped) == reasons


def test_by_default_only_blank_and_short_rows_go():
    texts = [
        "",
        "  \n",
        "x" * 39,
        "x" * 40,
        " = A heading of more than forty characters = \n",
        "1 " * 40,
    ]
    kept, entry = filtered(texts)
    assert kept == texts[3:]
    assert dict(entry.dropped) == {"blank": 2, "too_short": 1}


def test_headings_of_every_depth():
    texts = [" = Title = \n", " = = = Deep = = = \n", "a = b", " = not closed \n", "= ="]
    assert heading(texts).tolist() == [True, True, False, False, True]


def test_duplicates_are_remembered_across_calls_within_the_bound():
    duplicates = Duplicates(max_documents=2)
    assert duplicates(["a", "b", "a", "c"]).tolist() == [False, False, True, False]
    # "b" was met longest ago: it is forgotten and passes again. "a" was met again since.
    assert duplicates(["a", "b"]).tolist() == [True, False]


def test_a_stream_gives_the_same_rows_and_ledger_however_it_is_cut():
    texts = [f"row {i % 7} " * (i % 5) for i in range(200)]
    table = pa.table({"text": texts, "id": range(200)})
    quality = QualityFilter(min_chars=8, drop_duplicates=True)
    whole, ledger = quality(table)
    for size in (1, 7, 50, 200):
        parts = list(quality.stream(table.slice(i, size) for i in range(0, 200, size)))
        assert pa.concat_tables([kept for kept, _ in parts]).equals(whole)
        assert sum((part for _, part in parts), Ledger()) == ledger
    assert 0 < whole.num_rows < 200


def test_a_dataset_keeps_its_columns_features_and_split():
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = {"text": ["", "long enough to stay", "short"], "label": [0, 1, 0]}
    dataset = Dataset.from_dict(rows, features=features, split="train")
    kept, ledger = QualityFilter(min_chars=10)(dataset.select([2, 1, 0]))
    assert kept[:] == {"text": ["long enough to stay"], "label": [1]}
    assert kept.features == features
    assert str(kept.split) == "train"
    assert ledger["filter", "documents"].dropped == {"blank": 1, "too_short": 1}


def test_an_iterable_dataset_is_filtered_while_it_is_read_and_every_time():
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b"])})
    rows = {"text": ["", "abcdef", "abcdef"] * 1000, "label": [0, 1, 0] * 1000}
    stream = Dataset.from_dict(rows, features=features).to_iterable_dataset(num_shards=3)
    quality = QualityFilter(min_chars=3, drop_duplicates=True)
    kept, ledger = quality(stream)
    assert list(kept) == list(kept) == [{"text": "abcdef", "label": 1}]
    assert kept.features == features
    assert ledger["filter", "documents"].dropped == {
        "blank": 1000,
        "too_short": 0,
        "duplicate": 1999,
    }
    parts = list(QualityFilter(min_chars=3).stream(stream))
    assert sum(kept.num_rows for kept, _ in parts) == 2000
    assert len(parts) == 3


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_in_or_nothing_left_is_a_ledger_too(rows):
    kept, entry = filtered([""] * rows)
    assert kept == []
    assert entry.num_in == rows
    assert entry.kept_ratio == (0 if rows else None)


BAD_ROWS = {
    "null": (["a", None], ValueError, "row 1 of column 'text' is null"),
    "numbers": ([1, 2], TypeError, "column 'text' holds int64, not text"),
    "bytes": ([b"x"], TypeError, "column 'text' holds binary, not text"),
    "lists": ([["a"]], TypeError, "holds list"),
    "nan": ([float("nan")], TypeError, "holds double"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_what_is_not_text_is_named(name):
    rows, error, message = BAD_ROWS[name]
    with pytest.raises(error, match=message):
        QualityFilter()(pa.table({"text": rows}))


def test_a_null_deep_in_a_stream_is_named_by_its_own_row():
    tables = [pa.table({"text": ["fine"] * 1000}), pa.table({"text": ["fine", None]})]
    with pytest.raises(ValueError, match="row 1001 of column 'text' is null"):
        list(QualityFilter().stream(tables))


def test_broken_utf8_is_named_by_its_row():
    rows = pa.array([b"fine"] * 9000 + [b"\xff\xfe"])
    broken = pa.Array.from_buffers(pa.string(), len(rows), rows.buffers())
    with pytest.raises(ValueError, match="row 9000 of column 'text' is not valid text"):
        QualityFilter()(pa.table({"text": broken}))


def test_other_kinds_of_strings_are_filtered_too():
    texts = ["", "long enough to be kept by the filter of forty"] * 3
    for kind in (pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        kept, _ = QualityFilter()(pa.table({"text": pa.array(texts).cast(kind)}))
        assert kept["text"].to_pylist() == texts[1::2]


def test_a_missing_column_names_those_there_are():
    with pytest.raises(KeyError, match=r"no column 'text'; there are \['txt', 'id'\]"):
        QualityFilter()(pa.table({"txt": ["a"], "id": [1]}))
    assert QualityFilter(text_column="txt")(pa.table({"txt": ["a"]}))[0].num_rows == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"min_chars": -1}, ValueError),
        ({"min_chars": "40"}, TypeError),
        ({"min_letter_ratio": 1.5}, ValueError),
        ({"min_words": True}, TypeError),
    ],
)
def test_wrong_options_are_refused_with_their_value(options, error):
    with pytest.raises(error, match=next(iter(options))):
        QualityFilter(**options)


def grown_bytes(document):
    with PeakMemory() as peak:
        verdicts = filtered([document], min_chars=1, **{**ALL_RULES, "drop_duplicates": False})
    return verdicts, peak.bytes


@pytest.mark.parametrize(
    "document",
    [
        "a" * 10**7,
        "ab " * 3_300_000,
        "a" * 100_000 + "!",
        "(" * 50_000,
        "\n" * 10**6,
        "a\u0301" * 10**6,
    ],
    ids=["one word", "one phrase", "bang", "brackets", "newlines", "marks"],
)
def test_hostile_documents_get_a_verdict_in_bounded_memory(document):
    (_, entry), grown = grown_bytes(document)
    assert entry.num_out + sum(entry.dropped.values()) == 1
    assert grown < max(20 * len(document.encode()), 50 * 2**20)  # 12 times was seen


def test_rule_masks_are_numpy_booleans():
    for rule in (blank, heading, too_short, too_few_words, low_letter_ratio, repetition):
        for texts in ([], ["a b c"], pa.chunked_array([["a"], ["b c"]])):
            mask = rule(texts)
            assert isinstance(mask, np.ndarray)
            assert mask.dtype == bool
            assert mask.shape == (len(texts),)


def test_wikitext_2_keeps_16859_rows_of_at_least_40_characters(wikitext_2):
    kept, ledger = QualityFilter(min_chars=40)(wikitext_2)
    assert wikitext_2.num_rows == 36_718
    assert kept.num_rows == 16_859
    expected = [text for text in wikitext_2["text"].to_pylist() if len(text.strip()) >= 40]
    assert kept["text"].to_pylist() == expected
    assert ledger["filter", "documents"].dropped["blank"] == 36_718 - 23_767
