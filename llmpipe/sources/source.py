"""Names to sources: a corpus of the labs, a repository of the hub, files, Python's own manual."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmpipe.arguments import check_choice, check_count
from llmpipe.sources.articles import ArticleParts, article_dataset, article_stream
from llmpipe.sources.files import FORMATS, find_files, format_of, is_data
from llmpipe.sources.guards import DOCUMENT_BYTES
from llmpipe.sources.hub import fetch, files_matching, locate
from llmpipe.sources.lines import LineParts
from llmpipe.sources.loading import explained, first_rows, load_parts
from llmpipe.sources.parts import ParquetParts, Parts, SampleParts, StreamParts


@dataclass(frozen=True)
class Corpus:
    """One of the labs' data sets: where the hub has it, and the sample that can stand in for it."""

    repo_id: str
    config: str
    sample: str
    num_rows: dict[str, int]

    def pattern(self, split: str) -> str:
        return f"{self.config}/{split}-*.parquet"


_WIKITEXT_2 = {"train": 36_718, "validation": 3_760, "test": 4_358}
_WIKITEXT_103 = {"train": 1_801_350, "validation": 3_760, "test": 4_358}
_IMDB = {"train": 25_000, "test": 25_000}
CORPORA = {
    "wikitext-2": Corpus("Salesforce/wikitext", "wikitext-2-raw-v1", "articles", _WIKITEXT_2),
    "wikitext-2-v1": Corpus("Salesforce/wikitext", "wikitext-2-v1", "articles", _WIKITEXT_2),
    "wikitext-103": Corpus("Salesforce/wikitext", "wikitext-103-raw-v1", "articles", _WIKITEXT_103),
    "imdb": Corpus("stanfordnlp/imdb", "plain_text", "reviews", _IMDB),
}


def open_source(
    name: str | Path | Sequence[str | Path],
    config: str | None = None,
    *,
    documents: str = "rows",
    encoding: str | None = None,
    max_document_bytes: int = DOCUMENT_BYTES,
) -> Source:
    """Find documents: nothing is read yet.

    `name` is `wikitext-2`, `wikitext-2-v1`, `wikitext-103`, `imdb`; an `owner/name` of the hub,
    with its `config` if it has several; `python-docs`, the manual inside every Python; or the path
    of a `.txt` or `.tokens` (a line is a document), `.jsonl`, `.json`, `.csv` or `.parquet` file,
    several, or a folder of them; of text also as `.gz` or `.zst`. A folder has the splits that
    names in it say; hidden files in it, and files that come twice, are left out, and it says so.

    Text is UTF-8, or in the `encoding` of a Python codec, such as "latin-1" or "utf-16". A document
    of more than `max_document_bytes` (256 MiB) is an error before it fills the memory.

    WikiText's rows are the lines of its articles. `documents="articles"` gives these whole: each
    begins with a heading of level one between blank rows, and is all rows up to the next. What has
    no such headings cannot be loaded so.

    >>> open_source("python-docs").load("train").column_names
    ['text']

    Raises ValueError or FileNotFoundError naming what is unknown or missing and what there is.
    """
    check_choice("documents", documents, ("rows", "articles"))
    check_count("max_document_bytes", max_document_bytes, 1)
    source = replace(_open(name, config), max_document_bytes=max_document_bytes)
    if encoding is not None:
        codecs.lookup(encoding)  # LookupError: unknown encoding
        is_text = isinstance(source, FilesSource) and all(
            format_of(files[0])[0] != ".parquet" for files in source.files.values()
        )
        if not is_text:
            raise ValueError(f"encoding is for files of text; {source} says its own")
        source = replace(source, encoding=encoding)
    return source if documents == "rows" else ArticleSource(source.name, source.origin, source)


