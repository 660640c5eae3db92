"""Text to ids: those of `tokenizers` on any text, or one error that names the row or the file."""

import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reference

from llmpipe import QualityFilter, chunk, load_tokenizer
from llmpipe.tokenization import backends
from llmpipe.tokenization.backends import PROBES
from llmpipe.tokenization.loading import KNOWN_DIGESTS, SHORT_NAMES
from llmpipe.tokenization.tokenizer import Tokenizer, vocabulary_digest

NAMES = ("gpt2", "distilbert")
SPECIAL_TOKENS = ("<|endoftext|>", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")
texts = st.lists(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(SPECIAL_TOKENS)
        )
    ).map("".join),
    max_size=5,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session", params=NAMES)
def tokenizer(request):
    """The labs' two tokenizers: the real ones where there is a mirror, else the sample's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLMPIPE_TOKENIZER_BACKEND", raising=False)
        import os

        if not os.environ.get("LLMPIPE_MIRROR"):
            patch.setenv("LLMPIPE_SOURCE", "sample")
        return load_tokenizer(request.param)


@pytest.fixture(scope="session")
def reference(tokenizer):
    """The file as `tokenizers` reads it, told to leave special tokens in the text alone."""
    reference = Reference.from_file(str(tokenizer.folder / "tokenizer.json"))
    reference.encode_special_tokens = True
    reference.no_truncation()
    reference.no_padding()
    return reference


def rows_of(tokens):
    return [
        tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]


def reference_rows(reference, documents, add_special_tokens=True):
    encoded = reference.encode_batch(documents, add_special_tokens=add_special_tokens)
    return [row.ids for row in encoded]


def test_the_fast_backends_are_in_use(tokenizer):
    assert (
        tokenizer.backend_name == {"gpt2": "gigatoken", "distilbert": "nanotoken"}[tokenizer.name]
    )


@settings(deadline=None, max_examples=300)
@given(documents=texts, special=st.booleans())
@example(documents=list(PROBES), special=True)
@example(documents=["<|endoftext|>", "a[SEP]b", "[CLS] [PAD]"], special=True)
def test_ids_equal_those_of_tokenizers_on_any_text(tokenizer, reference, documents, special):
    tokens = tokenizer.encode(documents, add_special_tokens=special)
    assert rows_of(tokens) == reference_rows(reference, documents, special)
    assert tokens.ids.dtype == np.uint32
    assert tokens.offsets.dtype == np.int64
    assert tokens.lengths.sum() == len(tokens.ids)
    tokens.ledger.check()


@pytest.mark.slow
def test_gpt2_is_exact_next_to_every_code_point(reference, tokenizer):
    """What a character is to a tokenizer shows in how it takes a contraction behind it."""
    if tokenizer.name != "gpt2":
        pytest.skip("a question of GPT-2's regular expression; WordPiece has none")
    points = [point for point in range(1, 0x110000) if not 0xD800 <= point < 0xE000]
    for start in range(0, len(points), 200_000):
        documents = [f"{chr(point)}'ll" for point in points[start : start + 200_000]]
        tokens = tokenizer.encode(documents)
        expected = [row.ids for row in reference.encode_batch_fast(documents)]
        assert tokens.offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
        assert tokens.ids.tolist() == [id for row in expected for id in row]


def test_added_tokens_that_are_not_special_keep_their_id(folder):
    def add(text):
        contents = json.loads(text)
        taken = [token["id"] for token in contents["added_tokens"]]
        number = 1 + max([*contents["model"]["vocab"].values(), *taken])
        token = {"id": number, "content": "llmpipe", "special": False, "single_word": False}
        token |= {"lstrip": False, "rstrip": False, "normalized": False}
        contents["added_tokens"].append(token)
        return json.dumps(contents)

    edit(folder / "tokenizer.json", add)
    ours = load_tokenizer(str(folder))
    reference = Reference.from_file(str(folder / "tokenizer.json"))
    reference.encode_special_tokens = True
    text = "learn llmpipe <|endoftext|> [SEP]"
    assert ours.encode(text).ids.tolist() == reference.encode(text).ids
    assert ours.vocab_size - 1 in ours.encode(text).ids
    assert "llmpipe" not in ours.special_ids


def test_special_tokens_in_a_text_stay_text_unless_asked_for(tokenizer):
    written = "".join(tokenizer.special_ids)
    special = set(tokenizer.special_ids.values())
    around = set(tokenizer.encode("").ids.tolist())  # [CLS] and [SEP], put there by the tokenizer
    assert not special & (set(tokenizer.encode([written]).ids.tolist()) - around)
    asked_for = load_tokenizer(tokenizer.name, split_special_tokens=False)
    assert special <= set(asked_for.encode([written]).ids.tolist())


def test_to_transformers_gives_the_same_ids(tokenizer):
    theirs = tokenizer.to_transformers()
    documents = ["Hello world", "a [SEP] b <|endoftext|>", "naïve café 日本", ""]
    assert rows_of(tokenizer.encode(documents)) == [theirs(text)["input_ids"] for text in documents]


def test_any_kind_of_column_gives_the_same_tokens(tokenizer):
    from datasets import Dataset

    documents = [f"document {i} of a column" for i in range(5000)]  # more than one call's worth
    expected = tokenizer.encode(documents)
    assert expected.num_documents == 5000
    dataset = Dataset.from_dict({"text": documents})
    columns = [
        dataset["text"],
        pa.array(documents),
        pa.array(documents, pa.large_string()),
        pa.array(documents, pa.string_view()),
        pa.array(documents).dictionary_encode(),
        pa.chunked_array([documents[:10], documents[10:]]),
        tuple(documents),
    ]
    for column in columns:
        tokens = tokenizer.encode(column)
        assert np.array_equal(tokens.ids, expected.ids)
        assert np.array_equal(tokens.offsets, expected.offsets)
    reordered = dataset.select(range(4999, -1, -1))["text"]
    assert rows_of(tokenizer.encode(reordered)) == rows_of(expected)[::-1]


def test_nothing_and_one_string_are_batches_too(tokenizer):
    assert tokenizer.encode([]).ids.tolist() == []
    assert tokenizer.encode([]).offsets.tolist() == [0]
    assert rows_of(tokenizer.encode("one text")) == rows_of(tokenizer.encode(["one text"]))
    assert tokenizer.encode(("a", "b")).num_documents == 2, "a tuple is a batch, not a pair"


BAD_TEXTS = {
    "null": (["a", None], TypeError, "row 1 of column 'text' is null"),
    "null in Arrow": (pa.array(["a", "b", None]), ValueError, "row 2 of column 'text' is null"),
    "number": (["a", 5], TypeError, r"row 1 of column 'text' is of type int \(5\)"),
    "bytes": ([b"x"], TypeError, "row 0 of column 'text' is of type bytes"),
    "nan": ([float("nan")], TypeError, "row 0 of column 'text' is of type float"),
    "list": (["a", []], TypeError, "row 1 of column 'text' is of type list"),
    "surrogate": (
        ["a"] * 999 + ["b\ud800"],
        ValueError,
        "row 999 of column 'text' is not valid text",
    ),
    "a mapping": ({"text": ["a"]}, TypeError, "a dict is no column of text"),
    "a set": ({"a"}, TypeError, "a set is no column of text"),
    "numbers in Arrow": (pa.array([1, 2]), TypeError, "holds int64, not text"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_what_is_not_text_is_named_by_its_row(tokenizer, name):
    rows, error, message = BAD_TEXTS[name]
    with pytest.raises(error, match=message):
        tokenizer.encode(rows)


def test_broken_utf8_in_arrow_is_named_by_its_row(tokenizer):
    rows = pa.array([b"fine"] * 5000 + [b"\xff\xfe"])
    broken = pa.Array.from_buffers(pa.string(), len(rows), rows.buffers())
    with pytest.raises(ValueError, match="row 5000 of column 'text' is not valid text"):
        tokenizer.encode(broken)


def test_fifty_megabytes_in_one_document(tokenizer):
    sentence = "The storm crossed the coast on 3 May , and 20 @,@ 000 people left . "
    copies = 50 * 2**20 // len(sentence)
    before = psutil.Process().memory_info().rss
    tokens = tokenizer.encode([sentence * copies], add_special_tokens=False)
    grown = psutil.Process().memory_info().rss - before
    once = tokenizer.encode([sentence], add_special_tokens=False).ids
    assert len(tokens.ids) >= copies * (len(once) - 1)
    assert np.array_equal(tokens.ids[: len(once) - 1], once[:-1])
    assert grown < 2 * 2**30


def test_the_environment_forces_a_backend(monkeypatch, tokenizer):
    monkeypatch.setenv("LLMPIPE_TOKENIZER_BACKEND", "transformers")
    forced = load_tokenizer(tokenizer.name)
    assert forced.backend_name == "transformers"
    documents = ["Forced to be slow", "", "naïve [SEP] <|endoftext|>"]
    assert rows_of(forced.encode(documents)) == rows_of(tokenizer.encode(documents))
    monkeypatch.setenv("LLMPIPE_TOKENIZER_BACKEND", "quick")
    with pytest.raises(ValueError, match=r"must be .* or 'transformers', got 'quick'"):
        load_tokenizer(tokenizer.name)


def test_a_pickled_tokenizer_is_the_same_and_checks_nothing_again(tokenizer, monkeypatch):
    data = pickle.dumps(tokenizer)
    monkeypatch.setattr(backends, "first_difference", lambda *_: pytest.fail("checked again"))
    copy = pickle.loads(data)
    assert rows_of(copy.encode(["Hello world"])) == rows_of(tokenizer.encode(["Hello world"]))
    assert (copy.digest, copy.backend_name) == (tokenizer.digest, tokenizer.backend_name)


def test_decode_gives_the_text_back():
    gpt2 = load_tokenizer("gpt2")
    for text in ("The river Ouse , at 3 @.@ 5 m .", "日本 👩‍👩‍👧 \x00", " = Storms = \n"):
        assert gpt2.decode(gpt2.encode(text).ids) == text


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A copy of a tokenizer's folder, to be damaged."""
    return shutil.copytree(tokenizer.folder, tmp_path / "copy", copy_function=shutil.copy)


