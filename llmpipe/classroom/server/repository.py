"""A folder laid out as the hub, `owner/name/files`, seen as the hub's repositories.

    mirror/openai-community/gpt2/tokenizer.json
    mirror/Salesforce/wikitext/README.md
    mirror/Salesforce/wikitext/wikitext-2-v1/train-00000-of-00001.parquet

Each file comes with its SHA-256, each repository with a commit id that changes when any file does.
A model and a data set look the same on disk, so they are not told apart.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("llmpipe.serve")

REPO_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class MirrorFile:
    """One file of a repository: its name there, where it lies, and what it was when read."""

    name: str
    location: Path
    stamp: tuple[int, int, int]
    sha256: str

    @property
    def size(self) -> int:
        return self.stamp[2]


@dataclass(frozen=True)
class Repository:
    """What a mirror holds under one `owner/name`: `files` by name, sorted."""

    id: str
    files: dict[str, MirrorFile]

    def digest(self, folder: str = "") -> str:
        """40 hex digits made from the names and contents below `folder`, and nothing else."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, file in self.files.items():
            if not folder or name.startswith(f"{folder}/"):
                digest.update(f"{name}\0{file.sha256}\n".encode())
        return digest.hexdigest()

    @property
    def commit(self) -> str:
        """Stands for git's commit id: the digest of the whole repository."""
        return self.digest()

    def names(self) -> list[str]:
        """Files and the folders they lie in, sorted: `a/b/c.txt` gives `a`, `a/b`, `a/b/c.txt`."""
        parts = [name.split("/") for name in self.files]
        return sorted({"/".join(part[:end]) for part in parts for end in range(1, len(part) + 1)})


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """What tells two versions of a file apart without reading it: inode, time, size in bytes."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def _raise(error: OSError) -> None:
    raise error


class Mirror:
    """One or several mirror folders; of two that hold the same repository, the first is read.

    Only regular files below the folders exist here. Names that begin with a dot are left out
    (half-written files, caches), and so are links out of their folder, each with one warning.

    `Mirror(Path("mirror")).find("openai-community/gpt2").files["vocab.json"].size` -> `798156`

    Raises `FileNotFoundError` and `NotADirectoryError` for a folder that is not one.
    """

    def __init__(self, *folders: str | os.PathLike):
        self.folders = []
        for folder in map(Path, folders):
            if not folder.exists():
                raise FileNotFoundError(f"there is no mirror folder {folder}: check the spelling")
            if not folder.is_dir():
                raise NotADirectoryError(f"{folder} is a file: a mirror is a folder of owner/name/")
            self.folders.append(folder.resolve())
        self._digests: dict[Path, tuple[tuple[int, int, int], str]] = {}
        self._warned: set[Path] = set()
        self._lock = threading.Lock()

    def repo_ids(self) -> list[str]:
        """Every `owner/name` that is here, sorted."""
        paths = (path for folder in self.folders for path in folder.glob("*/*"))
        ids = {f"{path.parent.name}/{path.name}" for path in paths}
        return sorted(repo_id for repo_id in ids if self._folder_with(repo_id))

    def listing(self) -> list[str]:
        """A line for each repository: how many files it has, and their size."""
        found = {repo_id: self.find(repo_id).files.values() for repo_id in self.repo_ids()}
        return [
            f"  {repo_id}: {len(files)} files, {sum(file.size for file in files) / 1e6:.1f} MB"
            for repo_id, files in found.items()
        ]

    def find(self, repo_id: str) -> Repository | None:
        """The repository as it is now, or None. Reads all of a file when it is new or changed."""
        folder = self._folder_with(repo_id)
        if folder is None:
            return None
        files = {file.name: file for file in self._files((folder / repo_id).resolve(), folder)}
        return Repository(repo_id, dict(sorted(files.items())))

    def _folder_with(self, repo_id: str) -> Path | None:
        if REPO_ID.fullmatch(repo_id):
            for folder in self.folders:
                root = folder / repo_id
                if root.is_dir() and root.resolve().is_relative_to(folder):
                    return folder
        return None

    def _files(self, root: Path, folder: Path) -> Iterator[MirrorFile]:
        for parent, folders, names in os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            links = [name for name in folders if Path(parent, name).is_symlink()]
            for path in (Path(parent, name) for name in [*names, *links]):
                if path.name.startswith("."):
                    continue
                # `os.walk` does not descend into links, so only a link to a file can lead out.
                location = path.resolve() if path.is_symlink() else path
                if location.is_relative_to(folder) and location.is_file():
                    name = path.relative_to(root).as_posix()
                    yield MirrorFile(name, location, *self._read(location))
                elif path not in self._warned:
                    self._warned.add(path)
                    logger.warning("%s is not served: no file within %s", path, folder)

    def _read(self, location: Path) -> tuple[tuple[int, int, int], str]:
        known = self._digests.get(location)
        if known is not None and known[0] == stamp_of(location.stat()):
            return known
        # One at a time: a class that asks for the same new file at once must not hash it 32 times.
        with self._lock, location.open("rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            known = self._digests.get(location)
            if known is None or known[0] != stamp:
                digest = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                known = self._digests[location] = stamp, digest.hexdigest()
            return known
