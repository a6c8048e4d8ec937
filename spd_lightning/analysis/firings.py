"""Which components are important together: sparse, on a sample of the data that is spread evenly over it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from spd_lightning.analysis.kept import check_below, check_lengths, check_like

GOLDEN, CYCLE = 2654435769, 1 << 32
"""Multiples of the first, modulo the second, are spread evenly; so are those of every run of whole numbers."""


@dataclass(frozen=True)
class Firings:
    """When the components of all sites are important, on some units of the data.

    A unit is a position where all sites have the same positions, and an example where they have not; a component is
    important on an example if it is at any of its positions. One of a site that is called several times is important
    if it is in any call.

    Attributes:
        counts: ``C`` per site; components of all sites are numbered through in this order.
        n_units: how many units were looked at.
        components: of each firing, ``[firings]``, in order.
        units: of each firing, ``[firings]``, in order within a component.
    """

    counts: dict[str, int]
    n_units: int
    components: Tensor
    units: Tensor

    @property
    def n_components(self) -> int:
        """Components of all sites."""
        return sum(self.counts.values())

    def number_of(self, site: str, component: int) -> int:
        """The number of a component among those of all sites."""
        sites = list(self.counts)
        return sum(self.counts[other] for other in sites[: sites.index(site)]) + component

    def name_of(self, number: int) -> tuple[str, int]:
        """The site of a component, and its number there; the opposite of :meth:`number_of`."""
        for site, count in self.counts.items():
            if number < count:
                return site, number
            number -= count
        raise IndexError(number)

    def often(self) -> Tensor:
        """Number of units on which each is important, ``[C of all sites]``."""
        return self.components.long().bincount(minlength=self.n_components)

    def together(self, component: int) -> Tensor:
        """On how many units each is important together with one of them, ``[C of all sites]``."""
        theirs = torch.zeros(self.n_units, dtype=torch.bool)
        theirs[self.units[self.components == component].long()] = True
        return self.components[theirs[self.units.long()]].long().bincount(minlength=self.n_components)


class FiringSample:
    """Gathers firings while data goes by, on a bounded number of units.

    Units are taken by a rule of their number alone. When there are too many, about half of them are let go. So which
    are kept in the end does not depend on who has looked at what.

    Args:
        counts: ``C`` per site.
        most: units that are kept at most.
    """

    def __init__(self, counts: Mapping[str, int], most: int) -> None:
        self.counts, self.most = dict(counts), most
        self._below = CYCLE
        self._kept = torch.empty(0, dtype=torch.long)
        self._parts: list[tuple[Tensor, Tensor]] = []

    def update(self, fires: Mapping[str, Tensor], counted: Tensor, number: int) -> None:
        """Take some of the next units.

        Args:
            fires: whether components are important, boolean ``[units, C]`` per site.
            counted: which units count at all, boolean ``[units]``.
            number: of the first unit, in the data.
        """
        numbers = number + torch.arange(len(counted))
        taken = (counted & (_scrambled(numbers) < self._below)).nonzero()[:, 0]
        first = 0
        for site, count in self.counts.items():
            places, components = fires[site][taken].nonzero(as_tuple=True)
            self._parts.append(((components + first).int(), (places + len(self._kept)).int()))
            first += count
        self._keep(numbers[taken])

    def add(self, other: Self) -> None:
        """Take what another has gathered from later data."""
        below = min(self._below, other._below)
        for sample in (self, other):
            while sample._below > below:
                sample._thin()
        components, units = other._joined()
        self._parts.append((components, units + len(self._kept)))
        self._keep(other._kept)

    def _keep(self, numbers: Tensor) -> None:
        self._kept = torch.cat([self._kept, numbers])
        while len(self._kept) > self.most:
            self._thin()

    def _thin(self) -> None:
        self._below //= 2
        staying = _scrambled(self._kept) < self._below
        place = staying.cumsum(0) - 1
        components, units = self._joined()
        kept = staying[units.long()]
        self._parts = [(components[kept], place[units[kept].long()].int())]
        self._kept = self._kept[staying]

    def _joined(self) -> tuple[Tensor, Tensor]:
        nothing = torch.empty(0, dtype=torch.int32)
        parts = self._parts or [(nothing, nothing)]
        components, units = (torch.cat([part[index] for part in parts]) for index in (0, 1))
        return components, units

    def firings(self) -> Firings:
        """What was gathered."""
        components, units = self._joined()
        order = torch.argsort(components.long() * max(len(self._kept), 1) + units)
        return Firings(self.counts, len(self._kept), components[order], units[order])

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept in a file."""
        found = self.firings()
        rule = torch.tensor([self._below, self.most])
        return {"components": found.components, "units": found.units, "kept": self._kept, "rule": rule}

    @classmethod
    def of(cls, counts: Mapping[str, int], tensors: Mapping[str, Tensor]) -> Self:
        """A sample that :meth:`tensors` gave, to go on with.

        Raises:
            ValueError: for tensors that none can have given.
        """
        below, most = tensors["rule"].tolist()
        sample = cls(counts, most)
        check_like(sample.tensors(), tensors)
        components, units, kept = tensors["components"], tensors["units"], tensors["kept"]
        check_lengths(components, units)
        check_below(components, sum(counts.values()))
        check_below(units, len(kept))
        if not 0 < below <= CYCLE or below & (below - 1) or len(kept) > most:
            raise ValueError("no sample")
        sample._below, sample._kept, sample._parts = below, kept, [(components, units)]
        return sample


def _scrambled(numbers: Tensor) -> Tensor:
    return (numbers % CYCLE) * GOLDEN % CYCLE  # below 2 ** 64, whose signed overflow keeps the lowest 32 bits
