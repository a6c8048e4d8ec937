"""Callbacks that note the time while a run goes on as usual."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StepClock(Callback):
    """Notes when every training step ended, and writes the list before the run is tested.

    Args:
        path: file to write, a JSON list of seconds.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._ended: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        self._ended.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the list."""
        Path(self.path).write_text(json.dumps(self._ended))


class ScoreClock(Callback):
    """Notes the time and all scores after every validation, a JSON line each.

    Args:
        path: file to write.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a line."""
        scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
        with Path(self.path).open("a") as lines:
            lines.write(json.dumps({"time": time.time(), "step": trainer.global_step, "scores": scores}) + "\n")
