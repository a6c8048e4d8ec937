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
        dependence: share of a vector below which what others do not make of it does not count, and singular value of
            a site's read vectors, or of its write vectors, each as long as its component, below which they are
            dependent, in units of the largest.

    Raises:
        UsageError: for a value outside its range.
    """

    start: float = 1.0
    every: int = 50
    spread: float = 3.0
    dependence: float = 0.1

    def __post_init__(self) -> None:
        for name in ("start", "dependence"):
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
        there = (lengths > LEFT * lengths.max()) & (shares > LEFT * shares.max())
        idle, count = there.clone(), 0
        while True:
            ways = [_ways(vectors * there, absent, self.dependence) for vectors in _sides(parts)]
            costs = torch.stack([way.cost for way in ways])
            costs = torch.where(idle & costs.isfinite().all(0), costs, torch.inf)
            side, gone = divmod(int(costs.argmin()), len(idle))
            if not costs[side, gone] <= self.spread:
                return count
            taken = ways[side].taken[gone]
            _give(parts, side, gone, taken.to(parts.V))
            there[gone] = idle[gone] = False
            idle &= taken.abs() < SLIGHT
            count += 1


class _Ways(NamedTuple):
    """What each component of a site would cost if others took it, by one of its two vectors."""

    taken: Tensor
    """``[C, C]``: how much of each other one's vector makes a component's own."""
    cost: Tensor
    """``[C]``, to be held against ``spread``; infinite where the vector is no combination of others."""


def _seen(call: str, step: Step) -> tuple[Tensor, Tensor]:
    bounded = step.importance[call].upper.clamp(0.0, 1.0)
    weights = step.weights_of(bounded)
    return component_shares(bounded, weights, step.combine), absences(bounded, weights, step.combine)


def _sides(parts: Components) -> tuple[Tensor, Tensor]:
    """Read vectors ``[d_in, C]`` and write vectors ``[d_out, C]``, each as long as its component, in double precision.

    They are squared for their null space, which halves the digits.
    """
    V, U = parts.V.cpu().double(), parts.U.cpu().double()
    return V * U.norm(dim=-1), U.T * V.norm(dim=0)


def _ways(vectors: Tensor, absent: Tensor, dependence: float) -> _Ways:
    """By the shortest combinations that make each vector."""
    squares, directions = torch.linalg.eigh(vectors.T @ vectors)
    null = directions[:, squares < dependence**2 * squares[-1]]
    null = null @ null.T
    free = null.diagonal()
    taken = (-null / free.clamp_min(LEAST)[:, None]).fill_diagonal_(0.0)
    missed = (vectors - vectors @ taken.T).norm(dim=0)
    is_made = (free > LEAST) & (missed < dependence * vectors.norm(dim=0))
    cost = (taken.abs() * absent.clamp_min(TIE)).sum(-1)
    return _Ways(taken, torch.where(is_made, cost, torch.inf))


def _give(parts: Components, side: int, gone: int, taken: Tensor) -> None:
    """Split a component among others by its read vector (side 0) or its write vector, and leave next to nothing."""
    other = parts.V.T if side else parts.U
    sizes = other.norm(dim=-1)
    other += torch.outer(taken * sizes / sizes[gone], other[gone])
    parts.V[:, gone] *= LEFT
    parts.U[gone] *= LEFT
