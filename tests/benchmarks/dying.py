"""A callback that tests name in configs."""

import os
import signal
from pathlib import Path

from lightning.pytorch import Callback


class DiesOnce(Callback):
    """Has the process killed in a run with seed 0, unless a file says that it was before."""

    def __init__(self, note: str) -> None:
        self.note = Path(note)

    def on_train_batch_start(self, trainer, pl_module, *_):
        if pl_module.seed == 0 and trainer.global_step == 3 and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
