"""Answers to the exercises of Lab 1: right ones of several styles, and typical wrong ones."""

import numpy as np
import torch
from answers import answers_to

from llmpipe import RollingBuffer, chunk

right, wrong = answers_to("my_rule")


@right
def rule_by_counting(text):
    balance = 0
    for character in text:
        if character.isalpha():
            balance += 1 if character.isupper() else -1
    return "shouting" if balance > 0 else None


@right
def rule_by_numpy(text):
    letters = np.array([c for c in text if c.isalpha()], dtype="<U1")
    return "shouting" if len(letters) and np.char.isupper(letters).mean() > 0.5 else None


@right
def rule_by_filters(text):
    letters = "".join(filter(str.isalpha, text))
    if not letters:
        return None
    return ("shouting", None)[len(list(filter(str.isupper, letters))) / len(letters) <= 0.5]


wrong("''", "False", "None")(lambda t: rule_by_counting(t) is not None)  # true for a reason


def share_of(text, part, whole):
    return sum(map(part, text)) > sum(map(whole, text)) / 2


wrong("'A '", "None", "'shouting'")(  # share of all characters
    lambda t: "shouting" if share_of(t, str.isupper, lambda c: True) else None
)
wrong("'Aa'", "'shouting'", "None")(  # half is enough
    lambda t: (
        "shouting"
        if (n := sum(map(str.isupper, t))) and 2 * n >= sum(map(str.isalpha, t))
        else None
    )
)
wrong("'AAa'", "None", "'shouting'")(lambda t: "shouting" if t.isupper() else None)  # `isupper`


@wrong("'É'", "None", "'shouting'")
def capitals_ascii(text):
    letters = [c for c in text if c.isalpha()]
    return "shouting" if sum("A" <= c <= "Z" for c in letters) > len(letters) / 2 else None


@wrong("''", "ZeroDivisionError: division by zero", "None")
def rule_divides(text):
    letters = [c for c in text if c.isalpha()]
    return "shouting" if sum(c.isupper() for c in letters) / len(letters) > 0.5 else None


wrong("'A'", "'shouting 1'", "'shouting'")(  # a reason of its own each time
    lambda t: f"shouting {len(t)}" if rule_by_counting(t) else None
)


right, wrong = answers_to("ids_lost")


@right
def lost_by_recursion(lengths, batch_size, block_size):
    if not lengths:
        return 0
    here = sum(lengths[:batch_size]) % block_size
    return here + lost_by_recursion(lengths[batch_size:], batch_size, block_size)


@right
def lost_by_numpy(lengths, batch_size, block_size):
    lengths = np.array(lengths, dtype=int)
    padded = np.pad(lengths, (0, -len(lengths) % batch_size)).reshape(-1, batch_size)
    return (padded.sum(axis=1) % block_size).sum()


@right
def lost_by_running_total(lengths, batch_size, block_size):
    lost = waiting = 0
    while lengths:
        waiting += lengths.pop(0)  # changing the argument is bad manners, not a wrong answer
        batch_size_left = getattr(lost_by_running_total, "left", batch_size) - 1
        if batch_size_left == 0 or not lengths:
            lost, waiting, batch_size_left = lost + waiting % block_size, 0, batch_size
        lost_by_running_total.left = batch_size_left
    vars(lost_by_running_total).pop("left", None)
    return lost


wrong("[1, 1], batch_size=1, block_size=2", "0", "2")(  # one chunk over all
    lambda lengths, batch, block: sum(lengths) % block
)
wrong("[1, 1], batch_size=2, block_size=2", "2", "0")(  # each document by itself
    lambda lengths, batch, block: sum(n % block for n in lengths)
)
wrong("[1], batch_size=2, block_size=2", "0", "1")(  # the last map batch forgotten
    lambda lengths, batch, block: sum(
        sum(lengths[i : i + batch]) % block for i in range(0, len(lengths) - batch + 1, batch)
    )
)
wrong("[1], batch_size=1, block_size=3", "2", "1")(  # padding instead of loss
    lambda lengths, batch, block: sum(
        -sum(lengths[i : i + batch]) % block for i in range(0, len(lengths), batch)
    )
)
wrong("[], batch_size=1, block_size=1", "0.0", "0")(  # a fraction
    lambda lengths, batch, block: float(lost_by_recursion(lengths, batch, block))
)
wrong("[], batch_size=1, block_size=1", "TypeError", "0")(lambda lengths, batch: 0)  # two arguments


