"""Which files a path stands for, by split: what is left out of a folder is said in one line."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

FORMATS = (".txt", ".jsonl", ".parquet", ".json", ".csv", ".tokens")
PACKINGS = (".gz", ".zst")
# The words for a split in the name of a file or folder, as `datasets` has them.
SPLIT_WORDS = {
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
MOST_NAMED = 5  # of what was left out


def format_of(path: str | Path) -> tuple[str, str]:
    """A file's format and packing, by its name; that of what it links to where it has none.

    >>> format_of("train.JSONL.gz")
    ('.jsonl', '.gz')
    """
    own = Path(path)
    if own.suffix.lower() not in (*FORMATS, *PACKINGS) and own.is_symlink():
        own = Path(os.path.realpath(own))
    *_, inner, last = ["", "", *(suffix.lower() for suffix in own.suffixes)]
    return (inner, last) if last in PACKINGS else (last, "")


def is_data(path: str | Path) -> bool:
    """Whether its name is that of a file that can be read."""
    kind, packing = format_of(path)
    return kind in FORMATS and not (packing and kind == ".parquet")


def find_files(paths: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """The files behind `paths` by split, absolute, under the names that they were given.

    A folder stands for all the data files below it, sorted. One folder alone has splits, where
    names in it say so: train.txt and test.txt, or train/a.txt, as `datasets` reads them. Else all
    are "train". The same file is read once.

    Raises FileNotFoundError for a path that is not there or a folder without such files, ValueError
    for other or mixed formats.
    """
    left_out: list[str] = []
    found: list[tuple[Path, str]] = []  # with its name in the folder
    for path in paths:
        if path.is_dir():
            inside = sorted(_below(path, left_out))
            if not inside:
                raise FileNotFoundError(
                    f"the folder {path} holds no {', '.join(FORMATS)} file{_listed(left_out)}"
                )
            found += [(file, file.relative_to(path).as_posix()) for file in inside]
        elif not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        elif not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} is no regular file, and cannot be read twice")
        else:
            found.append((path, path.name))
    kept = _once(found, left_out)
    is_folder = len(paths) == 1 and paths[0].is_dir()
    splits = split_files(kept) if is_folder else {"train": [file for file, _ in kept]}
    if is_folder:
        in_splits = {file for files in splits.values() for file in files}
        left_out += [f"{file} (of no split)" for file, _ in kept if file not in in_splits]
    for split, files in splits.items():
        splits[split] = _of_one_format(files, left_out if is_folder else None)
    if left_out:
        print(f"llmpipe: {_listed(left_out).removeprefix('; ')}", file=sys.stderr)
    return {split: tuple(Path(os.path.abspath(f)) for f in own) for split, own in splits.items()}


def split_files(files: Sequence[tuple[Path, str]]) -> dict[str, list[Path]]:
    """The files of a folder by split, each with its name in it; all are "train" if none says more.

    >>> names = ["dev.txt", "train-1.txt", "train-2.txt"]
    >>> found = split_files([(Path("folder", name), name) for name in names])
    >>> {split: [file.name for file in files] for split, files in found.items()}
    {'train': ['train-1.txt', 'train-2.txt'], 'validation': ['dev.txt']}
    """
    shards: dict[str, list[Path]] = {}
    for file, name in files:
        if match := SHARD.fullmatch(name):
            shards.setdefault(match[1], []).append(file)
    if shards:
        return {split: shards[split] for split in sorted(shards, key=_split_order)}
    for in_folders in (True, False):
        found: dict[str, list[Path]] = {}
        for split, words in SPLIT_WORDS.items():
            word = re.compile(rf"(?:.*[-._ 0-9])?(?:{words})(?:[-._ 0-9].*)?")
            for file, name in files:
                *folders, own = name.split("/")
                if any(map(word.fullmatch, folders if in_folders else [own])):
                    found.setdefault(split, []).append(file)
        if found:
            return found
    return {"train": [file for file, _ in files]}


def _split_order(split: str) -> tuple[int, str]:
    order = list(SPLIT_WORDS)
    return (order.index(split) if split in order else len(order)), split


def _below(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """The data files below a folder; links to folders elsewhere are followed, once each."""
    waiting, seen = [folder], {os.path.realpath(folder)}
    while waiting:
        top = waiting.pop(0)
        for parent, folders, names in os.walk(top, onerror=_raise):
            for name in list(folders):
                path = Path(parent, name)
                if name.startswith("."):
                    folders.remove(name)
                    if any(map(is_data, chain.from_iterable(names for *_, names in os.walk(path)))):
                        left_out.append(f"{path} (hidden)")
                elif path.is_symlink():
                    waiting.append(path)  # after all that is really here
                elif os.path.realpath(path) in seen:
                    folders.remove(name)  # a link led here before
                else:
                    seen.add(os.path.realpath(path))
            for path in (Path(parent, name) for name in names):
                if not is_data(path):
                    continue
                if path.name.startswith("."):
                    left_out.append(f"{path} (hidden)")
                elif not path.exists():
                    raise FileNotFoundError(f"{path} is a link to {os.readlink(path)}: not there")
                elif not stat.S_ISREG(path.stat().st_mode):
                    left_out.append(f"{path} (no regular file)")
                else:
                    yield path
        while waiting:
            real = os.path.realpath(waiting[0])
            if real not in seen and not os.path.realpath(folder).startswith(real + os.sep):
                seen.add(real)
                break
            left_out.append(f"{waiting.pop(0)} (a link back)")


def _raise(error: OSError) -> None:
    raise error


def _once(found: list[tuple[Path, str]], left_out: list[str]) -> list[tuple[Path, str]]:
    """Each file once, and by its own name where it is there under that and by a link."""
    chosen: dict[str, int] = {}
    for index in sorted(range(len(found)), key=lambda index: found[index][0].is_symlink()):
        file = found[index][0]
        if chosen.setdefault(os.path.realpath(file), index) != index:
            left_out.append(f"{file} (the same file again)")
    return [found[index] for index in sorted(chosen.values())]


def _of_one_format(files: list[Path], left_out: list[str] | None) -> list[Path]:
    """The files, without those .json that tell of the others (of a folder: where it is not None).

    Raises ValueError where they are of other or mixed formats."""
    formats = {format_of(file)[0] for file in files}
    if left_out is not None and len(formats - {".json"}) == 1 and len(formats) == 2:
        left_out += [f"{f} (another format)" for f in files if format_of(f)[0] == ".json"]
        files = [file for file in files if format_of(file)[0] != ".json"]
    elif len(formats) != 1 or not all(map(is_data, files)):
        raise ValueError(
            f"a source is files of one format out of {', '.join(FORMATS)}, text also as "
            f"{' or '.join(PACKINGS)}; got {sorted({f.name for f in files})[:MOST_NAMED]}"
        )
    return files


def _listed(left_out: list[str]) -> str:
    if not left_out:
        return ""
    more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
    return f"; left out: {', '.join(left_out[:MOST_NAMED])}{more}"
