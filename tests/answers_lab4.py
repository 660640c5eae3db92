"""Answers to the exercises of Lab 4: right ones of several styles, and typical wrong ones."""

from collections import Counter, defaultdict
from itertools import chain, groupby

import numpy as np
import torch
from answers import answers_to

from llmpipe.sharding.world import contiguous

right, wrong = answers_to("pad_to_longest")


@right
def padded_by_numpy(reviews, pad_id):
    lengths = np.array([len(review) for review in reviews], dtype=int)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    input_ids = np.full(mask.shape, pad_id)
    input_ids[mask] = [one for review in reviews for one in review]
    return input_ids, mask.astype(int)


@right
def padded_by_torch(reviews, pad_id):
    if not reviews:
        return [], []
    rows = [torch.tensor(review, dtype=torch.long) for review in reviews]
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    ones = [torch.ones_like(row) for row in rows]
    return input_ids, torch.nn.utils.rnn.pad_sequence(ones, batch_first=True)


@right
def padded_in_place(reviews, pad_id):
    mask = [[1] * len(review) for review in reviews]
    while len(set(map(len, reviews))) > 1:
        longest = max(map(len, reviews))
        for review, row in zip(reviews, mask, strict=True):
            if len(review) < longest:
                review.append(pad_id)  # bad manners, not a wrong answer
                row.append(0)
    return reviews, mask


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


wrong(  # the mask asks for the value
    "([[1]], pad_id=1)",
    "input_ids [[1]], attention_mask [[0]]",
    "attention_mask [[1]]   (longest review: 1, and 1 occurs in a review)",
)(padded_to(mask=lambda one, pad_id: int(one != pad_id)))
wrong(  # to a fixed length
    "([[]], pad_id=0)",
    "input_ids [[0, 0, 0, 0]], attention_mask [[0, 0, 0, 0]]",
    "input_ids [[]], attention_mask [[]]   (longest review: 0)",
)(padded_to(lambda reviews: 4))
wrong(  # to the first review
    "([[], [1]], pad_id=0)",
    "input_ids [[], []], attention_mask [[], []]",
    "input_ids [[0], [1]], attention_mask [[0], [1]] ",
)(padded_to(lambda reviews: len(reviews[0]) if reviews else 0))
wrong("([[], [1]], pad_id=0)", "input_ids [[], []]", "input_ids [[0], [1]]")(  # to the shortest
    padded_to(lambda reviews: min(map(len, reviews), default=0))
)
wrong(  # on the left
    "([[1], [1, 1]], pad_id=0)",
    "input_ids [[0, 1], [1, 1]], attention_mask [[0, 1], [1, 1]]",
    "input_ids [[1, 0], [1, 1]], attention_mask [[1, 0], [1, 1]] ",
)(padded_to(left=True))
wrong("([], pad_id=0)", "ValueError: max()", "input_ids [], attention_mask []")(  # no reviews
    padded_to(lambda reviews: max(map(len, reviews)))
)
wrong("([[], [1]], pad_id=1)", "input_ids [[0], [1]]", "input_ids [[1], [1]]")(  # all zeros
    lambda reviews, pad_id: padded_by_numpy(reviews, 0)
)


@wrong("([], pad_id=0)", "[]", "input_ids [], attention_mask []")
def padded_without_mask(reviews, pad_id):
    return padded_to()(reviews, pad_id)[0]


right, wrong = answers_to("length_buckets")


@right
def buckets_by_numpy(lengths, batch_size):
    order = np.argsort(lengths, kind="stable")
    return np.split(order, range(batch_size, len(order), batch_size)) if lengths else []


@right
def buckets_by_pairs(lengths, batch_size):
    pairs = sorted((length, index) for index, length in enumerate(lengths))
    batches = []
    for place, (_, index) in enumerate(pairs):
        if place % batch_size == 0:
            batches.append([])
        batches[-1].append(index)
    return batches


