"""Repeats a training step that was kept because its numbers were not finite."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import read_pickled
from spd_lightning.functional import WeightedBatch
from spd_lightning.losses import Noise
from spd_lightning.methods.checkpointed import CHECKPOINT_KEY, KEPT_STEP
from spd_lightning.methods.decomposition import Decomposition
from spd_lightning.methods.known import METHODS
from spd_lightning.methods.non_finite import KEPT_FORMAT
from spd_lightning.methods.stochastic import StochasticDecomposition


class RepeatedStep(NamedTuple):
    """A step taken again, up to its gradients; the update is not applied.

    Attributes:
        module: the decomposition as it was before the step, with the step's gradients.
        batch: what the step was taken on.
        loss: the weighted sum of the terms.
        terms: each term, unweighted and detached, by name.
        told: what the run said about the step.
    """

    module: Decomposition
    batch: Any
    loss: Tensor
    terms: dict[str, Tensor]
    told: str


def repeat_step(path: str | Path, target: nn.Module | None = None) -> RepeatedStep:
    """Take a kept step again, on the CPU: the same numbers where the run was on this machine's CPU.

    Args:
        path: a file ``non_finite/step=N.pt`` of a run directory. Reading it runs no code from it.
        target: an instance of the decomposed network, where its class cannot be built from named arguments.

    Returns:
        The step. Of accumulated batches, the last one alone.

    Raises:
        UsageError: if the file is missing, damaged, or no kept step.
    """
    kept = read_pickled(Path(path), "kept step")
    step = kept.get(KEPT_STEP) if isinstance(kept, dict) else None
    if not isinstance(step, dict) or step.get("format") != KEPT_FORMAT:
        raise UsageError(
            f"kept step {str(path)!r} is not of format {KEPT_FORMAT}, the one that this version reads; use the version "
            "of spd_lightning that wrote it"
        )
    given: dict[str, Any] = {} if target is None else {"target": target}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found keys that are in the model state dict")  # a target that was left out
        module = _method(kept).load_from_checkpoint(path, map_location="cpu", weights_only=True, **given)
    if not module.save_target and module.recipe is not None:
        module.recipe.prepare(module.target)
    batch = WeightedBatch(*step["batch"]) if step["weighted"] else step["batch"]
    loss, terms = module.objective(batch, Noise(tuple(step["key"]), torch.device("cpu")), step["progress"])
    loss.backward()  # type: ignore[no-untyped-call]
    return RepeatedStep(module, batch, loss.detach(), terms, step["told"])


def _method(kept: dict[str, Any]) -> type[Decomposition]:
    """The class that a file's stamp names; one without it is refused by that class."""
    stamp = kept.get(CHECKPOINT_KEY)
    name = stamp.get("method") if isinstance(stamp, dict) else None
    return METHODS.get(name, StochasticDecomposition) if isinstance(name, str) else StochasticDecomposition
