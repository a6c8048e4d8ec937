"""The base of callbacks that look at a decomposition during validation and test."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.functional import alive_components, pattern_order
from spd_lightning.losses import Step
from spd_lightning.methods import Decomposition
from spd_lightning.metrics import AliveComponents
from spd_lightning.model import ComponentModel
from spd_lightning.model.wrapping import site_of
from spd_lightning.targets import KnownMechanisms, OwnProbes

SEQUENCES = 4
"""Probes of a target's own that are looked at."""


class EvaluationCallback(Callback):
    """Runs one analysis over the batches of a validation or test epoch.

    A subclass implements :meth:`finish` and, if it needs more than the trained weights, :meth:`start` and
    :meth:`update`. All three run on every process, without gradient.

    Args:
        every_n_validations: how often the analysis runs while training; tests and ``validate`` always run it.

    Raises:
        UsageError: if ``every_n_validations`` is below 1.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        check_whole("every_n_validations", every_n_validations, least=1)
        self.every_n_validations = every_n_validations
        self._validations = 0
        self._due = False

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Prepare to see the batches of an epoch."""
        return

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """See one batch."""
        return

    @abstractmethod
    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Score, log and draw; ``stage`` is ``"val"`` or ``"test"``."""

    def state_dict(self) -> dict[str, Any]:
        """The number of validations seen, so that a resumed run keeps the rhythm."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of validations seen."""
        self._validations = state_dict.get("validations", 0)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Decide whether the analysis is due, and prepare."""
        if trainer.sanity_checking:
            self._due = False
            return
        self._validations += 1
        self._due = trainer.state.fn != "fit" or self._validations % self.every_n_validations == 0
        if self._due:
            self.start(trainer, pl_module)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Decomposition, outputs: Any, *_: Any) -> None:  # type: ignore[override]
        """Pass on the batch as the module saw it."""
        if self._due:
            self.update(trainer, pl_module, outputs["step"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Finish the analysis."""
        if self._due:
            self.finish(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Prepare."""
        self.start(trainer, pl_module)

    def on_test_batch_end(self, trainer: Trainer, pl_module: Decomposition, outputs: Any, *_: Any) -> None:  # type: ignore[override]
        """Pass on the batch as the module saw it."""
        self.update(trainer, pl_module, outputs["step"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Finish the analysis."""
        self.finish(trainer, pl_module, "test")


def log_scores(module: Decomposition, prefix: str, scores: Mapping[str, float]) -> None:
    """Log scalars as ``prefix/name``; they also become available to checkpointing and the final report.

    While training, a score that has never been a number is left out: its chart would be empty.
    """
    named = {f"{prefix}/{name}": float(score) for name, score in scores.items()}
    nowhere = {name for name, score in named.items() if math.isnan(score)}
    if nowhere and module.trainer.state.fn == "fit":
        nowhere -= set(module.trainer.callback_metrics)
        named = {name: score for name, score in named.items() if name not in nowhere}
    module.log_dict(named)


def log_headline(module: Decomposition, scores: Mapping[str, float | None]) -> None:
    """Log what TensorBoard shows first, as ``headline/name``, while training; ``None`` is left out."""
    if module.trainer.state.fn == "fit":
        log_scores(module, "headline", {name: score for name, score in scores.items() if score is not None})


def count_alive(alive: dict[str, AliveComponents], step: Step, threshold: float) -> None:
    """Count a batch towards which components of each site are alive, all calls of the site together.

    Args:
        alive: counters by site; a missing one is made.
        step: the batch.
        threshold: importance above which a component is alive.
    """
    for call, importance in step.importance.items():
        site, lower = site_of(call), step.counted(importance.lower)
        if site not in alive:
            alive[site] = AliveComponents(lower.shape[-1], threshold).to(lower.device)
        alive[site].update(lower)


def has_probes(trainer: Trainer, module: Decomposition | None = None) -> bool:
    """Whether the data module offers one-hot probes, or the target of a module that is given has its own."""
    return isinstance(getattr(module, "target", None), OwnProbes) or hasattr(trainer.datamodule, "probes")  # type: ignore[attr-defined]


def check_probes(callback: Callback, trainer: Trainer, module: Decomposition | None = None) -> None:
    """Raise unless the data module offers one-hot probes, or the target of a module that is given has its own."""
    if not has_probes(trainer, module):
        raise UsageError(
            f"{type(callback).__name__} needs a data module with a method probes(magnitude); add one, or remove it "
            "from trainer.callbacks"
        )


def probes_of(trainer: Trainer, module: Decomposition, magnitude: float) -> Tensor:
    """Inputs on which mechanisms are looked at: the target's own, or the data module's one-hot ones of a magnitude."""
    own = isinstance(module.target, OwnProbes)
    probes: Tensor = module.target.probes() if own else trainer.datamodule.probes(magnitude)  # type: ignore
    return probes.to(module.device)


def tables_of(model: ComponentModel, calls: Iterable[str]) -> dict[str, str]:
    """The different tables of importances: a title, and a site call whose table it is.

    Args:
        model: the decomposition.
        calls: all site calls.
    """
    titles = {first: title for title, first in model.mechanisms.tables.items()}
    tables = {}
    for call in calls:
        site = site_of(call)
        if site in titles:
            tables[titles[site] if call == site else titles[site] + call[len(site) :]] = call
    return tables


def matched_components(module: Decomposition, tables: Mapping[str, Tensor], threshold: float) -> dict[str, list[int]]:
    """Alive components of every site, in the order in which all pictures draw them.

    They come in the order of the features that they match best one to one; where the target is known to have a dense
    block, by their sum, the largest first.

    Args:
        module: the decomposition.
        tables: importances on one-hot probes by site call, ``[n_features, C]``.
        threshold: importance above which a component is alive.
    """
    known = module.target.known_mechanisms() if isinstance(module.target, KnownMechanisms) else {}
    found = {}
    for call, table in tables.items():
        alive = alive_components(table, threshold).tolist()
        order = pattern_order(table, known[call].kind if call in known else None)
        found[call] = [component for component in order.tolist() if alive[component]]
    return found


def alive_in_any(alive: Mapping[str, list[int]], sites: Iterable[str]) -> list[int]:
    """Components that are alive at one of several sites whose components are the same, in the order of the first."""
    return list(dict.fromkeys(component for site in sites for component in alive[site]))


def probe_importances(trainer: Trainer, module: Decomposition, magnitude: float) -> dict[str, Tensor]:
    """Importances on probes, ``[n_rows, C]`` per site, on the CPU; of causal ones the lower-leaky.

    A row is a probe, or one of its positions.
    """
    importances = module.model.importance_of(probes_of(trainer, module, magnitude))
    return {name: importance.lower.flatten(0, -2).cpu() for name, importance in importances.items()}
