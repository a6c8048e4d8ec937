"""The only writer of scalars during training."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from spd_lightning.callbacks.publishing import forget_events, tensorboard
from spd_lightning.errors import check_whole
from spd_lightning.methods import Decomposition


class TrainingLog(Callback):
    """Writes loss terms, their weighted sum, learning rate and gradients every n steps, in one call to each logger.

    Of the gradients it writes the norm of each of the optimiser's groups, before they are clipped. A term whose price
    moves by what happens in training has that beside its value, as ``train/NAME_price``.

    Where the recipe trained the target, its loss over its own updates is there as ``target/loss``.

    The sum is written twice, as ``train/loss`` beside its terms and as ``headline/loss``, among what TensorBoard shows
    first.

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
        self._norms: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Hide from TensorBoard what a run in the same directory wrote that never came to a checkpoint."""
        if trainer.ckpt_path is None:
            self._forget(trainer, 0)
            self._show_target(trainer, pl_module, 0)

    def on_train_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Know what a continued run has written already, and hide from TensorBoard what it will write again."""
        self._written = trainer.global_step
        if trainer.ckpt_path is not None:
            self._forget(trainer, trainer.global_step + 1)
            self._show_target(trainer, pl_module, trainer.global_step + 1)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Decomposition, optimizer: Optimizer) -> None:  # type: ignore[override]
        """Keep what the update uses, as it is not yet clipped: when the batch ends the scheduler has moved on."""
        self._lr = optimizer.param_groups[0]["lr"]
        if self._due(trainer.global_step + 1):
            self._norms = {f"train/gradient_norm/{group['name']}": _norm(group) for group in optimizer.param_groups}

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Decomposition, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the terms if a point is due."""
        step = trainer.global_step
        if step == self._written or not self._due(step):
            return
        self._written = step
        seen = {"train/loss": outputs["loss"]}
        seen |= {f"train/{name}": term for name, term in outputs["terms"].items()}
        seen |= {name: norm.to(outputs["loss"]) for name, norm in self._norms.items()}
        values = torch.stack(list(seen.values())).tolist()  # one transfer, not one per term
        scalars = {"headline/loss": values[0], **dict(zip(seen, values, strict=True)), "train/lr": self._lr}
        scalars |= {
            f"train/{name}_{key}": n for name, loss in pl_module.terms().items() for key, n in loss.numbers().items()
        }
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=step)

    def _due(self, step: int) -> bool:
        return step == 1 or step % self.every_n_steps == 0

    @staticmethod
    def _show_target(trainer: Trainer, module: Decomposition, start: int) -> None:
        """The target's curve in TensorBoard; of a continued run what was hidden of it."""
        logger = tensorboard(trainer)
        if logger is None or not trainer.is_global_zero:
            return
        for update, loss in getattr(module.recipe, "curve", {}).items():
            if update >= start:
                logger.experiment.add_scalar("target/loss", loss, update)

    @staticmethod
    def _forget(trainer: Trainer, step: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                forget_events(logger, step)


def _norm(group: dict[str, Any]) -> Tensor:
    """Length of the gradient of a group's parameters, those of all shards together."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in group["params"] if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
