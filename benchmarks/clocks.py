"""When what happens in a run that goes on as usual."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.processes import run


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


def stepped(configs: Sequence[str], steps: int, **settings: Any) -> list[float]:
    """When each step of a run from the command line ended, in a process of its own; no validation falls into it.

    Args:
        configs: names of shipped configs, the last word last.
        steps: how many.
        settings: flags of ``fit`` beside those that keep the run short.
    """
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        flags = {
            "trainer.max_steps": steps,
            "trainer.val_check_interval": 10 * steps,
            "trainer.logger.init_args.save_dir": folder,
            "data.init_args.val_batches": 1,
            **settings,
            "trainer.callbacks+": "benchmarks.clocks.StepClock",
            "trainer.callbacks.init_args.path": times,
        }
        named = (f"--config={name}" for name in configs)
        run(["spd_lightning", "fit", *named, *(f"--{key}={value}" for key, value in flags.items())])
        ended: list[float] = json.loads(times.read_text())
    return ended
