"""What there is to turn in a run, as the command line names it."""

from typing import Any

from lightning.pytorch import Trainer

from spd_lightning.losses import (
    ConstrainedImportance,
    Faithfulness,
    FrequencyMinimality,
    ImportanceMinimality,
    Loss,
    Minimality,
    PersistentAdversary,
    Reconstruction,
    RelativeFaithfulness,
    Simplicity,
    SmoothFrequency,
    SmoothImportance,
)
from spd_lightning.methods import Decomposition, StochasticDecomposition
from spd_lightning.runs.findings import Knobs

KEEPS_THE_SUM = (Faithfulness, RelativeFaithfulness)
KEEPS_FEW = (ImportanceMinimality, SmoothImportance, FrequencyMinimality, SmoothFrequency, Simplicity)
SAYS_NOTHING_OF_IMPORTANCE = (*KEEPS_THE_SUM, Reconstruction, Minimality)


def knobs_of(trainer: Trainer, module: Decomposition) -> Knobs:
    """Flags of the command line with their present values.

    Args:
        trainer: how long it trains.
        module: its objective, its warm-up and its rates.
    """
    terms = {name: loss for name, loss in module.terms().items() if loss.is_trained}
    few, adversary = _first(terms, KEEPS_FEW), _adversary(terms)
    return Knobs(
        steps=_now("trainer.max_steps", trainer.max_steps),
        warmup=_now("model.warmup.steps", module.warmup.steps) if isinstance(module, StochasticDecomposition) else "",
        rate=_now("model.optimization.lr", module.optimization.lr),
        faithfulness=_coefficient(terms, _first(terms, KEEPS_THE_SUM)),
        importance=_coefficient(terms, few),
        exponent=_now(f"model.losses.{few}.p_final", terms[few].p_final) if hasattr(terms.get(few), "p_final") else "",
        adversary=f"{_coefficient(terms, adversary)}, its {_pushes(terms[adversary])}" if adversary else "",
        new_adversary="add an adversary's term, --model.losses.adversary '{class_path: Reconstruction, init_args: "
        f"{{sources: adversarial, adversary_steps: 4, adversary_step_size: 0.5, distance: {module.distance}}}}}'",
        allowed=_coefficient(terms, few) if adversary in getattr(terms.get(few), "follows", ()) else "",
    )


def _first(terms: dict[str, Loss], kinds: tuple[type[Loss], ...]) -> str:
    return next((name for name, loss in terms.items() if isinstance(loss, kinds)), "")


def _adversary(terms: dict[str, Loss]) -> str:
    found = (name for name, loss in terms.items() if isinstance(loss, Reconstruction))
    return next((name for name in found if terms[name].sources == "adversarial"), "")


def _pushes(adversary: Loss) -> str:
    name = "ascents" if isinstance(adversary, PersistentAdversary) else "adversary_steps"
    return _now(name, getattr(adversary, name))


def _coefficient(terms: dict[str, Loss], name: str) -> str:
    if not name:
        return ""
    if points := terms[name].coefficient_points:
        return f"model.losses.{name}.coefficient_points (at last {points[-1][1]:g})"
    knob = "tolerance" if isinstance(terms[name], ConstrainedImportance) else "coefficient"
    return _now(f"model.losses.{name}.{knob}", getattr(terms[name], knob))


def _now(flag: str, value: Any) -> str:
    return flag if value is None else f"{flag} (now {value:g})"
