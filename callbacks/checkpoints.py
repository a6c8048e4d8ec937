"""States to go on from, each complete."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from spd_lightning.errors import check_text, check_whole
from spd_lightning.lightning_private import is_accumulating, validation_follows

MOST = 20
"""States that are kept besides the latest of a run of any length, unless all are asked for."""


class Checkpoints(ModelCheckpoint):
    """Keeps the state every n steps as ``step=N.ckpt`` and the latest one as ``last.ckpt``, each when its step is over.

    A step is over when the validation that is due at it has run. Lightning's own callback saves before that: a run
    killed in between would lack the validation or log it twice. What was logged is on disk before the state is.
    The last step is kept too, and the one at which training is asked to stop.

    A long run is thinned: whenever there would be more than twenty, the distance between two states doubles, and those
    in between go, so that what stays is spread evenly over the run. Only what a thinned run wrote itself is removed;
    ``last.ckpt`` and the state that a run goes on from stay.

    Args:
        every_n_train_steps: number of optimiser steps between two states, until they are thinned.
        save_top_k: ``None`` thins them, -1 keeps every one, 1 the latest, 0 only ``last.ckpt``.
        dirpath: where; ``checkpoints`` in the run directory by default, which ``--resume auto`` needs.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(
        self, every_n_train_steps: int = 1000, save_top_k: int | None = None, dirpath: str | None = None
    ) -> None:
        check_whole("Checkpoints: every_n_train_steps", every_n_train_steps, least=1)
        if save_top_k is not None:
            check_whole("Checkpoints: save_top_k", save_top_k, least=-1, most=1)
        if dirpath is not None:
            check_text("Checkpoints: dirpath", dirpath)
        super().__init__(
            dirpath=dirpath,
            filename="step={step}",
            auto_insert_metric_name=False,
            every_n_train_steps=every_n_train_steps,
            save_top_k=-1 if save_top_k is None else save_top_k,
            save_last=True,
            enable_version_counter=False,  # last.ckpt is always the latest
        )
        self._thins = save_top_k is None
        self._written: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        """As usual, and the steps whose states may be thinned."""
        return {**super().state_dict(), "written": list(self._written)}  # empty unless the run is thinned

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As usual; what another folder or a run that was not thinned holds is not among what may be thinned."""
        super().load_state_dict(state_dict)
        same = state_dict.get("dirpath") == self.dirpath
        self._written = [int(step) for step in state_dict.get("written", [])] if same else []

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
        candidates, step = self._monitor_candidates(trainer), trainer.global_step
        between = []
        if step % self._distance(step) == 0:
            between = self._thinned(step)
            self._save_topk_checkpoint(trainer, candidates)
        self._save_last_checkpoint(trainer, candidates)
        for old in between:
            self._remove(trainer, candidates, old)

    def _distance(self, step: int) -> int:
        """Steps between two states, up to a step: doubled until at most as many as are kept fit in."""
        distance = int(self._every_n_train_steps)
        while self._thins and step // distance > MOST:
            distance *= 2
        return distance

    def _thinned(self, step: int) -> list[int]:
        """Count a state as written; those that lie between the states to keep are to be removed after it."""
        if not self._thins:
            return []
        distance = self._distance(step)
        between = [old for old in self._written if old % distance]
        self._written = [*(old for old in self._written if old % distance == 0 and old != step), step]
        return between

    def _remove(self, trainer: Trainer, candidates: dict[str, Tensor], step: int) -> None:
        path = self.format_checkpoint_name({**candidates, "step": torch.tensor(step)})
        went_on_from = trainer.ckpt_path is not None and Path(trainer.ckpt_path).absolute() == Path(path).absolute()
        if not went_on_from:
            trainer.strategy.remove_checkpoint(path)

    def _monitor_candidates(self, trainer: Trainer) -> dict[str, Tensor]:
        """What names are made of; ``step`` is the present one, not the one that was last validated."""
        return {**super()._monitor_candidates(trainer), "step": torch.tensor(trainer.global_step)}
