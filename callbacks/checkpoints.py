"""States to go on from, each complete."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from spd_lightning.errors import check_text, check_whole
from spd_lightning.lightning_private import is_accumulating, validation_follows


class Checkpoints(ModelCheckpoint):
    """Keeps the state every n steps as ``step=N.ckpt`` and the latest one as ``last.ckpt``, each when its step is over.

    A step is over when the validation that is due at it has run. Lightning's own callback saves before that: a run
    killed in between would lack the validation or log it twice. What was logged is on disk before the state is.
    The last step is kept too, and the one at which training is asked to stop.

    Args:
        every_n_train_steps: number of optimiser steps between two states.
        save_top_k: -1 keeps every one, 1 the latest, 0 only ``last.ckpt``.
        dirpath: where; ``checkpoints`` in the run directory by default, which ``--resume auto`` needs.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(self, every_n_train_steps: int = 1000, save_top_k: int = -1, dirpath: str | None = None) -> None:
        check_whole("Checkpoints: every_n_train_steps", every_n_train_steps, least=1)
        check_whole("Checkpoints: save_top_k", save_top_k, least=-1, most=1)
        if dirpath is not None:
            check_text("Checkpoints: dirpath", dirpath)
        super().__init__(
            dirpath=dirpath,
            filename="step={step}",
            auto_insert_metric_name=False,
            every_n_train_steps=every_n_train_steps,
            save_top_k=save_top_k,
            save_last=True,
            enable_version_counter=False,  # last.ckpt is always the latest
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know the state that the run goes on from; within an accumulated step it looks due again."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if the step is due and over."""
        if self._due(trainer) and not validation_follows(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if the step is due."""
        if trainer.state.fn == "fit" and self._due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Epochs do not matter here."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if training ended at a step that nobody saw to be the last."""
        self._save(trainer)

    def _due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        wanted = step % self._every_n_train_steps == 0 or step >= trainer.max_steps > 0 or trainer.should_stop
        return wanted and not is_accumulating(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._should_skip_saving_checkpoint(trainer):
            return
        for logger in trainer.loggers:
            logger.save()
        candidates = self._monitor_candidates(trainer)
        if trainer.global_step % self._every_n_train_steps == 0:
            self._save_topk_checkpoint(trainer, candidates)
        self._save_last_checkpoint(trainer, candidates)

    def _monitor_candidates(self, trainer: Trainer) -> dict[str, Tensor]:
        """What names are made of; ``step`` is the present one, not the one that was last validated."""
        return {**super()._monitor_candidates(trainer), "step": torch.tensor(trainer.global_step)}
