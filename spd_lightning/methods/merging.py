"""Components that are one in two pieces become one, while training goes on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spd_lightning.errors import check_fraction, check_whole
from spd_lightning.functional import full_precision, pairwise_company
from spd_lightning.losses import Step
from spd_lightning.model.components import Components
from spd_lightning.model.wrapping import site_of

LEFT = 1e-3
"""What is left of either vector of a component that was merged into another. What is shorter than this share of its
site's longest component has nothing to give."""


@dataclass(frozen=True)
class Merging:
    """Merges components that are parallel and only important together (ours).

    Two such components are one in two pieces: they may divide a matrix as they like, since masks leave both alone and
    faithfulness sees their sum. No term of the objective moves one into the other, except :class:`RankPenalty`, slowly.
    Here the longer takes what the shorter adds along the longer's write vector; what is left of the shorter one is next
    to nothing, and the importance term closes its gate.

    Args:
        start: fraction of training from which on; 1 for never. Before features have come apart, pieces of different
            ones may be parallel.
        every: steps from one look to the next; a look costs a forward pass.
        cosine: least cosine of two components, matrices of rank one.
        company: least :func:`spd_lightning.functional.pairwise_company` of two, at every call of every site whose
            components they are.

    Raises:
        UsageError: for a value outside its range.
    """

    start: float = 1.0
    every: int = 50
    cosine: float = 0.9
    company: float = 0.7

    def __post_init__(self) -> None:
        for name in ("start", "cosine", "company"):
            check_fraction(f"merging.{name}", getattr(self, name))
        check_whole("merging.every", self.every, least=1)

    def is_due(self, step: int, progress: float) -> bool:
        """Whether to look before a step.

        Args:
            step: its number, from 0.
            progress: fraction of training done before it.

        Returns:
            Whether it is one of those at which to look.
        """
        return self.start < 1 and progress >= self.start and step % self.every == 0

    @torch.no_grad()
    def merge(self, step: Step) -> dict[str, int]:
        """Merge what can be, in place; what is like none but one that goes itself waits for the next look.

        Args:
            step: a batch, seen; of several processes, each its own part. Parameters must be whole.

        Returns:
            By site, where there are any, how many components went into others.
        """
        merged = {}
        for sites in step.model.alike:
            parts = step.model.components[sites[0]].source
            with full_precision(parts.V):
                together = [_company(call, step) for call in step.importance if site_of(call) in sites]
                alike = (_cosines(parts) > self.cosine) & (torch.stack(together).amin(0) > self.company)
                if count := _absorb(parts, alike):
                    merged[sites[0]] = count
        for twin in step.model.twins:
            twin.mirror()
        return merged


def _company(call: str, step: Step) -> Tensor:
    bounded = step.importance[call].upper.clamp(0.0, 1.0)
    return pairwise_company(bounded, step.weights_of(bounded), step.combine)


def _cosines(parts: Components) -> Tensor:
    """Of the matrices that components are, with sign, ``[C, C]``."""
    reads, writes = normalize(parts.V, dim=0), normalize(parts.U, dim=-1)
    return (reads.T @ reads) * (writes @ writes.T)


def _absorb(parts: Components, alike: Tensor) -> int:
    """Give shorter components to longer ones that are like them, unless those go themselves; how many went."""
    lengths = parts.V.norm(dim=0) * parts.U.norm(dim=-1)
    place = lengths.argsort(descending=True, stable=True).argsort()  # no two alike, even of equal length
    takes = alike & (place[:, None] < place) & (lengths > LEFT * lengths.max())
    takes &= ~takes.any(0)[:, None]
    gone = takes.any(0).nonzero().flatten()
    takers = torch.where(takes, lengths[:, None], -1.0).argmax(0)[gone]
    share = (parts.U[gone] * parts.U[takers]).sum(-1) / parts.U[takers].square().sum(-1)
    parts.V.index_add_(1, takers, parts.V[:, gone] * share)
    parts.V[:, gone] *= LEFT
    parts.U[gone] *= LEFT
    return len(gone)
