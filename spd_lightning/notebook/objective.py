"""An objective for a network that nobody has tuned anything for (ours): every term in units of the network itself."""

from typing import Any

import torch

from spd_lightning.errors import UsageError
from spd_lightning.functional import distance
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Faithfulness, ImportanceMinimality, Loss, Noise, Reconstruction, Step
from spd_lightning.losses.sources import zero_masks
from spd_lightning.model import DecomposedModel

FAITHFULNESS = 30.0
"""Coefficient of faithfulness where the weights' mean square is 1."""


def distance_of(model: DecomposedModel, batch: Any) -> DistanceKind:
    """``"kl"`` where the batch has labels and the output a logit for each of them, else ``"mse"``."""
    labels, output = model.call.labels_of(batch), model.clean(batch).output
    fits = labels is not None and labels.shape == output.shape[:-1] and output.shape[-1] > int(labels.max())
    return "kl" if fits else "mse"


@torch.no_grad()
def cost_of_everything(model: DecomposedModel, batch: Any, kind: DistanceKind) -> float:
    """Distance of the output from the target's with every site ablated, the unit of all reconstruction terms.

    Raises:
        UsageError: if ablating all sites changes nothing.
    """
    step = Step.of(model, batch, Noise(("cost",), next(model.target.parameters()).device))
    output = step.clean.output
    cost = distance(kind, step.masked(zero_masks(step)), output, step.weights_of(output)).item()
    if not cost > 0:
        raise UsageError("sites: ablating all of them does not change the output; choose sites that matter")
    return cost


def objective(model: DecomposedModel, batch: Any, kind: DistanceKind, coefficient: float) -> dict[str, Loss]:
    """Terms for a network, measured on one batch.

    Args:
        model: the decomposition; nothing of it changes.
        batch: some examples.
        kind: distance of outputs.
        coefficient: what a component must be worth to be kept, as a share of what ablating everything costs.

    Returns:
        Faithfulness relative to the size of the weights; stochastic and adversarial reconstruction relative to
        the cost of ablating everything; importance minimality, its exponent going from 2 to 0.5.
    """
    cost = cost_of_everything(model, batch, kind)
    weights = [parts.site.weight() for parts in model.components.values()]
    size = sum(w.double().square().sum().item() for w in weights) / sum(w.numel() for w in weights)
    return {
        "faithfulness": Faithfulness(FAITHFULNESS / max(size, 1e-12)),
        "stochastic": Reconstruction(1 / cost, routing="subset", distance=kind),
        "adversary": Reconstruction(
            1 / cost, sources="adversarial", distance=kind, adversary_steps=4, adversary_step_size=0.5
        ),
        "importance": ImportanceMinimality(coefficient, p=2.0, p_final=0.5, anneal_start=0.2, anneal_end=0.8),
    }
