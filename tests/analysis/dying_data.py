"""Data at which a process is killed, once."""

import os
import signal
from pathlib import Path

from spd_lightning.data import SparseFeatures


class DyingFeatures(SparseFeatures):
    """Four batches, at the third of which whoever asks for it is killed.

    Args:
        mark: a file that is removed then; without it nobody is killed.
    """

    def __init__(self, mark: str) -> None:
        super().__init__(4, 0.4, val_batches=4, val_batch_size=40)
        self.mark = Path(mark)

    def test_dataloader(self):
        """The batches."""
        return _Dying(super().test_dataloader(), self.mark)


class _Dying:
    def __init__(self, batches, mark):
        self.batches, self.mark = batches, mark

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number == 2 and self.mark.exists():
                self.mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
