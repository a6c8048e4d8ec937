"""Ctrl-C without losing a step."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class InterruptGuard(Callback):
    """On the first Ctrl-C finishes the running step, saves ``last.ckpt`` and ends the run; the second stops at once.

    The command line then exits with code 130. ``fit --ckpt_path last`` goes on from there. Of several processes any one
    may be interrupted, and SIGTERM counts as Ctrl-C: all stop after the same step.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C, where the process lets us.

        Not earlier: Lightning notes the handlers just before and puts them back if the run fails.
        """
        self.interrupted = False
        # Lightning answers SIGTERM by a message to the other processes, which may just then be amid another one
        taken = (signal.SIGINT, signal.SIGTERM) if trainer.world_size > 1 else (signal.SIGINT,)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in taken}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After a whole step: save and stop, if asked to."""
        if trainer.world_size > 1:  # all stop after the same step, or those that go on wait for the others forever
            self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if not self.interrupted or trainer.should_stop:
            return
        folder = next((c.dirpath for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)
        if folder is not None:
            trainer.save_checkpoint(Path(folder) / "last.ckpt")
        trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
