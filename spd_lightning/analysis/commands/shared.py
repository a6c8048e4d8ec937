"""What several subcommands need: data on a device, tables of text, pictures in files."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import written_whole
from spd_lightning.model import ComponentModel


def add_loading(parser: argparse.ArgumentParser, device: str | None = None) -> None:
    """Add what says how a run is loaded.

    Args:
        parser: of a subcommand.
        device: what ``--device`` is for; ``None`` where nothing runs the network.
    """
    if device is not None:
        parser.add_argument("--device", default="cpu", help=f"{device}, such as cuda (%(default)s)")
    parser.add_argument(
        "--import_classes", action="store_true", help="import modules that the run names: only if you trust it"
    )


def on_device(model: ComponentModel, batches: Iterable[Any], device: str) -> Iterable[Any]:
    """Move a model, and batches as they come.

    Args:
        model: moved in place.
        batches: what it will be called with.
        device: where to.

    Returns:
        The batches there; they can be gone through as often as before.

    Raises:
        UsageError: if the device cannot be used.
    """
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {device!r} cannot be used ({reason}); name another, such as cpu") from None
    return _Moved(batches, device)


class _Moved:
    """Batches on a device."""

    def __init__(self, batches: Iterable[Any], device: str) -> None:
        self._batches, self._device = batches, device

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            yield tree_map(lambda leaf: leaf.to(self._device) if isinstance(leaf, Tensor) else leaf, batch)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def write_picture(path: Path, figure: Any) -> None:
    """Write a figure of :mod:`spd_lightning.figures` as PNG, with what it says in words."""
    with written_whole(path) as aside:
        figure.savefig(aside, format="png", metadata={"Description": figure.get_label()})
