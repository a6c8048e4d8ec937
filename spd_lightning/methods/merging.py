"""Components that their site can do without go into others, while training goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.errors import check_fraction, check_whole
from spd_lightning.functional import Company, absences, company, component_shares, full_precision
from spd_lightning.losses import Step
from spd_lightning.losses.base import check_positive
from spd_lightning.methods.combinations import (
    SHORTEST,
    give,
    is_there,
    lengths_of,
    made_of,
    plain_lengths,
    put_together,
    shares_of,
    take_up,
    ways_of,
)
from spd_lightning.methods.seen_vectors import Sides, seen_vectors
from spd_lightning.model import DecomposedModel
from spd_lightning.model.components import Components
from spd_lightning.model.tracing import output_gradients
from spd_lightning.model.wrapping import site_of

RAREST = 1e-3
"""Of components that are compared, in units of how much their site's most frequent one is important."""
CARRIES = 0.05
"""A component that is not used is left as it is if it is shorter than this share of its site's longest one."""
TIE = 1e-3
"""Least that a component is missing where another is important: of two that are always on, the shorter one goes. And
how much less has to become important by write vectors than by read vectors, which gates read, for them to change."""
TOGETHER = 0.05
"""Most that it costs, as ``spread`` counts, weighed once more by how far a component is on its own, if what takes it is
important wherever it is, or far longer, or if it is one of many that only act together. To the cost comes what the
positions where it was important may not have shown."""
SLIGHT = 0.1
"""A component that took less than this, in units of its own length, need not become important for it."""


@dataclass(frozen=True)
class Merging:
    """Merges components into others that can do without them (ours).

    A site holds more components than it needs where some read vectors are combinations of others, and some write
    vectors are, too: a component in two pieces, or ten components for the eight dimensions of a block. (Where one side
    alone is dependent, features that are apart on the other are in superposition.) The sum can be the same with one
    component less, and no term of the objective moves a component into others, except :class:`RankPenalty`, slowly.
    Vectors are held against each other as the network sees them (:class:`SeenVectors`).

    Of a site's components that one goes for which others have to become important least. They take its matrix, by
    the combination of their read or write vectors that comes closest to its own, of several the shortest, and the rest
    by the other side's. What is left of it is next to nothing, and the importance term closes its gate. If what takes
    it is important wherever it is, the other vector need not be a combination: two that read or write the same and act
    together are of rank one. Nor need it where what takes it is twenty times as long, or where a component is one of
    many that are never important on their own: a block needs no more of them than it has dimensions on one side.

    A component that is no longer used may be long all the same, and what the others sum to is then not the target's
    matrix. Before anything else it goes into those that are important, by the vector that they make, if what they miss
    of the other, as it is seen, is little beside its own length: they make it, too, or it hardly reaches the output.
    Inputs that come together tell nothing of how a vector divides between them.
    What is rare is not unused: see :class:`LastUse <spd_lightning.methods.last_use.LastUse>`.

    Before the last step components that are used take up what all of them leave of the weights, as far as their
    vectors reach. A price on contributions shortens them, as a lasso does, and is undone as a lasso's is: by least
    squares on what it has chosen.

    Args:
        start: fraction of training from which on; 1 for never. Before features have come apart, their components may
            be dependent.
        every: steps from one look to the next; a look costs two forward passes and a backward pass of the target, and
            for every component that goes the inverse of two matrices as wide as there are components at its site: with
            thousands of them, seconds each.
        spread: number of others that may at most have to become important where a component was. Each counts by what
            it takes, in units of its own length, and all by how far the component is on its own: 1 less its
            :func:`company <spd_lightning.functional.company>`. Where calls differ, the one with the most counts.
        remainder: share that others need not make of either vector.
        loss: what the sum may lose with one component, which neither side makes, as a share of its length as the
            network sees it.
        unused: fraction of training after which a component that was not important on any example is no longer used.

    Raises:
        UsageError: for a value outside its range.
    """

    start: float = 1.0
    every: int = 50
    spread: float = 3.0
    remainder: float = 0.3
    loss: float = 0.03
    unused: float = 0.05

    def __post_init__(self) -> None:
        for name in ("start", "remainder", "loss", "unused"):
            check_fraction(f"merging.{name}", getattr(self, name))
        check_positive("merging.spread", self.spread, allow_zero=True)
        check_whole("merging.every", self.every, least=1)

    @property
    def is_on(self) -> bool:
        """Whether anything is ever merged."""
        return self.start < 1

    def is_due(self, step: int, progress: float) -> bool:
        """Whether to look before a step, given its number, from 0, and the fraction of training done before it."""
        return self.is_on and progress >= self.start and step % self.every == 0

    def is_over(self, step: int, steps: int) -> bool:
        """Whether a step is the last of all, before which :meth:`hand_out` is due."""
        return self.is_on and step == steps - 1

    @torch.no_grad()
    def hand_out(self, model: DecomposedModel, unused: Mapping[str, Tensor]) -> None:
        """Let components that are used take up what all of them leave of the weights, in place.

        Args:
            model: the decomposition; its parameters must be whole.
            unused: as :meth:`merge` takes it.
        """
        for sites in model.alike:
            take_up(model.components[sites[0]].source, ~unused[sites[0]])
        model.mirror_twins()

    @torch.no_grad()
    def merge(self, step: Step, unused: Mapping[str, Tensor]) -> dict[str, list[int]]:
        """Merge what can be, in place; what has taken from others waits for the next look before it goes itself.

        Args:
            step: a batch, seen; of several processes, each its own part. Parameters must be whole.
            unused: whether a component has not been important for long, ``[C]`` by the first of all sites that share
                it; what is important in this batch is used all the same.

        Returns:
            By site, where there are any, which components went into others. Of several processes each decides by
            sums that may differ in rounding, and rank zero's word counts.
        """
        merged = {}
        with full_precision(next(iter(step.model.components.values())).V):
            signs, share = step.noise.generator("reading"), step.noise.share
            gradients = step.model.by_call(output_gradients(step.model.wrapping, step.batch, signs, share))
            for sites in step.model.alike:
                parts = step.model.components[sites[0]].source
                calls = [call for call in step.importance if site_of(call) in sites]
                use = _use(calls, step, parts, unused[sites[0]])
                if carrying := _carrying(parts, use.unused):
                    put_together(parts, carrying)
                    step.model.mirror_twins()
                sides = seen_vectors(parts, {call: gradients[call] for call in calls}, step)
                if gone := self._absorb(parts, sides, use, carrying):
                    merged[sites[0]] = gone
        step.model.mirror_twins()
        return merged

    def _absorb(self, parts: Components, sides: Sides, use: "_Use", unused: list[int]) -> list[int]:
        """Give components to others until none may go; which went. Compared on the CPU, the same on every device."""
        lengths = lengths_of(sides)
        there = torch.nonzero((lengths > SHORTEST * lengths.max()) & use.used)[:, 0]
        if not len(there):
            return []
        carrying = [given for given in unused if lengths[given] > CARRIES * lengths.max()]
        folded = [given for given in carrying if self._fold(parts, sides, there, given)]
        return folded + self._merge_alive(parts, sides, there, use)

    def _fold(self, parts: Components, sides: Sides, there: Tensor, given: int) -> bool:
        """Give what is no longer used to what is, by the vector that this makes better; whether it may be."""
        made = [made_of(side, there, given) for side in sides]
        side = int(made[1].missed < made[0].missed)
        may = made[side].missed < self.remainder and made[1 - side].missed_as_such < self.remainder
        may = may and made[0].missed * made[1].missed * float(shares_of(sides)[given]) < self.loss
        if may:
            give(parts, sides, side, given, there, made[side].shares)
        return may

    def _merge_alive(self, parts: Components, sides: Sides, there: Tensor, use: "_Use") -> list[int]:
        """The cheapest first, as long as one may go; which went."""
        idle, went = torch.ones(len(there), dtype=torch.bool), list[int]()
        doubt = 1 / (1 + sides[0].positions * use.shares)
        while len(there):
            lengths, alone = lengths_of(sides)[there], use.alone(there, doubt)
            missing = use.missing(there, alone)
            ways = [ways_of(side, lengths, there, missing) for side in sides]
            is_made = torch.stack([way.missed < self.remainder for way in ways])
            costs = torch.stack([ways[0].cost, ways[1].cost + TIE])  # what gates read stays where it may
            lost = ways[0].missed * ways[1].missed * shares_of(sides)[there]
            together = alone.amax(0) * (costs + doubt[there]) <= TOGETHER
            may = idle & (lost < self.loss) & is_made & (is_made.flip(0) | together)
            costs = torch.where(may, costs, torch.inf)
            side, gone = divmod(int(costs.argmin()), len(there))
            if not costs[side, gone] <= self.spread:
                break
            others = torch.arange(len(there)) != gone
            give(parts, sides, side, int(there[gone]), there[others], ways[side].shares[gone][others])
            went.append(int(there[gone]))
            there, idle = there[others], (idle & (ways[side].taken[gone].abs() < SLIGHT))[others]
        return went