right, wrong = answers_to("chunk_padded")


@right
def padded_by_loop(ids, block_size, pad_id):
    blocks, mask, ids = [], [], ids.tolist()
    while ids:
        row, ids = ids[:block_size], ids[block_size:]
        mask.append([True] * len(row) + [False] * (block_size - len(row)))
        blocks.append(row + [pad_id] * (block_size - len(row)))
    return blocks, mask


@right
def padded_by_torch(ids, block_size, pad_id):
    ids = torch.from_numpy(ids)
    gap = -len(ids) % block_size
    blocks = torch.nn.functional.pad(ids, (0, gap), value=pad_id).reshape(-1, block_size)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (0, gap)).reshape(-1, block_size)
    return blocks, mask


@right
def padded_by_rolling_buffer(ids, block_size, pad_id):
    both = []
    for row, filler in ((ids, pad_id), (np.ones_like(ids), 0)):
        buffer = RollingBuffer(block_size)
        both.append(np.concatenate((buffer.push(row), buffer.finish("pad", filler))))
    return both


def padded_with(gap_of, mask_of, ids, block_size, pad_id):
    gap = gap_of(len(ids), block_size)
    padded = np.concatenate([ids, np.full(gap, pad_id, int)])
    mask = mask_of(padded, len(ids), pad_id)
    return padded.reshape(-1, block_size), mask.reshape(-1, block_size)


def gap_right(count, block_size):
    return -count % block_size


wrong(  # the mask asks for the value
    "np.array([9]), block_size=1, pad_id=9",
    "blocks [[9]], attention_mask [[0]]",
    "blocks [[9]], attention_mask [[1]]",
)(lambda *a: padded_with(gap_right, lambda p, n, pad: (p != pad).astype(int), *a))


def mask_right(padded, count, pad_id):
    return (np.arange(len(padded)) < count).astype(int)


wrong(  # a full block gets another of padding
    "np.array([], dtype=int), block_size=1, pad_id=0",
    "blocks [[0]], attention_mask [[0]]",
    "blocks [], attention_mask []",
)(lambda *a: padded_with(lambda n, b: b - n % b, mask_right, *a))
wrong(  # the last block dropped
    "np.array([1]), block_size=2, pad_id=0",
    "blocks [], attention_mask []",
    "blocks [[1, 0]], attention_mask [[1, 0]]",
)(lambda ids, b, pad: (chunk(ids, b).blocks, np.ones_like(chunk(ids, b).blocks)))
# The mask turned around.
wrong("np.array([1]), block_size=1, pad_id=0", "attention_mask [[0]]", "attention_mask [[1]]")(
    lambda *a: padded_with(gap_right, lambda *m: 1 - mask_right(*m), *a)
)
# No mask.
wrong("np.array([], dtype=int), block_size=1, pad_id=0", "[]", "blocks [], attention_mask []")(
    lambda *a: padded_with(gap_right, mask_right, *a)[0]
)
wrong(  # a list added to an array
    "np.array([1]), block_size=1, pad_id=0",
    "blocks [], attention_mask [1]",
    "blocks [[1]], attention_mask [[1]]",
)(lambda ids, b, pad: ((ids + [pad] * (-len(ids) % b)).reshape(-1, b), ids))


right, wrong = answers_to("smallest_good_batch_size")


@right
def good_by_loop(measure, sizes, tolerance):
    rates = []
    for size in sizes:
        rates.append(measure(size))
    for size, rate in zip(sizes, rates, strict=True):
        if max(rates) - rate <= tolerance * max(rates):
            return size
    return None


@right
def good_by_numpy(measure, sizes, tolerance):
    rates = np.array([measure(size) for size in sizes])
    return np.array(sizes)[np.argmax(rates / rates.max() >= 1 - tolerance)]


@right
def good_by_recursion(measure, sizes, tolerance):
    def best_and_answer(left):
        if not left:
            return 0, []
        rate = measure(left[0])
        best, later = best_and_answer(left[1:])
        best = max(best, rate)
        return best, [(left[0], rate), *later]

    best, measured = best_and_answer(sizes)
    return [size for size, rate in measured if rate / best >= 1 - tolerance][0]  # noqa: RUF015


wrong("{1: 1, 2: 2}.get, [1, 2], tolerance=0.5", "2", "1")(  # the fastest
    lambda measure, sizes, tolerance: max(sizes, key=measure)
)


