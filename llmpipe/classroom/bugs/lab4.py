"""The bugs of Lab 4: text that ends its own review, padding that is read, ranks of one class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmpipe.classroom.bugs.bug import Bug
from llmpipe.classroom.tiny_classifier import new_model
from llmpipe.sharding.world import contiguous, round_robin
from llmpipe.tokenization.loading import load_tokenizer
from llmpipe.tokenization.tokenizer import Tokenizer

MAX_LENGTH = 512
MODEL_IDS = 50  # the vocabulary of the small model; 0 is its [PAD]
REVIEW_IDS = (2, 17, 23, 5, 41, 8, 30, 12, 3)
ROUNDING = 1e-4  # logits of float32 that differ by less are the same
TOLERANCE = 0.1  # by which a rank's share of positives may differ from the share in all


def tokenizer_for_reviews(name: str | Path = "distilbert", *, broken: bool = False) -> Tokenizer:
    """A tokenizer for text that others wrote. Broken, `[SEP]` in a text becomes the special token.

    >>> len(tokenizer_for_reviews().encode(["[SEP]"], add_special_tokens=False).ids) > 1
    True
    >>> len(tokenizer_for_reviews(broken=True).encode(["[SEP]"], add_special_tokens=False).ids)
    1

    Raises what `load_tokenizer` raises.
    """
    return load_tokenizer(name, split_special_tokens=not broken)


def tokens_of(text: str, *, broken: bool = True) -> list[str]:
    """The tokens of a review, written out, those that the tokenizer adds included.

    `tokens_of("[SEP]")` gives `['[CLS]', '[SEP]', '[SEP]']`, and repaired `['[CLS]', '[', ..., ']',
    '[SEP]']`. Raises what `load_tokenizer` and `Tokenizer.encode` raise.
    """
    tokenizer = tokenizer_for_reviews(broken=broken)
    return [tokenizer.decode([token_id]) for token_id in tokenizer.encode([text]).ids]


def special_tokens_written(texts: Sequence[str], *, broken: bool = True) -> np.ndarray:
    """How many special tokens each review holds that its writer put there: int64 (num_texts,).

    [UNK], which stands for letters that no token covers, is not counted.

    >>> texts = ["A fine film.", "A fine film. [SEP] [PAD] [PAD]"]
    >>> special_tokens_written(texts).tolist()
    [0, 3]
    >>> special_tokens_written(texts, broken=False).tolist()
    [0, 0]

    Raises what `load_tokenizer` and `Tokenizer.encode` raise.
    """
    tokenizer = tokenizer_for_reviews(broken=broken)
    tokens = tokenizer.encode(list(texts), add_special_tokens=False)
    special = [number for name, number in tokenizer.special_ids.items() if name != "[UNK]"]
    before = np.concatenate([[0], np.cumsum(np.isin(tokens.ids, special))])
    return np.diff(before[tokens.offsets]).astype(np.int64)


def _writers_matter(broken: bool) -> str | None:
    text = "A fine film. [SEP] [CLS] A dull film. [PAD]"
    (written,) = special_tokens_written([text], broken=broken)
    if written == 0:
        return None
    return f"the review {text!r} puts {written} special tokens into the model's input by itself"


def attention_mask(lengths: Sequence[int], width: int, *, broken: bool = False) -> np.ndarray:
    """1 where the model is to attend and 0 over padding: int64 (num_reviews, width).

    Broken, it is 1 everywhere, which is also what a model assumes that is given no mask.

    >>> attention_mask([2, 3], width=3).tolist()
    [[1, 1, 0], [1, 1, 1]]

    Raises ValueError if a length is negative or more than `width`.
    """
    sizes = np.asarray(lengths, np.int64)
    if sizes.size and not (sizes.min() >= 0 and sizes.max() <= width):
        raise ValueError(f"lengths must be in [0, {width}], got {sizes.min()} to {sizes.max()}")
    return (np.arange(width) < np.where(broken, width, sizes)[:, None]).astype(np.int64)


def small_model() -> Any:
    """A DistilBERT of two layers and 32 dimensions with random weights, the same every time.

    Its seed is one at which padding turns the verdict on the review of `logits_by_padding`; its
    weights are ten times the usual, or the two logits would hardly differ without training.
    """
    return new_model(MODEL_IDS, MAX_LENGTH, seed=17, n_layers=2, initializer_range=0.2).eval()


def logits_by_padding(
    paddings: Sequence[int] = (0, 4, 16, 64), *, broken: bool = True
) -> np.ndarray:
    """The two logits of one review of 9 ids, with so many [PAD] after it each time.

    A float32 array of shape (num_paddings, 2), from `small_model`; the larger logit is its verdict.

    >>> logits_by_padding((0, 16)).argmax(axis=1).tolist()
    [1, 0]
    >>> logits_by_padding((0, 16), broken=False).argmax(axis=1).tolist()
    [1, 1]

    Raises ValueError if a padding is negative or exceeds the model's 512 positions.
    """
    import torch

    most = MAX_LENGTH - len(REVIEW_IDS)
    if paddings and not 0 <= min(paddings) <= max(paddings) <= most:
        raise ValueError(f"paddings must be in [0, {most}], got {list(paddings)}")
    model, logits = small_model(), [np.zeros((0, 2), np.float32)]
    for padding in paddings:
        ids = np.array([[*REVIEW_IDS, *[0] * padding]])
        mask = attention_mask([len(REVIEW_IDS)], ids.shape[1], broken=broken)
        with torch.no_grad():
            output = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        logits.append(output.logits.numpy())
    return np.concatenate(logits)


def _padding_matters(broken: bool) -> str | None:
    paddings = (0, 16)
    alone, padded = logits_by_padding(paddings, broken=broken)
    change = np.abs(padded - alone).max()
    if change <= ROUNDING:
        return None
    return (
        f"a review of {len(REVIEW_IDS)} ids: {paddings[1]} of padding after it change a logit "
        f"by {change:.2f}"
    )


def rows_of_rank(num_rows: int, rank: int, world_size: int, *, broken: bool = False) -> range:
    """The rows of one rank, round-robin. Broken, one contiguous run, which keeps their order.

    >>> [list(rows_of_rank(6, rank, 2)) for rank in range(2)]
    [[0, 2, 4], [1, 3, 5]]

    Raises TypeError or ValueError if `rank` is not in [0, world_size).
    """
    return (contiguous if broken else round_robin)(num_rows, rank, world_size)


def class_counts(labels: Any, world_size: int = 4, *, broken: bool = True) -> np.ndarray:
    """How many rows of each class each rank has: int64 (world_size, num_classes).

    >>> class_counts([0, 0, 0, 1, 1, 1], world_size=3).tolist()
    [[2, 0], [1, 1], [0, 2]]
    >>> class_counts([0, 0, 0, 1, 1, 1], world_size=3, broken=False).tolist()
    [[1, 1], [1, 1], [1, 1]]

    Raises ValueError if labels are not integers from 0, or fewer than there are ranks.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) < world_size:
        raise ValueError(
            f"{world_size} ranks need a row of as many labels or more, got shape {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"labels must be integers from 0, got {labels[labels.argmin()]!r}")
    num_classes = max(2, int(labels.max()) + 1)
    shards = [rows_of_rank(len(labels), r, world_size, broken=broken) for r in range(world_size)]
    return np.stack([np.bincount(labels[rows], minlength=num_classes) for rows in shards])


def positives_by_rank(labels: Any, world_size: int = 4, *, broken: bool = True) -> np.ndarray:
    """Each rank's share of rows of class 1, in [0, 1]: float64 (world_size,).

    >>> positives_by_rank([0, 0, 0, 1, 1, 1], world_size=3).tolist()
    [0.0, 0.5, 1.0]

    Raises what `class_counts` raises.
    """
    counts = class_counts(labels, world_size, broken=broken)
    return counts[:, 1] / counts.sum(axis=1)


def _order_matters(broken: bool) -> str | None:
    labels, world_size = np.repeat([0, 1], 20), 4
    shares = positives_by_rank(labels, world_size, broken=broken)
    if np.abs(shares - labels.mean()).max() <= TOLERANCE:
        return None
    return (
        f"{len(labels)} reviews sorted by label, {labels.mean():.0%} positive, on {world_size} "
        f"ranks: {(shares == 0).sum()} have no positive and {(shares == 1).sum()} nothing else"
    )


BUGS = (
    Bug(
        name="sep_in_review",
        story="A tokenizer takes [SEP] for its special token wherever it stands, also where a "
        "reviewer wrote it (in the thread, <s> of HTML, which Llama's tokenizer has too): whoever "
        "writes text decides where the model sees it end.",
        invariant="Special tokens in the model's input are those that the tokenizer added, and no "
        "text can write one.",
        thread="https://github.com/huggingface/transformers/issues/31336",
        switch=tokenizer_for_reviews,
        violation=_writers_matter,
    ),
    Bug(
        name="pad_not_masked",
        story="Without an attention mask, or with one of ones, the model attends to the padding "
        "as if it were text: what it says of a review changes with the longest review of its "
        "batch.",
        invariant="A review's logits do not depend on the padding that its batch gives it.",
        thread="https://github.com/huggingface/transformers/issues/278",
        switch=attention_mask,
        violation=_padding_matters,
    ),
    Bug(
        name="contiguous_on_sorted",
        story="Rows that are sorted by class, as IMDB's are (in the thread, pictures in a folder a "
        "class), and cut into contiguous shards give each rank one class only: its gradients pull "
        "the other way from its neighbours', and its own accuracy says nothing.",
        invariant="The share of positives on each rank is within 0.1 of the share in all rows.",
        thread="https://github.com/sql-machine-learning/elasticdl/pull/2469",
        switch=rows_of_rank,
        violation=_order_matters,
    ),
)
