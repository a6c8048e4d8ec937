"""Training that runs but leads nowhere, told while it can still be stopped."""

import sys
from typing import Any, get_args

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from tqdm import tqdm

from spd_lightning.callbacks.evaluation import EvaluationCallback
from spd_lightning.callbacks.knobs import KEEPS_THE_SUM, SAYS_NOTHING_OF_IMPORTANCE
from spd_lightning.errors import check_choice, check_fraction, check_whole
from spd_lightning.functional import ALIVE_THRESHOLD, alive_components
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Step
from spd_lightning.losses.base import check_positive
from spd_lightning.losses.sources import fixed_masks, zero_masks
from spd_lightning.methods import Decomposition, StochasticDecomposition

_TOLD = {
    "dead": "no component has an importance above {threshold:g} on any validation example",
    "saturated": "{share:.0%} of all importances are {saturation:g} or more, so that hardly anything is ever masked",
    "worse": "with importances as masks the output is further from the target's ({distance} {masked:.3g}) than with "
    "everything ablated ({zero:.3g})",
}
_ADVICE = {
    "spd": {
        "dead": "a lower price of importance (its coefficient or tolerance) or a higher "
        "model.optimization.importance_lr lets components come alive",
        "saturated": "a higher price of importance (its coefficient or tolerance) makes them costlier",
        "worse": "a lower model.optimization.lr, a lower price of importance (its coefficient or tolerance) or more "
        "model.warmup.steps helps",
    },
    "apd": {
        "dead": "a higher model.k keeps more of them",
        "saturated": "a lower model.k keeps fewer of them",
        "worse": "a lower model.optimization.lr or a lower coefficient of the simplicity term helps",
    },
}


class TrainingHealth(EvaluationCallback):
    """Warns on stderr, with advice and once each, about what rarely mends itself.

    A site none of whose components is alive; a site whose importances are saturated at 1; a reconstruction that is
    worse than with everything ablated. Each must hold in several validations in a row, so that a slow start is no
    alarm. Training goes on.

    Args:
        alive_threshold: importance above which a component is alive.
        saturation: importance from which on it counts as 1.
        saturated_share: fraction of a site's importances at 1 from which on the site counts as saturated.
        patience: validations in a row after which a warning is due.
        distance: of outputs, ``"mse"`` or ``"kl"``; ``null`` for the one that is trained.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(
        self,
        alive_threshold: float = ALIVE_THRESHOLD,
        saturation: float = 0.99,
        saturated_share: float = 0.9,
        patience: int = 3,
        distance: DistanceKind | None = None,
    ) -> None:
        super().__init__()
        self.alive_threshold = check_positive("alive_threshold", alive_threshold, allow_zero=True)
        for name, value in (("saturation", saturation), ("saturated_share", saturated_share)):
            check_fraction(f"TrainingHealth: {name}", value, zero=False)
        check_whole("TrainingHealth: patience", patience, least=1)
        check_choice("TrainingHealth: distance", distance, (None, *get_args(DistanceKind)))
        self.saturation, self.saturated_share = saturation, saturated_share
        self.patience, self.distance = patience, distance
        self._streaks: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """How long each condition has held, so that a resumed run neither forgets nor repeats a warning."""
        return super().state_dict() | {"streaks": dict(self._streaks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the saved run was."""
        super().load_state_dict(state_dict)
        self._streaks = dict(state_dict.get("streaks", {}))

    def on_fit_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Say what the objective leaves out."""
        if trainer.is_global_zero and isinstance(pl_module, StochasticDecomposition):
            for told in _left_out(pl_module):
                tqdm.write(f"warning: {told}", file=sys.stderr)

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh sums."""
        self._seen: dict[str, Tensor] = {}
        """By site how often each component was alive, then importances at 1, then importances."""
        self._distances: Tensor | None = None
        """Sums over rows of the distance with importances as masks, of that with everything ablated, and the rows."""

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Look at one batch."""
        for name, ci in step.importance.items():
            lower = step.counted(ci.lower)
            alive = alive_components(lower, self.alive_threshold)
            at_one = torch.stack([(lower >= self.saturation).sum(), lower.new_tensor(lower.numel())])
            seen = torch.cat([alive, at_one]).double()
            self._seen[name] = seen + self._seen.get(name, 0.0)
        kind, masks = self.distance or module.distance, (fixed_masks(step, "ci"), zero_masks(step))
        found = [step.distance(kind, step.masked(one)).double() for one in masks]
        rows = step.mass
        sums = torch.stack([*(rows * one for one in found), found[0].new_tensor(rows)])
        self._distances = sums if self._distances is None else self._distances + sums

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Count how long each condition has held, over all processes, and warn when one has held long enough."""
        if trainer.state.fn != "fit" or self._distances is None:
            return
        masked, zero, rows = trainer.strategy.reduce(self._distances, reduce_op="sum").tolist()
        numbers = {"masked": masked / rows, "zero": zero / rows}
        self._note(trainer, "worse", "", masked > zero, distance=self.distance or module.distance, **numbers)
        for name, own in self._seen.items():
            *alive, at_one, count = trainer.strategy.reduce(own, reduce_op="sum").tolist()
            share = at_one / count
            self._note(trainer, "dead", name, not any(alive), threshold=self.alive_threshold)
            self._note(
                trainer, "saturated", name, share >= self.saturated_share, share=share, saturation=self.saturation
            )

    def _note(self, trainer: Trainer, kind: str, site: str, holds: bool, **numbers: float | str) -> None:
        key = f"{kind} {site}".strip()
        held = self._streaks.get(key, 0)
        if held >= self.patience:  # told already
            return
        self._streaks[key] = held + 1 if holds else 0
        if self._streaks[key] == self.patience and trainer.is_global_zero:
            where = f"site {site!r}: " if site else ""
            advice = _ADVICE.get(str(trainer.lightning_module.method), _ADVICE["spd"])[kind]
            told = f"{_TOLD[kind].format(**numbers)}; {advice} (so in {self.patience} validations in a row)"
            tqdm.write(f"warning: step {trainer.global_step}: {where}{told}", file=sys.stderr)


def _left_out(module: StochasticDecomposition) -> list[str]:
    terms = [loss for loss in module.terms().values() if loss.is_trained]
    told = []
    if module.optimization.lr and not any(isinstance(loss, KEEPS_THE_SUM) for loss in terms):
        told.append("no term keeps the sum of the components at the weights, as RelativeFaithfulness does")
    if all(isinstance(loss, SAYS_NOTHING_OF_IMPORTANCE) for loss in terms):
        told.append("no term makes importances small, as ImportanceMinimality does")
    beside = "; in a config losses: replaces all terms and losses+: adds to them"
    return [f"losses: {one}{beside}" for one in told]
