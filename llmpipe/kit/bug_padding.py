"""What padding does to a model that is not told of it, shown on one small enough for a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmpipe.kit.tiny_classifier import new_model

MAX_LENGTH = 512
MODEL_IDS = 50  # the vocabulary of the small model; 0 is its [PAD]
REVIEW_IDS = (2, 17, 23, 5, 41, 8, 30, 12, 3)


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