@right
def buckets_by_taking_the_shortest(lengths, batch_size):
    left, batches = list(range(len(lengths))), []
    while left:
        batch = []
        while left and len(batch) < batch_size:
            batch.append(min(left, key=lengths.__getitem__))
            left.remove(batch[-1])
        batches.append(tuple(batch))
    return batches


@wrong("([2, 1], batch_size=1)", "[[0], [1]]", "[[1], [0]] ")
def buckets_in_given_order(lengths, batch_size):
    order = list(range(len(lengths)))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def buckets_order(lengths):
    return sorted(range(len(lengths)), key=lambda index: lengths[index])


def buckets_of(order=None, end=lambda count, batch_size: count):
    """Buckets that are right but for the given part of them."""

    def answer(lengths, batch_size):
        indices = list((order or buckets_order)(lengths))
        stop = end(len(indices), batch_size)
        return [indices[i : i + batch_size] for i in range(0, stop, batch_size)]

    return answer


wrong("([1, 2], batch_size=1)", "[[1], [0]]", "[[0], [1]] ")(  # the longest first
    buckets_of(lambda lengths: sorted(range(len(lengths)), key=lambda i: -lengths[i]))
)
# Turned around, and with it the equal ones.
wrong("([1, 1], batch_size=1)", "[[1], [0]]", "[[0], [1]] ")(
    buckets_of(lambda lengths: sorted(range(len(lengths)), key=lambda i: (lengths[i], -i)))
)
wrong("([1], batch_size=2)", "[]", "[[0]]   (reviews: 1, batches: 1)")(  # the last batch dropped
    buckets_of(end=lambda count, batch_size: count - count % batch_size)
)
wrong("([1], batch_size=1)", "[[1]]", "[[0]] ")(buckets_of(sorted))  # lengths for indices


@wrong("([1, 2], batch_size=2)", "[[0], [1]]", "[[0, 1]]   (reviews: 2, batches: 1)")
def buckets_by_equal_length(lengths, batch_size):
    batches = []
    for _, group in groupby(buckets_order(lengths), key=lambda index: lengths[index]):
        group = list(group)
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return batches


# As many batches as should be in one.
wrong("([], batch_size=1)", "[[]]", "[]   (reviews: 0, batches: 0)")(
    lambda lengths, n: [part.tolist() for part in np.array_split(buckets_order(lengths), n)]
)
wrong("([1, 1], batch_size=1)", "[[0], [0]]", "[[0], [1]] ")(  # equal lengths found again
    buckets_of(lambda lengths: [lengths.index(length) for length in sorted(lengths)])
)


right, wrong = answers_to("padding_ratio")


@right
def ratio_by_numpy(attention_mask):
    mask = np.array(attention_mask)
    return 1 - mask.mean() if mask.size else 0.0


@right
def ratio_by_counting(attention_mask):
    counts = Counter(chain.from_iterable(attention_mask))
    return counts[0] / max(1, counts[0] + counts[1])


@right
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


def ratio_of(share):
    """A ratio by (number of zeros, number of ones), 0.0 without positions."""

    def answer(attention_mask):
        values = list(chain.from_iterable(attention_mask))
        return share(values.count(0), values.count(1)) if values else 0.0

    return answer


