"""The sample: any part by itself, the same everywhere, in the shape of the data it stands for."""

import hashlib
import math
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import gigatoken
import nanotoken
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

import llmpipe
from llmpipe import sample
from llmpipe.classroom.server.train_tokenizers import train_gpt2, training_texts
from llmpipe.sample.lexicon import Dice, join_syllables, read_kinds, read_lexicon, set_apart
from llmpipe.sample.plans import divide, spread
from llmpipe.sample.text import RANGE, SLOT

PART = sample.ROWS_PER_PART
TOKENIZERS = Path(llmpipe.__file__).parent / "sample" / "data" / "tokenizers"
EVERY_SPLIT = [(corpus, split) for corpus in sample.SPLITS for split in sample.SPLITS[corpus]]

DASH = "\N{EN DASH}"

# The first 512 rows of each, joined by a character that they do not hold. They are part of the
# contract: saved notebooks and the tokenizers' files were made from them.
DIGESTS = {
    "articles/train": "a9d914e139531de172216c6c85379fcd80b57533a5cc8d1f05b8ac05d243f950",
    "articles/validation": "b26f7e1a4d0a980732a6b00a18a4d898758d45887470919a8128e0fe2c7a3858",
    "articles/test": "dc03af192f01d718f21b4b2d52c04e007d3b1bd0eb4b139b23c121d25257e29c",
    "reviews/train": "08ce32c8691186087da7534fe0298e6cc87d5e076fa2969ce9e032567eca07df",
    "reviews/test": "aa66c59cd326d4735611d5286a930131abcb505e134ae2a2d3cfb99f15a393cd",
}


@cache
def rows(corpus: str, split: str, num_rows: int) -> list[str]:
    tables = sample.tables(corpus, split, num_rows)
    return [text for table in tables for text in table["text"].to_pylist()]


@cache
def training_articles() -> list[str]:
    return rows("articles", "train", 36_718)


def is_heading(row: str) -> bool:
    return row.startswith(" = ")


def paragraphs(texts: list[str]) -> list[str]:
    return [row for row in texts if row and not is_heading(row)]


def articles(texts: list[str]) -> list[list[str]]:
    """The rows from one title to the next."""
    found: list[list[str]] = []
    for row in texts:
        if re.fullmatch(r" = [^=]+ = \n", row):
            found.append([])
        if found:
            found[-1].append(row)
    return found


def zipf_slope(counts: Counter) -> float:
    """Least squares of log(count) over log(rank), ranks 1 to 1000."""
    frequencies = sorted(counts.values(), reverse=True)[:1000]
    return float(np.polyfit(np.log(np.arange(1, 1001)), np.log(frequencies), 1)[0])


def words_of(texts: list[str]) -> Counter:
    return Counter(word for text in texts for word in text.split())


# Parts


@pytest.mark.parametrize(("num_rows", "parts"), [(0, 0), (1, 1), (PART, 1), (PART + 1, 2)])
def test_parts_hold_all_rows(num_rows, parts):
    assert sample.num_parts(num_rows) == parts
    for corpus, split in EVERY_SPLIT:
        sizes = [table.num_rows for table in sample.tables(corpus, split, num_rows)]
        assert len(sizes) == parts
        assert sum(sizes) == num_rows
        assert all(size == PART for size in sizes[:-1])


def test_schemas():
    text = pa.field("text", pa.string())
    label = pa.field("label", pa.int64())
    assert sample.part("articles", "train", 1, 0).schema == pa.schema([text])
    assert sample.part("reviews", "train", 1, 0).schema == pa.schema([text, label])


@pytest.mark.parametrize(("corpus", "split"), EVERY_SPLIT)
def test_a_part_alone_equals_the_part_in_order(corpus, split):
    num_rows = 3 * PART + 77
    in_order = list(sample.tables(corpus, split, num_rows))
    for index in (3, 0, 2, 1):
        alone = sample.part(corpus, split, num_rows, index)
        assert alone.equals(in_order[index])
        alone.validate(full=True)


def test_rows_of_articles_do_not_depend_on_how_many_there_are():
    longer = rows("articles", "train", 2 * PART + 5)
    for num_rows in (1, 100, PART - 1, PART, PART + 1):
        assert rows("articles", "train", num_rows) == longer[:num_rows]
    far = sample.part("articles", "train", 10**9, 100_000)
    assert far.equals(sample.part("articles", "train", 10**9 - 1, 100_000))
    assert far.num_rows == PART


