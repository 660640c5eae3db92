"""Files that decide a tokenizer's ids alone: `transformers` would make of them what they say.

A class of `transformers` makes its tokenizer anew from vocabulary, merges and settings. GPT-2's and
BERT's give back the very `tokenizer.json`, as long as it is of their own form and no setting says
otherwise: then nothing has to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from llmpipe.tokenization.backends import FLAGS
from llmpipe.tokenization.tokenizer import vocabulary_of


class Family(NamedTuple):
    """What classes of `transformers` make of a vocabulary, as long as no setting says otherwise.

    `pipeline` is the rest of their `tokenizer.json`, as `pipeline_of` shortens it. Of the
    `settings` beside it each may be absent, or one of those named.
    """

    pipeline: Mapping[str, Any]
    settings: Mapping[str, tuple]
    model_types: tuple[str, ...]
    eos_token: str | None
    pad_token: str | None


FAMILIES = (
    Family(
        pipeline={
            "model": {"type": "BPE"},
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "template": ["A"],
            "added_tokens": ["<|endoftext|>"],
        },
        settings={
            "tokenizer_class": ("GPT2Tokenizer", "GPT2TokenizerFast"),
            "add_prefix_space": (False,),
            "errors": ("replace",),
            "bos_token": ("<|endoftext|>",),
            "eos_token": ("<|endoftext|>",),
            "unk_token": ("<|endoftext|>",),
            "pad_token": (None,),
        },
        model_types=("gpt2",),
        eos_token="<|endoftext|>",
        pad_token=None,
    ),
    Family(
        pipeline={
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            },
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "template": ["[CLS]", "A", "[SEP]"],
            "added_tokens": ["[CLS]", "[MASK]", "[PAD]", "[SEP]", "[UNK]"],
        },
        settings={
            "tokenizer_class": (
                "BertTokenizer",
                "BertTokenizerFast",
                "DistilBertTokenizer",
                "DistilBertTokenizerFast",
            ),
            "do_lower_case": (True,),
            "strip_accents": (None,),
            "tokenize_chinese_chars": (True,),
            **{f"{name.lower()}_token": (f"[{name}]",) for name in ("CLS", "MASK", "SEP", "PAD")},
            "unk_token": ("[UNK]",),
        },
        model_types=("bert", "distilbert"),
        eos_token=None,
        pad_token="[PAD]",
    ),
)
# Settings that no id depends on.
WITHOUT_EFFECT = {
    "backend",
    "clean_up_tokenization_spaces",
    "is_local",
    "local_files_only",
    "model_max_length",
    "name_or_path",
    "split_special_tokens",  # which whoever loads it decides
}


def family_of(
    contents: dict, config: Mapping, model_config: Mapping, is_known: bool
) -> Family | None:
    """The family whose classes leave these files as they are; None where `transformers` must say.

    Their class is that of `config` (tokenizer_config.json) or follows from `model_config`
    (config.json); where neither names one, the vocabulary must be known to be of the family.
    """
    try:
        pipeline = pipeline_of(contents)
    except (KeyError, TypeError, AttributeError):  # a form of its own, for `transformers` to read
        return None
    family = next((each for each in FAMILIES if each.pipeline == pipeline), None)
    if family is None:
        return None
    model_type, named = model_config.get("model_type"), config.get("tokenizer_class")
    if named or model_type:
        is_known = model_type in (None, *family.model_types)
    left = {name: value for name, value in config.items() if name not in WITHOUT_EFFECT}
    listed = {str(t["id"]): {k: t[k] for k in t if k != "id"} for t in contents["added_tokens"]}
    plain = left.pop("added_tokens_decoder", listed) == listed and all(
        name in family.settings and _content(value) in family.settings[name]
        for name, value in left.items()
    )
    return family if is_known and plain else None


def pipeline_of(contents: dict) -> dict[str, Any]:
    """All of a `tokenizer.json` but the vocabulary that ids depend on, in one form for all ages."""
    parts = {k: v for k, v in contents["model"].items() if k not in ("vocab", "merges")}
    parts = {k: v for k, v in parts.items() if v not in (None, "", False)}
    default = "BPE" if "merges" in contents["model"] else "WordPiece"  # early files name none
    pre_tokenizer = contents.get("pre_tokenizer")
    if isinstance(pre_tokenizer, dict):
        shown = {k: v for k, v in pre_tokenizer.items() if k != "trim_offsets"}
        pre_tokenizer = {k: v for k, v in shown.items() if (k, v) != ("use_regex", True)}
    vocabulary, added = vocabulary_of(contents), contents["added_tokens"]
    plain = all(
        token.get("special")
        and vocabulary.get(token["content"], len(vocabulary)) == token["id"]
        and not any(map(token.get, FLAGS))
        for token in added
    )
    return {
        "model": {"type": default, **parts},
        "normalizer": contents.get("normalizer"),
        "pre_tokenizer": pre_tokenizer,
        "template": _template(contents.get("post_processor"), vocabulary),
        "added_tokens": sorted(token["content"] for token in added) if plain else added,
    }


def _template(post_processor: Any, vocabulary: Mapping[str, int]) -> Any:
    """The special tokens around a text "A", as `["[CLS]", "A", "[SEP]"]`."""
    if post_processor is None or post_processor.get("type") == "ByteLevel":  # which moves offsets
        return ["A"]
    if post_processor.get("type") != "TemplateProcessing":
        return post_processor
    template = [
        each["Sequence"]["id"] if "Sequence" in each else each["SpecialToken"]["id"]
        for each in post_processor["single"]
    ]
    special = post_processor["special_tokens"]
    for token in set(template) - {"A"}:
        if special[token]["ids"] != [vocabulary.get(token)]:
            return post_processor
    return template


def _content(token: Any) -> Any:
    """`"[PAD]"` of `"[PAD]"` or `{"content": "[PAD]", ...}`: a config may say either."""
    plain = isinstance(token, dict) and not any(map(token.get, FLAGS))
    return token.get("content") if plain else str(token) if isinstance(token, dict) else token
