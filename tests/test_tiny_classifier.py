"""The labs' small model: the same every time, and able to learn what is there to be learned."""

import torch

from llmpipe.classroom.tiny_classifier import EVERY, accuracy, new_model, train


def batches(num_batches, seed):
    """Rows of five ids, 1 to 19; the label is whether the second is above 9."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_batches):
        ids = torch.randint(1, 20, (32, 5), generator=generator)
        labels = (ids[:, 1] > 9).long()
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def test_a_seed_gives_one_model_and_leaves_the_random_numbers_alone():
    before = torch.random.get_rng_state()
    first, again, other = (new_model(20, 5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert new_model(20, 5, n_layers=2).config.n_layers == 2


def test_it_learns_and_its_curve_is_its_accuracy():
    held_out, num_threads = list(batches(4, seed=1)), torch.get_num_threads()
    model = new_model(20, max_length=5)
    curve = train(model, batches(2 * EVERY + 5, seed=0), held_out)
    assert [step for step, _ in curve] == [0, EVERY, 2 * EVERY, 2 * EVERY + 5]
    assert curve[-1][1] == accuracy(model, held_out) > 0.9 > curve[0][1]
    assert torch.get_num_threads() == num_threads
