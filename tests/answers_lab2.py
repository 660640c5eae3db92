"""Answers to the exercises of Lab 2: right ones of several styles, and typical wrong ones."""

import re
import zlib
from collections import deque
from datetime import datetime
from itertools import chain, islice

import numpy as np
from answers import answers_to

from llmpipe import RollingBuffer

EMPTY_TOO = "iter([[1], []]), block_size=1"
ONE = "iter([[1]]), block_size=1"
LINE = "2026-11-25T10:00:00.000 step 0 tokens 0 memory_bytes 310378496"
QUARTER = "2026-11-25T10:00:00.250 step 1 tokens 1 memory_bytes 310378496"


right, wrong = answers_to("rolling_blocks")


@right
def rolling_by_rolling_buffer(documents, block_size):
    buffer = RollingBuffer(block_size)
    for ids in documents:
        yield from buffer.push(np.array(ids, dtype=int))


@right
def rolling_by_slices_of_a_chain(documents, block_size):
    ids = chain.from_iterable(documents)
    while len(block := list(islice(ids, block_size))) == block_size:
        yield block


@right
def rolling_by_zip(documents, block_size):
    return zip(*[chain.from_iterable(documents)] * block_size, strict=False)


@right
def rolling_id_by_id(documents, block_size):
    block = []
    for ids in documents:
        while ids:
            block.append(ids.pop(0))  # changing a document is bad manners, not a wrong answer
            if len(block) == block_size:
                yield block
                block = []


@wrong(EMPTY_TOO, "[1] after 2 documents", "[1] after 1 document ")
def reads_all_first(documents, block_size):
    yield from rolling_by_slices_of_a_chain(list(documents), block_size)


@wrong(EMPTY_TOO, "[1] after 2 documents", "[1] after 1 document ")
def returns_a_list(documents, block_size):
    return list(rolling_by_slices_of_a_chain(documents, block_size))


@wrong(EMPTY_TOO, "[1] after 2 documents", "[1] after 1 document ")
def looks_one_document_ahead(documents, block_size):
    documents = iter(documents)
    following = next(documents, None)
    buffer = []
    while following is not None:
        ids, following = following, next(documents, None)
        buffer += ids
        while len(buffer) >= block_size:
            yield buffer[:block_size]
            buffer = buffer[block_size:]


@wrong(ONE, "nothing", "[1] after 1 document ")
def emits_before_it_refills(documents, block_size):
    buffer = []
    for ids in documents:
        while len(buffer) >= block_size:
            yield buffer[:block_size]
            buffer = buffer[block_size:]
        buffer += ids


@wrong(
    "iter([[1, 2]]), block_size=1",
    "[1] after 1 document",
    "[1] after 1 document, [2] after 1 document ",
)
def one_block_a_document(documents, block_size):
    buffer = []
    for ids in documents:
        buffer += ids
        if len(buffer) >= block_size:
            yield buffer[:block_size]
            buffer = buffer[block_size:]


@wrong("iter([[1], [2]]), block_size=2", "nothing", "[1, 2] after 2 documents ")
def new_buffer_each_document(documents, block_size):
    for ids in documents:
        yield from rolling_by_slices_of_a_chain([ids], block_size)


@wrong(EMPTY_TOO, "[1] after 1 document, [1] after 2 documents", "[1] after 1 document ")
def never_cuts_its_buffer(documents, block_size):
    buffer = []
    for ids in documents:
        buffer += ids
        for start in range(0, len(buffer) - block_size + 1, block_size):
            yield buffer[start : start + block_size]


@wrong("iter([[1]]), block_size=2", "[1] after 1 document", "nothing ")
def keeps_the_remainder(documents, block_size):
    ids = chain.from_iterable(documents)
    while block := list(islice(ids, block_size)):
        yield block


@wrong(ONE, "[] after 1 document", "[1] after 1 document ")
def empties_what_it_yielded(documents, block_size):
    block = []
    for one in chain.from_iterable(documents):
        block.append(one)
        if len(block) == block_size:
            yield block
            block.clear()


wrong("[]", "TypeError", "nothing ")(lambda documents, block_size: print(*documents))  # prints


right, wrong = answers_to("rolling_blocks_with_ends")


@right
def ends_by_pushing_them(documents, block_size, end_id):
    buffer = RollingBuffer(block_size)
    for ids in documents:
        yield from buffer.push(np.array([*ids, end_id]))


@right
def ends_by_a_queue(documents, block_size, end_id):
    queue = deque()
    for ids in documents:
        queue.extend(ids)
        queue.append(end_id)
        while len(queue) >= block_size:
            yield [queue.popleft() for _ in range(block_size)]


@right
def ends_by_zip(documents, block_size, end_id):
    ids = chain.from_iterable(chain(ids, [end_id]) for ids in documents)
    return zip(*[ids] * block_size, strict=False)


@wrong(f"{ONE}, end_id=0", "[1] after 1 document", "[1] after 1 document, [0] after 1 document ")
def end_before_the_next(documents, block_size, end_id):
    portions = (ids if i == 0 else [end_id, *ids] for i, ids in enumerate(documents))
    return rolling_by_slices_of_a_chain(portions, block_size)


@wrong(f"{ONE}, end_id=0", "[1] after 1 document", "[1] after 1 document, [0] after 1 document ")
def end_if_not_zero(documents, block_size, end_id):
    return rolling_by_slices_of_a_chain(
        ([*ids, end_id] if end_id else ids for ids in documents), block_size
    )


@wrong(f"{ONE}, end_id=0", "[1, 0] after 1 document", "[1] after 1 document, [0] after 1 document ")
def end_after_each_block(documents, block_size, end_id):
    for block in rolling_by_slices_of_a_chain(documents, block_size):
        yield [*block, end_id]


@wrong(
    "iter([[], [1]]), block_size=1, end_id=0",
    "[1] after 2 documents, [0] after 2 documents",
    "[0] after 1 document, [1] after 2 documents, [0] after 2 documents ",
)
def end_not_after_empty(documents, block_size, end_id):
    return rolling_by_slices_of_a_chain(
        ([*ids, end_id] if ids else ids for ids in documents), block_size
    )


@wrong(f"{ONE}, end_id=0", "[1] after 1 document", "[1] after 1 document, [0] after 1 document ")
def end_after_the_blocks_of_a_document(documents, block_size, end_id):
    buffer = []
    for ids in documents:
        buffer += ids
        while len(buffer) >= block_size:
            yield buffer[:block_size]
            buffer = buffer[block_size:]
        buffer.append(end_id)


@wrong(f"{ONE}, end_id=0", "[50256]", "[0]")
def end_of_gpt2(documents, block_size, end_id):
    return rolling_by_slices_of_a_chain(([*ids, 50256] for ids in documents), block_size)


wrong(f"{ONE}, end_id=2", "[0]", "[2]")(  # never the same
    lambda documents, block_size, end_id: ends_by_zip(documents, block_size, 0)
)


right, wrong = answers_to("ResumableBlocks")
NO_DOCUMENTS, NOTHING = "[], block_size=1), state after 0 blocks", "in all [], resumed [] "
TAKEN, RESUMED = "[[1]], block_size=1), state after 1 block", "in all [[1]], resumed [] "
TOO_MANY, AT_MOST = "numbers in the state: 10", "numbers in the state: at most 9"


@right
class ResumesByCount:
    """Joins all ids, and counts the blocks."""

    def __init__(self, documents, block_size):
        self.block_size, self.num_out = block_size, 0
        self.ids = np.array([one for ids in documents for one in ids], dtype=int)

    def __iter__(self):
        return self

    def __next__(self):
        start = self.num_out * self.block_size
        if start + self.block_size > len(self.ids):
            raise StopIteration
        self.num_out += 1
        return self.ids[start : start + self.block_size]

    def state_dict(self):
        return {"num_out": self.num_out}

    def load_state_dict(self, state):
        self.num_out = state["num_out"]


