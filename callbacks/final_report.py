"""What was found, on the console, in ``metrics.json`` and in TensorBoard's TEXT and HPARAMS tabs."""

import json
import platform
import sys
import time
from collections.abc import Sequence
from textwrap import indent
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, Trainer

from spd_lightning.callbacks.hyperparameters import compared_curves, tuned, write_hyperparameters
from spd_lightning.callbacks.knobs import knobs_of
from spd_lightning.callbacks.publishing import run_folder, tensorboard
from spd_lightning.callbacks.report_table import report_table, verdict_lines
from spd_lightning.files.version import library_version
from spd_lightning.files.whole import written_whole
from spd_lightning.methods import Decomposition
from spd_lightning.report.rows import recovery
from spd_lightning.runs.findings import Finding, Knobs, findings
from spd_lightning.runs.memory import peak_memory


class FinalReport(Callback):
    """Gathers every score of a test or validation run; after ``fit`` the command line runs the test.

    ``metrics.json`` holds scores, thresholds, seed, versions, steps, wall time and peak memory.
    """

    def __init__(self) -> None:
        self._trained_s = 0.0
        self._steps = 0
        self._built = time.monotonic()  # no callback is called before the target is trained
        self._began: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Seconds of training so far, over all resumed parts."""
        return {"trained_s": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._trained_s = state_dict.get("trained_s", 0.0)

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Start the clock; what happened since this callback was built counts, above all training the target."""
        if stage == "fit":
            self._began, self._built = self._built, time.monotonic()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Decomposition, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Remember how long the restored decomposition was trained; only ``fit`` restores the trainer's own count."""
        self._steps = checkpoint["global_step"]

    def on_fit_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Stop the clock."""
        self._trained_s, self._began = self._elapsed(), None

    def on_test_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Report the test."""
        self._report(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Report a validation outside of training."""
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module, "val")

    def _elapsed(self) -> float:
        return self._trained_s + (0.0 if self._began is None else time.monotonic() - self._began)

    def _report(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        if not trainer.is_global_zero:
            return
        scores = {
            name.removeprefix(f"{stage}/"): value.item()
            for name, value in trainer.callback_metrics.items()
            if name.startswith(f"{stage}/")
        }
        found = findings(scores, self.knobs(trainer, module))
        table = report_table(scores, module, _settings(trainer, module), found)
        sys.stdout.write(table + "\n")
        lines = [*verdict_lines(found), recovery(scores)]
        self._to_tensorboard(trainer, module, scores, table, "\n\n".join(lines))
        folder = run_folder(trainer)
        if folder is not None:
            # last, since it is what makes a run count as finished
            with written_whole(folder / "metrics.json") as aside:
                aside.write_text(json.dumps(self._document(trainer, module, scores, found), indent=2) + "\n")
            sys.stdout.write(f"Scores, pictures and components are in {folder}\n")

    def knobs(self, trainer: Trainer, module: Decomposition) -> Knobs:
        """What the advice speaks of."""
        return knobs_of(trainer, module)

    def _document(
        self, trainer: Trainer, module: Decomposition, scores: dict[str, float], found: Sequence[Finding]
    ) -> dict[str, Any]:
        threads = torch.get_num_threads()
        return {
            "scores": scores,
            "verdict": [finding._asdict() for finding in found],
            "settings": _settings(trainer, module),
            "seed": module.seed,
            "steps": max(trainer.global_step, self._steps),
            "wall_time_s": round(self._elapsed(), 1),
            "peak_memory_mb": round(peak_memory() / 2**20, 1),
            "processes": trainer.world_size,
            "device": str(module.device),
            "machine": f"{platform.machine()}, {threads} thread{'s' * (threads != 1)}",
            "versions": {
                "spd_lightning": library_version(),
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "python": platform.python_version(),
            },
        }

    @staticmethod
    def _to_tensorboard(
        trainer: Trainer, module: Decomposition, scores: dict[str, float], table: str, verdict: str
    ) -> None:
        logger = tensorboard(trainer)
        if logger is None:
            return
        if trainer.global_step:  # of a run that did not train there are no curves to compare
            write_hyperparameters(logger, tuned(trainer, module), compared_curves(scores))
        logger.experiment.add_text("verdict", verdict, trainer.global_step)
        logger.experiment.add_text("scores", indent(table, "    "), trainer.global_step)
        logger.save()


def _settings(trainer: Trainer, module: Decomposition) -> dict[str, Any]:
    """Thresholds and budgets that the scores depend on, as the callbacks hold them."""
    named = (
        "threshold",
        "tolerances",
        "probe",
        "rounding_threshold",
        "alive_threshold",
        "adversary_steps",
        "adversary_step_size",
        "ladder",
        "distance",
        "draws",
        "data_draws",
    )
    settings = {
        f"{type(callback).__name__}.{name}": getattr(callback, name)
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        for name in named
        if hasattr(callback, name)
    }
    unset = [name for name, value in settings.items() if name.endswith(".distance") and value is None]
    return settings | dict.fromkeys(unset, module.distance)
