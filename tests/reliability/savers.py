"""Callbacks that tests name in configs."""

from pathlib import Path

from lightning.pytorch import Callback


class SaveOften(Callback):
    """Writes ``last.ckpt`` after every step."""

    def on_train_batch_end(self, trainer, *_):
        trainer.save_checkpoint(Path(trainer.log_dir) / "checkpoints" / "last.ckpt")
