"""Which components are important together with which: a few partners for each, never a table of all pairs."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.analysis.firings import Firings


class Partner(NamedTuple):
    """A component that is important together with another one.

    Attributes:
        component: its number among those of all sites.
        share: on which share of the other's units it is important too.
        jaccard: units on which both are important over units on which either is.
    """

    component: int
    share: float
    jaccard: float


def partners(firings: Firings, components: Iterable[int], shown: int) -> Iterator[list[Partner]]:
    """The partners of components, one after the other, those with the highest Jaccard index first.

    Takes time in proportion to the sum over units of the square of how many are important; memory for one component.

    Args:
        firings: which components are important when.
        components: by number among those of all sites.
        shown: how many partners at most; of equally good ones the lowest number comes first.
    """
    often = firings.often()
    starts = torch.cat([torch.zeros(1, dtype=torch.long), often.cumsum(0)])
    by_unit = torch.argsort(firings.units, stable=True)
    members = firings.components[by_unit].long()
    within = firings.units.long().bincount(minlength=firings.n_units)
    ends = within.cumsum(0)
    for component in components:
        units = firings.units[starts[component] : starts[component + 1]].long()
        together = members[_ranges(ends[units] - within[units], within[units])].bincount(minlength=len(often))
        together[component] = 0
        found = together.nonzero()[:, 0]
        jaccard = together[found] / (often[component] + often[found] - together[found])
        best = torch.argsort(jaccard, descending=True, stable=True)[:shown]
        yield [
            Partner(int(found[at]), int(together[found[at]]) / int(often[component]), float(jaccard[at])) for at in best
        ]


def _ranges(starts: Tensor, sizes: Tensor) -> Tensor:
    """Numbers from each start on, as many as each size says, one range after the other."""
    first = sizes.cumsum(0) - sizes
    return torch.arange(int(sizes.sum())) + (starts - first).repeat_interleave(sizes)
