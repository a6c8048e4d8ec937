"""What is lost as fewer and fewer components are kept."""

import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from spd_lightning.callbacks.evaluation import EvaluationCallback, log_scores
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.callbacks.task_performance import fitting_labels, labelled
from spd_lightning.errors import UsageError, check_list
from spd_lightning.figures import sparsity_curve
from spd_lightning.losses import Step, check_positive
from spd_lightning.losses.sources import rounded_masks, zero_masks
from spd_lightning.methods import Decomposition

THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.5, 0.9)


class SparsityCurve(EvaluationCallback):
    """Rounds importances at several thresholds, and draws what the output loses over how many components are kept.

    ``sparsity/l0/T``, the mean number of components above the threshold over all sites; ``sparsity/distance/T``, that
    of the output with these alone; and where batches have labels ``sparsity/cross_entropy/T``. One threshold can
    flatter; the curve shows whether there is a good one.

    Args:
        thresholds: of importance, in rising order.
        every_n_validations: how often the curve is taken while training.

    Raises:
        UsageError: for thresholds below 0 or out of order.
    """

    def __init__(self, thresholds: list[float] | None = None, every_n_validations: int = 5) -> None:
        super().__init__(every_n_validations)
        thresholds = list(THRESHOLDS) if thresholds is None else thresholds
        check_list("SparsityCurve: thresholds", thresholds)
        for threshold in thresholds:
            check_positive("SparsityCurve: thresholds: each", threshold, allow_zero=True)
        if not thresholds or sorted(set(thresholds)) != thresholds:
            raise UsageError(f"SparsityCurve: thresholds must rise, and there must be one, got {thresholds}")
        self.thresholds = thresholds

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh means."""
        self._means: dict[str, MeanMetric] = {}

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Round one batch at every threshold."""
        labels = fitting_labels(step)
        for threshold in self.thresholds:
            self._mean(f"l0/{threshold:g}", step.l0(threshold), step.mass)
            self._compare(f"{threshold:g}", module, step, step.masked(rounded_masks(step, threshold)), labels)
        self._compare("zero", module, step, step.masked(zero_masks(step)), labels)
        if labels is not None:
            self._entropy("target", step.clean.output, labels)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log the points, draw the curve on rank zero."""
        found = {name: mean.compute().item() for name, mean in self._means.items()}
        names = [f"{threshold:g}" for threshold in self.thresholds]
        log_scores(
            module, f"{stage}/sparsity", {name: value for name, value in found.items() if not name.endswith("/zero")}
        )
        if not trainer.is_global_zero:
            return
        kind = "cross_entropy" if "cross_entropy/target" in found else "distance"
        points = {name: (found[f"l0/{name}"], found[f"{kind}/{name}"]) for name in names}
        lines = {"everything ablated": found[f"{kind}/zero"]}
        if kind == "cross_entropy":
            lines["the target itself"] = found["cross_entropy/target"]
        unit = "cross entropy" if kind == "cross_entropy" else module.distance
        arrays = {name: torch.tensor(point) for name, point in points.items()}
        publish_figure(trainer, f"{stage}/sparsity_curve", sparsity_curve(points, lines, unit), arrays)

    def _compare(self, name: str, module: Decomposition, step: Step, output: Tensor, labels: Tensor | None) -> None:
        self._mean(f"distance/{name}", step.distance(module.distance, output), step.mass)
        if labels is not None:
            self._entropy(name, output, labels)

    def _entropy(self, name: str, output: Tensor, labels: Tensor) -> None:
        logits, known = labelled(output, labels)
        self._mean(f"cross_entropy/{name}", F.cross_entropy(logits, known), len(known))

    def _mean(self, name: str, value: Tensor, weight: float) -> None:
        self._means.setdefault(name, MeanMetric().to(value.device)).update(value, weight=weight)