def test_splits_and_parts_differ():
    firsts = {
        (corpus, split, index): sample.part(corpus, split, 2 * PART, index)["text"].to_pylist()
        for corpus, split in EVERY_SPLIT
        for index in range(2)
    }
    titles = [tuple(row for row in texts if is_heading(row)) for texts in firsts.values()]
    assert len(set(map(tuple, firsts.values()))) == len(firsts) == 10
    assert len(set(titles[:6])) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("poems", "train", 1, 0), "corpus must be 'articles' or 'reviews', got 'poems'"),
        (("reviews", "validation", 1, 0), "split of reviews must be 'train' or 'test', got"),
        (("articles", "train", -1, 0), "num_rows must be 0 or more, got -1"),
        (("articles", "train", 1.5, 0), "num_rows must be an integer, got 1.5"),
        (("articles", "train", "9", 0), "num_rows must be an integer, got '9'"),
        (("articles", "train", PART, 1), r"part index of 4096 rows must be in \[0, 1\), got 1"),
        (("articles", "train", PART, -1), r"part index of 4096 rows must be in \[0, 1\), got -1"),
        (("articles", "train", 0, 0), r"part index of 0 rows must be in \[0, 0\), got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    error = TypeError if "an integer" in message else ValueError
    with pytest.raises(error, match=message):
        sample.part(*arguments)


def test_tables_refuse_bad_arguments_at_once():
    with pytest.raises(ValueError, match="corpus must be"):
        sample.tables("poems", "train", 1)
    with pytest.raises(ValueError, match="num_rows must be 0 or more, got -2"):
        sample.tables("articles", "train", -2)


@pytest.mark.parametrize(("corpus", "split"), EVERY_SPLIT)
def test_first_rows_are_the_pinned_ones(corpus, split):
    texts = sample.part(corpus, split, 512, 0)["text"].to_pylist()
    digest = hashlib.sha256("\x1f".join(texts).encode()).hexdigest()
    assert len(texts) == 512
    assert digest == DIGESTS[f"{corpus}/{split}"]


def test_a_fresh_process_with_another_hash_seed_makes_the_same_rows_and_stays_light():
    code = (
        "import hashlib, sys; from llmpipe import sample;"
        "light = not {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules);"
        "rows = sample.part('articles', 'test', 9 * 4096, 8)['text'].to_pylist();"
        "print(light, hashlib.sha256(repr(rows).encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=True,
    )
    texts = sample.part("articles", "test", 9 * PART, 8)["text"].to_pylist()
    expected = hashlib.sha256(repr(texts).encode()).hexdigest()
    assert run.stdout.split() == ["True", expected]


# Articles


def test_articles_have_the_shape_of_wikitext():
    texts = training_articles()
    body = paragraphs(texts)
    headings = [row for row in texts if is_heading(row)]
    assert texts.count("") / len(texts) == pytest.approx(0.35, abs=0.015)
    assert len(headings) / len(texts) == pytest.approx(0.17, abs=0.01)
    assert len(body) / len(texts) == pytest.approx(0.48, abs=0.015)
    lengths = np.array([len(row) for row in body])
    quartiles = np.percentile(lengths, [25, 50, 75])
    assert quartiles == pytest.approx([306, 563, 840], rel=0.1)
    assert np.percentile(lengths, 99) < 1750
    assert all(row == "" or (row[0] == " " and row.endswith(" \n")) for row in texts)
    assert not any("  " in row or "\n" in row[:-1] for row in texts)
    assert {row.split(" ")[1:4].count("=") for row in headings} == {1, 2, 3}
    for before, row, after in zip(texts, texts[1:], texts[2:], strict=False):
        assert not is_heading(row) or before == after == ""


def test_words_are_spread_as_zipf_says():
    counts = words_of(training_articles())
    assert zipf_slope(counts) == pytest.approx(-1.0, abs=0.06)
    lettered = Counter(
        {word: count for word, count in counts.items() if any(map(str.isalpha, word))}
    )
    assert 0.22 < sum(count for _, count in lettered.most_common(10)) / lettered.total() < 0.27
    assert len(counts) > 15_000
    assert counts.most_common(1)[0][0] == "the"


def test_the_real_wikitext_has_these_figures_too():
    mirror = os.environ.get("LLMPIPE_MIRROR")
    if not mirror:
        pytest.skip("LLMPIPE_MIRROR is not set")
    (path,) = Path(mirror).glob("Salesforce/wikitext/wikitext-2-v1/train-*.parquet")
    real = words_of(pq.read_table(path)["text"].to_pylist())
    ours = words_of(training_articles())
    assert zipf_slope(ours) == pytest.approx(zipf_slope(real), abs=0.05)
    tops = [sum(n for _, n in c.most_common(10)) / sum(c.values()) for c in (ours, real)]
    assert tops[0] == pytest.approx(tops[1], abs=0.05)


def test_an_article_names_its_subject_and_its_headings_have_text():
    found = articles(training_articles())[:-1]
    assert len(found) > 1000
    for rows_of_article in found:
        title = rows_of_article[0].strip(" =\n")
        introduction = next(row for row in rows_of_article[1:] if row)
        assert title in introduction.split(" . ")[0]
        headings = [row for row in rows_of_article if is_heading(row)]
        assert len(set(headings)) == len(headings)
        filled = [row for row in rows_of_article if row]
        assert not is_heading(filled[-1])
        for row, after in pairwise(filled):
            if is_heading(row) and is_heading(after):  # a section in parts
                assert row.startswith(" = = ")
                assert after.startswith(" = = = ")


def test_no_sentence_stands_twice_in_an_article():
    compared = 0
    for rows_of_article in articles(training_articles()):
        sentences = []
        for row, before in zip(rows_of_article[1:], rows_of_article, strict=False):
            if row and not is_heading(row) and row != before:  # a planted copy follows its original
                sentences += row.removesuffix(" . \n").split(" . ")
        sentences = [text for text in sentences if not is_repetition(text)]
        compared += len(sentences)
        # A planted repetition has the same few words over and over.
        long = [text for text in sentences if len(text) > 45]
        assert len(set(long)) == len(long)
    assert compared > 70_000


def is_repetition(text: str) -> bool:
    words = text.split()
    return len(words) < 6 or len(set(words)) < 0.4 * len(words)


def test_grammar_of_a_and_an_capitals_and_marks():
    body = [row for row in paragraphs(training_articles()) if row.count(" ") > 12]
    text = "".join(body)
    vowel_after_a = re.findall(r" [aA] ([aeiouAEIOU]\w*)", text)
    consonant_after_an = re.findall(r" [aA]n ([^aeiouAEIOU\W]\w*)", text)
    assert set(vowel_after_a) <= {"one"}
    assert set(consonant_after_an) <= {"hour", "honest"}
    assert text.count(" an ") > 3000
    sentences = [sentence for row in body for sentence in row.strip().split(" . ")]
    assert len(sentences) > 70_000
    lower = [sentence for sentence in sentences if re.match(r"[a-z]", sentence)]
    assert all(re.match(r"(the|see|www|archive|map) ?", sentence) for sentence in lower)
    assert len(lower) < 20
    assert not re.search(r"\b(\w+) \1 (?!\1)", text.replace("= ", ""))
    assert not re.search(
        r"[{}\[\]$]|//|[^ @],|,[^ @]|\w\.\w", re.sub(r"(www|archive)\S*", "", text)
    )


def test_years_of_a_life_are_in_order():
    lives = re.findall(rf" \( (\d{{4}}) {DASH} (\d{{4}}) \) ", "".join(training_articles()))
    ages = re.findall(
        r"died on \d+ \w+ (\d{4}) in .{3,60} , at the age of (\d+)", "".join(training_articles())
    )
    assert len(lives) > 100
    assert all(55 < int(death) - int(birth) < 90 for birth, death in lives)
    assert len(ages) > 100
    assert all(61 <= int(age) <= 83 for _, age in ages)
    checked = 0
    for rows_of_article in articles(training_articles()):
        text = "".join(rows_of_article)
        life = re.search(rf" \( (\d{{4}}) {DASH} (\d{{4}}) \) ", text)
        age = re.search(
            r"at the age of (\d+)(?: \.| , (?:according|by))", text.split("died on")[-1]
        )
        if life and "died on" in text and age:
            assert int(life[2]) - int(life[1]) == int(age[1])
            checked += 1
    assert checked > 50


def test_bad_rows_of_each_kind_are_planted_and_rare():
    texts = training_articles()
    body = paragraphs(texts)
    letters = [sum(map(str.isalpha, row)) / len(row) for row in body]
    words = [row.split() for row in body]
    bad = {
        "short": sum(len(row.strip()) < 40 for row in body),
        "few_words": sum(
            len(row.strip()) >= 40 and len(w) <= 2 for row, w in zip(body, words, strict=True)
        ),
        "low_letters": sum(ratio < 0.4 for ratio in letters),
        "repetition": sum(
            len(w) > 12 and len(set(w)) < len(w) / 4 and ratio > 0.5
            for w, ratio in zip(words, letters, strict=True)
        ),
        "copy": sum(a == b != "" for a, b in pairwise(texts)),
    }
    assert all(count >= 8 for count in bad.values()), bad
    assert 0.002 < sum(bad.values()) / len(texts) < 0.005, bad
    assert sum(count - 1 for count in Counter(body).values()) < 0.005 * len(body)


# Reviews


@cache
def reviews(split: str) -> tuple[list[str], np.ndarray]:
    table = pa.concat_tables(sample.tables("reviews", split, 25_000))
    return table["text"].to_pylist(), table["label"].to_numpy()


@pytest.mark.parametrize("num_rows", [1, 2, 3, PART, 2 * PART + 1, 25_000])
def test_reviews_are_sorted_by_label(num_rows):
    labels = [
        x for t in sample.tables("reviews", "train", num_rows) for x in t["label"].to_pylist()
    ]
    negative = (num_rows + 1) // 2
    assert labels == [0] * negative + [1] * (num_rows - negative)


def test_reviews_have_the_shape_of_imdb():
    texts, _ = reviews("train")
    lengths = np.array([len(text.split()) for text in texts])
    assert np.percentile(lengths, [25, 50, 75]) == pytest.approx([127, 174, 284], rel=0.1)
    assert lengths.min() > 20
    assert 700 < lengths.max() <= 900
    assert sum("<br /><br />" in text for text in texts) / len(texts) == pytest.approx(0.5, abs=0.1)
    assert all(text[0] in '"' or text[0].isupper() for text in texts)
    assert not any("  " in text or " ," in text or "\n" in text or "{" in text for text in texts)
    assert all(text[-1] in ".!" for text in texts)
    assert not set(texts) & set(reviews("test")[0])
    assert len(set(texts)) == len(texts)


def test_no_word_alone_tells_the_label():
    texts, labels = reviews("train")
    present = [Counter(), Counter()]
    for text, label in zip(texts, labels, strict=True):
        present[label].update(word_set(text))
    words = set(present[0]) | set(present[1])
    assert len(words) > 1500
    accuracy = {w: 0.5 + abs(present[1][w] - present[0][w]) / len(texts) for w in words}
    best = max(accuracy, key=accuracy.get)
    assert accuracy[best] < 0.65, (best, accuracy[best])


def test_a_small_bag_of_words_learns_the_label():
    texts, labels = reviews("train")
    picked = np.random.PCG64(3).random_raw(2000) % np.uint64(len(texts))
    seen = [Counter(), Counter()]
    documents = [0, 0]
    for index in picked.astype(int):
        seen[labels[index]].update(word_set(texts[index]))
        documents[labels[index]] += 1
    weights = {
        word: math.log((seen[1][word] + 1) / (documents[1] + 2))
        - math.log((seen[0][word] + 1) / (documents[0] + 2))
        for word in set(seen[0]) | set(seen[1])
    }
    test_texts, test_labels = (part[::10] for part in reviews("test"))
    scores = [sum(weights.get(word, 0.0) for word in sorted(word_set(t))) for t in test_texts]
    right = sum((score > 0) == label for score, label in zip(scores, test_labels, strict=True))
    assert len(test_texts) == 2500
    assert 0.85 < right / len(test_texts) < 0.95


def word_set(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower().replace("<br />", " ")))


