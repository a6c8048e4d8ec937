"""A progress bar that shows the numbers that matter."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from spd_lightning.errors import check_whole

PLAIN_LINES = 25
"""A run tells so many times how far it is where there is no terminal; not counted the first, tenth, ... step."""


class DecompositionProgressBar(TQDMProgressBar):
    """Shows each loss term of the latest step.

    Where output goes to a file, a bar would be thousands of lines. There a plain one on stderr says every now and then
    how far training is: at the first, tenth, hundredth, ... step, and after every 25th part of the run.

    Args:
        refresh_rate: number of steps between two updates; 0 for neither bar nor lines.
    """

    def __init__(self, refresh_rate: int = 50) -> None:
        check_whole("refresh_rate", refresh_rate, least=0)
        super().__init__(refresh_rate=refresh_rate)
        self._terms: dict[str, Any] = {}
        self._in_lines = False
        self._told = 0
        self._clock: tuple[int, float] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Draw no bar where it cannot be redrawn."""
        super().setup(trainer, pl_module, stage)
        self._in_lines = self.is_enabled and not (sys.stdout.isatty() and sys.stderr.isatty())
        if self._in_lines:
            self.disable()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask anew where the next run's output goes."""
        if self._in_lines:
            self.enable()
        super().teardown(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew; the clock starts after the first step, which prepares those that follow."""
        super().on_train_start(trainer, pl_module)
        self._told, self._clock = trainer.global_step, None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the latest terms, then update as usual."""
        self._terms = outputs["terms"]
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._clock = self._clock or (trainer.global_step, time.monotonic())
        if self._in_lines and trainer.global_step > self._told and _is_told(trainer.global_step, trainer.max_steps):
            self._tell(trainer)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The terms in place of the run's version number."""
        return {name: f"{term.item():.2e}" for name, term in self._terms.items()}

    def _tell(self, trainer: Trainer) -> None:
        step = self._told = trainer.global_step
        terms = ", ".join(f"{name} {term.item():.2e}" for name, term in self._terms.items())
        end = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        sys.stderr.write(f"step {step}{end}: {terms}{self._pace(step, trainer.max_steps)}\n")

    def _pace(self, step: int, max_steps: int) -> str:
        """Steps per second since the last line, and how long what is left will take."""
        assert self._clock is not None
        since, then = self._clock
        if step == since:
            return ""
        now = time.monotonic()
        self._clock = (step, now)
        rate = (step - since) / max(now - then, 1e-9)
        left = f", {tqdm.format_interval((max_steps - step) / max(rate, 1e-9))} left" if max_steps > 0 else ""
        return f" ({rate:.3g} steps/s{left})"


def _is_told(step: int, max_steps: int) -> bool:
    """Whether a step is told; of a run without end, those that are powers of two."""
    if max_steps <= 0:
        return step & (step - 1) == 0
    in_parts = step * PLAIN_LINES // max_steps > (step - 1) * PLAIN_LINES // max_steps
    return in_parts or step == 10 ** (len(str(step)) - 1)
