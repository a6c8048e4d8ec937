"""Causal importances of given inputs, as a file."""

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import write_torch, written_whole
from spd_lightning.methods import Decomposition


class PredictionWriter(Callback):
    """Writes what ``predict`` returns: a table (``.csv``) or tensors by site (``.pt``).

    The table has one row per example (and position) and one column ``site:component`` per component.

    Args:
        path: the file to write; its ending chooses the form.

    Raises:
        UsageError: if the ending is neither, or the file exists.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if self.path.suffix not in (".csv", ".pt"):
            raise UsageError(f"--output must end in .csv or .pt, got {path!r}")
        if self.path.exists():
            raise UsageError(f"--output {path!r} exists; choose another name or remove it")
        self._batches: list[dict[str, Tensor]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one batch."""
        self._batches.append({name: tensor.detach().cpu() for name, tensor in outputs.items()})

    def on_predict_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Write the file."""
        if not trainer.is_global_zero:
            return
        sites = {name: torch.cat([batch[name] for batch in self._batches]) for name in self._batches[0]}
        if self.path.suffix == ".csv":
            with written_whole(self.path) as aside:
                _write_table(aside, sites)
        else:
            write_torch(sites, self.path)
        sys.stdout.write(f"{pl_module.predicted} of {', '.join(sites)} are in {self.path}\n")


def _write_table(path: Path, sites: dict[str, Tensor]) -> None:
    leading = next(iter(sites.values())).shape[:-1]
    names = ["example", "position", *(f"axis{axis}" for axis in range(2, len(leading)))][: len(leading)]
    columns = [f"{site}:{index}" for site, tensor in sites.items() for index in range(tensor.shape[-1])]
    rows = torch.cat([tensor.flatten(0, -2) for tensor in sites.values()], dim=-1).tolist()
    places = torch.cartesian_prod(*(torch.arange(size) for size in leading)).reshape(len(rows), -1).tolist()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *columns])
        writer.writerows([*place, *row] for place, row in zip(places, rows, strict=True))