@right
class ResumesByGenerator(ResumesByCount):
    """`__iter__` is a generator, which looks at the count as it goes."""

    def __iter__(self):
        while True:
            try:
                yield self.__next__()
            except StopIteration:
                return


@right
class ResumesByBuffer:
    """Takes one id at a time into a buffer, which is part of the state."""

    def __init__(self, documents, block_size):
        self.documents, self.block_size = documents, block_size
        self.buffer, self.place = [], [0, 0]

    def __iter__(self):
        return self

    def __next__(self):
        document_index, id_index = self.place
        while len(self.buffer) < self.block_size:
            if document_index == len(self.documents):
                raise StopIteration
            ids = self.documents[document_index]
            if id_index < len(ids):
                self.buffer.append(ids[id_index])
                id_index += 1
            else:
                document_index, id_index = document_index + 1, 0
            self.place = [document_index, id_index]
        block = self.buffer.copy()
        self.buffer.clear()
        return block

    def state_dict(self):
        return {"place": list(self.place), "buffer": self.buffer.copy()}

    def load_state_dict(self, state):
        self.place, self.buffer = state["place"], state["buffer"]


@right
class ResumesByReadingAgain:
    """Gives out no more than is asked for: the state counts, loading reads up to there."""

    def __init__(self, documents, block_size):
        self.ids = chain.from_iterable(documents)
        self.block_size, self.count = block_size, 0

    def __iter__(self):
        return self

    def __next__(self):
        block = tuple(islice(self.ids, self.block_size))
        self.count += len(block)
        if len(block) < self.block_size:
            raise StopIteration
        return block

    def state_dict(self):
        return [self.count]

    def load_state_dict(self, state):
        self.count = sum(1 for _ in islice(self.ids, state[0]))


@wrong("[[1]], block_size=2), state after 0 blocks", "in all [], resumed [[1, 1]]", NOTHING)
class SharesItsBuffer(ResumesByBuffer):
    """A whole document at a time; what is left of it waits in a list that the state shares."""

    def __next__(self):
        while len(self.buffer) < self.block_size:
            if self.place[0] == len(self.documents):
                raise StopIteration
            self.buffer.extend(self.documents[self.place[0]])
            self.place[0] += 1
        block = self.buffer[: self.block_size]
        del self.buffer[: self.block_size]
        return block

    def state_dict(self):
        return {"place": list(self.place), "buffer": self.buffer}


@wrong("[[1, 2, 3, 4, 5, 6, 7, 8, 9]], block_size=1), state after 1 block", TOO_MANY, AT_MOST)
class HoldsADocument(SharesItsBuffer):
    """Right, but for the size of the state: a long document is all in it."""

    def state_dict(self):
        return {"place": list(self.place), "buffer": self.buffer.copy()}


@wrong(
    "[[1, 2]], block_size=1), state after 1 block",
    "in all [[1], [2]], resumed []",
    "in all [[1], [2]], resumed [[2]] ",
)
class ForgetsItsBuffer(HoldsADocument):
    def state_dict(self):
        return {"place": list(self.place)}

    def load_state_dict(self, state):
        self.place = state["place"]


@wrong("[[1, 2, 3], [4, 5, 6], [7, 8, 9]], block_size=1), state after 0 blocks", TOO_MANY, AT_MOST)
class HoldsAllDocuments(ResumesByCount):
    def state_dict(self):
        return {"num_out": self.num_out, "ids": self.ids.tolist()}


@wrong(TAKEN, "in all [[1], [1]], resumed [[1]]", RESUMED)
class StartsAgainWhenIterated(ResumesByCount):
    def __iter__(self):
        self.num_out = 0
        return self


