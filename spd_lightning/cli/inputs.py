"""Inputs that a user hands to ``predict``."""

import csv
from collections.abc import Mapping, Sequence
from os.path import isdir
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from spd_lightning.cli.notices import tell
from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import is_plain, read_pickled
from spd_lightning.files.whole import is_file

FORMATS = "a .csv, .npy or .pt file"
DELIMITERS = ",;\t"
PREDICTED_AT_ONCE = 4096
SHOWN = 60
"""Characters of a row that a message shows."""
LIMIT = 2.0**63
"""From which on a whole number is none of 64 bits."""


class InputRows(Dataset[Any]):
    """Inputs row by row, in the form that a data module would hand them over.

    Args:
        inputs: a tensor ``[rows, ...]``, or tensors by the name that the target's call knows them by.
    """

    def __init__(self, inputs: Tensor | Mapping[str, Tensor]) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values())))

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.inputs, Tensor):
            return self.inputs[index]
        return {name: tensor[index] for name, tensor in self.inputs.items()}


def input_batches(path: Path, target: nn.Module) -> DataLoader[Any]:
    """Inputs in batches, as a data module would hand them over; see :func:`read_inputs`."""
    return DataLoader(InputRows(read_inputs(path, target)), batch_size=PREDICTED_AT_ONCE)


def read_inputs(path: Path, target: nn.Module) -> Tensor | dict[str, Tensor]:
    """Read a batch of inputs; whole numbers stay whole numbers.

    Args:
        path: ``.csv``, one example per row, cells apart by commas, semicolons or tabs, with or without a header;
            ``.npy``, one array ``[rows, ...]``; or ``.pt``, one tensor ``[rows, ...]``, or a mapping of them. One
            vector is one example.
        target: if it states ``n_features``, the width must be that. A table of whole numbers is read as tokens if the
            target holds an embedding.

    Returns:
        The inputs.

    Raises:
        UsageError: if the file is missing, damaged, empty, of another width, or holds anything but finite numbers.
    """
    what = f"input {str(path)!r}"
    if isdir(path):
        raise UsageError(f"{what} is a folder; --input takes {FORMATS}")
    if path.suffix == ".pt":
        inputs = _checked(read_pickled(path, "input"), what)
    elif path.suffix == ".npy":
        inputs = _checked(_read_array(path, what), what)
    elif path.suffix == ".csv":
        inputs = _read_table(path, what, tokens=any(isinstance(module, nn.Embedding) for module in target.modules()))
    else:
        raise UsageError(f"--input takes {FORMATS}, got {str(path)!r}")
    if isinstance(inputs, dict):
        return {name: _numbers(tensor, target, what) for name, tensor in inputs.items()}
    width = getattr(target, "n_features", inputs.shape[-1])
    if inputs.shape[-1] != width:
        raise UsageError(f"{what} has {inputs.shape[-1]} columns, but the target takes {width}")
    return _numbers(inputs, target, what)


def _checked(content: Any, what: str) -> Tensor | dict[str, Tensor]:
    """One tensor, or several of as many rows by name."""
    if isinstance(content, dict) and content and all(isinstance(name, str) for name in content):
        tensors = list(content.values())
        if all(is_plain(tensor) and tensor.dim() for tensor in tensors) and len({len(t) for t in tensors}) == 1:
            _check_rows(len(tensors[0]), what)
            return content
    if not is_plain(content) or not content.dim():
        raise UsageError(
            f"{what} must hold one tensor [rows, ...], one vector for one example, or tensors of as many rows by name"
        )
    _check_rows(content.numel(), what)
    tensor: Tensor = content
    if tensor.dim() == 1:
        tell(f"{what} holds one vector: it is taken for one example of {len(tensor)} numbers")
    return tensor if tensor.dim() > 1 else tensor[None]


def _read_array(path: Path, what: str) -> Tensor:
    """An array of numbers; its header is believed only as far as the file reaches."""
    if not is_file(path):
        raise UsageError(f"{what} does not exist")
    try:
        array = numpy.load(path, mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(numpy.array(array, dtype=array.dtype.newbyteorder("=")))
    except TypeError:
        raise UsageError(f"{what} holds no numbers that a network takes, but {array.dtype}") from None
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError):
        raise UsageError(f"{what} is damaged or no array of numbers") from None


def _check_rows(count: int, what: str) -> None:
    if not count:
        raise UsageError(f"{what} holds no rows")


def _numbers(inputs: Tensor, target: nn.Module, what: str) -> Tensor:
    """Whole numbers as they are, others in the target's type; all must be finite."""
    if not inputs.is_floating_point():
        takes_whole = any(isinstance(module, nn.Embedding) for module in target.modules()) or inputs.dtype == torch.bool
        if takes_whole:
            return inputs
    kind = next((p.dtype for p in target.parameters() if p.is_floating_point()), torch.float32)
    numbers = inputs.to(kind)
    if not torch.isfinite(numbers).all():
        raise UsageError(f"{what} holds a value that is not finite")
    return numbers


def _read_table(path: Path, what: str, tokens: bool) -> Tensor:
    if not is_file(path):
        raise UsageError(f"{what} does not exist")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            lines = file.read().splitlines()
        rows = [row for row in csv.reader(lines, delimiter=_delimiter(lines)) if row]
    except (OSError, csv.Error) as error:
        raise UsageError(f"{what} cannot be read as a table ({error})") from None
    rows = _without_header(rows, what)
    _check_rows(len(rows), what)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise UsageError(
                f"{what}: row {number} must hold {len(rows[0])} numbers, got {','.join(row)[:SHOWN]!r}; numbers have "
                "a decimal point, and cells are apart by commas, semicolons or tabs"
            )
    if tokens and all(cell.strip().lstrip("+-").isdigit() for row in rows for cell in row):
        return _tokens(rows, what)
    return torch.tensor([[float(cell) for cell in row] for row in rows])


def _tokens(rows: Sequence[Sequence[str]], what: str) -> Tensor:
    for number, row in enumerate(rows, start=1):
        large = next((cell for cell in row if abs(float(cell)) >= LIMIT), None)
        if large is not None:
            raise UsageError(
                f"{what}: row {number} must hold whole numbers below 2**63, got {large[:SHOWN]!r}; the target looks "
                "them up in an embedding; correct it"
            )
    return torch.tensor([[int(cell) for cell in row] for row in rows])


def _delimiter(lines: Sequence[str]) -> str:
    """The sign that cells are apart by: the one that the first line with any has most of."""
    first = next((line for line in lines if any(sign in line for sign in DELIMITERS)), "")
    return max(DELIMITERS, key=first.count) if first else ","


def _without_header(rows: list[list[str]], what: str) -> list[list[str]]:
    """The rows that hold numbers; a first one without any number is a header, and is named."""
    if rows and not any(map(_is_number, rows[0])):
        if len(rows) > 1:
            tell(f"{what}: its first line is taken for a header: {','.join(rows[0])[:SHOWN]}")
        rows = rows[1:]
    elif len(rows) > 1 and len(rows[0]) > 1 and list(rows[0]) == [str(column) for column in range(len(rows[0]))]:
        raise UsageError(
            f"{what}: its first line counts the columns from 0, as pandas does for a header; remove it, or write the "
            "table with header=False"
        )
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