def edit(path, change):
    path.chmod(0o644)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def test_a_folder_is_a_tokenizer_too(folder, tokenizer):
    copy = load_tokenizer(str(folder))
    assert copy.origin == "files"
    assert copy.digest == tokenizer.digest
    assert copy.vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_or_cut_file_is_named(folder, name):
    edit(folder / name, lambda text: text[: len(text) // 2])
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*fetch it again"):
        load_tokenizer(str(folder))
    (folder / name).unlink()
    if name == "tokenizer_config.json":  # which nothing needs
        assert load_tokenizer(str(folder)).vocab_size > 5000
        return
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing; the folder holds"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_holds_something_else_is_named(folder, name):
    edit(folder / name, lambda _: "[1, 2]")
    with pytest.raises(ValueError, match=rf"{name} holds a list, not an object"):
        load_tokenizer(str(folder))


def test_a_tokenizer_that_tokenizers_cannot_load_is_one_error(folder):
    edit(
        folder / "tokenizer.json",
        lambda text: json.dumps({**json.loads(text), "pre_tokenizer": {"type": "Unheard"}}),
    )
    with pytest.raises(ValueError, match=r"tokenizers cannot load this tokenizer\.json"):
        load_tokenizer(str(folder))


def test_a_folder_in_the_way_does_not_shadow_a_short_name(tmp_path, monkeypatch):
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_tokenizer("gpt2").vocab_size > 8000
    with pytest.raises(ValueError, match="name a tokenizer"):
        load_tokenizer("")


def test_code_of_a_tokenizer_is_refused_not_run(folder):
    (folder / "evil.py").write_text(f"open({str(folder / 'was_run')!r}, 'w')")
    auto_map = {"AutoTokenizer": ["evil.Evil", None]}
    edit(
        folder / "tokenizer_config.json",
        lambda text: json.dumps({**json.loads(text), "auto_map": auto_map}),
    )
    with pytest.raises(ValueError, match=r"code of its own \(auto_map\)"):
        load_tokenizer(str(folder))
    assert not (folder / "was_run").exists()


def test_the_digest_sees_vocabulary_and_merges_but_not_form(folder, tokenizer):
    path = folder / "tokenizer.json"
    edit(path, lambda text: json.dumps(json.loads(text), indent=1))
    assert load_tokenizer(str(folder)).digest == tokenizer.digest
    contents = json.loads(path.read_text(encoding="utf-8"))
    merges = contents["model"].get("merges")
    if merges:
        contents["model"]["merges"] = [
            merge if isinstance(merge, str) else " ".join(merge) for merge in merges
        ]
        assert vocabulary_digest(contents) == tokenizer.digest
        contents["model"]["merges"] = merges[:-1]
    else:
        first, second = list(contents["model"]["vocab"])[200:202]
        vocabulary = contents["model"]["vocab"]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    assert vocabulary_digest(contents) != tokenizer.digest


def test_a_mirror_with_another_vocabulary_is_refused(tmp_path, tokenizer, monkeypatch):
    repo_id = SHORT_NAMES[tokenizer.name]
    shutil.copytree(tokenizer.folder, tmp_path / repo_id, copy_function=shutil.copy)

    def swap_two(text):
        contents = json.loads(text)
        vocabulary = contents["model"]["vocab"]
        first, second = list(vocabulary)[200:202]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        return json.dumps(contents)

    edit(tmp_path / repo_id / "tokenizer.json", swap_two)
    monkeypatch.setenv("LLMPIPE_SOURCE", "mirror")
    monkeypatch.setenv("LLMPIPE_MIRROR", str(tmp_path))
    with pytest.raises(ValueError, match=rf"is not the vocabulary of {repo_id} .*fetch it again"):
        load_tokenizer(tokenizer.name)


def test_known_figures_of_the_real_tokenizers(mirror):
    gpt2, distilbert = load_tokenizer("gpt2"), load_tokenizer("distilbert")
    assert gpt2.encode("Hello world").ids.tolist() == [15496, 995]
    assert (gpt2.vocab_size, gpt2.eos_token_id, gpt2.pad_token_id) == (50_257, 50_256, None)
    assert distilbert.encode("hello world").ids.tolist() == [101, 7592, 2088, 102]
    assert (distilbert.vocab_size, distilbert.pad_token_id) == (30_522, 0)
    assert {gpt2.digest, distilbert.digest} == set(KNOWN_DIGESTS.values())


def test_special_tokens_are_known_where_the_config_is_silent(mirror, folder, tokenizer):
    """As on the hub, whose tokenizer_config.json for GPT-2 has 26 bytes."""
    edit(folder / "tokenizer_config.json", lambda _: '{"model_max_length": 1024}')
    silent = load_tokenizer(str(folder))
    if tokenizer.name == "gpt2":
        assert (silent.eos_token_id, silent.pad_token_id) == (50_256, None)
    else:
        assert (silent.eos_token_id, silent.pad_token_id) == (None, 0)


def test_padding_is_by_the_pad_token_or_else_the_end_of_a_text():
    for pad, eos, due in ((7, 9, 7), (0, 9, 0), (None, 9, 9), (None, 0, 0), (None, None, 0)):
        known = SimpleNamespace(pad_token_id=pad, eos_token_id=eos)
        assert Tokenizer.pad_id.fget(known) == due


def test_wikitext_2_gives_2357942_ids_and_18421_blocks(wikitext_2):
    kept, filtered = QualityFilter(min_chars=40)(wikitext_2)
    gpt2 = load_tokenizer("gpt2")
    tokens = gpt2.encode(kept["text"])
    reference = Reference.from_file(str(gpt2.folder / "tokenizer.json"))
    expected = reference.encode_batch_fast(kept["text"].to_pylist())
    assert rows_of(tokens) == [row.ids for row in expected]
    assert len(tokens.ids) == 2_357_942
    blocks = chunk(tokens.ids, block_size=128)
    assert blocks.blocks.shape == (18_421, 128)
    assert blocks.remainder.shape == (54,)
    (filtered + tokens.ledger + blocks.ledger).check()


def test_imdb_gives_the_ids_of_tokenizers(imdb):
    distilbert = load_tokenizer("distilbert")
    reviews = imdb["text"].slice(0, 25_000)
    reference = Reference.from_file(str(distilbert.folder / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    every_tenth = reviews.take(np.arange(0, 25_000, 10))
    expected = reference.encode_batch_fast(every_tenth.to_pylist())
    assert rows_of(distilbert.encode(every_tenth)) == [row.ids for row in expected]
