"""When each component was last important."""

import torch
from torch import Tensor, distributed

from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import is_plain
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import Step
from spd_lightning.losses.sharing import processes
from spd_lightning.model import ComponentModel
from spd_lightning.model.wrapping import site_of


class LastUse:
    """At which step each component was last important, at any position of any example (ours).

    A single batch does not show what is rare: a component for a rare token is not important in most batches.

    Args:
        model: whose components they are.
    """

    def __init__(self, model: ComponentModel) -> None:
        self._alike = model.alike
        self._counts = [model.components[sites[0]].n_components for sites in self._alike]
        self.steps = torch.zeros(sum(self._counts), dtype=torch.long)

    def note(self, step: Step, number: int) -> None:
        """Take down which components a training step finds important; to be called by every process.

        Args:
            step: what was seen; of several processes, each its own part.
            number: of the step.
        """
        largest = torch.cat([self._largest(step, sites) for sites in self._alike])
        if processes() > 1:
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        self.steps = torch.where(largest > ALIVE_THRESHOLD, number, self.steps.to(largest.device))

    def before(self, number: float) -> dict[str, Tensor]:
        """Which components were last important before a step.

        Args:
            number: of the step.

        Returns:
            ``[C]`` on the CPU, by the first of all sites that share them.
        """
        parts = torch.split((self.steps < number).cpu(), self._counts)
        return {sites[0]: part for sites, part in zip(self._alike, parts, strict=True)}

    def load(self, steps: Tensor | None, number: int) -> None:
        """Go on from what a checkpoint says.

        Args:
            steps: as they were; ``None`` where it does not say, and all count as used until then.
            number: of the checkpoint's step.

        Raises:
            UsageError: if they are those of another number of components.
        """
        if steps is None:
            steps = torch.full_like(self.steps, number)
        if not is_plain(steps) or steps.shape != self.steps.shape:
            raise UsageError("the checkpoint is damaged: it does not say when each component was last important")
        self.steps = steps.to(self.steps)

    def _largest(self, step: Step, sites: tuple[str, ...]) -> Tensor:
        """Each component's largest importance over the calls of some sites, ``[C]``."""
        # detached once they are there: a form may compute them when they are first asked for, with gradient for all
        uppers = [importance.upper.detach() for call, importance in step.importance.items() if site_of(call) in sites]
        return torch.stack([_largest_of(upper, step.weights_of(upper)) for upper in uppers]).amax(0)


def _largest_of(upper: Tensor, weights: Tensor | None) -> Tensor:
    upper = upper.flatten(0, -2)
    if not len(upper):  # a process may hold no row of a batch
        return upper.new_zeros(upper.shape[-1])
    return upper.amax(0) if weights is None else torch.where(weights.flatten()[:, None] > 0, upper, 0.0).amax(0)
