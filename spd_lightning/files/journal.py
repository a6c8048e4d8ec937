"""Rows of work that takes long, kept one by one: what was stopped goes on where it was."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import WriteError, disk_error, is_file, written_whole


class Journal:
    """A file of rows, a line of JSON each, after a line that says what they are of.

    A line that was cut off by a kill is dropped.

    Args:
        path: the file, which may exist.
        header: what the rows are of.

    Attributes:
        rows: those that were kept before, and those that were added since.

    Raises:
        UsageError: if the file is of something else.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self._header = path, dict(header)
        self.rows: list[dict[str, Any]] = self._kept() if is_file(path) else []
        with written_whole(path) as aside:
            aside.write_text("".join(map(_line, [self._header, *self.rows])), encoding="utf-8")

    def _kept(self) -> list[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"{str(self.path)!r} cannot be read ({error.strerror})") from None
        lines = [_parsed(line) for line in text.split("\n")[:-1]]  # behind the last break is what was cut off
        if not lines or lines[0] != self._header or None in lines:
            raise UsageError(f"{str(self.path)!r} is damaged, or of other options or other weights; move it away")
        return [line for line in lines[1:] if line is not None]

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row, at once.

        Raises:
            WriteError: if the disk refuses.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            number = disk_error(error)
            if number is None:
                raise
            raise WriteError(self.path, number) from None
        self.rows.append(dict(row))

    def close(self) -> None:
        """Remove the file: its rows are elsewhere now."""
        self.path.unlink(missing_ok=True)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"
