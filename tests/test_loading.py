"""Any tokenizer as its owner means it: the ids of `AutoTokenizer`, or one error with a way out."""

import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizer_tools as tools
from datasets import Dataset
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Reference

from llmpipe import (
    BlockStream,
    ClassificationDataset,
    ClassificationStream,
    RollingBuffer,
    load_tokenizer,
)
from llmpipe.launching.distributed import padding_batch
from llmpipe.sources.hub import SAMPLE_TOKENIZERS
from llmpipe.tokenization.loading import KNOWN_DIGESTS, SHORT_NAMES

pytestmark = pytest.mark.filterwarnings("ignore:tokenizing with transformers:RuntimeWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Each test asks `transformers` anew."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "llmpipe"


LABELLED = {"text": ["a"], "label": [0]}


def documents(texts):
    return Dataset.from_dict({"text": texts})


def rows_of(tokens):
    return [
        tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]


def theirs_of(folder, split):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, split_special_tokens=split)


def assert_as_auto_tokenizer(folder, texts):
    for split in (True, False):
        theirs, ours = theirs_of(folder, split), load_tokenizer(folder, split_special_tokens=split)
        due, got = theirs(texts)["input_ids"], rows_of(ours.encode(texts))
        differing = [text for text, a, b in zip(texts, due, got, strict=True) if a != b]
        assert not differing, f"{len(differing)} of {len(texts)}, such as {differing[0]!r}"
        bare = theirs(texts[:200], add_special_tokens=False)["input_ids"]
        assert rows_of(ours.encode(texts[:200], add_special_tokens=False)) == bare
        for which in ("eos_token_id", "pad_token_id"):
            assert getattr(theirs, which) in (None, getattr(ours, which))
    return ours


@pytest.mark.parametrize("name", tools.FAMILIES)
@pytest.mark.parametrize("number", [500, pytest.param(20_000, marks=pytest.mark.slow, id="many")])
def test_every_family_has_the_ids_of_auto_tokenizer(tmp_path, name, number):
    make, config = tools.FAMILIES[name]
    folder = tools.folder_of(tmp_path / "own", make(), config)
    ours = assert_as_auto_tokenizer(folder, tools.strange_texts(number, seed=len(name)))
    fast = {"byte-level BPE", "WordPiece uncased", "NFC", "NFC, no flags", "words and strips"}
    if name in fast:
        assert ours.backend_name != "transformers", "exact, and no longer fast"