class _Use(NamedTuple):
    """When a site's components are important; what is next to nothing by its length never is."""

    shares: Tensor
    """``[C]``: mean importances, over all calls of the site what is largest."""
    used: Tensor
    """``[C]``: whether it is important in this batch, more than next to never."""
    unused: Tensor
    """``[C]``: whether it is not, and has not been for long."""
    companies: list[Company]
    """By call."""
    absences: list[Tensor]
    """``[C, C]`` by call."""

    def alone(self, there: Tensor, doubt: Tensor) -> Tensor:
        """How far each is on its own where it is important, ``[calls, K]``: 1 less its company without those that went.

        Company on few positions may be chance.
        """
        return torch.stack([1 - (1 - doubt[there]) * company.among(there) for company in self.companies])

    def missing(self, there: Tensor, alone: Tensor) -> Tensor:
        """How much each other one is missing where a component is important on its own, ``[K, K]``."""
        absent = torch.stack([missing[there][:, there] for missing in self.absences])
        return (alone[:, :, None] * absent).amax(0).clamp_min(TIE)


def _use(calls: Sequence[str], step: Step, parts: Components, unused: Tensor) -> _Use:
    there = is_there(parts)
    bounded = [step.importance[call].upper.clamp(0.0, 1.0) * there for call in calls]
    weighed = [(values, step.weights_of(values), step.combine) for values in bounded]
    shares = torch.stack([component_shares(*values) for values in weighed]).amax(0).cpu()
    companies = [Company(*(measure.cpu() for measure in company(*values))) for values in weighed]
    used = shares > RAREST * shares.max()
    return _Use(shares, used, unused & ~used, companies, [absences(*values).cpu() for values in weighed])


def _carrying(parts: Components, unused: Tensor) -> list[int]:
    """Components that are not used, if one of them is long; which."""
    lengths = plain_lengths(parts).cpu()
    numbers = torch.nonzero(unused)[:, 0]
    return numbers.tolist() if (lengths[numbers] > CARRIES * lengths.max()).any() else []
