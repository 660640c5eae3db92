"""A file of text to its rows, each with the number of its line: .txt, .jsonl, .json and .csv."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmpipe.columns import WINDOW_ROWS
from llmpipe.sources.files import format_of

TEXT = (".txt", ".tokens")  # whose rows are lines
# Where lines end: as Python reads text; as the csv module wants it; else by a line feed.
NEWLINES = {".txt": None, ".tokens": None, ".csv": ""}
MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PAR1": ".parquet"}
NOT_UTF8 = (
    "{}: this is no text in utf-8; name its encoding, for example "
    'open_source(..., encoding="latin-1") or "utf-16"'
)
NUMBERS = [int, float, str]  # what a column of a .csv may hold, each more than the one before
SPACE = re.compile(r"\s*")
Rows = tuple[Sequence[int], list]  # numbers of lines, from 1, and what stands there


class TextReader:
    """Reads files of text in an `encoding`, by default UTF-8, with lines of up to `limit` letters.

    Of UTF-8 what is broken comes as lone surrogates: who makes text of it finds the row.
    """

    def __init__(self, encoding: str | None, limit: int) -> None:
        self.encoding, self.limit = encoding, limit
        self._numbers: dict[str, type] = {}

    def windows(self, file: Path, skip: int = 0) -> Iterator[Rows]:
        """The rows from `skip` on, 1,000 at a time: strings of lines, else a dict each.

        Raises ValueError naming file and line.
        """
        kind = format_of(file)[0]
        with _named(file), self._opened(file) as stream:
            blocks = self._blocks(stream)
            if kind in TEXT:
                for numbers, lines in _regrouped(blocks, skip):
                    yield numbers, [line.removesuffix("\n") for line in lines]
                return
            if kind == ".csv":
                lines = chain.from_iterable(lines for _, lines in blocks)
                yield from _windows_of(self._csv_rows(lines), skip)
                return
            blocks = map(_without_blank, blocks)
            if kind == ".json":
                first = next((block for block in blocks if block[1]), ((), []))
                blocks = chain([first], blocks)
                if first[1] and not _is_object(first[1][0]):
                    numbered = chain.from_iterable(zip(*block, strict=True) for block in blocks)
                    yield from _windows_of(_objects(*zip(*numbered, strict=True)), skip)
                    return
            for numbers, lines in _regrouped(blocks, skip):
                yield numbers, _parsed(numbers, lines)

    def find_numbers(self, files: Sequence[Path]) -> None:
        """Find in which columns of .csv every value is a number: the format does not say it."""
        found: dict[str, type] = {}
        for file in files if format_of(files[0])[0] == ".csv" else ():
            for _, rows in self.windows(file):
                for name, value in chain.from_iterable(map(dict.items, rows)):
                    if value and found.get(name) is not str:
                        kinds = (found.get(name, int), _number_in(value))
                        found[name] = max(kinds, key=NUMBERS.index)
        self._numbers = {name: kind for name, kind in found.items() if kind is not str}

    def _opened(self, file: Path) -> io.TextIOWrapper:
        kind, packing = format_of(file)
        with open(file, "rb") as stream:
            head = stream.read(4)
        found = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")
        if found != packing:
            raise ValueError(
                f"by its name it is {packing or 'plain text'}, by its content "
                f"{found or 'not'}; give it the name that it should have"
            )
        is_utf8 = self.encoding is None or self.encoding.lower().replace("_", "-") == "utf-8"
        return io.TextIOWrapper(
            {".gz": gzip.open, ".zst": _zst}.get(packing, partial(open, mode="rb"))(file),
            "utf-8" if is_utf8 else self.encoding,
            errors="surrogateescape" if is_utf8 else "strict",
            newline=NEWLINES.get(kind, "\n"),
        )

    def _blocks(self, stream: io.TextIOWrapper) -> Iterator[Rows]:
        """Lines, about 1,000 at a time, none of them longer than the limit."""
        first, readline = 1, partial(stream.readline, self.limit + 1)
        while True:
            lines: list[str] = []
            try:
                for line in islice(iter(readline, ""), WINDOW_ROWS):
                    lines.append(line)
                    if len(line) > self.limit:
                        raise ValueError(
                            f"line {first + len(lines) - 1} is longer than {self.limit:,} letters, "
                            "the limit of a document; open_source(..., max_document_bytes=...) "
                            "lifts it"
                        )
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"line {first + len(lines)} or one soon after it is no text in "
                    f"{self.encoding} ({error.reason}): name the encoding that it has"
                ) from None
            if not lines:
                return
            if first == 1:
                lines[0] = lines[0].removeprefix("\ufeff")  # a byte-order mark is no text
            if self.encoding is None and "\0" in "".join(lines):
                wrong = next(number for number, line in enumerate(lines, first) if "\0" in line)
                raise ValueError(f"line {wrong} {NOT_UTF8.format('holds NUL bytes')}")
            yield range(first, first + len(lines)), lines
            first += len(lines)

    def _csv_rows(self, lines: Iterable[str]) -> Iterator[tuple[int, dict]]:
        # The csv module has one limit for the whole process, of 131,072 letters.
        csv.field_size_limit(max(csv.field_size_limit(), min(self.limit, 2**31 - 1)))
        reader = csv.reader(lines, strict=True)
        try:
            names = next(reader, [])
            if len(set(names)) < len(names):
                raise ValueError(f"line 1 names a column twice: {names}")
            for row in filter(None, reader):
                if len(row) != len(names):
                    number = reader.line_num
                    raise ValueError(f"line {number}: {len(row)} values for the columns {names}")
                yield reader.line_num, dict(zip(names, map(self._value, names, row), strict=True))
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num} is no CSV: {error}") from None

    def _value(self, name: str, value: str) -> Any:
        kind = self._numbers.get(name, str)
        return value if kind is str else (kind(value) if value else None)


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of what is done within name the file."""
    try:
        yield
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    except MemoryError as error:
        raise MemoryError(f"{file} does not fit into the memory: {error}") from error
    except OSError as error:
        if error.errno is None:  # Arrow's own, of .zst
            raise ValueError(f"{file} cannot be read: {error}") from error
        raise


