"""What every loss of one training step shares."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator

from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.model import CausalImportance, CleanPass, DecomposedModel


@dataclass(frozen=True)
class Noise:
    """Randomness of one step, by purpose: two purposes never share a stream, nor do two steps or ranks.

    Attributes:
        key: what the streams are keyed by, such as ``(seed, step, rank)``.
        device: where draws are made.
    """

    key: tuple[int | str, ...]
    device: torch.device

    def named(self, purpose: str) -> "Noise":
        """The streams of one purpose."""
        return replace(self, key=(*self.key, purpose))

    def generator(self, *purpose: int | str) -> Generator:
        """A fresh generator for a purpose."""
        return keyed_generator(*self.key, *purpose, device=self.device)


@dataclass(frozen=True)
class Step:
    """One batch, seen once by the target and the causal-importance functions, for all losses.

    Attributes:
        model: the decomposition.
        x: the batch, as the target takes it.
        clean: the target's output and site inputs, without gradient.
        importance: causal importances per site, with gradient.
        noise: where masks and subsets are drawn from.
        progress: fraction of training done, for schedules.
    """

    model: DecomposedModel
    x: Any
    clean: CleanPass
    importance: dict[str, CausalImportance]
    noise: Noise
    progress: float = 0.0

    @classmethod
    def of(cls, model: DecomposedModel, x: Any, noise: Noise, progress: float = 0.0) -> "Step":
        """Run the clean pass and predict importances."""
        clean = model.clean(x)
        return cls(model, x, clean, model.causal_importance(clean.site_inputs), noise, progress)

    def named(self, purpose: str) -> "Step":
        """The same step with the streams of one purpose."""
        return replace(self, noise=self.noise.named(purpose))