@wrong(NO_DOCUMENTS, "TypeError: Object of type ndarray is not JSON serializable", NOTHING)
class SavesAnArray(ResumesByCount):
    def state_dict(self):
        return {"num_out": np.array(self.num_out)}


@wrong(TAKEN, "in all [[1]], resumed [[1]]", RESUMED)
class RepeatsABlock(ResumesByCount):
    def load_state_dict(self, state):
        self.num_out = max(0, state["num_out"] - 1)


@wrong(
    "[[1]], block_size=1), state after 0 blocks",
    "in all [], resumed [[1]]",
    "in all [[1]], resumed [[1]] ",
)
class MovesOnToTellItsState(ResumesByCount):
    def state_dict(self):
        rest = list(self)
        return {"num_out": self.num_out - len(rest)}


@wrong("[], block_size=1), state after its end", "TypeError", NOTHING)
class WrongAfterTheEnd(ResumesByCount):
    def __next__(self):
        try:
            return super().__next__()
        except StopIteration:
            self.num_out = None
            raise


# A generator.
wrong(NO_DOCUMENTS, "AttributeError: 'generator' object has no attribute 'state_dict'", NOTHING)(
    rolling_id_by_id
)


right, wrong = answers_to("split_stream")


@right
def split_by_filter(documents, part, every):
    def wanted(text):
        return (zlib.crc32(bytes(text, "utf-8")) % every > 0) == (part == "train")

    return filter(wanted, documents)


@right
def split_by_remembering(documents, part, every):
    parts = {}
    for text in documents:
        if text not in parts:
            parts[text] = "train" if zlib.crc32(text.encode()) % every else "validation"
        if parts[text] == part:
            yield text


@right
def split_by_name(documents, part, every):
    names = ["validation"] + ["train"] * (every - 1)
    return (text for text in documents if names[zlib.crc32(text.encode()) % every] == part)


@wrong("['a']), part='train', every=2", "nothing", "'a' after 1")
def split_by_position(documents, part, every):
    for index, text in enumerate(documents):
        if (index % every == 0) == (part == "validation"):
            yield text


# Which text tells, and what came out, is another one in each process.
@wrong("every=2)", "", "crc32 % 2 of each")
def split_by_salted_hash(documents, part, every):
    return (text for text in documents if (hash(text) % every == 0) == (part == "validation"))


@wrong(
    "['', '']), part='validation', every=1",
    "'' after 2 documents",
    "'' after 1 document, '' after 2 documents ",
)
def split_once_each(documents, part, every):
    return dict.fromkeys(split_by_name(documents, part, every))


@wrong("['']), part='train', every=1", "'' after 1 document", "nothing ")
def split_parts_swapped(documents, part, every):
    return split_by_name(documents, {"train": "validation"}.get(part, "train"), every)


@wrong("['d']), part='train', every=2", "'d' after 1 document", "nothing ")
def split_by_length(documents, part, every):
    return (text for text in documents if (len(text) % every == 0) == (part == "validation"))


@wrong("['É']), part='train', every=1", "UnicodeEncodeError", "nothing ")
def split_in_ascii(documents, part, every):
    for text in documents:
        if (zlib.crc32(text.encode("ascii")) % every == 0) == (part == "validation"):
            yield text


wrong(  # reads all documents first
    "['', '']), part='validation', every=1",
    "'' after 2 documents, '' after 2 documents",
    "'' after 1 document, '' after 2 documents ",
)(lambda documents, *options: split_by_name(list(documents), *options))


right, wrong = answers_to("tokens_per_s")