wrong("([[0]])", "0.0", "1.0   (positions: 1, padding: 1)")(  # the share of ids
    ratio_of(lambda zeros, ones: ones / (zeros + ones))
)
wrong("([[0, 0]])", "2.0", "1.0   (positions: 2, padding: 2)")(  # by the ids
    ratio_of(lambda zeros, ones: zeros / max(1, ones))
)
wrong("([[0, 0]])", "2", "1.0 ")(ratio_of(lambda zeros, ones: zeros))  # the count
# Per cent.
wrong("([[0]])", "100.0", "1.0 ")(ratio_of(lambda zeros, ones: 100 * zeros / (zeros + ones)))
wrong("", "0", "0.5 ")(ratio_of(lambda zeros, ones: zeros // (zeros + ones)))  # whole numbers
# No positions.
wrong("([])", "ZeroDivisionError: division by zero", "0.0   (positions: 0, padding: 0)")(
    lambda mask: 1 - sum(map(sum, mask)) / sum(map(len, mask))
)


@wrong("([[]])", "ZeroDivisionError: division by zero", "0.0   (positions: 0, padding: 0)")
def ratio_of_an_empty_list_only(attention_mask):
    if not attention_mask:
        return 0.0
    return 1 - sum(map(sum, attention_mask)) / sum(map(len, attention_mask))


@wrong("", "1.0", "0.5   (positions: 2, padding: 1)")
def ratio_of_rows(attention_mask):
    return sum(0 in row for row in attention_mask) / max(1, len(attention_mask))


@wrong("([[0, 1]])", "0.0", "0.5   (positions: 2, padding: 1)")
def ratio_after_the_last_id(attention_mask):
    padding = sum([*row[::-1], 1].index(1) for row in attention_mask)
    return padding / max(1, sum(map(len, attention_mask)))


right, wrong = answers_to("balanced_plan")


@right
def plan_class_by_class(labels, rank, world_size):
    rows = defaultdict(list)
    for row, label in enumerate(labels):
        rows[label].append(row)
    return [row for label in rows for row in rows[label][rank::world_size]]


@right
def plan_by_numpy(labels, rank, world_size):
    return np.sort(np.argsort(labels, kind="stable")[rank::world_size])


@right
def plan_by_times_seen(labels, rank, world_size):
    seen, mine = Counter(), []
    for row, label in enumerate(labels):
        if seen[label] % world_size == rank:
            mine.append(row)
        seen[label] += 1
    return mine


@right
def plan_by_runs_of_each_class(labels, rank, world_size):
    by_label = sorted(range(len(labels)), key=labels.__getitem__, reverse=True)
    classes = [list(rows) for _, rows in groupby(by_label, key=labels.__getitem__)]
    return [rows[i] for rows in classes for i in contiguous(len(rows), rank, world_size)]


@wrong(
    "([1, 0, 0], rank, world_size=2)",
    "[[0], [1, 2]]: rows of class 0 by rank: [0, 2]",
    "of each class, counts that differ by at most one   (for example [[1, 0], [2]])",
)
def plan_one_run_each(labels, rank, world_size):
    return list(contiguous(len(labels), rank, world_size))


@wrong(
    "([0, 1, 0], rank, world_size=2)",
    "[[0, 2], [1]]: rows of class 0 by rank: [2, 0]",
    "(for example [[0, 1], [2]])",
)
def plan_by_row(labels, rank, world_size):
    return list(range(rank, len(labels), world_size))


@wrong(
    "([0, 0], rank, world_size=2)",
    "[[0, 1], []]: rows of class 0 by rank: [2, 0]",
    "(for example [[0], [1]])",
)
def plan_a_class_a_rank(labels, rank, world_size):
    return [row for row, label in enumerate(labels) if label % world_size == rank]


@wrong("([0], rank, world_size=2)", "[[], []]: row 0 is read by no rank", "(for example [[0], []])")
def plan_of_full_rounds(labels, rank, world_size):
    mine = []
    for label in set(labels):
        rows = [row for row, one in enumerate(labels) if one == label]
        mine += rows[: len(rows) // world_size * world_size][rank::world_size]
    return mine


@wrong(
    "([0, 0], rank, world_size=3)",
    "[[], [], [0, 1]]: rows of class 0 by rank: [0, 0, 2]",
    "(for example [[0], [1], []])",
)
def plan_rest_to_the_last(labels, rank, world_size):
    mine = []
    for label in sorted(set(labels)):
        rows = [row for row, one in enumerate(labels) if one == label]
        size = len(rows) // world_size
        mine += rows[rank * size : (rank + 1) * size if rank < world_size - 1 else None]
    return mine


@wrong("([1], rank, world_size=1)", "rank 0 has 1, which is no row", "(for example [[0]])")
def plan_of_labels(labels, rank, world_size):
    return sorted(labels)[rank::world_size]


@wrong("([0, 1], rank, world_size=1)", "[[0, 0]]: row 0 is read 2 times", "(for example [[0, 1]])")
def plan_of_places_within_a_class(labels, rank, world_size):
    return [
        place for label in set(labels) for place in range(rank, labels.count(label), world_size)
    ]


@wrong("([0], rank, world_size=2)", "[[0], [0]]: row 0 is read 2 times", "(for example [[0], []])")
def plan_of_all_rows(labels, rank, world_size):
    return list(range(len(labels)))


# The plan of all ranks at once.
wrong("([], rank, world_size=1)", "[[[]]]: rank 0 has [], which is no row", "(for example [[]])")(
    lambda labels, rank, size: [plan_by_times_seen(labels, r, size) for r in range(size)]
)
wrong("([], rank, world_size=1)", "rank 0 gets None, not a list", "(for example [[]])")(  # prints
    lambda labels, rank, world_size: print(labels)
)


right, wrong = answers_to("keep_both_ends")


@right
def ends_by_leaving_out_the_middle(ids, max_length):
    del ids[max_length - max_length // 2 : max(0, len(ids) - max_length // 2)]
    return ids


@right
def ends_by_positions(ids, max_length):
    first, last = -(-max_length // 2), len(ids) - max_length // 2
    return [one for place, one in enumerate(ids) if place < first or place >= last]


@right
def ends_by_numpy(ids, max_length):
    ids = np.array(ids, dtype=int)
    if len(ids) > max_length:
        first, last = (max_length + 1) // 2, max_length // 2
        ids = np.concatenate([ids[:first], ids[::-1][:last][::-1]])
    return ids


@wrong("([1, 2], max_length=1)", "[1, 1, 2]", "[1]   (1 from the beginning, 0 from the end)")
def ends_by_negative_slice(ids, max_length):
    if len(ids) <= max_length:
        return ids
    return ids[: max_length - max_length // 2] + ids[-(max_length // 2) :]


@wrong("([1], max_length=2)", "[1, 1]", "[1]   (1 of at most 2 ids: whole)")
def ends_without_a_test(ids, max_length):
    num_last = max_length // 2
    return ids[: max_length - num_last] + ids[max(0, len(ids) - num_last) :]


@wrong("([1, 2], max_length=1)", "[2]", "[1] ")
def ends_longer_end(ids, max_length):
    if len(ids) <= max_length:
        return ids
    return ids[: max_length // 2] + ids[len(ids) - (max_length - max_length // 2) :]


@wrong("([1, 2], max_length=1)", "[]", "[1] ")
def ends_of_two_halves(ids, max_length):
    if len(ids) <= max_length:
        return ids
    return ids[: max_length // 2] + ids[len(ids) - max_length // 2 :]


# The beginning.
wrong("([1, 2, 3], max_length=2)", "[1, 2]", "[1, 3]   (1 from the beginning, 1 from the end)")(
    lambda ids, max_length: ids[:max_length]
)
wrong("([1, 2], max_length=1)", "[2]", "[1] ")(lambda ids, max_length: ids[-max_length:])  # the end


@wrong("([1, 2, 3, 4, 5], max_length=4)", "[1, 2, 5, 4]", "[1, 2, 4, 5] ")
def ends_turned_around(ids, max_length):
    if len(ids) <= max_length:
        return ids
    num_last = max_length // 2
    return ids[: max_length - num_last] + ids[::-1][:num_last]


wrong("([1, 2, 3], max_length=1)", "[2]", "[1] ")(  # the middle
    lambda ids, n: ids[max(0, len(ids) - n) // 2 :][:n]
)
