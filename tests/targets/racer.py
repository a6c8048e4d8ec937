"""One of two processes that want the same target at the same moment."""

import time
from pathlib import Path

from spd_lightning import FeatureTraining, ToyModelOfSuperposition
from spd_lightning.files.fingerprint import fingerprint


class Counted(ToyModelOfSuperposition):
    """Leaves a mark when it is trained: every training starts from new weights."""

    mark: Path | None = None

    def reset_parameters(self):
        super().reset_parameters()
        if self.mark is not None:
            self.mark.touch()


def race(folder, own, other) -> str:
    """Wait until the other one is there, then ask for the target; returns the fingerprint of its weights."""
    network = Counted(3, 3)
    network.mark = Path(folder) / f"{own}.trained"
    recipe = FeatureTraining(steps=400, batch_size=128, lr=2e-2, feature_probability=0.3, weight_decay=0.0)
    (Path(folder) / f"{own}.ready").touch()
    deadline = time.monotonic() + 60
    while not (Path(folder) / f"{other}.ready").exists():
        assert time.monotonic() < deadline, f"{other} never came"
        time.sleep(0.002)
    recipe.prepare(network)
    return fingerprint(network)
