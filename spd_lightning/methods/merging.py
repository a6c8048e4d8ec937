"""Components that their site can do without go into others, while training goes on."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.errors import check_fraction, check_whole
from spd_lightning.functional import absences, component_shares, full_precision
from spd_lightning.losses import Step
from spd_lightning.losses.base import check_positive
from spd_lightning.model.components import Components
from spd_lightning.model.wrapping import site_of

LEFT = 1e-3
"""What is left of either vector of a component that was merged into others. What is shorter than this share of its
site's longest component, or important less than this share of what the most frequent one is, has nothing to give."""
TIE = 1e-3
"""Least absence of a component from where another is important: of two that are always on, the shorter one goes."""
LEAST = 0.01
"""Least part of a component in what its site's vectors may be changed by without changing their sum."""
SLIGHT = 0.1
"""A component that took less than this, in units of its own length, need not become important for it."""


@dataclass(frozen=True)
class Merging:
    """Merges components into others that can do without them (ours).

    A site holds more components than it needs where some read vectors are combinations of others, and some write
    vectors are, too: a component in two pieces, or ten components for the eight dimensions of a block. (Where one side
    alone is dependent, features that are apart on the other are in superposition.) The sum can be the same with one
    component less, and no term of the objective moves a component into others, except :class:`RankPenalty`, slowly.

    Of a site's components that one goes for which the fewest others have to become important. They take its matrix, by
    the shortest combination of their read or write vectors that makes its own. What is left of it is next to nothing,
    and the importance term closes its gate.

    Args:
        start: fraction of training from which on; 1 for never. Before features have come apart, their components may
            be dependent.
        every: steps from one look to the next; a look costs a forward pass.
        spread: number of others that may at most have to become important where a component was. Each counts by what
            it takes, in units of its own length. Where calls differ, the one with the most counts.
        dependence: singular value of a site's read vectors, or of its write vectors, each as long as its component,
            below which they are dependent, in units of the largest.
        remainder: share of either vector that others need not make of it; training makes good what the sum loses.

    Raises:
        UsageError: for a value outside its range.
    """

    start: float = 1.0
    every: int = 50
    spread: float = 3.0
    dependence: float = 0.1
    remainder: float = 0.3

    def __post_init__(self) -> None:
        for name in ("start", "dependence", "remainder"):
            check_fraction(f"merging.{name}", getattr(self, name))
        check_positive("merging.spread", self.spread, allow_zero=True)
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
        """Merge what can be, in place; what has taken from others waits for the next look before it goes itself.

        Args:
            step: a batch, seen; of several processes, each its own part. Parameters must be whole.

        Returns:
            By site, where there are any, how many components went into others.
        """
        merged = {}
        for sites in step.model.alike:
            parts = step.model.components[sites[0]].source
            with full_precision(parts.V):
                seen = [_seen(call, step) for call in step.importance if site_of(call) in sites]
                shares, absent = (torch.stack(values).amax(0).cpu() for values in zip(*seen, strict=True))
                if count := self._absorb(parts, shares, absent):
                    merged[sites[0]] = count
        for twin in step.model.twins:
            twin.mirror()
        return merged

    def _absorb(self, parts: Components, shares: Tensor, absent: Tensor) -> int:
        """Give components to others until none may go; how many went. Compared on the CPU, the same on every device."""
        lengths = _sides(parts)[0].norm(dim=0)
        there = torch.nonzero((lengths > LEFT * lengths.max()) & (shares > LEFT * shares.max()))[:, 0]
        idle, begun = torch.ones(len(there), dtype=torch.bool), len(there)
        while len(there):
            ways = [_ways(vectors[:, there], absent[there][:, there], self.dependence) for vectors in _sides(parts)]
            is_made = torch.stack([way.missed < self.remainder for way in ways]).all(0)
            costs = torch.where(idle & is_made, torch.stack([way.cost for way in ways]), torch.inf)
            side, gone = divmod(int(costs.argmin()), len(there))
            if not costs[side, gone] <= self.spread:
                break
            taken = ways[side].taken[gone]
            _give(parts, side, there, gone, taken)
            left = torch.arange(len(there)) != gone
            there, idle = there[left], (idle & (taken.abs() < SLIGHT))[left]
        return begun - len(there)


class _Ways(NamedTuple):
    """What each component of a site would cost if others took it, by one of its two vectors."""

    taken: Tensor
    """``[K, K]`` for the ``K`` components that are there: how much of each other one's vector makes one's own."""
    cost: Tensor
    """``[K]``, to be held against ``spread``."""
    missed: Tensor
    """``[K]``: share of each vector that others do not make; infinite where it is not among the dependent ones."""


def _seen(call: str, step: Step) -> tuple[Tensor, Tensor]:
    bounded = step.importance[call].upper.clamp(0.0, 1.0)
    weights = step.weights_of(bounded)
    return component_shares(bounded, weights, step.combine), absences(bounded, weights, step.combine)


def _sides(parts: Components) -> tuple[Tensor, Tensor]:
    """Read vectors ``[d_in, C]`` and write vectors ``[d_out, C]``, each as long as its component."""
    V, U = parts.V.cpu().double(), parts.U.cpu().double()
    return V * U.norm(dim=-1), U.T * V.norm(dim=0)


def _ways(vectors: Tensor, absent: Tensor, dependence: float) -> _Ways:
    """By the shortest combinations that make each vector, none of which is zero: LAPACK may not get past such."""
    sizes, directions = torch.linalg.svd(vectors, full_matrices=False)[1:]
    kept = directions[sizes >= dependence * sizes[0]]
    null = torch.eye(len(absent), dtype=vectors.dtype) - kept.T @ kept
    free = null.diagonal()
    taken = (-null / free.clamp_min(LEAST)[:, None]).fill_diagonal_(0.0)
    missed = (vectors - vectors @ taken.T).norm(dim=0) / vectors.norm(dim=0)
    cost = (taken.abs() * absent.clamp_min(TIE)).sum(-1)
    return _Ways(taken, cost, torch.where(free > LEAST, missed, torch.inf))


def _give(parts: Components, side: int, there: Tensor, gone: int, taken: Tensor) -> None:
    """Split a component among others by its read vector (side 0) or its write vector, and leave next to nothing."""
    other = parts.V.T if side else parts.U
    taken, there = taken.to(other), there.to(other.device)
    sizes = other[there].norm(dim=-1)
    other[there] += torch.outer(taken * sizes / sizes[gone], other[there[gone]])
    parts.V[:, there[gone]] *= LEFT
    parts.U[there[gone]] *= LEFT
