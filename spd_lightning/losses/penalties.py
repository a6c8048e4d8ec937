"""Losses that do not run the network: faithfulness, importance minimality, frequency minimality."""

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_number
from spd_lightning.functional import (
    frequency_minimality,
    geometric_anneal,
    linear_anneal,
    relative_faithfulness,
)
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.step import Step
from spd_lightning.model import DecomposedModel


def check_window(name: str, start: float, end: float) -> tuple[float, float]:
    """Two fractions of training in order, or a :class:`UsageError` that names the arguments."""
    check_number(f"{name}_start", start)
    check_number(f"{name}_end", end)
    if not 0 <= start <= end <= 1:
        raise UsageError(f"{name}_start and {name}_end must satisfy 0 <= start <= end <= 1, got {start}, {end}")
    return start, end


class Faithfulness(Loss):
    """Mean squared entry of ``W - (V U)ᵀ`` over all decomposed matrices (SPD paper).

    Args:
        coefficient: weight of the term; 1 in every config of the paper.
    """

    def __init__(self, coefficient: float = 1.0) -> None:
        super().__init__(coefficient)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.faithfulness`."""
        return step.faithfulness()


class RelativeFaithfulness(Loss):
    """Mean over decomposed matrices of ``||W - (V U)ᵀ||² / ||W||²`` (VPD).

    A small matrix counts as much as a large one, and the coefficient does not depend on the scale of the weights.

    Args:
        coefficient: weight of the term; 30 in the objectives of this package.
    """

    def __init__(self, coefficient: float = 1.0) -> None:
        super().__init__(coefficient)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.relative_faithfulness`."""
        parts = step.model.explained()
        return relative_faithfulness((part.delta(), part.site.weight()) for part in parts)


class ImportanceMinimality(Loss):
    """Sum of ``g ** p`` over sites and components, mean over examples, on upper-leaky importances (SPD paper).

    Args:
        coefficient: weight of the term (the paper's beta_3). It is tuned to the data's sparsity and scale.
        p: exponent at the start of training. The paper uses 1 or 2.
        p_final: exponent at the end; ``None`` keeps ``p``. The exponent moves linearly inside the window.
        anneal_start: fraction of training at which the exponent starts to move.
        anneal_end: fraction of training at which it arrives.
        eps: added inside the power.
        coefficient_final: coefficient at the end; ``None`` keeps ``coefficient``. It moves geometrically (ours): a
            strong penalty early keeps features from sharing components, a weak one late spares weak ones.
        coefficient_start: fraction of training at which the coefficient starts to move.
        coefficient_end: fraction of training at which it arrives, above 0.
        coefficient_points: in place of the last three, for longer paths: fractions of training in order, each with the
            coefficient there (ours). It moves geometrically; next to a 0 it stays, then jumps.
    """

    needs = DecomposedModel

    def __init__(
        self,
        coefficient: float = 1e-3,
        p: float = 1.0,
        p_final: float | None = None,
        anneal_start: float = 0.0,
        anneal_end: float = 1.0,
        eps: float = 1e-12,
        coefficient_final: float | None = None,
        coefficient_start: float = 0.0,
        coefficient_end: float = 1.0,
        coefficient_points: list[tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(coefficient, coefficient_points)
        self.p = check_positive("p", p)
        self.p_final = None if p_final is None else check_positive("p_final", p_final)
        self.anneal_start, self.anneal_end = check_window("anneal", anneal_start, anneal_end)
        self.eps = check_positive("eps", eps, allow_zero=True)
        if coefficient_final is not None:
            check_positive("coefficient_final", coefficient_final)
            check_positive("coefficient, where coefficient_final is given,", coefficient)
        self.coefficient_final = coefficient_final
        check_number("coefficient_end", coefficient_end)
        if not 0 < coefficient_end <= 1:
            raise UsageError(f"coefficient_end must be above 0 and at most 1, got {coefficient_end}")
        self.coefficient_start, self.coefficient_end = check_window("coefficient", coefficient_start, coefficient_end)
        if coefficient_points is not None and (coefficient_final, coefficient_start, coefficient_end) != (None, 0, 1):
            raise UsageError(
                "coefficient_points stand in place of coefficient_final, coefficient_start and coefficient_end; "
                "leave these out"
            )

    def coefficient_at(self, progress: float) -> float:
        """The coefficient at a fraction of training."""
        if self.coefficient_final is None:
            return super().coefficient_at(progress)
        window = (self.coefficient_start, self.coefficient_end)
        return geometric_anneal(progress, self.coefficient, self.coefficient_final, window)

    def exponent(self, progress: float) -> float:
        """The exponent at a fraction of training."""
        final = self.p if self.p_final is None else self.p_final
        return linear_anneal(progress, self.p, final, (self.anneal_start, self.anneal_end))

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.importance_minimality`."""
        return step.penalty(step.importance, self.exponent(step.progress), self.eps)


class FrequencyMinimality(ImportanceMinimality):
    """``f log2(1 + reference f)`` summed over sites and components, ``f`` the mean of ``g ** p`` (later SPD library).

    Beside :class:`ImportanceMinimality` it makes components that are important on many examples dearer than those
    that few need, whatever their importance is there.

    Args:
        coefficient: weight of the term.
        reference: the number of examples that the logarithm counts on, above 0.
        p: exponent at the start of training, usually that of the importance penalty beside it.
        p_final: exponent at the end; ``None`` keeps ``p``.
        anneal_start: fraction of training at which the exponent starts to move.
        anneal_end: fraction of training at which it arrives.
        eps: added inside the power.
        coefficient_final: coefficient at the end; ``None`` keeps ``coefficient``. It moves geometrically (ours).
        coefficient_start: fraction of training at which the coefficient starts to move.
        coefficient_end: fraction of training at which it arrives, above 0.
        coefficient_points: in place of the last three, for longer paths: fractions of training in order, each with the
            coefficient there (ours). It moves geometrically; next to a 0 it stays, then jumps.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        reference: float = 10.0,
        p: float = 1.0,
        p_final: float | None = None,
        anneal_start: float = 0.0,
        anneal_end: float = 1.0,
        eps: float = 1e-12,
        coefficient_final: float | None = None,
        coefficient_start: float = 0.0,
        coefficient_end: float = 1.0,
        coefficient_points: list[tuple[float, float]] | None = None,
    ) -> None:
        moving = (coefficient_final, coefficient_start, coefficient_end, coefficient_points)
        super().__init__(coefficient, p, p_final, anneal_start, anneal_end, eps, *moving)
        self.reference = check_positive("reference", reference)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.frequency_minimality`."""
        p = self.exponent(step.progress)
        uppers = [importance.upper for importance in step.importance.values()]
        terms = [
            frequency_minimality([upper], p, self.reference, self.eps, step.weights_of(upper), step.combine)
            for upper in uppers
        ]
        return torch.stack(terms).sum()
