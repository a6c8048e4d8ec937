"""Rows of a harvest, each found by its place in the file: the file may be larger than memory should hold."""

import json
import re
from pathlib import Path
from typing import Any

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import signature
from spd_lightning.runs.analysis_files import row_of

MAX_LINE = 4 * 2**20
"""Bytes of a row."""
MAX_ROWS = 2_000_000
BUFFER = 2**20
"""Bytes that are read at once: rows are long."""
_HEAD = re.compile(rb'\{"call": ("(?:[^"\\]|\\.)*"), "component": (\d{1,9}), ')
"""How rows begin as they are written; others are read as a whole."""


class RowIndex:
    """Where the row of each component begins.

    Args:
        path: the file of rows.

    Raises:
        UsageError: if a line is no row, or is longer than 4 MiB.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._signature = path, signature(path)
        self._places: dict[str, dict[int, int]] = {}
        self._count = at = 0
        names: dict[bytes, str] = {}
        try:
            with path.open("rb", buffering=BUFFER) as file:
                while line := file.readline(MAX_LINE + 1):
                    call, component = _head(line, names)
                    self._places.setdefault(call, {})[component] = at
                    at += len(line)
                    self._count += 1
                    if self._count > MAX_ROWS:
                        raise ValueError("too many rows")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise self._damaged(self._count + 1) from None

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key[1] in self._places.get(key[0], {})

    def row(self, call: str, component: int) -> dict[str, Any]:
        """The row of a component, of the shape :data:`~spd_lightning.runs.analysis_files.ROW_SHAPE`.

        Raises:
            UsageError: if it is damaged, or the file changed meanwhile.
            KeyError: if the component has none.
        """
        at = self._places[call][component]
        try:
            with self._path.open("rb") as file:
                file.seek(at)
                row = row_of(file.readline(MAX_LINE))
        except (OSError, ValueError, RecursionError):
            row = {}
        if (row.get("call"), row.get("component")) != (call, component):
            raise UsageError(f"the row of {call}:{component} in {self._path.name} is damaged, or changed meanwhile")
        return row

    def _damaged(self, line: int) -> UsageError:
        return UsageError(f"{self._path.name} is damaged (line {line}); move it away and harvest anew")


def _head(line: bytes, names: dict[bytes, str]) -> tuple[str, int]:
    """Call and component of a row; calls are read once and kept in ``names``."""
    if len(line) > MAX_LINE or not line.endswith(b"\n"):
        raise ValueError("a line without an end")
    head = _HEAD.match(line)
    if head is None:
        row = row_of(line)
        return row["call"], row["component"]
    if head[1] not in names:
        names[head[1]] = json.loads(head[1])
    return names[head[1]], int(head[2])
