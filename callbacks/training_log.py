"""The only writer of scalars during training."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from spd_lightning.callbacks.publishing import forget_events
from spd_lightning.errors import check_whole
from spd_lightning.methods import Decomposition


class TrainingLog(Callback):
    """Writes every loss term, their weighted sum and the learning rate every n steps, in one call to each logger.

    ``self.log`` inside the step would cost more than half a millisecond per key and step, logged or not.

    Args:
        every_n_steps: number of optimiser steps between two points; the first step is written too.

    Raises:
        UsageError: if ``every_n_steps`` is below 1.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        check_whole("TrainingLog: every_n_steps", every_n_steps, least=1)
        self.every_n_steps = every_n_steps
        self._written = 0
        self._lr = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Hide from TensorBoard what a run in the same directory wrote that never came to a checkpoint."""
        if trainer.ckpt_path is None:
            self._forget(trainer, 0)

    def on_train_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Know what a continued run has written already, and hide from TensorBoard what it will write again."""
        self._written = trainer.global_step
        if trainer.ckpt_path is not None:
            self._forget(trainer, trainer.global_step + 1)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Decomposition, optimizer: Optimizer) -> None:  # type: ignore[override]
        """Keep the rate that the update uses; when the batch ends the scheduler has moved on."""
        self._lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Decomposition, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the terms if a point is due."""
        step = trainer.global_step
        if step == self._written or (step != 1 and step % self.every_n_steps):
            return
        self._written = step
        names = ["train/loss", *(f"train/{name}" for name in outputs["terms"])]
        values = torch.stack([outputs["loss"], *outputs["terms"].values()]).tolist()  # one transfer, not one per term
        scalars = dict(zip(names, values, strict=True))
        scalars["train/lr"] = self._lr
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=step)

    @staticmethod
    def _forget(trainer: Trainer, step: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                forget_events(logger, step)
