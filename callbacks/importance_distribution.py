"""How causal importances are distributed over examples and components."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import EvaluationCallback
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import check_whole
from spd_lightning.figures import importance_histograms, importance_spectrum
from spd_lightning.losses import Step
from spd_lightning.methods import Decomposition
from spd_lightning.metrics import MeanCausalImportance

MAX_BINS = 10_000


class ImportanceDistribution(EvaluationCallback):
    """Draws per site a histogram of lower-leaky importances and the sorted mean importance per component.

    Args:
        bins: number of equal bins on [0, 1].
        every_n_validations: how often the pictures are drawn while training.
    """

    def __init__(self, bins: int = 50, every_n_validations: int = 5) -> None:
        super().__init__(every_n_validations)
        check_whole("bins", bins, least=1, most=MAX_BINS)
        self.bins = bins

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh counts per site."""
        self._counts: dict[str, Tensor] = {}
        self._means: dict[str, MeanCausalImportance] = {}

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Count one batch."""
        for name, importance in step.importance.items():
            # histc is not differentiable and not available for every device's half types
            counted = step.counted(importance.lower.detach())
            if name not in self._counts:
                self._counts[name] = torch.zeros(self.bins, device=module.device)
                self._means[name] = MeanCausalImportance(counted.shape[-1]).to(module.device)
            self._counts[name] += torch.histc(counted.float().clamp(0, 1).cpu(), self.bins, 0, 1).to(module.device)
            self._means[name].update(counted)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Sum over processes, then draw on rank zero."""
        counts = {name: trainer.strategy.reduce(count, reduce_op="sum") for name, count in self._counts.items()}
        means = {name: metric.compute() for name, metric in self._means.items()}
        if trainer.is_global_zero:
            histograms = importance_histograms(counts, module.model.batch_importance)
            publish_figure(trainer, f"{stage}/importance_histogram", histograms, counts)
            publish_figure(trainer, f"{stage}/importance_spectrum", importance_spectrum(means), means)
