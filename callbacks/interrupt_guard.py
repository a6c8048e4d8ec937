"""Ctrl-C without losing a step."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.checkpoints import Checkpoints, validation_follows


class InterruptGuard(Callback):
    """On the first Ctrl-C finishes the running step, saves ``last.ckpt`` and ends the run; the second stops at once.

    The command line then exits with code 130. The same command and ``--resume auto`` goes on from there.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C, where the process lets us.

        Not earlier: Lightning notes the handlers just before and puts them back if the run fails.
        """
        self.interrupted = False
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After a whole step: save and stop, if asked to; a validation that is due comes first."""
        if not self.interrupted or trainer.should_stop or trainer.fit_loop._should_accumulate():
            return
        if not validation_follows(trainer):
            trainer.fit_loop.epoch_loop._skip_next_val = True  # Lightning would validate whenever it is asked to stop
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a validation, which ends a step: save and stop, if asked to."""
        accumulating = trainer.state.fn == "fit" and trainer.fit_loop._should_accumulate()
        if self.interrupted and not trainer.sanity_checking and not accumulating:
            self._stop(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _stop(self, trainer: Trainer) -> None:
        trainer.should_stop = True
        kept = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        if kept and not any(isinstance(c, Checkpoints) for c in kept):  # that one saves where training is to stop
            trainer.save_checkpoint(Path(kept[0].dirpath or ".") / "last.ckpt")

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
