"""Inputs that a user hands to ``predict``."""

import csv
from pathlib import Path

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import is_plain, read_pickled
from spd_lightning.files.whole import is_file


def read_inputs(path: Path, target: nn.Module) -> Tensor:
    """Read a batch of inputs.

    Args:
        path: ``.csv``, one example per row, with or without a header; or ``.pt``, one tensor ``[..., d]``.
        target: if it states ``n_features``, the width must be that.

    Returns:
        The inputs ``[..., d]``.

    Raises:
        UsageError: if the file is missing, damaged, empty, of another width, or holds anything but finite numbers.
    """
    if path.suffix == ".pt":
        inputs = read_pickled(path, "input")
        if not is_plain(inputs) or inputs.dim() < 2:
            raise UsageError(f"input {str(path)!r} must hold one tensor of at least two dimensions")
        if not inputs.numel():
            raise UsageError(f"input {str(path)!r} holds no rows")
    elif path.suffix == ".csv":
        inputs = _read_table(path)
    else:
        raise UsageError(f"--input must end in .csv or .pt, got {str(path)!r}")
    width = getattr(target, "n_features", inputs.shape[-1])
    if inputs.shape[-1] != width:
        raise UsageError(f"input {str(path)!r} has {inputs.shape[-1]} columns, but the target takes {width}")
    kind = next((p.dtype for p in target.parameters() if p.is_floating_point()), torch.float32)
    numbers: Tensor = inputs.to(kind)
    if not torch.isfinite(numbers).all():
        raise UsageError(f"input {str(path)!r} holds a value that is not finite")
    return numbers


def _read_table(path: Path) -> Tensor:
    if not is_file(path):
        raise UsageError(f"input {str(path)!r} does not exist")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, csv.Error) as error:
        raise UsageError(f"input {str(path)!r} cannot be read as a table ({error})") from None
    if rows and not _is_number(rows[0][0]):
        rows = rows[1:]
    if not rows:
        raise UsageError(f"input {str(path)!r} holds no rows")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise UsageError(
                f"input {str(path)!r}: row {number} must hold {len(rows[0])} numbers, got {','.join(row)[:60]!r}"
            )
    return torch.tensor([[float(cell) for cell in row] for row in rows])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
