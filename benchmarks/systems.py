"""The systems that are measured: shipped configs, built without a trainer."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from benchmarks.reference_step import Formula
from spd_lightning import Faithfulness, ImportanceMinimality, Reconstruction, SparseFeatures, StochasticDecomposition
from spd_lightning.cli.arguments import shipped_configs

Config = dict[str, Any]
OTHERWISE_CALLED = {"tms": "tms_5-2"}
"""Our configs of the paper's systems whose name is not that of the paper's config."""
PAPER_ORDER = ("tms_5-2", "tms_5-2-id", "tms_40-10", "tms_40-10-id")


@dataclass(frozen=True)
class System:
    """A decomposition and its data."""

    module: StochasticDecomposition
    data: SparseFeatures


def names() -> list[str]:
    """Shipped configs of the paper's systems by path without ending, ``tms``, ``paper/tms_5-2``, ...; ours first."""
    folder = shipped_configs()
    rest = {path.stem for path in (folder / "paper").glob("*.yaml")}
    ours = sorted(path.stem for path in folder.glob("*.yaml") if OTHERWISE_CALLED.get(path.stem, path.stem) in rest)
    paper = [name for name in PAPER_ORDER if name in rest] + sorted(rest - set(PAPER_ORDER))
    return [*ours, *(f"paper/{name}" for name in paper)]


def read(name: str) -> Config:
    """A config's ``model`` and ``data``, without the recipe: random targets take the same time and need no training."""
    path: Path = shipped_configs() / f"{name}.yaml"
    document = yaml.safe_load(path.read_text())
    return {"model": {**document["model"], "recipe": None}, "data": document["data"]}


def build(
    config: Config, step: str = "fast", compiled: bool = True, merged: bool | None = None, seed: int = 0
) -> System:
    """Build what a config describes.

    Args:
        config: ``model`` and ``data``, as :func:`read` returns them.
        step: ``fast`` or ``plain``.
        compiled: whether a fast step may use compiled kernels.
        merged: whether batches merge empty examples; by default where the step is fast.
        seed: of the target's weights, the components, the gates and the data.

    Returns:
        Module and data.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(StochasticDecomposition, "model", fail_untyped=False)
    parser.add_subclass_arguments(SparseFeatures, "data", fail_untyped=False)
    filled = copy.deepcopy(config)
    filled["model"] |= {"seed": seed, "speed": {**filled["model"].get("speed", {}), "step": step, "compile": compiled}}
    filled["data"].setdefault("init_args", {}).update(
        {"seed": seed, "merge_empty": step == "fast" if merged is None else merged}
    )
    torch.manual_seed(seed)
    built = parser.instantiate_classes(parser.parse_object(filled))
    return System(built.model, built.data)


def formula(module: StochasticDecomposition) -> Formula:
    """The coefficients of a decomposition whose terms are the papers' four."""
    losses: dict[str, Any] = dict(module.losses.items())
    kinds = {
        "faithfulness": Faithfulness,
        "stochastic": Reconstruction,
        "layerwise": Reconstruction,
        "importance": ImportanceMinimality,
    }
    if {name: type(loss) for name, loss in losses.items()} != kinds:
        raise ValueError(f"the reference step knows the terms {list(kinds)}, not {list(losses)}")
    routings = [
        (losses[name].sources, losses[name].routing, losses[name].samples) for name in ("stochastic", "layerwise")
    ]
    if routings != [("uniform", "all", 1), ("uniform", "layerwise", 1)] or losses["importance"].p_final is not None:
        raise ValueError("the reference step knows one uniform draw per term and a fixed exponent")
    coefficients = {name: float(loss.coefficient) for name, loss in losses.items()}
    return Formula(**coefficients, p=losses["importance"].p)


def train_target(name: str) -> None:
    """Train a config's target by its own recipe, unless the cache has it."""
    document = yaml.safe_load((shipped_configs() / f"{name}.yaml").read_text())
    module = build({"model": document["model"], "data": document["data"]}).module
    if module.recipe is not None:
        module.recipe.prepare(module.target)