PAD = {"__type": "AddedToken", "content": "<pad>", "lstrip": True, "rstrip": False}
PAD |= {"normalized": False, "single_word": False, "special": True}
SETTINGS = {
    "gpt2": [
        ("add_prefix_space", [True, False]),
        ("tokenizer_class", ["GPT2TokenizerFast", "PreTrainedTokenizerFast", None]),
        ("additional_special_tokens", [["<x>", "<|end|>"], None]),
        ("pad_token", ["<pad>", "<|endoftext|>", PAD]),
        ("add_bos_token", [True, False]),
        ("bos_token", ["<|endoftext|>", "<s>"]),
        ("padding_side", ["left", "right"]),
        ("truncation_side", ["left"]),
        ("clean_up_tokenization_spaces", [True]),
    ],
    "distilbert": [
        ("do_lower_case", [True, False]),
        ("strip_accents", [True, False, None]),
        ("tokenize_chinese_chars", [True, False]),
        ("tokenizer_class", ["BertTokenizer", "PreTrainedTokenizerFast", None]),
        ("additional_special_tokens", [["<x>", "<|end|>"], None]),
        ("pad_token", ["[PAD]", "<pad>"]),
        ("padding_side", ["left", "right"]),
        ("truncation_side", ["left"]),
    ],
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("together", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_settings_beside_the_file_count_as_transformers_takes_them(tmp_path, name, together):
    """Every value of every setting, alone and by pairs with every value of every other."""
    source, texts = SAMPLE_TOKENIZERS / name, tools.strange_texts(60)
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    folder = Path(shutil.copytree(source, tmp_path / "own", copy_function=shutil.copy))
    (folder / "tokenizer_config.json").chmod(0o644)
    tried = 0
    for chosen in itertools.combinations(SETTINGS[name], together):
        for values in itertools.product(*(values for _, values in chosen)):
            told = {**config, **dict(zip((setting for setting, _ in chosen), values, strict=True))}
            told = {setting: value for setting, value in told.items() if value is not None}
            (folder / "tokenizer_config.json").write_text(json.dumps(told))
            theirs, ours = theirs_of(folder, True), load_tokenizer(folder)
            assert rows_of(ours.encode(texts)) == theirs(texts)["input_ids"], told
            assert ours.pad_token_id == theirs.pad_token_id, told
            assert ours.padding_side == theirs.padding_side, told
            assert ours.truncation_side == theirs.truncation_side, told
            tried += 1
    assert tried > (15 if together == 1 else 80)


def test_cased_and_prefixed_as_the_issue_of_it_said(mirror, tmp_path):
    ids = {}
    for name, setting in (("distilbert", "do_lower_case"), ("gpt2", "add_prefix_space")):
        folder = tools.hub_copy(name, tmp_path / name)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config[setting] = name == "gpt2"
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        ids[name] = load_tokenizer(folder)
    assert ids["distilbert"].encode("Hello World").ids.tolist() == [101, 100, 100, 102]
    assert ids["gpt2"].encode("Hello world").ids.tolist() == [18435, 995]


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_hubs_own_files_are_understood(tmp_path, name):
    folder, known = tools.hub_copy(name, tmp_path / "hub"), load_tokenizer(name)
    ours = assert_as_auto_tokenizer(folder, tools.strange_texts(500))
    assert ours.backend_name == known.backend_name
    assert ours.digest == known.digest
    assert ours.eos_token_id == known.eos_token_id
    assert ours.pad_token_id == known.pad_token_id
    assert (ours.eos_token_id is None) == (name == "distilbert")
    theirs = ours.to_transformers()
    assert theirs.eos_token_id == known.eos_token_id
    assert theirs.pad_token_id == known.pad_token_id


def test_of_the_hub_all_files_are_fetched_that_say_something(mirror, tmp_path, monkeypatch):
    """From a mirror in the hub's shape: the same loading as from the hub, without its network."""
    for name, repo_id in SHORT_NAMES.items():
        (tmp_path / repo_id).parent.mkdir()
        tools.hub_copy(name, tmp_path / repo_id)
    monkeypatch.setenv("LLMPIPE_MIRROR", str(tmp_path))
    monkeypatch.setenv("LLMPIPE_SOURCE", "mirror")
    gpt2, distilbert = load_tokenizer("gpt2"), load_tokenizer("distilbert")
    assert (gpt2.origin, gpt2.eos_token_id, gpt2.pad_token_id) == ("mirror", 50_256, None)
    assert (distilbert.eos_token_id, distilbert.pad_token_id) == (None, 0)
    assert {gpt2.digest, distilbert.digest} == set(KNOWN_DIGESTS.values())
    stream = BlockStream(documents(["one", "two"]), "gpt2", 2, separator=gpt2.eos_token_id)
    assert [item["input_ids"].tolist().count(50_256) for item in stream] == [1, 1]


def test_where_the_files_decide_transformers_is_not_imported(tmp_path):
    folders = [str(tools.hub_copy(name, tmp_path / name)) for name in SHORT_NAMES]
    saved = tmp_path / "saved by an older transformers"
    load_tokenizer("gpt2").to_transformers().save_pretrained(saved)
    code = (
        "import sys; from llmpipe import load_tokenizer\n"
        "for name in sys.argv[1:]: load_tokenizer(name)\n"
        "print([m for m in ('transformers', 'torch', 'pandas') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, *SHORT_NAMES, *folders, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ids_that_only_the_models_configuration_names(tmp_path):
    files = {"config": {"pad_token_id": 1}, "generation_config": {"eos_token_id": [2, 3]}}
    own = tools.byte_level()
    folder = tools.folder_of(tmp_path / "own", own, tools.GENERIC, **files)
    ours = load_tokenizer(folder)
    assert (ours.eos_token_id, ours.pad_token_id) == (2, 1)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": own.get_vocab_size()}))
    with pytest.raises(ValueError, match=r"pad_token_id must be in \[0, "):
        load_tokenizer(folder)


def test_what_people_pass_is_taken(tmp_path):
    own = tools.byte_level()
    bare = tools.folder_of(tmp_path / "bare", own)
    texts = tools.strange_texts(200)
    own.encode_special_tokens = True
    due = [row.ids for row in own.encode_batch(texts)]
    theirs = theirs_of(bare, False)
    for passed in (own, theirs, bare, str(bare), bare / "tokenizer.json"):
        ours = load_tokenizer(passed)
        assert rows_of(ours.encode(texts)) == due
        assert ours.backend_name == "gigatoken"
        copy = pickle.loads(pickle.dumps(ours))
        assert rows_of(copy.encode(texts)) == due
        assert copy.to_transformers()(texts[0])["input_ids"] == due[0]
        block = next(iter(BlockStream(documents(texts), passed, 8)))["input_ids"]
        assert block.tolist() == [number for row in due for number in row][:8]
    assert load_tokenizer(load_tokenizer(own)).encode("a").ids.tolist() == own.encode("a").ids
    labelled = {"text": ["hello world", "the storm"], "label": [0, 1]}
    for passed in ("distilbert", tools.word_piece(True), load_tokenizer("distilbert").folder):
        rows = ClassificationDataset(labelled, passed, 8)
        stream = ClassificationStream(Dataset.from_dict(labelled), passed, 8, cycle_length=1)
        due = [load_tokenizer(passed).encode(text).ids.tolist() for text in labelled["text"]]
        for items in (rows, list(stream)):
            got = [item["input_ids"][: item["attention_mask"].sum()].tolist() for item in items]
            assert got == [row[:7] + row[-1:] if len(row) > 8 else row for row in due]


def test_of_all_processes_that_load_a_folder_the_first_asks_transformers(tmp_path):
    make, config = tools.FAMILIES["WordPiece cased"]
    folder = tools.folder_of(tmp_path / "own", make(), config)
    code = (
        "import sys; from llmpipe import load_tokenizer\n"
        "tokenizer = load_tokenizer(sys.argv[1])\n"
        "ids = tokenizer.encode('Hello World').ids.tolist()\n"
        "print(ids, tokenizer.pad_token_id, 'transformers' in sys.modules)"
    )

    def asked():
        command = [sys.executable, "-c", code, str(folder)]
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
        options = {"capture_output": True, "text": True, "check": True, "env": environment}
        *told, was_asked = subprocess.run(command, **options).stdout.split()
        return told, was_asked == "True"

    cased, was_asked = asked()
    assert was_asked
    assert asked() == (cased, False)
    (kept,) = (tmp_path / "home" / "llmpipe").iterdir()
    kept.write_text(kept.read_text()[:100])
    assert asked() == (cased, True), "what is damaged is not taken"
    config = {**config, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    uncased, _ = asked()
    assert uncased != cased


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, cache):
    make, config = tools.FAMILIES["word level"]
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    folder = tools.folder_of(tmp_path / "own", make(), config)
    assert load_tokenizer(folder).encode("Hello").ids.tolist() == make().encode("Hello").ids


def test_a_process_that_gets_a_tokenizer_asks_transformers_no_more(tmp_path):
    """As a rank does: the verdict travels with the tokenizer."""
    make, config = tools.FAMILIES["WordPiece cased"]
    ours = load_tokenizer(tools.folder_of(tmp_path / "own", make(), config))
    (tmp_path / "pickled").write_bytes(pickle.dumps(ours))
    code = (
        "import pickle, sys\n"
        "tokenizer = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(tokenizer.encode('Hello World').ids.tolist())\n"
        "print([m for m in ('transformers', 'torch', 'pandas') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pickled")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(ours.encode("Hello World").ids.tolist()), "[]"]


def test_a_tokenizer_that_was_changed_is_taken_as_it_is_now():
    theirs = load_tokenizer("gpt2").to_transformers()
    theirs.add_tokens(["storm crossed"])
    theirs.pad_token = theirs.eos_token
    ours = load_tokenizer(theirs)
    text = "the storm crossed the <|endoftext|>"
    assert ours.encode(text).ids.tolist() == theirs(text, split_special_tokens=True)["input_ids"]
    assert ours.pad_token_id == ours.eos_token_id == theirs.eos_token_id
    assert ours.vocab_size == len(theirs)
    theirs(["one text", "another one"], padding="max_length", truncation=True, max_length=9)
    assert load_tokenizer(theirs).digest == ours.digest, "what the last call asked for is no part"


class LowersInPython:
    """A class that does something to a text before its backend sees it."""

    def __new__(cls, folder):
        from transformers import PreTrainedTokenizerFast

        class Lowering(PreTrainedTokenizerFast):
            def __call__(self, text, **options):
                return super().__call__(text.lower(), **options)

        return Lowering(tokenizer_file=str(folder / "tokenizer.json"))


def encoding():
    """What tiktoken gives; the library itself is no part of this project."""
    kind = type("Encoding", (), {"encode": lambda self, text: [0], "n_vocab": 1})
    kind.__module__ = "tiktoken.core"
    return kind()


def slow():
    from transformers.models.byt5.tokenization_byt5 import ByT5Tokenizer

    return ByT5Tokenizer()


def with_dropout():
    tokenizer = tools.byte_level()
    tokenizer.model.dropout = 0.1
    return tokenizer


def in_python():
    class Cut:
        def pre_tokenize(self, text):
            pass

    tokenizer = tools.byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Cut())
    return tokenizer


REFUSED = {
    "tiktoken": (encoding, TypeError, r"tiktoken's Encoding; load the same vocabulary by its name"),
    "slow": (slow, TypeError, r"written in Python: take its fast one, of AutoTokenizer"),
    "dropout": (with_dropout, ValueError, r"dropout 0\.1.*other ids at every call"),
    "custom parts": (in_python, ValueError, "cannot be taken over exactly"),
    "a function": (lambda: str.split, TypeError, "pass a name, a folder, or a fast tokenizer"),
    "nothing": (lambda: None, TypeError, "pass a name, a folder, or a fast tokenizer"),
    "a number": (lambda: 5, TypeError, "pass a name, a folder, or a fast tokenizer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_at_every_door(name):
    make, error, message = REFUSED[name]
    passed = make()
    doors = [
        load_tokenizer,
        lambda tokenizer: BlockStream(documents(["a"]), tokenizer),
        lambda tokenizer: ClassificationDataset(LABELLED, tokenizer),
        lambda tokenizer: ClassificationStream(Dataset.from_dict(LABELLED), tokenizer),
    ]
    for door in doors:
        with pytest.raises(error, match=message):
            door(passed)


def test_a_class_that_does_more_than_its_backend_is_refused(tmp_path):
    folder = tools.folder_of(tmp_path / "own", tools.byte_level())
    with pytest.raises(ValueError, match=r"Lowering gives .* cannot be taken over exactly"):
        load_tokenizer(LowersInPython(folder))


@pytest.mark.parametrize("number", [-5, 7, 2**33])
def test_an_added_token_that_disagrees_with_the_vocabulary_is_refused(tmp_path, number):
    folder = tools.folder_of(tmp_path / "own", tools.word_piece(True), tools.BERT)
    contents = json.loads((folder / "tokenizer.json").read_text())
    contents["added_tokens"][0]["id"] = number
    (folder / "tokenizer.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r"\[PAD\]|cannot load this tokenizer\.json"):
        load_tokenizer(folder)
    with pytest.raises(ValueError, match=r"\[PAD\]|cannot load this tokenizer\.json"):
        load_tokenizer(folder / "tokenizer.json")


def test_ids_around_a_text_that_are_beyond_the_vocabulary_are_refused(tmp_path):
    folder = tools.folder_of(tmp_path / "own", tools.word_piece(True), tools.GENERIC)
    contents = json.loads((folder / "tokenizer.json").read_text())
    contents["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [99_999]
    (folder / "tokenizer.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r"puts around texts must be in \[0, .*got 99999"):
        load_tokenizer(folder)


@pytest.mark.parametrize("pad_id", [-5, 2**33])
def test_an_id_to_pad_with_is_an_id(pad_id):
    for dtype in (np.uint16, np.uint32, np.int64):
        buffer = RollingBuffer(4)
        buffer.push(np.array([1, 2], dtype))
        with pytest.raises(ValueError, match="pad_id must be in"):
            buffer.finish("pad", pad_id)
        assert buffer.remainder.tolist() == [1, 2]
    with pytest.raises(ValueError, match="pad_id must be in"):
        padding_batch(1, 2, pad_id)
    tokenizer = load_tokenizer("distilbert")
    tokenizer.pad_token_id = pad_id
    for make in (
        lambda: ClassificationDataset(LABELLED, tokenizer),
        lambda: BlockStream(documents(["a"]), tokenizer, remainder="pad"),
    ):
        with pytest.raises(ValueError, match="pad_id must be in"):
            make()


def test_a_separator_that_the_tokenizer_puts_itself_is_a_warning(recwarn):
    ours = load_tokenizer(tools.byte_level(end="<|end|>"))
    end = ours.special_ids["<|end|>"]
    with pytest.warns(RuntimeWarning, match=f"puts the id {end} behind every text already"):
        BlockStream(documents(["a"]), ours, separator=end)
    recwarn.clear()
    BlockStream(documents(["a"]), ours, separator=ours.special_ids["<|endoftext|>"])
    BlockStream(documents(["a"]), "gpt2", separator=load_tokenizer("gpt2").eos_token_id)
    assert not recwarn.list


@pytest.mark.parametrize("padding", ["max_length", "longest"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cut", ["left", "right"])
def test_rows_are_cut_and_padded_on_the_side_that_the_tokenizer_says(padding, side, cut):
    theirs = load_tokenizer("distilbert").to_transformers()
    theirs.padding_side, theirs.truncation_side = side, cut
    texts = [f"storm {'coast ' * n} end" for n in range(9)]
    rows = ClassificationDataset(
        {"text": texts, "label": [0, 1, 2] * 3}, theirs, max_length=7, padding=padding
    )
    options = {"padding": padding, "truncation": True, "max_length": 7}
    due = theirs(texts, split_special_tokens=True, **options)
    batch = ClassificationDataset.collate(rows.__getitems__(range(9)))
    assert batch["input_ids"].tolist() == due["input_ids"]
    assert batch["attention_mask"].tolist() == due["attention_mask"]


def test_a_vocabulary_of_another_shape_is_named(tmp_path):
    for model in ({"vocab": 5}, {"vocab": {"a": "b"}}, {"vocab": ["a"]}, {}, None):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps({"model": model}))
        with pytest.raises(ValueError, match=r"tokenizer\.json holds no model with a vocabulary"):
            load_tokenizer(path)
    path.write_text(json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": ["<s>"]}))
    with pytest.raises(ValueError, match="list of added tokens"):
        load_tokenizer(path)


PATTERNS = {"GPT-2's": None, "Qwen's": tools.QWEN, "o200k": tools.O200K}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_fast_ids_are_exact_next_to_every_code_point(mirror, pattern):
    """With GPT-2's merges, behind other patterns, and normalized: fails when a library moves on."""
    contents = json.loads((load_tokenizer("gpt2").folder / "tokenizer.json").read_text())
    if PATTERNS[pattern]:
        split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made = Reference(models.BPE())
        made.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        contents["pre_tokenizer"] = json.loads(made.to_str())["pre_tokenizer"]
    # Of ideographs, syllables, private and empty planes some: within each they are alike, and all
    # were the same when this was written.
    alike = [(0x3400, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0xF900), (0x20000, 0x110000)]
    points = [p for p in range(1, 0x110000) if not 0xD800 <= p < 0xE000]
    points = [p for p in points if p % 61 == 0 or not any(a < p < b - 1 for a, b in alike)]
    assert len(points) > 80_000
    for normalizer in (None, {"type": "NFC"}):
        reference = Reference.from_str(json.dumps({**contents, "normalizer": normalizer}))
        ours = load_tokenizer(reference)
        assert ours.backend_name == "gigatoken"
        forms = ["{}'ll", "the{}re"] + ["a{}\u0345\u0323b", "a\u0345{}\u0334b"] * bool(normalizer)
        for form, start in itertools.product(forms, range(0, len(points), 4096)):
            texts = [form.format(chr(point)) for point in points[start : start + 4096]]
            due = [row.ids for row in reference.encode_batch_fast(texts)]
            assert rows_of(ours.encode(texts)) == due, (form, start)
