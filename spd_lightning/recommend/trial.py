"""A few real steps of training, timed, and what a step holds."""

import statistics
import time
import warnings
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch import Callback, LightningModule

from spd_lightning.lightning_private import LeanEpochLoop
from spd_lightning.methods import StochasticDecomposition, Warmup
from spd_lightning.notebook.decompose import bare_trainer
from spd_lightning.runs.notices import silence_notices

MOST_STEPS, MOST_SECONDS = 8, 4.0
"""A trial ends when either is reached."""
WARM_UP_STEPS = 3
COPIES = 4
"""Of every trained number: itself, its gradient, and two moments."""


def trained_bytes(module: StochasticDecomposition) -> int:
    """Memory of components and importance function, their gradients and moments."""
    trained = [*module.model.components.parameters(), *module.model.importance_function.parameters()]
    return COPIES * sum(p.numel() * p.element_size() for p in trained)


def seconds_of_a_step(module: StochasticDecomposition, data: LightningDataModule, steps: int) -> float:
    """Train for a moment, as ``fit`` would.

    Args:
        module: the decomposition; it is moved.
        data: gives the batches.
        steps: that the training would have.

    Returns:
        Median seconds from the end of a step to the end of the next, loading included; the first one, which checks the
        network, is left out.

    Raises:
        UsageError: for whatever ``fit`` would refuse at its first step.
    """
    clock = _Clock()
    with warnings.catch_warnings():
        silence_notices()
        accelerator = "gpu" if module.device.type == "cuda" else "cpu"
        trainer = bare_trainer(steps, [clock], accelerator=accelerator)
        LeanEpochLoop.install(trainer)
        trainer.fit(module, datamodule=data)
    return clock.median


def seconds_of_warming_up(module: StochasticDecomposition) -> float:
    """Seconds of one step of the warm-up, on weights that are moved by it."""
    began = time.perf_counter()
    Warmup(steps=WARM_UP_STEPS).run(module.model, training_steps=1, show=False)
    return (time.perf_counter() - began) / WARM_UP_STEPS


class _Clock(Callback):
    """Times steps, and stops training when it has timed enough of them."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    @property
    def median(self) -> float:
        """Of the seconds from one end to the next."""
        return statistics.median(b - a for a, b in zip(self._ends, self._ends[1:], strict=False))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._ends.append(time.perf_counter())
        taken = len(self._ends) - 1
        long = self._ends[-1] - self._ends[0] > MOST_SECONDS
        trainer.should_stop = taken >= MOST_STEPS or (taken > 0 and long)
