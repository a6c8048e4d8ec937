"""Reconstruction of what happens inside the target, not only of its output."""

from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_choice, check_list
from spd_lightning.functional import average, distance
from spd_lightning.losses.base import Loss
from spd_lightning.losses.sources import fixed_masks, stochastic_masks
from spd_lightning.losses.step import Step
from spd_lightning.model import DecomposedModel

ActivationSources = Literal["uniform", "ci"]


class ActivationReconstruction(Loss):
    """Squared error of what modules put out in the masked network, all sites on components, against the target's own.

    Mean over positions and entries of each module's output, then over modules (later SPD library, hidden activations).

    Args:
        coefficient: weight of the term.
        of: ``fnmatch`` patterns of module paths; ``null`` for the modules of all sites.
        sources: ``"uniform"``, stochastic masks, or ``"ci"``, importances as masks.

    Raises:
        UsageError: for another choice of sources, or patterns that match no module.
    """

    needs = DecomposedModel

    def __init__(
        self, coefficient: float = 1.0, of: list[str] | None = None, sources: ActivationSources = "uniform"
    ) -> None:
        super().__init__(coefficient)
        check_list("ActivationReconstruction: of", [] if of is None else of)
        check_choice("sources", sources, get_args(ActivationSources))
        self.of, self.sources = None if of is None else list(of), sources

    def forward(self, step: Step) -> Tensor:
        """The mean over modules."""
        names = self._names(step)
        masks = (
            fixed_masks(step, "ci")
            if self.sources == "ci"
            else stochastic_masks(step, "uniform", step.noise.generator("activations"))
        )
        with torch.no_grad():
            wanted = step.keeping({}, names)
        found = step.keeping(masks, names)
        return average([distance("mse", found[name], own, step.weights_of(own)) for name, own in wanted.items()])

    def _names(self, step: Step) -> list[str]:
        if self.of is None:
            return list(step.model.wrapping.modules)
        paths = [name for name, _ in step.model.target.named_modules() if name]
        found = [name for name in paths if any(fnmatchcase(name, pattern) for pattern in self.of)]
        if not found:
            raise UsageError(f"ActivationReconstruction: of {self.of} match no module of the target")
        return found
