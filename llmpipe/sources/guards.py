"""What is looked at before a file is read, and while it is: its size unpacked, and its content.

A footer may promise anything, and a page of a few kilobytes can hold gigabytes: so the heads of the
pages are read first, by which Arrow itself goes. They are in Thrift's compact protocol, as
https://parquet.apache.org/docs describes it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IDENTITY_BYTES = 65_536  # of a file's ends; at that of Parquet stands the index of all pages
DOCUMENT_BYTES = 2**28  # a document of more is refused, unless `max_document_bytes` says otherwise
# How many values of the greatest length a page may take: of more, it is refused unread.
VALUES_OF_A_PAGE = 4
# What a byte can become at most: a column that could not exceed the limit is not looked into.
MOST_PER_BYTE = {"UNCOMPRESSED": 1, "SNAPPY": 22, "LZ4": 256, "GZIP": 1033}
HEAD_BYTES = 4096
STRUCT, BINARY = 12, 8
VALUES = {0: 5, 2: 7, 3: 8}  # kind of page: the field that says how many values it has


def stamp(file: Path) -> tuple[int, ...]:
    """What is another as soon as a file is replaced or written to, whatever its time is set to."""
    stat = os.stat(file)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def check_stamp(file: Path, before: tuple[int, ...]) -> None:
    """Raise OSError if the file was written to since."""
    if stamp(file) != before:
        raise OSError(f"{file} was changed while it was read")


class Watched:
    """Files that must be what they were when this was made, whenever one is read."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._stamps = {file: stamp(file) for file in files}
        self._ends = {file: _ends(file) for file in files}

    @property
    def contents(self) -> list:
        return [[str(file), *own, self._ends[file]] for file, own in self._stamps.items()]

    def __len__(self) -> int:
        return len(self._stamps)

    def size(self, file: Path) -> int:
        return self._stamps[file][1]

    @contextmanager
    def reading(self, file: Path) -> Iterator[Callable[[], None]]:
        """What raises OSError if the file is changed from now on; OSError if it was before."""
        now = stamp(file)
        if now != self._stamps[file] and _ends(file) != self._ends[file]:
            is_shorter = now[1] < self.size(file)
            how = "shorter" if is_shorter else "another"
            raise OSError(f"{file} is {how} than when the stream was made")
        yield lambda: check_stamp(file, now)


def _ends(file: Path) -> str:
    """A digest of a file's size, beginning and end."""
    with open(file, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        found = hashlib.sha256(f"{size} ".encode() + stream.read(IDENTITY_BYTES))
        stream.seek(max(0, size - IDENTITY_BYTES))
        found.update(stream.read(IDENTITY_BYTES))
        return found.hexdigest()


def check_pages(file: Path, group: Any, columns: Sequence[str], limit: int) -> None:
    """Raise ValueError if a page of these columns of a row group is too large to be read.

    That is one of more than `limit` bytes a value, or of more than four times as many in all.
    """
    for index in range(group.num_columns):
        chunk = group.column(index)
        num_packed = chunk.total_compressed_size
        could_be = num_packed * MOST_PER_BYTE.get(chunk.compression, limit)
        if chunk.path_in_schema.split(".")[0] not in columns or could_be <= limit:
            continue
        place = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
        with open(file, "rb") as stream:
            stop = place + num_packed
            while place < stop:
                head = _head(stream, place)
                if head is None:
                    break  # damaged: Arrow says so
                size, num_packed, num_values, length = head
                if size > limit * min(VALUES_OF_A_PAGE, num_values):
                    raise ValueError(
                        f"column {chunk.path_in_schema!r} has {num_values} values of "
                        f"{size:,} bytes together, and the limit of a document is {limit:,}; "
                        "open_source(..., max_document_bytes=...) lifts it"
                    )
                place += length + num_packed


def check_lengths(lengths: Any, first_row: int, column: str, limit: int) -> None:
    """Raise ValueError naming the first row whose length, out of Arrow's, exceeds the limit."""
    import pyarrow.compute as pc

    longest = pc.max(lengths).as_py()
    if longest is not None and longest > limit:
        row = first_row + pc.index(lengths, longest).as_py()
        raise ValueError(
            f"row {row} of column {column!r} has {longest:,} bytes, and the limit of a document is "
            f"{limit:,}; open_source(..., max_document_bytes=...) lifts it"
        )


def _head(stream: Any, place: int) -> tuple[int, int, int, int] | None:
    """Bytes of a page unpacked and packed, its values, and the bytes of its head; None without."""
    size = HEAD_BYTES
    while True:
        stream.seek(place)
        data = stream.read(size)
        try:
            fields, length = _struct(data, 0)
            page = fields.get(VALUES.get(fields[1], 0), {})
            return fields[2], fields[3], page.get(1, 1), length
        except IndexError:  # longer, by the statistics in it
            if len(data) < size:
                return None
            size *= 16
        except (LookupError, AttributeError, RecursionError):
            return None


def _struct(data: bytes, place: int) -> tuple[dict[int, Any], int]:
    fields, number = {}, 0
    while head := data[place]:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(data, place)
        fields[number], place = _value(data, place, head & 15)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, place
    if kind == 3:
        return data[place], place + 1
    if kind in (4, 5, 6):
        return _integer(data, place)
    if kind == BINARY:
        length, place = _varint(data, place)
        data[place + length]  # IndexError unless it is all there
        return None, place + length
    if kind == STRUCT:
        return _struct(data, place)
    raise AttributeError(f"no page's head has a field of kind {kind}")


def _integer(data: bytes, place: int) -> tuple[int, int]:
    number, place = _varint(data, place)
    return (number >> 1) ^ -(number & 1), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
