"""How far the fast step is from the papers' step in double precision, under the same noise."""

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import KINDS, Kind, Loop
from benchmarks.options import Options
from benchmarks.reference_step import ReferenceStep
from benchmarks.same_noise import noise_of
from spd_lightning import StochasticDecomposition
from spd_lightning.functional import WeightedBatch
from spd_lightning.losses import Noise, Step
from spd_lightning.model import FastForm, PlainForm

Batch = Tensor | WeightedBatch
EXAMPLES, STEPS, SLOW_STEPS = 150, 20, 4
LARGE_GATES = 64
"""Hidden width from which fewer steps are taken before comparing."""


def measure(options: Options) -> list[dict[str, Any]]:
    """One row per system and form: the loss's relative error and the largest of all parameters' gradients."""
    cases = [(name, kind) for name in options.systems for kind in KINDS if kind != "reference"]
    return [_compare(name, kind) for name, kind in tqdm(cases, desc="Equality")]


def _compare(name: str, kind: Kind) -> dict[str, Any]:
    config = systems.read(name)
    width = config["model"]["importance"]["init_args"]["function"]["init_args"]["hidden"][0]
    loop = Loop(config, kind, merged=True)
    for _ in range(SLOW_STEPS if width >= LARGE_GATES else STEPS):
        loop.step()
    errors = relative_errors(loop.module, loop.data.batch("val", 0, EXAMPLES), seed=0)
    loss = errors.pop("loss")
    worst = max(errors, key=lambda parameter: errors[parameter])
    return {"system": name, "kind": kind, "loss": loss, "gradient": errors[worst], "parameter": worst}


def split(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Examples and, where they have any, their weights."""
    return (batch.x, batch.weights) if isinstance(batch, WeightedBatch) else (batch, None)


def relative_errors(module: StochasticDecomposition, batch: Batch, seed: int) -> dict[str, float]:
    """Compare an objective with the reference step's, which sees the same parameters, batch and noise.

    Args:
        module: the decomposition, computing its step in whichever way it is set to.
        batch: examples.
        seed: of the noise.

    Returns:
        By parameter, the norm of the gradients' difference relative to the reference gradient's; ``loss`` likewise.
    """
    noise = Noise(("equality", seed), torch.device("cpu"))
    drawn = noise_of(_seen(module, batch, noise))
    trained = {name: p for name, p in module.model.named_parameters() if p.requires_grad}
    reference = ReferenceStep(module.model, systems.formula(module), torch.float64)
    found, wanted = module.objective(batch, noise)[0], reference(*split(batch), drawn)[0]
    gradients = [torch.autograd.grad(total, list(trained.values())) for total in (found, wanted)]
    errors = {"loss": _relative(found, wanted)}
    return errors | {name: _relative(*pair) for name, pair in zip(trained, zip(*gradients, strict=True), strict=True)}


def _seen(module: StochasticDecomposition, batch: Batch, noise: Noise) -> Step:
    """What the module sees of a batch, with tables as fine as training would make them."""
    if not module.fused:
        return Step.seen(PlainForm(module.model, batch), noise)
    module.tables.check(FastForm(module.model, batch, module.tables.options), at_start=False)
    return Step.seen(module.form_of(batch), noise)


def _relative(found: Tensor, wanted: Tensor) -> float:
    """Infinite where there is nothing to compare with."""
    norm = wanted.double().norm()
    return ((found.double() - wanted.double()).norm() / norm).item() if norm else float("inf")