@wrong("{1: 1, 2: 1, 4: 2}.get, [1, 2, 4], tolerance=0.25", "1", "4")
def stop_when_gain_is_small(measure, sizes, tolerance):
    rates = [measure(size) for size in sizes]
    for index in range(len(sizes) - 1):
        if rates[index] >= (1 - tolerance) * rates[index + 1]:
            return sizes[index]
    return sizes[-1]


def good_if(enough):
    def answer(measure, sizes, tolerance):
        rates = {size: measure(size) for size in sizes}
        return next(s for s in sizes if enough(rates[s], max(rates.values()), tolerance))

    return answer


wrong("{1: 1, 2: 2}.get, [1, 2], tolerance=0.5", "2", "1")(  # more than, where at least is asked
    good_if(lambda rate, best, tolerance: rate > (1 - tolerance) * best or rate == best)
)
wrong("{1: 1, 2: 2}.get, [1, 2], tolerance=0.25", "1", "2")(  # the tolerance as a rate
    good_if(lambda rate, best, tolerance: rate >= tolerance * best)
)
wrong("{1: 2}.get, [1], tolerance=0.25", "2", "1")(  # the rate for the size
    lambda measure, sizes, tolerance: max(measure(size) for size in sizes)
)
# Measures twice.
wrong("[1], tolerance=0.25", "RuntimeError: size 1 was measured before: keep its rate", "1")(
    lambda measure, sizes, tolerance: next(
        s for s in sizes if measure(s) >= (1 - tolerance) * max(map(measure, sizes))
    )
)


right, wrong = answers_to("measure_block_sizes")


@right
def measured_by_comprehension(ids, block_sizes, epoch, clock):
    def one(blocks):
        epoch(blocks)
        start, _, end = clock(), epoch(blocks), clock()
        return np.float64(blocks.size / (end - start))

    return {size: one(chunk(ids, size).blocks) for size in block_sizes}


@right
def measured_by_lists(ids, block_sizes, epoch, clock):
    rates = {}
    for size in block_sizes:
        blocks = [ids[i : i + size].tolist() for i in range(0, len(ids) - size + 1, size)]
        epoch(blocks)
        start = clock()
        epoch(blocks)
        rates[size] = len(blocks) * size / (clock() - start)
    return rates


@right
def measured_warm_ups_first(ids, block_sizes, epoch, clock):
    cut = [ids[: len(ids) - len(ids) % size].reshape(-1, size) for size in block_sizes]
    for blocks in cut:
        epoch(blocks)
    stamps = [clock()]
    for blocks in cut:
        epoch(blocks)
        stamps.append(clock())
    return {b.shape[1]: b.size / s for b, s in zip(cut, np.diff(stamps), strict=True)}


def measured_with(rate, warm_up=True):
    def answer(ids, block_sizes, epoch, clock):
        rates = {}
        for size in block_sizes:
            blocks = chunk(ids, size).blocks
            if warm_up:
                epoch(blocks)
            start = clock()
            epoch(blocks)
            rates[size] = rate(ids, blocks, clock() - start)
        return rates

    return answer


wrong("np.arange(3), [2]", "{2: 1.5}", "{2: 1.0}")(  # the remainder counted
    measured_with(lambda ids, blocks, seconds: len(ids) / seconds)
)
wrong("np.arange(2), [2]", "{2: 0.5}", "{2: 1.0}")(  # blocks a second
    measured_with(lambda ids, blocks, seconds: len(blocks) / seconds)
)
wrong("np.arange(1), [1]", "{1: 2.0}", "{1: 0.5}")(  # seconds an id
    measured_with(lambda ids, blocks, seconds: seconds / blocks.size)
)
wrong("np.arange(1), [1]", "{1: 0.1}", "{1: 0.5}")(  # no warm-up
    measured_with(lambda ids, blocks, s: blocks.size / s, warm_up=False)
)


@wrong("np.arange(2), [1, 2]", "2: 0.2", "2: 1.0")
def warm_up_once(ids, block_sizes, epoch, clock):
    epoch(chunk(ids, block_sizes[0]).blocks)
    return measured_with(lambda ids, blocks, s: blocks.size / s, warm_up=False)(
        ids, block_sizes, epoch, clock
    )


# The ids themselves.
wrong("np.arange(1), [1]", "TypeError: epoch takes blocks of shape (B, T), got (1,)", "{1: 0.5}")(
    lambda ids, sizes, epoch, clock: epoch(ids)
)