def _zst(file: Path) -> io.BufferedReader:
    return io.BufferedReader(pa.input_stream(str(file), compression="zstd"))


def _without_blank(block: Rows) -> Rows:
    numbers, lines = block
    if any(map(str.isspace, lines)):
        filled = [pair for pair in zip(numbers, lines, strict=True) if not pair[1].isspace()]
        return [number for number, _ in filled], [line for _, line in filled]
    return block


def _regrouped(blocks: Iterable[Rows], skip: int) -> Iterator[Rows]:
    """The same without the first `skip`, 1,000 at a time and the rest at the end."""
    numbers: list[int] = []
    lines: list[str] = []
    for more_numbers, more in blocks:
        numbers += more_numbers[skip:]
        lines += more[skip:]
        skip = max(0, skip - len(more))
        while len(lines) >= WINDOW_ROWS:
            yield numbers[:WINDOW_ROWS], lines[:WINDOW_ROWS]
            del numbers[:WINDOW_ROWS], lines[:WINDOW_ROWS]
    if lines:
        yield numbers, lines


def _windows_of(rows: Iterator[tuple[int, dict]], skip: int) -> Iterator[Rows]:
    rows = islice(rows, skip, None)
    while window := list(islice(rows, WINDOW_ROWS)):
        yield [number for number, _ in window], [row for _, row in window]


def _number_in(value: str) -> type:
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        return int if (digits == "0" or digits[0] != "0") and len(digits) < 19 else str
    try:
        float(value)
    except ValueError:
        return str
    return float if set(value) <= set("0123456789.eE+-") else str


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(numbers: Sequence[int], lines: list[str]) -> list[dict]:
    """The objects of these lines, one each."""
    try:
        # All at once, which takes a third of the time: a 0 between two lines cannot stand within an
        # object, and stands where it should only if each of them is one.
        found = json.loads("[" + ",0,".join(lines) + "]")
        rows = found[::2]
        if len(found) == 2 * len(lines) - 1 and set(map(type, rows)) == {dict}:
            return rows
    except (ValueError, RecursionError):
        pass  # found again below, with its line
    return [_only_object(line, number) for number, line in zip(numbers, lines, strict=True)]


def _only_object(line: str, number: int) -> dict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON: {error}") from None
    return _object(row, number)


def _object(row: Any, number: int) -> dict:
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is no JSON object, but {row!r:.40}")
    return row


def _objects(numbers: Sequence[int], lines: Sequence[str]) -> Iterator[tuple[int, dict]]:
    """The objects of one list, or that stand one after another, however they are cut in lines."""
    text, decode = "".join(lines), json.JSONDecoder().raw_decode
    starts = list(accumulate(map(len, lines), initial=0))[:-1]

    def after_space(place: int) -> int:
        return SPACE.match(text, place).end()

    is_list = text[after_space(0)] == "["
    place, is_first = after_space(after_space(0) + is_list), True
    while place < len(text):
        number = numbers[bisect_right(starts, place) - 1]
        if is_list and text[place] == "]":
            if after_space(place + 1) < len(text):
                raise ValueError(f"line {number} ends the list, and more comes after it")
            return
        if is_list and not is_first:
            if text[place] != ",":
                raise ValueError(f"line {number} is no JSON: a comma is due, not {text[place]!r}")
            place = after_space(place + 1)
            number = numbers[bisect_right(starts, place) - 1]
        try:
            row, stop = decode(text, place)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number} is no JSON: {error}") from None
        yield number, _object(row, number)
        place, is_first = after_space(stop), False
    if is_list:
        raise ValueError(f"line {numbers[-1]} is the last, and the list is not closed")
