"""A progress bar that shows the numbers that matter."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from spd_lightning.errors import check_whole


class DecompositionProgressBar(TQDMProgressBar):
    """Shows each loss term of the latest step.

    Args:
        refresh_rate: number of steps between two updates.
    """

    def __init__(self, refresh_rate: int = 50) -> None:
        check_whole("refresh_rate", refresh_rate, least=0)
        super().__init__(refresh_rate=refresh_rate)
        self._terms: dict[str, Any] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the latest terms, then update as usual."""
        self._terms = outputs["terms"]
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The terms in place of the run's version number."""
        return {name: f"{term.item():.2e}" for name, term in self._terms.items()}
