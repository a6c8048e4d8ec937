"""What TensorBoard's HPARAMS tab compares runs by."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from spd_lightning.callbacks.swept_values import SweptValues
from spd_lightning.losses.base import TURNED
from spd_lightning.methods import Decomposition
from spd_lightning.runs.findings import JUDGED, relative
from spd_lightning.runs.verdict import known_sites, pattern_contradictions

Value = bool | int | float | str


def tuned(trainer: Trainer, module: Decomposition) -> dict[str, Value]:
    """What one tunes, by short names: swept values, steps, seed, rates, components and coefficients.

    The other settings are mostly the same in all runs, and in ``config.yaml``.

    Args:
        trainer: its callbacks know the swept values.
        module: the decomposition.

    Returns:
        Single values by name; TensorBoard sorts the names.
    """
    held = module.hparams
    named: dict[str, Any] = {"steps": trainer.max_steps, "seed": held.get("seed"), "k": held.get("k")}
    named |= {name: _of(held, "optimization", name) for name in ("lr", "importance_lr")}
    named["warmup_steps"] = _of(held, "warmup", "steps")
    named |= {f"C/{site}": parts.n_components for site, parts in module.model.components.items()}
    losses = held.get("losses") or {}
    for knob in TURNED:
        named |= {f"{knob}/{name}": _of(losses[name], "init_args", knob) for name in losses}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        named |= callback.values if isinstance(callback, SweptValues) else {}
    return {name: value for name, value in named.items() if isinstance(value, Value)}


def compared_curves(scores: Mapping[str, float]) -> list[str]:
    """Curves whose last points stand beside the settings: the numbers behind both verdicts, as validation logs them.

    Args:
        scores: scores by name, without the stage.
    """
    curves = [f"headline/relative_distance/{name}" for name in JUDGED if relative(scores, name) is not None]
    if any(name.startswith("l0/") for name in scores):
        curves = ["headline/l0", "headline/l0_of_alive", *curves]
    for site in known_sites(scores):
        kind, counts = pattern_contradictions(scores, site)
        loosest = [f"{kind}_contradictions_{tolerance}" for tolerance, _ in counts[-1:]]
        wanted = [f"recovery/{site}/{name}" for name in (*loosest, "mmcs", "ml2r", "pearson")] + [f"alive/{site}"]
        curves += [f"val/{name}" for name in wanted if name in scores]
    return curves


def write_hyperparameters(logger: TensorBoardLogger, settings: Mapping[str, Value], curves: list[str]) -> None:
    """Write what HPARAMS shows, and no scalars: it reads the last point of curves that are there already.

    Args:
        logger: where the run logs to.
        settings: single values by name.
        curves: tags of scalars.
    """
    writer = logger.experiment.file_writer
    if writer is not None:
        summaries = hparams(dict(settings), dict.fromkeys(curves, 0.0))  # type: ignore[no-untyped-call]
        for summary in summaries:
            writer.add_summary(summary)


def _of(settings: Any, *keys: str) -> Any:
    """A nested setting, or ``None`` where there is none: losses and rates may be given as objects."""
    for key in keys:
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings
