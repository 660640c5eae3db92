"""Answers to the exercises of Lab 4, one function or class each."""

from __future__ import annotations


def pad_to_longest(reviews: list[list[int]], pad_id: int) -> tuple[list, list]:
    """Ids and attention mask of a batch, both (num_reviews, length of the longest)."""
    longest = max(map(len, reviews), default=0)
    input_ids = [ids + [pad_id] * (longest - len(ids)) for ids in reviews]
    # By place and not by value: `pad_id` may be a real id of a review.
    attention_mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in reviews]
    return input_ids, attention_mask


def length_buckets(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Batches of indices, from the shortest review to the longest."""
    # `sorted` is stable: equally long reviews stay in their order.
    by_length = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [by_length[i : i + batch_size] for i in range(0, len(lengths), batch_size)]


def padding_ratio(attention_mask: list[list[int]]) -> float:
    """The share of all positions that is padding, 0.0 if there are none."""
    num_positions = sum(map(len, attention_mask))
    num_ids = sum(map(sum, attention_mask))
    return (num_positions - num_ids) / num_positions if num_positions else 0.0


def balanced_plan(labels: list[int], rank: int, world_size: int) -> list[int]:
    """The rows of a rank: of each class as many as any other rank has, give or take one."""
    # Sorted, each class is one run, and round-robin divides every run evenly.
    by_label = sorted(range(len(labels)), key=lambda row: labels[row])
    return by_label[rank::world_size]


def keep_both_ends(ids: list[int], max_length: int) -> list[int]:
    """At most `max_length` ids: the beginning, which has one more if it is odd, and the end."""
    if len(ids) <= max_length:
        return ids
    num_last = max_length // 2
    # Counted from the start: `ids[-num_last:]` is all of them if `num_last` is 0.
    return ids[: max_length - num_last] + ids[len(ids) - num_last :]
