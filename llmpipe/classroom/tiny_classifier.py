"""A model of DistilBERT's shape, small enough to learn from a few thousand reviews in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

EVERY = 20  # steps between two looks at the held-out reviews


def new_model(vocab_size: int, max_length: int, seed: int = 0, **changes: Any) -> Any:
    """A `DistilBertForSequenceClassification` of 32 dimensions and random weights, for two classes.

    One layer and no dropout, but for `changes` of its `DistilBertConfig`. The same seed gives the
    same model, and leaves torch's random numbers as they were.
    """
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    shape = {"n_layers": 1, "n_heads": 2, "dim": 32, "hidden_dim": 64}
    no_dropout = dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), 0.0)
    # With the usual range of 0.02 so small a model hardly begins to learn.
    options = {**shape, **no_dropout, "initializer_range": 0.1, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = DistilBertConfig(
            vocab_size=vocab_size, max_position_embeddings=max_length, **options
        )
        return DistilBertForSequenceClassification(config)


def accuracy(model: Any, batches: Iterable[dict]) -> float:
    """The share of reviews in `batches` that the model labels rightly, in [0, 1]."""
    import torch

    right = total = 0
    model.eval()
    with torch.no_grad():
        for batch in batches:
            guesses = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(dim=1)
            right += int((guesses == batch["labels"]).sum())
            total += len(guesses)
    return right / total


def train(
    model: Any, batches: Iterable[dict], held_out: Sequence[dict], learning_rate: float = 3e-3
) -> list[tuple[int, float]]:
    """Train on `batches`, one step each; pairs (step, accuracy on `held_out`), the first at 0."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    # On so small tensors a second thread is more work to wake than it does, on busy cores by far.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        curve, step = [(0, accuracy(model, held_out))], 0
        for step, batch in enumerate(batches, start=1):
            model.train()
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step % EVERY == 0:
                curve.append((step, accuracy(model, held_out)))
        if step % EVERY:
            curve.append((step, accuracy(model, held_out)))
    finally:
        torch.set_num_threads(num_threads)
    return curve
