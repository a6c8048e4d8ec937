"""Callbacks that tests name in configs."""

import signal

from lightning.pytorch import Callback


class StopAfter(Callback):
    """Presses Ctrl-C during a step; the guard saves and stops when the step is done."""

    def __init__(self, steps: int = 4) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.steps - 1:
            signal.raise_signal(signal.SIGINT)


class Terminate(Callback):
    """Sends SIGTERM to this process in the first batch of the test."""

    def on_test_batch_start(self, *_):
        signal.raise_signal(signal.SIGTERM)


class Poison(Callback):
    """Makes the components NaN after the first step."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        pl_module.model.components["linear1"].V.data[0, 0] = float("nan")
