"""Penalties over some of the sites."""

from abc import abstractmethod

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_flag, check_list
from spd_lightning.functional import (
    contribution_sparsity,
    full_precision,
    importance_covariance,
    rank_penalty,
    written_length,
)
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.sharing import mean_over_processes, processes
from spd_lightning.losses.step import Step
from spd_lightning.model import DecomposedModel
from spd_lightning.model.wrapping import site_of

TINY = 1e-12
"""Where nothing is written there is no unit."""


class SitewisePenalty(Loss):
    """A penalty over some of the sites.

    Args:
        coefficient: weight of the term.
        sites: ``fnmatch`` patterns of the sites it is taken over; ``None`` for all.
        coefficient_points: as in :class:`Loss`.
    """

    needs = DecomposedModel

    def __init__(
        self,
        coefficient: float = 3e-5,
        sites: list[str] | None = None,
        coefficient_points: list[tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(coefficient, coefficient_points)
        check_list(f"{type(self).__name__}: sites", [] if sites is None else sites)
        self.sites = ["*"] if sites is None else list(sites)

    def chosen(self, step: Step) -> list[str]:
        """Names of the sites that it is taken over."""
        return self.matching(self.sites, step.model.site_names)


class CallwisePenalty(SitewisePenalty):
    """A penalty on what happens on examples at some of the sites.

    Those of the package suit sites that should come apart into one component per feature, not those whose components
    act together. Arguments are those of :class:`SitewisePenalty`.
    """

    def forward(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        names = self.chosen(step)
        terms = [self.of_call(call, step) for call in step.importance if site_of(call) in names]
        return torch.stack(terms).sum()

    @abstractmethod
    def of_call(self, call: str, step: Step) -> Tensor:
        """One site call's part of the term."""


class ContributionSparsity(CallwisePenalty):
    """Summed length of what every component writes, mean over examples (ours).

    Of two components that are both important on an example nothing else says how they divide what the target's layer
    writes there: masks leave both alone, and their sum is all that faithfulness sees. This term says that one should
    write it. A component then no longer reads what is another's, and its gate can close on it. Weak features lose their
    components to it unless they have them before it sets in.

    Args:
        coefficient: weight of the term.
        sites: ``fnmatch`` patterns of the sites it is taken over; ``None`` for all.
        coefficient_points: as in :class:`Loss`.
        relative: whether each site's sum is divided by the length of what its components write together on the same
            batch. It is then 1 where one component writes all, whatever the scale of the weights.
    """

    def __init__(
        self,
        coefficient: float = 3e-5,
        sites: list[str] | None = None,
        coefficient_points: list[tuple[float, float]] | None = None,
        relative: bool = False,
    ) -> None:
        super().__init__(coefficient, sites, coefficient_points)
        check_flag("relative", relative)
        self.relative = relative

    def of_call(self, call: str, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.contribution_sparsity`."""
        read = step.inner(call)  # a product like any other, rounded under mixed precision
        with full_precision(read):
            write, weights = step.model.components[site_of(call)].U, step.weights_of(read)
            summed = contribution_sparsity([(read, write)], weights)
            return summed / self._unit(read.detach(), write.detach(), weights) if self.relative else summed

    @staticmethod
    def _unit(read: Tensor, write: Tensor, weights: Tensor | None) -> Tensor:
        whole = written_length(read, write, weights)
        return (mean_over_processes(whole) if processes() > 1 else whole).clamp_min(TINY)


class ImportanceCovariance(CallwisePenalty):
    """Summed covariance of the importances of different components of a site (ours).

    Where features come and go independently, so should the components that stand for them. One that answers to a
    second feature is important together with that feature's own more often than by chance, and pays; one that answers
    to a single feature, however weak, pays nothing on average. What makes components dearer by how often they are
    important cannot tell these two apart. Components that two features share pay nothing either: it should set in once
    every feature has one of its own. Arguments are those of :class:`SitewisePenalty`.
    """

    def of_call(self, call: str, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.importance_covariance`."""
        bounded = step.importance[call].upper.clamp(max=1.0)  # else it could fall without end
        with full_precision(bounded):  # small differences of large numbers
            return importance_covariance([bounded], step.weights_of(bounded), step.combine)


class RankPenalty(SitewisePenalty):
    """Summed lengths of components relative to their site's weight, to a power below 1 (ours).

    Components that act together share out a matrix in any way they like: importances say what acts, not in how many
    pieces, and more pieces than the rank may stay in use. The fewer pieces, the less this costs, and no fewer than the
    rank are faithful. Where more features than the rank have components of their own, it would merge them: name the
    sites that it suits. It pulls on lengths too, so that it should be weak, or fall towards the end.

    Args:
        coefficient: weight of the term.
        power: of the lengths, above 0 and at most 1; the smaller, the closer to a count.
        sites: ``fnmatch`` patterns of the sites it is taken over; ``None`` for all.
        coefficient_points: as in :class:`Loss`.
    """

    def __init__(
        self,
        coefficient: float = 1e-4,
        power: float = 0.5,
        sites: list[str] | None = None,
        coefficient_points: list[tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(coefficient, sites, coefficient_points)
        self.power = check_positive("power", power)
        if power > 1:
            raise UsageError(f"power must be at most 1, got {power}; above 1 many short components would be cheapest")

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.rank_penalty`."""
        parts = [step.model.components[name] for name in self.chosen(step)]
        return rank_penalty([(part.V, part.U, part.site.weight()) for part in parts], self.power)
