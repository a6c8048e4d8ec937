"""Where documents of text come from: kinds of files, and data sets by name."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from spd_lightning.errors import UsageError, missing_extra


class TextSource(ABC):
    """Documents in an order that never changes."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of everything that the documents depend on."""

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """The documents, one after the other; a :class:`UsageError` for one that cannot be read."""


class TextFile(TextSource):
    """A file of plain text: one document, or several with a separator between them.

    Args:
        path: the file.
        separator: what stands between documents; ``None`` where the file is one.
    """

    def __init__(self, path: Path, separator: str | None = None) -> None:
        self.path, self.separator = path, separator

    def fingerprint(self) -> str:
        """Hash of the content and of how it is read."""
        return _hash_of_file(self.path, f"text {self.separator!r}")

    def documents(self) -> Iterator[str]:
        """The file, or what the separator divides it into."""
        try:
            text = _decoded(self.path.read_bytes(), self.path)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        yield from [text] if self.separator is None else text.split(self.separator)


class JsonLines(TextSource):
    """A file with a JSON object in each line.

    Args:
        path: the file.
        field: the object's entry that is a document.
    """

    def __init__(self, path: Path, field: str) -> None:
        self.path, self.field = path, field

    def fingerprint(self) -> str:
        """Hash of the content and of how it is read."""
        return _hash_of_file(self.path, f"json {self.field!r}")

    def documents(self) -> Iterator[str]:
        """The entry of every line; empty lines are passed over."""
        try:
            with self.path.open("rb") as file:
                begin = 0
                for number, line in enumerate(file, 1):
                    text = _decoded(line, self.path, begin)
                    begin += len(line)
                    if text.strip():
                        yield self._document(text, number)
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def _document(self, text: str, number: int) -> str:
        try:
            document = json.loads(text)[self.field]
        except (ValueError, LookupError, TypeError, RecursionError):
            document = None
        if not isinstance(document, str):
            raise UsageError(
                f"data: sources: line {number} of {str(self.path)!r} is no JSON object with text under "
                f"{self.field!r}; name the entry with text_field"
            )
        return document.encode("utf-8", "replace").decode()  # halves of characters, which JSON can spell


class Parquet(TextSource):
    """A table in a ``.parquet`` file.

    Args:
        path: the file.
        field: the column whose entries are documents.
    """

    def __init__(self, path: Path, field: str) -> None:
        self.path, self.field = path, field

    def fingerprint(self) -> str:
        """Hash of the content and of how it is read."""
        return _hash_of_file(self.path, f"parquet {self.field!r}")

    def documents(self) -> Iterator[str]:
        """The entries of the column; missing ones are passed over."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise missing_extra(f"data: sources: {str(self.path)!r}", "pyarrow", "lm") from None
        try:
            for rows in parquet.ParquetFile(self.path).iter_batches(columns=[self.field]):
                column = rows.column(self.field).to_pylist()
                yield from (document for document in column if isinstance(document, str))
        except (ArrowException, KeyError):
            raise UsageError(
                f"data: sources: {str(self.path)!r} is no table with a column {self.field!r}; name it with text_field"
            ) from None
        except OSError as error:
            raise _unreadable(self.path, error) from None


class NamedDataSet(TextSource):
    """The part ``train`` of a data set of the Hugging Face hub, which ``datasets`` downloads and keeps.

    Args:
        name: of the data set, or name and configuration with a colon between them.
        field: the column whose entries are documents.
        streaming: whether rows are fetched as they are needed and not kept.
    """

    def __init__(self, name: str, field: str, streaming: bool = False) -> None:
        self.name, self.field = name, field
        try:
            from datasets import load_dataset
        except ImportError:
            raise missing_extra(f"data: dataset {name!r}", "datasets", "lm") from None
        path, _, configuration = name.partition(":")
        try:
            self._rows = load_dataset(path, configuration or None, split="train", streaming=streaming)
        except Exception as error:  # a name, a network or a file may fail in any way
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"data: dataset {name!r} cannot be had ({reason}); check the name, or give files"
            ) from None
        columns = self._rows.column_names  # of some streams unknown until a row is there
        if columns is not None and field not in columns:
            raise UsageError(f"data: text_field is {field!r}, but {name!r} has {', '.join(columns)}")

    def fingerprint(self) -> str:
        """The hash that ``datasets`` keeps of a data set's content."""
        return f"{self.name} {self.field!r} {self._rows._fingerprint}"

    def documents(self) -> Iterator[str]:
        """The entries of the column."""
        yield from (text for row in self._rows if isinstance(text := row.get(self.field), str))


def _decoded(content: bytes, path: Path, begin: int = 0) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte {begin + error.start} of {str(path)!r}"
        raise UsageError(f"data: sources: {place} is not UTF-8; convert the file, or leave it out") from None


def _hash_of_file(path: Path, how: str) -> str:
    try:
        with path.open("rb") as file:
            return f"{how} {hashlib.file_digest(file, 'blake2b').hexdigest()[:32]}"
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"data: sources: {str(path)!r} cannot be read ({error.strerror}); make it readable, or leave it out"
    )
