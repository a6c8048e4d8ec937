"""A corpus: the documents of several sources, and which of them are held out."""

import glob
import hashlib
import os
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spd_lightning.data.documents import JsonLines, Parquet, TextFile, TextSource
from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file

JSON, TABLES = (".jsonl", ".json"), (".parquet",)
READ_IN_FOLDERS = (".txt", ".md", ".py", *JSON, *TABLES)
"""What is read of a folder; a file that is named, or that a pattern matches, is read whatever its ending."""
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
"""Folders beside the standard library's modules: installed packages, and tests, some of which are made to be odd."""


class Corpus(TextSource):
    """The documents of several sources, one source after the other, without those that are empty.

    Args:
        sources: where the documents come from.
    """

    def __init__(self, sources: Sequence[TextSource]) -> None:
        self.sources = list(sources)
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Hash of everything that the documents depend on: contents, not names or times of files. Taken once."""
        if self._fingerprint is None:
            self._fingerprint = "\n".join(source.fingerprint() for source in self.sources)
        return self._fingerprint

    @cached_property
    def digests(self) -> NDArray[np.int64]:
        """Of each document's text, ``[documents]``; the text is read once for them."""
        return np.array([digest(document) for document in self.documents()], dtype=np.int64)

    def documents(self) -> Iterator[str]:
        """The documents, one after the other."""
        for source in self.sources:
            yield from (document for document in source.documents() if document.strip())


def digest(document: str) -> int:
    """A number in [0, 2^63) that depends on nothing but a document's text."""
    hashed = hashlib.blake2b(document.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "little") >> 1


def held_out(digests: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Which documents are kept from training: a share of them, at least one and never all.

    A document's side follows from its text and the fraction; a larger fraction holds out the same ones and more.

    Args:
        digests: one per document.
        fraction: the share.

    Returns:
        True for documents that are held out; equal documents are on one side.
    """
    if not fraction or not len(digests):
        return np.zeros(len(digests), dtype=bool)
    chosen = (digests < fraction * 2.0**63) | (digests == digests.min())
    some: NDArray[np.bool_] = chosen & (digests != digests.max())
    return some


def check_download(dataset: str | None, allow_download: bool) -> None:
    """Refuse the name of a data set that may not be fetched."""
    if dataset is not None and not allow_download:
        raise UsageError(
            f"data: dataset {dataset[:200]!r} is a name on the Hugging Face hub; set allow_download: true to "
            "get it, or give files as sources"
        )


def files_of(sources: Sequence[str], text_field: str, separator: str | None) -> list[TextSource]:
    """The files that names, patterns and folders stand for.

    Args:
        sources: each a file, a pattern as the shell's, ``**`` included, or a folder.
        text_field: the entry or column that is text, in ``.json``, ``.jsonl`` and ``.parquet``.
        separator: what stands between the documents of a plain file.

    Returns:
        The files in the order of the sources, those of one source by name, each once.

    Raises:
        UsageError: if a source stands for no file.
    """
    found = dict.fromkeys(path for source in sources for path in _paths(source))
    return [_source(path, text_field, separator) for path in found]


def standard_library() -> list[TextSource]:
    """The source code of Python's own standard library, without tests; nothing is downloaded."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(folder.rglob("*.py"))
    return [TextFile(path) for path in paths if not NOT_THE_LIBRARY & set(path.relative_to(folder).parts)]


def _paths(source: str) -> list[Path]:
    name = os.path.expanduser(source)
    if os.path.isdir(name):
        found = [path for path in Path(name).rglob("*") if path.suffix.lower() in READ_IN_FOLDERS and is_file(path)]
    else:
        named = [name] if is_file(Path(name)) else glob.glob(name, recursive=True)
        found = [Path(path) for path in named if is_file(Path(path))]
    if not found:
        raise UsageError(
            f"data: sources: {source[:200]!r} matches no file; name files, patterns, or folders with "
            f"{', '.join(READ_IN_FOLDERS)} in them"
        )
    return sorted(found)


def _source(path: Path, text_field: str, separator: str | None) -> TextSource:
    if path.suffix.lower() in JSON:
        return JsonLines(path, text_field)
    return Parquet(path, text_field) if path.suffix.lower() in TABLES else TextFile(path, separator)
