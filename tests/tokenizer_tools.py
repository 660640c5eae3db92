"""Small tokenizers of many families, in folders as their owners keep them, and texts to try."""

import json
import random
import shutil

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from llmpipe import load_tokenizer

TRAINING = [
    "The storm crossed the coast on 3 May , and 20 @,@ 000 people left their homes .",
    "naïve café Ångström İstanbul straße e\u0301 日本語 中文字符 한국어 हिन्दी 👩‍👩‍👧",
    "I'll we've THEY'RE can't don't , it's Hello World hello world 1234567",
] * 20
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TOKENS = ["<x>", "<|end|>", "Valkyria", "<mask>", "[SEP]", "<|endoftext|>", "foo bar"]


def byte_level(*added, pattern=None, normalizer=None, end=None):
    """Byte-level BPE, as of GPT-2, or split by a `pattern`; `end` is put behind every text."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    if pattern:
        first = pre_tokenizers.Split(Regex(pattern), "isolated")
        split = pre_tokenizers.Sequence([first, split])
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", *([end] if end else [])]
    options = {"vocab_size": 700, "special_tokens": special, "show_progress": False}
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    tokenizer.train_from_iterator(TRAINING, trainer)
    if end:
        number = tokenizer.token_to_id(end)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{end} $A {end}", special_tokens=[(end, number)]
        )
    return with_added(tokenizer, added)


def byte_fallback():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    prepend, space = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([prepend, space])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    options = {"vocab_size": 600, "special_tokens": special, "show_progress": False}
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(**options))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    options = {"vocab_size": 150, "special_tokens": ["<unk>", "</s>"], "show_progress": False}
    trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return with_added(tokenizer, [AddedToken("foo bar", lstrip=True)])


def word_piece(lowercase, *added):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    options = {"vocab_size": 500, "special_tokens": special, "show_progress": False}
    tokenizer.train_from_iterator(TRAINING, trainers.WordPieceTrainer(**options))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return with_added(tokenizer, added)


def with_added(tokenizer, added):
    for token in added:
        add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
        add([token])
    return tokenizer


WORD = AddedToken("<x>", single_word=True, normalized=False)
STRIPS = AddedToken("<mask>", lstrip=True, special=True, normalized=False)
NAMED = AddedToken("Valkyria", normalized=True)
GENERIC, BERT = {"tokenizer_class": "PreTrainedTokenizerFast"}, {"tokenizer_class": "BertTokenizer"}
# Each family with what its owner writes beside it.
FAMILIES = {
    "byte-level BPE": (byte_level, {"tokenizer_class": "GPT2Tokenizer"}),
    "byte-level BPE without a class": (lambda: byte_level(STRIPS), {}),
    "words and strips": (lambda: byte_level(WORD, STRIPS, NAMED), GENERIC),
    "byte fallback": (byte_fallback, {**GENERIC, "bos_token": "<s>"}),
    "Unigram with Metaspace": (unigram, GENERIC),
    "word level": (word_level, {**GENERIC, "unk_token": "[UNK]"}),
    "WordPiece uncased": (lambda: word_piece(True), BERT),
    "WordPiece cased": (lambda: word_piece(False), {**BERT, "do_lower_case": False}),
    "WordPiece with words": (lambda: word_piece(True, WORD, NAMED), GENERIC),
    "begin and end": (lambda: byte_level(end="<|end|>"), {**GENERIC, "eos_token": "<|end|>"}),
    "NFC": (lambda: byte_level(WORD, pattern=QWEN, normalizer=normalizers.NFC()), GENERIC),
    "NFC, no flags": (lambda: byte_level(pattern=QWEN, normalizer=normalizers.NFC()), GENERIC),
    "marks in words": (lambda: byte_level(NAMED, pattern=O200K), GENERIC),
    "NFKC": (lambda: byte_level(normalizer=normalizers.NFKC()), GENERIC),
    "another pattern": (lambda: byte_level(pattern=r"\p{L}{1,4}|\d|\s+|."), GENERIC),
}


def folder_of(path, tokenizer, settings=None, **files):
    """A folder with a `tokenizer.json`, perhaps its config, and other files by their names."""
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, contents in files.items():
        (path / f"{name}.json").write_text(json.dumps(contents))
    return path


def hub_copy(name, path):
    """A labs' tokenizer in the form that the hub keeps it in: without most of what is implied."""
    source = load_tokenizer(name).folder
    shutil.copytree(source, path, copy_function=shutil.copy)
    contents = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    del contents["model"]["type"]
    if name == "gpt2":
        contents["pre_tokenizer"].pop("use_regex", None)
        contents["added_tokens"][0]["normalized"] = True
        contents["post_processor"] = {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": False,
        }
        merges = contents["model"]["merges"]
        contents["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
        for flag in ("byte_fallback", "ignore_merges"):
            contents["model"].pop(flag, None)
        end = contents["added_tokens"][0]["id"]
        config = {"model_max_length": 1024}
        model = {"model_type": "gpt2", "bos_token_id": end, "eos_token_id": end}
    else:
        config = {"do_lower_case": True, "model_max_length": 512}
        model = {"model_type": "distilbert", "pad_token_id": 0}
    for file, told in (("tokenizer", contents), ("tokenizer_config", config), ("config", model)):
        file = path / f"{file}.json"
        file.unlink(missing_ok=True)
        file.write_text(json.dumps(told), encoding="utf-8")
    return path


def strange_texts(number, seed=0):
    """Texts of words, tokens whole and cut, white space, marks, and any code points at all."""
    chance = random.Random(seed)
    words = " ".join(TRAINING[:3]).split(" ")

    def piece():
        kind = chance.random()
        if kind < 0.35:
            return chance.choice(words)
        if kind < 0.55:
            token = chance.choice(TOKENS)
            return chance.choice([token, token.lower(), token.upper(), token[:-1], token[1:]])
        if kind < 0.75:
            return chance.choice([" ", "  ", "\n", "\r\n", "\t", ", ", "'s", "\u00a0", "."])
        if kind < 0.85:
            young = chance.choice([0x301, 0x1DED, 0x8D3, 0x897, 0x323, 0x1ACF, 0x11930, 0x10EFA])
            return chance.choice("aeAo") + chr(young) + chance.choice(["", "\u0301", "\u1ded"])
        point = chance.randrange(1, chance.choice([0x80, 0x800, 0x10000, 0x34000, 0x110000]))
        return "" if 0xD800 <= point < 0xE000 else chr(point)

    return ["".join(piece() for _ in range(chance.randrange(12))) for _ in range(number)]
