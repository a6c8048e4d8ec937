"""Importance and frequency in a form whose gradient stays bounded, for long runs (later SPD work)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_number
from spd_lightning.functional import (
    component_shares,
    frequency_cost,
    geometric_anneal,
    smooth_importance,
    smooth_l0,
)
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.step import Step
from spd_lightning.model import DecomposedModel


class SmoothImportance(Loss):
    """Sum over sites and components of ``g² / (g² + γ²)``, mean over positions, on upper-leaky importances.

    A count of components in use that training can follow: γ shrinks geometrically (the path is ours, its ends are
    published), and what is counted comes closer to L0. Unlike ``g ** p`` with p below 1 its slope is bounded, so that
    long runs do not collapse.

    Args:
        coefficient: weight of the term.
        gamma: importance that counts as one half at the start of training.
        gamma_final: the same at the end.
        gamma_end: fraction of training at which γ arrives, above 0; it stays there.
    """

    needs = DecomposedModel

    def __init__(
        self, coefficient: float = 2e-4, gamma: float = 1.0, gamma_final: float = 0.01, gamma_end: float = 0.9
    ) -> None:
        super().__init__(coefficient)
        self.gamma, self.gamma_final = check_positive("gamma", gamma), check_positive("gamma_final", gamma_final)
        check_number("gamma_end", gamma_end)
        if not 0 < gamma_end <= 1:
            raise UsageError(f"gamma_end must be above 0 and at most 1, got {gamma_end}")
        self.gamma_end = gamma_end

    def gamma_at(self, progress: float) -> float:
        """γ at a fraction of training."""
        return geometric_anneal(progress, self.gamma, self.gamma_final, (0.0, self.gamma_end))

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.smooth_importance`."""
        uppers = [importance.upper for importance in step.importance.values()]
        return smooth_importance(uppers, self.gamma_at(step.progress), [step.weights_of(upper) for upper in uppers])


class SmoothFrequency(SmoothImportance):
    """``f log2(1 + reference f)`` summed over sites and components, ``f`` the mean of ``g² / (g² + γ²)``.

    Beside :class:`SmoothImportance` it makes components that many positions need dearer than those that few need. With
    a half-life the value comes from a moving average of ``f`` over steps, without the bias of its start, and the
    gradient from the batch: a batch sees a rare component seldom.

    Args:
        coefficient: weight of the term; about half of the importance term's.
        reference: the number of positions that the logarithm counts on, above 0.
        gamma: importance that counts as one half at the start of training.
        gamma_final: the same at the end.
        gamma_end: fraction of training at which γ arrives.
        half_life: steps over which an old ``f`` loses half its weight, those that add up several batches counted
            once; ``None`` takes the batch's alone.
    """

    def __init__(
        self,
        coefficient: float = 1e-4,
        reference: float = 10_000.0,
        gamma: float = 1.0,
        gamma_final: float = 0.01,
        gamma_end: float = 0.9,
        half_life: float | None = None,
    ) -> None:
        super().__init__(coefficient, gamma, gamma_final, gamma_end)
        self.reference = check_positive("reference", reference)
        self.half_life = None if half_life is None else check_positive("half_life", half_life)
        self._averages: dict[str, Tensor] = {}
        self._pending: list[dict[str, Tensor]] = []
        self._seen = 0

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.frequency_cost`."""
        gamma = self.gamma_at(step.progress)
        uppers = {call: importance.upper for call, importance in step.importance.items()}
        shares = {
            call: component_shares(smooth_l0(g, gamma), step.weights_of(g), step.combine) for call, g in uppers.items()
        }
        return frequency_cost((shares if self.half_life is None else self._averaged(shares)).values(), self.reference)

    def _averaged(self, shares: dict[str, Tensor]) -> dict[str, Tensor]:
        """The moving averages as these shares would move them, with the gradient of the batch's shares."""
        constant = {call: f.detach() for call, f in shares.items()}
        if torch.is_grad_enabled():
            self._pending.append(constant)
        unbiased = 1 - self._keep ** (self._seen + 1)
        averages = {call: average / unbiased for call, average in self._moved(constant).items()}
        return {call: f + (averages[call] - f).detach() for call, f in shares.items()}

    def observe(self, terms: Mapping[str, Tensor], progress: float) -> None:
        """Let the averages move, once a step, however many batches it adds up."""
        pending, self._pending = self._pending, []
        if pending:
            shares = {call: torch.stack([part[call] for part in pending]).mean(0) for call in pending[0]}
            self._averages, self._seen = self._moved(shares), self._seen + 1

    @property
    def _keep(self) -> float:
        assert self.half_life is not None
        return float(0.5 ** (1 / self.half_life))

    def _moved(self, shares: dict[str, Tensor]) -> dict[str, Tensor]:
        keep = self._keep
        return {
            call: keep * self._averages.get(call, torch.zeros_like(f)).to(f) + (1 - keep) * f
            for call, f in shares.items()
        }

    def state(self) -> dict[str, Any] | None:
        """The averages, and the number of steps that they have seen."""
        if not self._seen:
            return None
        return {"averages": {call: average.cpu() for call, average in self._averages.items()}, "seen": self._seen}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the averages of a checkpoint."""
        self._averages, self._seen = dict(state["averages"]), int(state["seen"])