def _open(name: str | Path | Sequence[str | Path], config: str | None) -> Source:
    if not isinstance(name, (str, Path, Sequence)) or not name:
        raise TypeError(f"name a source, a path or a list of paths, got {name!r}")
    if isinstance(name, str) and name in CORPORA:
        return _open_corpus(name, config)
    if name == "python-docs":
        return PythonDocs("python-docs", "python-docs")
    is_list = not isinstance(name, (str, Path))
    if is_list or is_data(name) or Path(name).exists():
        files = find_files([Path(path) for path in (name if is_list else [name])])
        return FilesSource(str(name), "files", files)
    if "/" not in str(name):
        raise ValueError(
            f"unknown source {name!r}; known are {', '.join(CORPORA)} and python-docs, any "
            f"owner/name of the hub, and paths of {', '.join(FORMATS)} files"
        )
    place = locate(str(name), "dataset", [])
    if place.built_in:
        corpora = [c for c in CORPORA.values() if c.repo_id == name and config in (None, c.config)]
        if not corpora:
            raise ValueError(f"the sample stands in for no config {config!r} of {name}")
        return SampleSource(str(name), "sample", corpora[0])
    return RepositorySource(name, place.origin, str(place.folder or name), config)


def _open_corpus(name: str, config: str | None) -> Source:
    corpus = CORPORA[name]
    if config not in (None, corpus.config):
        raise ValueError(f"{name} is config {corpus.config!r} of {corpus.repo_id}, not {config!r}")
    # The train split tells where the corpus is; a mirror need not hold the others.
    place = locate(corpus.repo_id, "dataset", [corpus.pattern("train")])
    if place.built_in:
        return SampleSource(name, "sample", corpus)
    if place.folder is None:
        return HubCorpus(name, place.origin, corpus)
    found = {
        split: files_matching(place.folder, corpus.pattern(split)) for split in corpus.num_rows
    }
    held = {split: tuple(files) for split, files in found.items() if files}
    return FilesSource(name, place.origin, held)


