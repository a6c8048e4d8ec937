"""Arrays of safetensors files, read one at a time or in part, without torch; nothing in a file is believed."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file

MAX_HEADER = 16 * 2**20
"""Bytes of a header that are read; a hundred thousand tensors take about a tenth of it."""
_BFLOAT16 = "BF16"
_TYPES = {
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "BOOL": "|b1",
    _BFLOAT16: "<u2",
}
Array = NDArray[Any]
Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """What tells that a file changed: its time in nanoseconds, size and inode; ``None`` if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True)
class _Place:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    is_bfloat: bool


class ArrayFile:
    """The arrays of one safetensors file; only the header is held.

    The file is not mapped into memory: one that is cut while it is read gives an error, not a dead process.

    Args:
        path: the file.
        what: what it should be, for messages.

    Raises:
        UsageError: if the file is missing, damaged, or its header is longer than 16 MiB.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        if not is_file(path):
            raise UsageError(f"{what} {str(path)!r} does not exist")
        try:
            with path.open("rb") as file:
                self._signature = _signature(file)
                header, start = _header(file, self._signature[1])
            self._places = dict(_places(header, start, self._signature[1]))
        except PermissionError:
            raise UsageError(f"{what} {str(path)!r} may not be read") from None
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise self._damaged() from None
        notes = header.get("__metadata__")
        self.notes: Mapping[str, str] = notes if isinstance(notes, dict) else {}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @property
    def names(self) -> list[str]:
        """Names of the arrays, in the order of the header."""
        return list(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array; as many numbers are in the file."""
        return self._place(name).shape

    def nbytes(self, name: str) -> int:
        """Bytes that an array takes in the file."""
        place = self._place(name)
        return math.prod(place.shape) * place.dtype.itemsize

    def read(self, name: str, first: int = 0, count: int | None = None) -> Array:
        """An array, or some of its rows.

        Args:
            name: the array.
            first: the first row.
            count: how many; ``None`` for all that follow.

        Returns:
            The rows; bfloat16 as float32.

        Raises:
            UsageError: if there is no such array, no such row, or the file changed since its header was read.
        """
        place = self._place(name)
        if first == 0 and count is None:
            return self._taken(place, place.begin, place.shape)
        rows, row = place.shape[:1], math.prod(place.shape[1:]) * place.dtype.itemsize
        count = rows[0] - first if rows and count is None else count or 0
        if not rows or not 0 <= first <= first + count <= rows[0]:
            raise UsageError(f"{self.what} {str(self.path)!r} has no rows {first} to {first + count} of {name!r}")
        return self._taken(place, place.begin + first * row, (count, *place.shape[1:]))

    def column(self, name: str, number: int) -> Array:
        """One entry of the last dimension of a matrix, ``[rows]``, without reading the others.

        Raises:
            UsageError: as :meth:`read`.
        """
        place = self._place(name)
        if len(place.shape) != 2 or not 0 <= number < place.shape[1]:
            raise UsageError(f"{self.what} {str(self.path)!r} has no column {number} of {name!r}")
        size = place.dtype.itemsize
        offsets = (place.begin + (row * place.shape[1] + number) * size for row in range(place.shape[0]))
        with self._opened() as file:
            content = b"".join(os.pread(file.fileno(), size, offset) for offset in offsets)
        return self._as_array(content, place, place.shape[:1])

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise UsageError(f"{self.what} {str(self.path)!r} holds no {name!r}")
        return self._places[name]

    def _taken(self, place: _Place, begin: int, shape: tuple[int, ...]) -> Array:
        with self._opened() as file:
            file.seek(begin)
            content = file.read(math.prod(shape) * place.dtype.itemsize)
        return self._as_array(content, place, shape)

    def _opened(self) -> BinaryIO:
        try:
            file = self.path.open("rb")
        except OSError:
            raise UsageError(f"{self.what} {str(self.path)!r} is gone, or may not be read") from None
        if _signature(file) != self._signature:
            file.close()
            raise UsageError(f"{self.what} {str(self.path)!r} changed while it was read; look again")
        return file

    def _as_array(self, content: bytes, place: _Place, shape: tuple[int, ...]) -> Array:
        if len(content) != math.prod(shape) * place.dtype.itemsize:
            raise self._damaged()
        found = np.frombuffer(content, place.dtype).reshape(shape)
        return (found.astype(np.uint32) << 16).view(np.float32) if place.is_bfloat else found

    def _damaged(self) -> UsageError:
        return UsageError(f"{self.what} {str(self.path)!r} is damaged or not a safetensors file")


def _signature(file: BinaryIO) -> Signature:
    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size, found.st_ino


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ValueError("no header")
    header = json.loads(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, 8 + length


def _places(header: Mapping[str, Any], start: int, size: int) -> Iterator[tuple[str, _Place]]:
    """Where each array lies, after what is declared was held against the size of the file."""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        if not all(_is_size(number) for number in (*shape, begin, end)):
            raise ValueError("sizes are whole numbers")
        if entry["dtype"] not in _TYPES:
            continue  # as a name that is not there: nothing of ours has such numbers
        dtype = np.dtype(_TYPES[entry["dtype"]])
        if end - begin != math.prod(shape) * dtype.itemsize or start + end > size or max(shape, default=0) > size:
            raise ValueError("more is declared than is there")
        yield name, _Place(dtype, shape, start + begin, entry["dtype"] == _BFLOAT16)


def _is_size(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