# Templates


def test_every_template_names_one_subject_and_lists_that_exist():
    words = read_lexicon(spaced=True)
    slots = 0
    for file in ("articles.txt", "reviews.txt", "bad.txt"):
        for kind in read_kinds(file):
            for section in kind.sections.values():
                for template in section.templates:
                    found = SLOT.findall(template)
                    if file == "articles.txt":
                        assert found.count("X") + found.count("N") == 1, template
                    assert "$" not in template
                    for slot in found:
                        known = slot in words or slot in ("X", "N") or "|" in slot
                        fact = re.match(r"@(\w+)", slot)
                        assert known or RANGE.fullmatch(slot) or fact[1] in kind.facts, template
                        slots += 1
    assert slots > 2000


def test_helpers_on_small_cases():
    assert set_apart("well-known (and red), as it's said.") == (
        "well @-@ known ( and red ) , as it 's said ."
    )
    assert set_apart("the town's") == "the town 's"
    assert join_syllables(("Vell", "low")) == "Vellow"
    assert spread(3, 10, 7) == [(10, 2), (12, 2), (14, 3)]
    assert sorted(divide(Dice(1), 5, [1, 4, 2])) in ([1, 1, 3], [1, 2, 2])
    with pytest.raises(ValueError, match="total must be between 2 and 3, got 4"):
        divide(Dice(1), 4, [1, 2])


