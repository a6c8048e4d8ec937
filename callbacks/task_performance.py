"""Does the network still do its task, by the labels of the data?"""

import torch.nn.functional as F  # noqa: N812
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from spd_lightning.callbacks.evaluation import EvaluationCallback, log_scores
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import Step, check_positive
from spd_lightning.losses.sources import fixed_masks, rounded_masks, stochastic_masks, zero_masks
from spd_lightning.methods import Decomposition
from spd_lightning.model.call import IGNORED


class TaskPerformance(EvaluationCallback):
    """Accuracy and cross entropy of the target and of the masked network, where batches have labels.

    Labels are what :meth:`TargetCall.labels_of` finds; the output has to be logits, one row for each of them. Training
    never sees labels: these scores say what a distance from the target's output means for what the network is for.
    ``task/accuracy/target``, ``unmasked``, ``ci_masked`` (importances as masks), ``rounded``, ``stochastic`` (random
    masks) and ``zero``, the same for ``task/cross_entropy``. Nothing is logged where there are no labels.

    Args:
        rounding_threshold: importance above which ``rounded`` keeps a component.
        every_n_validations: how often the scores are taken while training.
    """

    def __init__(self, rounding_threshold: float = ALIVE_THRESHOLD, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        self.rounding_threshold = check_positive("rounding_threshold", rounding_threshold, allow_zero=True)
        self._means: dict[str, MeanMetric] = {}

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh means."""
        self._means = {}

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Compare one batch with its labels."""
        labels = fitting_labels(step)
        if labels is None:
            return
        masks = {
            "unmasked": fixed_masks(step, "ones"),
            "ci_masked": fixed_masks(step, "ci"),
            "rounded": rounded_masks(step, self.rounding_threshold),
            "stochastic": stochastic_masks(step, "uniform", step.noise.generator("task")),
            "zero": zero_masks(step),
        }
        self._score("target", step.clean.output, labels)
        for name, kind in masks.items():
            self._score(name, step.masked(kind), labels)

    def _score(self, name: str, logits: Tensor, labels: Tensor) -> None:
        logits, labels = labelled(logits, labels)
        scores = {
            "accuracy": (logits.argmax(-1) == labels).float().mean(),
            "cross_entropy": F.cross_entropy(logits, labels),
        }
        for kind, score in scores.items():
            mean = self._means.setdefault(f"{kind}/{name}", MeanMetric().to(logits.device))
            mean.update(score, weight=len(labels))

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log the means."""
        log_scores(module, f"{stage}/task", {name: mean.compute().item() for name, mean in self._means.items()})


def labelled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[n, classes]`` and labels ``[n]``, those alone that have a label."""
    known = labels != IGNORED
    return logits[known].float(), labels[known]


def fitting_labels(step: Step) -> Tensor | None:
    """Labels of the batch that fit its output, if it has any."""
    return step.model.call.fitting_labels(step.batch, step.clean.output)