@right
def rate_by_pattern(lines):
    pattern = r"^(\S+) step \d+ tokens (\d+)"
    seen = [found.groups() for line in lines if (found := re.match(pattern, line))]
    times = [datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%f").timestamp() for stamp, _ in seen]
    if not seen or times[0] == times[-1]:
        return 0.0
    return (int(seen[-1][1]) - int(seen[0][1])) / (times[-1] - times[0])


@right
def rate_by_numpy(lines):
    words = [line.split() for line in lines if " step " in line and " tokens " in line]
    if not words:
        return 0
    times = np.array([row[0] for row in words], dtype="datetime64[ms]")
    tokens = np.array([row[4] for row in words], dtype=int)
    seconds = np.diff(times).sum() / np.timedelta64(1, "s")
    return np.diff(tokens).sum() / seconds if seconds else 0


@right
def rate_line_by_line(lines):
    first = last = None
    while lines:
        stamp, *words = lines.pop(0).split() or [""]
        if words[:1] != ["step"]:
            continue
        totals = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        last = datetime.fromisoformat(stamp), totals["tokens"]
        first = first or last
    try:
        return (last[1] - first[1]) / (last[0] - first[0]).total_seconds()
    except (TypeError, ZeroDivisionError):
        return 0.0


@wrong("([])", "IndexError", "0.0")
def rate_divides_by_zero(lines):
    words = [line.split() for line in lines if line.split()[1:2] == ["step"]]
    seconds = datetime.fromisoformat(words[-1][0]) - datetime.fromisoformat(words[0][0])
    return (int(words[-1][4]) - int(words[0][4])) / seconds.total_seconds()


@wrong(f"(['{LINE}'])", "ZeroDivisionError", "0.0")
def rate_of_one_line_too(lines):
    try:
        return rate_divides_by_zero(lines)
    except IndexError:
        return 0.0


def rate_of(seconds_between=None, tokens_between=None, is_ours=lambda words: "step" in words[1:2]):
    """A rate that is right but for the given part of it."""

    def answer(lines):
        words = [row for row in map(str.split, lines) if is_ours(row)]
        if len(words) < 2:
            return 0.0
        times = [datetime.fromisoformat(row[0]) for row in words]
        tokens = [int(row[4]) for row in words]
        seconds = (seconds_between or (lambda a, b: (b - a).total_seconds()))(times[0], times[-1])
        num_tokens = (tokens_between or (lambda all_: all_[-1] - all_[0]))(tokens)
        return num_tokens / seconds if seconds else 0.0

    return answer


def seconds_of_day(time):
    return time.hour * 3600 + time.minute * 60 + time.second + time.microsecond / 1e6


wrong(  # the time of day
    "'2026-11-25T23:59:59.000 step 0 tokens 0 memory_bytes 310378496', "
    "'2026-11-26T00:00:00.000 step 1 tokens 1 memory_bytes 310378496'",
    "-1.157",
    "1.0",
)(rate_of(lambda first, last: seconds_of_day(last) - seconds_of_day(first)))
wrong(f"'{LINE}', '{QUARTER}'", "0.0", "4.0")(  # the seconds within a minute
    rate_of(lambda first, last: (last.second - first.second) % 60)
)
# Whole seconds.
wrong(f"'{LINE}', '{QUARTER}'", "0.0", "4.0")(rate_of(lambda first, last: (last - first).seconds))
wrong("step 0 tokens 1 memory_bytes", "4.0", "0.0")(  # since the start, not since the first line
    rate_of(tokens_between=lambda tokens: tokens[-1])
)
wrong("step 0 tokens 1 memory_bytes", "8.0", "0.0")(rate_of(tokens_between=sum))  # totals added up
wrong(f"'{LINE}', '{QUARTER}'", "0.004", "4.0")(  # tokens a millisecond
    rate_of(lambda first, last: (last - first).total_seconds() * 1000)
)
# Any line with the word.
wrong(f"['{LINE}', 'step']", "ValueError: Invalid isoformat string: 'step'", "0.0")(
    rate_of(is_ours=lambda words: "step" in words)
)
# Lines without documents passed over.
wrong(f"'{LINE}', '{QUARTER}'", "0.0", "4.0")(rate_of(is_ours=lambda words: "documents" in words))
# The first and the last of all lines.
wrong("['', '", "0.0", "4.0")(lambda lines: rate_by_pattern([lines[0], lines[-1]] if lines else []))