@pytest.mark.parametrize(("count", "templates"), [(1, 1), (3, 7), (7, 7), (5, 24)])
def test_spread_covers_every_template_once(count, templates):
    covered = [t for low, width in spread(count, 4, templates) for t in range(low, low + width)]
    assert covered == list(range(4, 4 + templates))


# Tokenizers


def probe_texts() -> list[str]:
    odd = [
        "",
        " ",
        "\n\n",
        f"Naïve café {DASH} 日本 🙂",
        "don't\tstop  it",
        "x" * 300,
        "1 @,@ 310 \n",
    ]
    return [*rows("articles", "validation", 1000), *rows("reviews", "test", 50), *odd]


def ids_of(name: str) -> list[list[int]]:
    reference = Tokenizer.from_file(str(TOKENIZERS / name / "tokenizer.json"))
    return [encoding.ids for encoding in reference.encode_batch(probe_texts())]


def test_gpt2_stand_in_is_laid_out_as_gpt2():
    tokenizer = Tokenizer.from_file(str(TOKENIZERS / "gpt2" / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 8192
    assert tokenizer.token_to_id("<|endoftext|>") == 8191
    assert [token.content for token in tokenizer.get_added_tokens_decoder().values()] == [
        "<|endoftext|>"
    ]
    for text in probe_texts():
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    every_byte = "".join(map(chr, range(1, 0x250)))
    assert tokenizer.decode(tokenizer.encode(every_byte).ids) == every_byte


def test_distilbert_stand_in_is_laid_out_as_distilbert():
    tokenizer = Tokenizer.from_file(str(TOKENIZERS / "distilbert" / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 8192
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [tokenizer.id_to_token(index) for index in range(5)] == special
    encoding = tokenizer.encode("The RIVER")
    assert encoding.tokens == ["[CLS]", "the", "river", "[SEP]"]
    assert tokenizer.encode("a", "b").type_ids == [0, 0, 0, 1, 1]
    printable = "".join(map(chr, range(33, 127)))
    assert "[UNK]" not in tokenizer.encode(" ".join(printable)).tokens


def test_gigatoken_gives_the_same_ids():
    text = (TOKENIZERS / "gpt2" / "tokenizer.json").read_text(encoding="utf-8")
    fast = gigatoken.Tokenizer.from_json(text)
    expected = ids_of("gpt2")
    assert len(expected) > 1000
    assert [list(ids) for ids in fast.encode_batch(probe_texts())] == expected


def test_nanotoken_gives_the_same_ids():
    text = (TOKENIZERS / "distilbert" / "tokenizer.json").read_text(encoding="utf-8")
    fast = nanotoken.Tokenizer.from_json(text)
    expected = ids_of("distilbert")
    assert len(expected) > 1000
    assert [list(ids) for ids in fast.encode_batch(probe_texts())] == expected


@pytest.mark.parametrize(
    ("name", "max_length", "pad_token"), [("gpt2", 1024, None), ("distilbert", 512, "[PAD]")]
)
def test_transformers_loads_the_folder(name, max_length, pad_token):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS / name)
    assert tokenizer.model_max_length == max_length
    assert tokenizer.pad_token == pad_token
    texts = [text for text in probe_texts() if len(text) < 1000]
    expected = [
        ids for ids, text in zip(ids_of(name), probe_texts(), strict=True) if len(text) < 1000
    ]
    assert len(texts) > 800
    assert tokenizer(texts)["input_ids"] == expected


def test_training_again_gives_the_gpt2_stand_in_again():
    trained = train_gpt2(training_texts()).to_str()
    assert trained == (TOKENIZERS / "gpt2" / "tokenizer.json").read_text(encoding="utf-8")
