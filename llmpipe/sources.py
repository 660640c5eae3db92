"""Which source a name means: hub, mirror, sample or files; says which, and never swaps silently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmpipe.files import BUILDERS, data_files
from llmpipe.origins import locate
from llmpipe.source_kinds import (
    Corpus,
    CorpusSource,
    FilesSource,
    PythonDocs,
    RepositorySource,
    SampleSource,
    Source,
)

_WIKITEXT_2 = {"train": 36_718, "validation": 3_760, "test": 4_358}
_WIKITEXT_103 = {"train": 1_801_350, "validation": 3_760, "test": 4_358}
_IMDB = {"train": 25_000, "test": 25_000}
CORPORA = {
    "wikitext-2": Corpus("Salesforce/wikitext", "wikitext-2-raw-v1", "articles", _WIKITEXT_2),
    "wikitext-2-v1": Corpus("Salesforce/wikitext", "wikitext-2-v1", "articles", _WIKITEXT_2),
    "wikitext-103": Corpus("Salesforce/wikitext", "wikitext-103-raw-v1", "articles", _WIKITEXT_103),
    "imdb": Corpus("stanfordnlp/imdb", "plain_text", "reviews", _IMDB),
}


def open_source(name: str | Path | Sequence[str | Path], config: str | None = None) -> Source:
    """Find documents: nothing is read yet.

    `name` is `wikitext-2`, `wikitext-2-v1`, `wikitext-103`, `imdb`; an `owner/name` of the hub,
    with its `config` if it has several; `python-docs`, the manual inside every Python; or the path
    of a `.txt` (a line is a document), `.jsonl` or `.parquet` file, several, or a folder of them.

    >>> open_source("python-docs").load("train").column_names
    ['text']

    Raises ValueError or FileNotFoundError naming what is unknown or missing and what there is.
    """
    if not isinstance(name, (str, Path, Sequence)) or not name:
        raise TypeError(f"name a source, a path or a list of paths, got {name!r}")
    if isinstance(name, str) and name in CORPORA:
        corpus = CORPORA[name]
        if config not in (None, corpus.config):
            raise ValueError(
                f"{name} is config {corpus.config!r} of {corpus.repo_id}, not {config!r}"
            )
        # The train split tells where the corpus is; a mirror need not hold the others.
        place = locate(corpus.repo_id, "dataset", [corpus.pattern("train")])
        if place.built_in:
            return SampleSource(name, "sample", corpus)
        return CorpusSource(name, place.origin, corpus, place)
    if name == "python-docs":
        return PythonDocs("python-docs", "python-docs")
    if (
        not isinstance(name, (str, Path))
        or Path(name).suffix.lower() in BUILDERS
        or Path(name).exists()
    ):
        paths = [name] if isinstance(name, (str, Path)) else list(name)
        return FilesSource(str(name), "files", data_files([Path(path) for path in paths]))
    if "/" not in str(name):
        raise ValueError(
            f"unknown source {name!r}; known are {', '.join(CORPORA)} and python-docs, any "
            f"owner/name of the hub, and paths of {', '.join(BUILDERS)} files"
        )
    place = locate(str(name), "dataset", [])
    return RepositorySource(name, place.origin, name, config, place)
