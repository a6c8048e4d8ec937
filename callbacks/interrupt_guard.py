"""Ctrl-C and SIGTERM without losing a step."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from spd_lightning.callbacks.checkpoints import Checkpoints
from spd_lightning.lightning_private import is_accumulating, skip_validation, validation_follows


class InterruptGuard(Callback):
    """On the first Ctrl-C finishes the running step, saves ``last.ckpt`` and ends the run; the second stops at once.

    The command line then exits with code 130. The same command and ``--resume auto`` goes on from there. Of several
    processes any one may be interrupted: all stop after the same step.

    Args:
        sigterm: whether SIGTERM, by which schedulers end a run, counts as Ctrl-C, too. Where it does not, Lightning
            ends a single process without saving; of several processes it always counts.
    """

    def __init__(self, sigterm: bool = True) -> None:
        self._sigterm = sigterm
        self.interrupted = self._asked = False  # the latter by a signal of this process's own

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, where the process lets us.

        Not earlier: Lightning notes the handlers just before, and puts them back when the run ends or fails.
        """
        self.interrupted = self._asked = False
        # Lightning answers SIGTERM by a message to the other processes, which may be in the middle of another one at
        # that moment; and a single process it ends with code 0, as if it were done
        taken = (signal.SIGINT, signal.SIGTERM) if self._sigterm or trainer.world_size > 1 else (signal.SIGINT,)
        if threading.current_thread() is threading.main_thread():
            for number in taken:
                signal.signal(number, self._note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After a whole step: save and stop, if asked to; a validation that is due comes first."""
        self._agree(trainer)
        if not self.interrupted or trainer.should_stop or is_accumulating(trainer):
            return
        if not validation_follows(trainer):
            skip_validation(trainer)
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a validation, which ends a step: save and stop, if asked to."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or is_accumulating(trainer):
            return
        self._agree(trainer)
        if self.interrupted:
            self._stop(trainer)

    def _agree(self, trainer: Trainer) -> None:
        """All stop after the same step, or those that go on wait for the others forever."""
        if trainer.world_size > 1:
            self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)

    def _stop(self, trainer: Trainer) -> None:
        trainer.should_stop = True
        kept = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        if kept and not any(isinstance(c, Checkpoints) for c in kept):  # that one saves where training is to stop
            trainer.save_checkpoint(Path(kept[0].dirpath or ".") / "last.ckpt")

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self.interrupted = self._asked = True
