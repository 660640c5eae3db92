"""Answers to the exercises of Lab 4: right ones of several styles, and typical wrong ones."""

from collections import Counter, defaultdict
from itertools import chain, groupby

import numpy as np
import torch

from llmpipe.sharding.world import contiguous

# Right answers, in other styles than the solutions'.


def padded_by_numpy(reviews, pad_id):
    lengths = np.array([len(review) for review in reviews], dtype=int)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    input_ids = np.full(mask.shape, pad_id)
    input_ids[mask] = [one for review in reviews for one in review]
    return input_ids, mask.astype(int)


def padded_by_torch(reviews, pad_id):
    if not reviews:
        return [], []
    rows = [torch.tensor(review, dtype=torch.long) for review in reviews]
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    ones = [torch.ones_like(row) for row in rows]
    return input_ids, torch.nn.utils.rnn.pad_sequence(ones, batch_first=True)


def padded_in_place(reviews, pad_id):
    mask = [[1] * len(review) for review in reviews]
    while len(set(map(len, reviews))) > 1:
        longest = max(map(len, reviews))
        for review, row in zip(reviews, mask, strict=True):
            if len(review) < longest:
                review.append(pad_id)  # bad manners, not a wrong answer
                row.append(0)
    return reviews, mask


def buckets_by_numpy(lengths, batch_size):
    order = np.argsort(lengths, kind="stable")
    return np.split(order, range(batch_size, len(order), batch_size)) if lengths else []


def buckets_by_pairs(lengths, batch_size):
    pairs = sorted((length, index) for index, length in enumerate(lengths))
    batches = []
    for place, (_, index) in enumerate(pairs):
        if place % batch_size == 0:
            batches.append([])
        batches[-1].append(index)
    return batches


def buckets_by_taking_the_shortest(lengths, batch_size):
    left, batches = list(range(len(lengths))), []
    while left:
        batch = []
        while left and len(batch) < batch_size:
            batch.append(min(left, key=lengths.__getitem__))
            left.remove(batch[-1])
        batches.append(tuple(batch))
    return batches


def ratio_by_numpy(attention_mask):
    mask = np.array(attention_mask)
    return 1 - mask.mean() if mask.size else 0.0


def ratio_by_counting(attention_mask):
    counts = Counter(chain.from_iterable(attention_mask))
    return counts[0] / max(1, counts[0] + counts[1])


def ratio_position_by_position(attention_mask):
    num_padding = num_positions = 0
    for row in attention_mask:
        for one in row:
            num_padding += one == 0
            num_positions += 1
    try:
        return num_padding / num_positions
    except ZeroDivisionError:
        return 0


def plan_class_by_class(labels, rank, world_size):
    rows = defaultdict(list)
    for row, label in enumerate(labels):
        rows[label].append(row)
    return [row for label in rows for row in rows[label][rank::world_size]]


def plan_by_numpy(labels, rank, world_size):
    return np.sort(np.argsort(labels, kind="stable")[rank::world_size])


def plan_by_times_seen(labels, rank, world_size):
    seen, mine = Counter(), []
    for row, label in enumerate(labels):
        if seen[label] % world_size == rank:
            mine.append(row)
        seen[label] += 1
    return mine


def plan_by_runs_of_each_class(labels, rank, world_size):
    by_label = sorted(range(len(labels)), key=labels.__getitem__, reverse=True)
    classes = [list(rows) for _, rows in groupby(by_label, key=labels.__getitem__)]
    return [rows[i] for rows in classes for i in contiguous(len(rows), rank, world_size)]