@dataclass(frozen=True)
class Source:
    """Documents that can be loaded whole or streamed. Can be pickled, and finds the same again.

    `name` as it was asked for; `origin`: hub, hub cache, mirror, sample, files or python-docs.
    """

    name: str
    origin: str
    max_document_bytes: int = field(default=DOCUMENT_BYTES, repr=False, kw_only=True)

    @property
    def splits(self) -> list[str]:
        return ["train"]

    def load(
        self,
        split: str = "train",
        *,
        streaming: bool = False,
        num_rows: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """A `datasets.Dataset` of one split, or an `IterableDataset` if `streaming`.

        `num_rows` takes that many rows from the beginning: at most what there is, except that the
        sample makes as many as asked. `columns` takes these alone: what is wrong in another one
        does not matter then. Raises ValueError naming the splits there are, or the file, line or
        row, and column that cannot be read.
        """
        self._check(split, num_rows)
        if columns is None:
            return self._load(split, streaming, num_rows)
        return self._load_columns(split, streaming, num_rows, list(columns))

    def parts(self, split: str = "train", num_rows: int | None = None) -> Parts:
        """The same rows as numbered parts, for streams to divide. Raises as `load` does."""
        self._check(split, num_rows)
        return self._parts(split, num_rows)

    def _check(self, split: str, num_rows: int | None) -> None:
        if split not in self.splits:
            raise ValueError(
                f"{self.name} ({self.origin}) has no split {split!r}; it has {self.splits}"
            )
        if num_rows is not None:
            check_count("num_rows", num_rows)

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        raise NotImplementedError

    def _load_columns(
        self, split: str, streaming: bool, num_rows: int | None, columns: list[str]
    ) -> Any:
        return self._load(split, streaming, num_rows).select_columns(columns)

    def _parts(self, split: str, num_rows: int | None) -> Parts:
        return StreamParts(self._load(split, True, num_rows), str(self))

    def __str__(self) -> str:
        return f"{self.name} from {self.origin}"


@dataclass(frozen=True)
class ArticleSource(Source):
    """The whole articles of another source, whose `rows` are their lines; `num_rows` counts them.

    The sample has as many as there are in its rows, and makes no more.
    """

    rows: Source = field(repr=False)

    @property
    def splits(self) -> list[str]:
        return self.rows.splits

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        if streaming:
            return article_stream(self._parts(split, num_rows), split)
        return article_dataset(self.rows.load(split), num_rows, str(self.rows))

    def _parts(self, split: str, num_rows: int | None) -> Parts:
        return ArticleParts(self.rows.parts(split), num_rows, str(self.rows))

    def __str__(self) -> str:
        return f"articles of {self.rows}"


@dataclass(frozen=True)
class SampleSource(Source):
    """The built-in sample, standing in for a corpus."""

    corpus: Corpus = field(repr=False)

    @property
    def splits(self) -> list[str]:
        return list(self.corpus.num_rows)

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        from llmpipe.sample.dataset import sample_dataset

        num_rows = self.corpus.num_rows[split] if num_rows is None else num_rows
        return sample_dataset(self.corpus.sample, split, num_rows, streaming)

    def _parts(self, split: str, num_rows: int | None) -> Parts:
        num_rows = self.corpus.num_rows[split] if num_rows is None else num_rows
        return SampleParts(self.corpus.sample, split, num_rows)


@dataclass(frozen=True)
class PythonDocs(Source):
    """One document a paragraph of `pydoc_data.topics`, the text behind Python's `help`."""

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        from pydoc_data.topics import topics

        from datasets import Dataset

        paragraphs = [p for topic in sorted(topics) for p in topics[topic].split("\n\n")]
        dataset = Dataset.from_dict({"text": paragraphs[:num_rows]}, split=split)
        return dataset.to_iterable_dataset() if streaming else dataset


@dataclass(frozen=True)
class FilesSource(Source):
    """Files on this machine, by split: the user's own, or a corpus in a mirror or the cache."""

    files: dict[str, tuple[Path, ...]] = field(repr=False)
    encoding: str | None = None

    @property
    def splits(self) -> list[str]:
        return list(self.files)

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        return load_parts(self._parts(split, num_rows), split, streaming, None)

    def _load_columns(
        self, split: str, streaming: bool, num_rows: int | None, columns: list[str]
    ) -> Any:
        return load_parts(self._parts(split, num_rows), split, streaming, columns)

    def _parts(self, split: str, num_rows: int | None) -> ParquetParts | LineParts:
        files = self.files[split]
        if format_of(files[0])[0] == ".parquet":
            return ParquetParts(files, num_rows, self.max_document_bytes)
        return LineParts(files, str(self), num_rows, self.encoding, self.max_document_bytes)


class HubSource(Source):
    """What `datasets` finds and reads: `_options` are those of its `load_dataset`."""

    def _options(self, split: str) -> dict[str, Any]:
        raise NotImplementedError

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        from datasets import load_dataset

        options = {**self._options(split), "split": split, "streaming": streaming}
        return first_rows(explained(str(self), load_dataset, **options), num_rows)

    def _parts(self, split: str, num_rows: int | None) -> Parts:
        """Parquet is read without `datasets`, which would wait far longer for a hub that is cut."""
        from datasets import load_dataset_builder

        config = explained(str(self), load_dataset_builder, **self._options(split)).config
        files = (config.data_files or {}).get(split, [])
        is_parquet = files and all(file.endswith(".parquet") for file in files)
        if not is_parquet or getattr(config, "filters", None):
            return super()._parts(split, num_rows)
        files = [f if "://" in f else Path(f) for f in files]
        return ParquetParts(files, num_rows, self.max_document_bytes)


@dataclass(frozen=True)
class HubCorpus(HubSource):
    """One of the labs' corpora on the hub, a few Parquet files a split; whole, by the cache."""

    corpus: Corpus = field(repr=False)

    @property
    def splits(self) -> list[str]:
        return list(self.corpus.num_rows)

    def _options(self, split: str) -> dict[str, Any]:
        files = f"hf://datasets/{self.corpus.repo_id}/{self.corpus.pattern(split)}"
        return {"path": "parquet", "data_files": {split: files}}

    def _load(self, split: str, streaming: bool, num_rows: int | None) -> Any:
        if streaming:
            return super()._load(split, streaming, num_rows)
        pattern = self.corpus.pattern(split)
        folder = fetch(self.corpus.repo_id, "dataset", [pattern])  # which checks the digests
        files = files_matching(folder, pattern)
        return load_parts(
            ParquetParts(files, num_rows, self.max_document_bytes), split, False, None
        )


@dataclass(frozen=True)
class RepositorySource(HubSource):
    """Any other data set of the hub, or a folder laid out as one: what `load_dataset` takes."""

    path: str = field(repr=False)
    config: str | None

    @property
    def splits(self) -> list[str]:
        from datasets import get_dataset_split_names

        return explained(str(self), get_dataset_split_names, self.path, self.config)

    def _options(self, split: str) -> dict[str, Any]:
        return {"path": self.path, "name": self.config}
