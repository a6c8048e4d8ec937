"""Checkpoints that appear whole, and a full disk reported in one line."""

import threading
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from spd_lightning.callbacks.publishing import run_folder
from spd_lightning.errors import UsageError
from spd_lightning.files.whole import WriteError, disk_error, write_torch
from spd_lightning.lightning_private import is_plain, let_go, tear_down


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its name, flushes it to the disk, then renames it.

    Lightning's own writes elsewhere and does not flush: after a power cut the new name can hold nothing.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write one file.

        Args:
            checkpoint: its content.
            path: where; remote addresses (``s3://...``) are left to Lightning.
            storage_options: must be ``None``.

        Raises:
            WriteError: if the disk refuses; a checkpoint of that name is as it was before.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_torch(checkpoint, Path(path))


class WholeFiles(Callback):
    """Makes checkpoints appear whole or not at all, and ends a run whose disk refuses with one line.

    A checkpoint plugin that the trainer was given is kept.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over the writing of checkpoints and the last words of TensorBoard's writer."""
        if is_plain(trainer.strategy.checkpoint_io, TorchCheckpointIO):
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if self._before is None:
            self._before, threading.excepthook = threading.excepthook, self._hear

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give back what was taken over."""
        if self._before is not None:
            threading.excepthook, self._before = self._before, None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say in one line what the disk refused.

        Raises:
            WriteError: in place of the bare error of the operating system.
        """
        self.teardown(trainer, pl_module, "")
        number = disk_error(exception)
        if number is None:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                let_go(logger)
        if not isinstance(exception, UsageError):
            tear_down(trainer)
            raise WriteError(run_folder(trainer) or trainer.default_root_dir, number) from None

    def _hear(self, failed: threading.ExceptHookArgs) -> None:
        """The thread that writes events has stopped; the next event raises the same error where it is reported."""
        from_events = type(failed.thread).__module__.startswith("tensorboard.")
        if not (from_events and failed.exc_value is not None and disk_error(failed.exc_value)):
            self._before(failed)