def ends_by_leaving_out_the_middle(ids, max_length):
    del ids[max_length - max_length // 2 : max(0, len(ids) - max_length // 2)]
    return ids


def ends_by_positions(ids, max_length):
    first, last = -(-max_length // 2), len(ids) - max_length // 2
    return [one for place, one in enumerate(ids) if place < first or place >= last]


def ends_by_numpy(ids, max_length):
    ids = np.array(ids, dtype=int)
    if len(ids) > max_length:
        first, last = (max_length + 1) // 2, max_length // 2
        ids = np.concatenate([ids[:first], ids[::-1][:last][::-1]])
    return ids


RIGHT = {
    "pad_to_longest": [padded_by_numpy, padded_by_torch, padded_in_place],
    "length_buckets": [buckets_by_numpy, buckets_by_pairs, buckets_by_taking_the_shortest],
    "padding_ratio": [ratio_by_numpy, ratio_by_counting, ratio_position_by_position],
    "balanced_plan": [
        plan_class_by_class,
        plan_by_numpy,
        plan_by_times_seen,
        plan_by_runs_of_each_class,
    ],
    "keep_both_ends": [ends_by_leaving_out_the_middle, ends_by_positions, ends_by_numpy],
}

# Wrong answers


def padded_to(longest=lambda reviews: max(map(len, reviews), default=0), mask=None, left=False):
    """Padding that is right but for the given part of it."""

    def answer(reviews, pad_id):
        length = longest(reviews)
        rows, masks = [], []
        for review in reviews:
            gap = length - len(review)
            row, ones = review[:length], [1] * len(review[:length])
            rows.append([pad_id] * gap + row if left else row + [pad_id] * gap)
            masks.append([0] * gap + ones if left else ones + [0] * gap)
        if mask:
            masks = [[mask(one, pad_id) for one in row] for row in rows]
        return rows, masks

    return answer


def padded_without_mask(reviews, pad_id):
    return padded_to()(reviews, pad_id)[0]


def buckets_in_given_order(lengths, batch_size):
    order = list(range(len(lengths)))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def buckets_of(order=None, end=lambda count, batch_size: count):
    """Buckets that are right but for the given part of them."""

    def answer(lengths, batch_size):
        indices = list((order or buckets_order)(lengths))
        stop = end(len(indices), batch_size)
        return [indices[i : i + batch_size] for i in range(0, stop, batch_size)]

    return answer


def buckets_order(lengths):
    return sorted(range(len(lengths)), key=lambda index: lengths[index])


def buckets_by_equal_length(lengths, batch_size):
    batches = []
    for _, group in groupby(buckets_order(lengths), key=lambda index: lengths[index]):
        group = list(group)
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return batches


def ratio_of(share):
    """A ratio by (number of zeros, number of ones), 0.0 without positions."""

    def answer(attention_mask):
        values = list(chain.from_iterable(attention_mask))
        return share(values.count(0), values.count(1)) if values else 0.0

    return answer


def ratio_of_an_empty_list_only(attention_mask):
    if not attention_mask:
        return 0.0
    return 1 - sum(map(sum, attention_mask)) / sum(map(len, attention_mask))


def ratio_of_rows(attention_mask):
    return sum(0 in row for row in attention_mask) / max(1, len(attention_mask))


def ratio_after_the_last_id(attention_mask):
    padding = sum([*row[::-1], 1].index(1) for row in attention_mask)
    return padding / max(1, sum(map(len, attention_mask)))


def plan_by_row(labels, rank, world_size):
    return list(range(rank, len(labels), world_size))


def plan_one_run_each(labels, rank, world_size):
    return list(contiguous(len(labels), rank, world_size))


def plan_a_class_a_rank(labels, rank, world_size):
    return [row for row, label in enumerate(labels) if label % world_size == rank]


def plan_of_full_rounds(labels, rank, world_size):
    mine = []
    for label in set(labels):
        rows = [row for row, one in enumerate(labels) if one == label]
        mine += rows[: len(rows) // world_size * world_size][rank::world_size]
    return mine


def plan_of_labels(labels, rank, world_size):
    return sorted(labels)[rank::world_size]


def plan_of_places_within_a_class(labels, rank, world_size):
    return [
        place for label in set(labels) for place in range(rank, labels.count(label), world_size)
    ]


def plan_of_all_rows(labels, rank, world_size):
    return list(range(len(labels)))


def plan_rest_to_the_last(labels, rank, world_size):
    mine = []
    for label in sorted(set(labels)):
        rows = [row for row, one in enumerate(labels) if one == label]
        size = len(rows) // world_size
        mine += rows[rank * size : (rank + 1) * size if rank < world_size - 1 else None]
    return mine


def ends_by_negative_slice(ids, max_length):
    if len(ids) <= max_length:
        return ids
    return ids[: max_length - max_length // 2] + ids[-(max_length // 2) :]


def ends_without_a_test(ids, max_length):
    num_last = max_length // 2
    return ids[: max_length - num_last] + ids[max(0, len(ids) - num_last) :]


def ends_longer_end(ids, max_length):
    if len(ids) <= max_length:
        return ids
    return ids[: max_length // 2] + ids[len(ids) - (max_length - max_length // 2) :]


def ends_of_two_halves(ids, max_length):
    if len(ids) <= max_length:
        return ids
    return ids[: max_length // 2] + ids[len(ids) - max_length // 2 :]


def ends_turned_around(ids, max_length):
    if len(ids) <= max_length:
        return ids
    num_last = max_length // 2
    return ids[: max_length - num_last] + ids[::-1][:num_last]


# Each wrong answer: what is wrong with it, the function, the smallest input, came out, was due.
WRONG = {
    "pad_to_longest": [
        (
            "the mask asks for the value",
            padded_to(mask=lambda one, pad_id: int(one != pad_id)),
            "([[1]], pad_id=1)",
            "input_ids [[1]], attention_mask [[0]]",
            "attention_mask [[1]]   (longest review: 1, and 1 occurs in a review)",
        ),
        (
            "to a fixed length",
            padded_to(lambda reviews: 4),
            "([[]], pad_id=0)",
            "input_ids [[0, 0, 0, 0]], attention_mask [[0, 0, 0, 0]]",
            "input_ids [[]], attention_mask [[]]   (longest review: 0)",
        ),
        (
            "to the first review",
            padded_to(lambda reviews: len(reviews[0]) if reviews else 0),
            "([[], [1]], pad_id=0)",
            "input_ids [[], []], attention_mask [[], []]",
            "input_ids [[0], [1]], attention_mask [[0], [1]] ",
        ),
        (
            "to the shortest",
            padded_to(lambda reviews: min(map(len, reviews), default=0)),
            "([[], [1]], pad_id=0)",
            "input_ids [[], []]",
            "input_ids [[0], [1]]",
        ),
        (
            "on the left",
            padded_to(left=True),
            "([[1], [1, 1]], pad_id=0)",
            "input_ids [[0, 1], [1, 1]], attention_mask [[0, 1], [1, 1]]",
            "input_ids [[1, 0], [1, 1]], attention_mask [[1, 0], [1, 1]] ",
        ),
        (
            "no reviews",
            padded_to(lambda reviews: max(map(len, reviews))),
            "([], pad_id=0)",
            "ValueError: max()",
            "input_ids [], attention_mask []",
        ),
        (
            "all zeros",
            lambda reviews, pad_id: padded_by_numpy(reviews, 0),
            "([[], [1]], pad_id=1)",
            "input_ids [[0], [1]]",
            "input_ids [[1], [1]]",
        ),
        ("no mask", padded_without_mask, "([], pad_id=0)", "[]", "input_ids [], attention_mask []"),
    ],
    "length_buckets": [
        (
            "in the given order",
            buckets_in_given_order,
            "([2, 1], batch_size=1)",
            "[[0], [1]]",
            "[[1], [0]] ",
        ),
        (
            "the longest first",
            buckets_of(lambda lengths: sorted(range(len(lengths)), key=lambda i: -lengths[i])),
            "([1, 2], batch_size=1)",
            "[[1], [0]]",
            "[[0], [1]] ",
        ),
        (
            "turned around, and with it the equal ones",
            buckets_of(lambda lengths: sorted(range(len(lengths)), key=lambda i: (lengths[i], -i))),
            "([1, 1], batch_size=1)",
            "[[1], [0]]",
            "[[0], [1]] ",
        ),
        (
            "the last batch dropped",
            buckets_of(end=lambda count, batch_size: count - count % batch_size),
            "([1], batch_size=2)",
            "[]",
            "[[0]]   (reviews: 1, batches: 1)",
        ),
        (
            "lengths for indices",
            buckets_of(sorted),
            "([1], batch_size=1)",
            "[[1]]",
            "[[0]] ",
        ),
        (
            "a batch a length",
            buckets_by_equal_length,
            "([1, 2], batch_size=2)",
            "[[0], [1]]",
            "[[0, 1]]   (reviews: 2, batches: 1)",
        ),
        (
            "as many batches as should be in one",
            lambda lengths, n: [
                part.tolist() for part in np.array_split(buckets_order(lengths), n)
            ],
            "([], batch_size=1)",
            "[[]]",
            "[]   (reviews: 0, batches: 0)",
        ),
        (
            "equal lengths found again",
            buckets_of(lambda lengths: [lengths.index(length) for length in sorted(lengths)]),
            "([1, 1], batch_size=1)",
            "[[0], [0]]",
            "[[0], [1]] ",
        ),
    ],
    "padding_ratio": [
        (
            "the share of ids",
            ratio_of(lambda zeros, ones: ones / (zeros + ones)),
            "([[0]])",
            "0.0",
            "1.0   (positions: 1, padding: 1)",
        ),
        (
            "by the ids",
            ratio_of(lambda zeros, ones: zeros / max(1, ones)),
            "([[0, 0]])",
            "2.0",
            "1.0   (positions: 2, padding: 2)",
        ),
        (
            "the count",
            ratio_of(lambda zeros, ones: zeros),
            "([[0, 0]])",
            "2",
            "1.0 ",
        ),
        (
            "per cent",
            ratio_of(lambda zeros, ones: 100 * zeros / (zeros + ones)),
            "([[0]])",
            "100.0",
            "1.0 ",
        ),
        ("whole numbers", ratio_of(lambda zeros, ones: zeros // (zeros + ones)), "", "0", "0.5 "),
        (
            "no positions",
            lambda mask: 1 - sum(map(sum, mask)) / sum(map(len, mask)),
            "([])",
            "ZeroDivisionError: division by zero",
            "0.0   (positions: 0, padding: 0)",
        ),
        (
            "rows without positions",
            ratio_of_an_empty_list_only,
            "([[]])",
            "ZeroDivisionError: division by zero",
            "0.0   (positions: 0, padding: 0)",
        ),
        ("the share of rows", ratio_of_rows, "", "1.0", "0.5   (positions: 2, padding: 1)"),
        (
            "padding on the right only",
            ratio_after_the_last_id,
            "([[0, 1]])",
            "0.0",
            "0.5   (positions: 2, padding: 1)",
        ),
    ],
    "balanced_plan": [
        (
            "one run each",
            plan_one_run_each,
            "([0, 1, 1], rank, world_size=2)",
            "[[0], [1, 2]]: rows of class 1 by rank: [0, 2]",
            "of each class, counts that differ by at most one   (for example [[0, 2], [1]])",
        ),
        (
            "by row, whatever its label",
            plan_by_row,
            "([0, 1, 0], rank, world_size=2)",
            "[[0, 2], [1]]: rows of class 0 by rank: [2, 0]",
            "(for example [[0, 1], [2]])",
        ),
        (
            "a class a rank",
            plan_a_class_a_rank,
            "([0, 0], rank, world_size=2)",
            "[[0, 1], []]: rows of class 0 by rank: [2, 0]",
            "(for example [[0], [1]])",
        ),
        (
            "the rest of a class dropped",
            plan_of_full_rounds,
            "([0], rank, world_size=2)",
            "[[], []]: row 0 is read by no rank",
            "(for example [[0], []])",
        ),
        (
            "the rest of a class to the last rank",
            plan_rest_to_the_last,
            "([0, 0], rank, world_size=3)",
            "[[], [], [0, 1]]: rows of class 0 by rank: [0, 0, 2]",
            "(for example [[0], [1], []])",
        ),
        (
            "labels for rows",
            plan_of_labels,
            "([1], rank, world_size=1)",
            "rank 0 has 1, which is no row",
            "(for example [[0]])",
        ),
        (
            "places within a class for rows",
            plan_of_places_within_a_class,
            "([0, 1], rank, world_size=1)",
            "[[0, 0]]: row 0 is read 2 times",
            "(for example [[0, 1]])",
        ),
        (
            "all rows on every rank",
            plan_of_all_rows,
            "([0], rank, world_size=2)",
            "[[0], [0]]: row 0 is read 2 times",
            "(for example [[0], []])",
        ),
        (
            "the plan of all ranks at once",
            lambda labels, rank, size: [plan_by_times_seen(labels, r, size) for r in range(size)],
            "([], rank, world_size=1)",
            "[[[]]]: rank 0 has [], which is no row",
            "(for example [[]])",
        ),
        (
            "prints",
            lambda labels, rank, world_size: print(labels),
            "([], rank, world_size=1)",
            "rank 0 gets None, not a list",
            "(for example [[]])",
        ),
    ],
    "keep_both_ends": [
        (
            "the last 0 are all",
            ends_by_negative_slice,
            "([1, 2], max_length=1)",
            "[1, 1, 2]",
            "[1]   (1 from the beginning, 0 from the end)",
        ),
        (
            "a short review doubled",
            ends_without_a_test,
            "([1], max_length=2)",
            "[1, 1]",
            "[1]   (1 of at most 2 ids: whole)",
        ),
        (
            "the end has one more",
            ends_longer_end,
            "([1, 2], max_length=1)",
            "[2]",
            "[1] ",
        ),
        (
            "one short",
            ends_of_two_halves,
            "([1, 2], max_length=1)",
            "[]",
            "[1] ",
        ),
        (
            "the beginning",
            lambda ids, max_length: ids[:max_length],
            "([1, 2, 3], max_length=2)",
            "[1, 2]",
            "[1, 3]   (1 from the beginning, 1 from the end)",
        ),
        (
            "the end",
            lambda ids, max_length: ids[-max_length:],
            "([1, 2], max_length=1)",
            "[2]",
            "[1] ",
        ),
        (
            "the end turned around",
            ends_turned_around,
            "([1, 2, 3, 4, 5], max_length=4)",
            "[1, 2, 5, 4]",
            "[1, 2, 4, 5] ",
        ),
        (
            "the middle",
            lambda ids, n: ids[max(0, len(ids) - n) // 2 :][:n],
            "([1, 2, 3], max_length=1)",
            "[2]",
            "[1] ",
        ),
    ],
}
