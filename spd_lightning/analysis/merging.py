"""Groups that are merged one pair after the other: who fires when, and which partner is the best for each."""

from math import log2

import numpy
from numpy.typing import NDArray
from scipy.sparse import csr_array

from spd_lightning.functional.description import Numbers, merge_change, merge_cost

Whole = NDArray[numpy.int64]
CHUNK = 1 << 22
"""Firings that are looked at at once."""
TABLE = 8192
"""Groups up to which a table of all pairs is kept, 256 MB at most; beyond it nothing grows with pairs."""


class GroupFirings:
    """On which units each group fires, and which groups fire on each unit; memory grows with the firings alone.

    Args:
        groups: the group of each firing, below ``count``, in order; every group has one.
        units: the unit of each firing, in order within a group.
        count: number of groups.
        n_units: number of units.
        table: groups up to which the counts of pairs are kept once they are known.
    """

    def __init__(self, groups: Whole, units: Whole, count: int, n_units: int, table: int = TABLE) -> None:
        by_unit = numpy.argsort(units, kind="stable")
        slots = numpy.empty(len(units), dtype=numpy.int64)
        slots[by_unit] = numpy.arange(len(units))
        starts = numpy.searchsorted(units[by_unit], numpy.arange(n_units + 1))
        ones = numpy.ones(len(units), dtype=numpy.int8)
        # the groups of each unit are a row's indices; count stands where a firing is no more
        self._of_units = csr_array((ones, groups[by_unit], starts), shape=(n_units, count + 1))
        cuts = numpy.searchsorted(groups, numpy.arange(1, count))
        self._units = numpy.split(units.astype(numpy.int32), cuts)
        self._slots = numpy.split(slots, cuts)
        self._count, self._gone = count, 0
        self._table = numpy.zeros((count, count), dtype=numpy.int32) if count <= table else None
        self._known = numpy.zeros(count, dtype=bool)

    def often(self) -> Numbers:
        """Number of units on which each group fires, ``[count]``."""
        return numpy.array([len(units) for units in self._units], dtype=float)

    def size(self, group: int) -> int:
        """Number of units on which a group fires."""
        return len(self._units[group])

    def together(self, group: int) -> Numbers:
        """On how many units every group fires together with one, ``[count]``; groups that are no more count nothing."""
        if self._table is None:
            return self._counted(group).astype(float)
        if not self._known[group]:
            self._table[group] = self._table[:, group] = self._counted(group)
            self._known[group] = True
        known: Numbers = self._table[group].astype(float)
        return known

    def _counted(self, group: int) -> Whole:
        units = self._units[group]
        lengths = numpy.diff(self._of_units.indptr)[units]
        pieces = numpy.split(units, numpy.searchsorted(lengths.cumsum(), numpy.arange(CHUNK, lengths.sum(), CHUNK)))
        found = numpy.zeros(self._count + 1, dtype=numpy.int64)
        for piece in pieces:
            found += numpy.bincount(self._of_units[piece].indices, minlength=self._count + 1)
        return found[:-1]

    def merge(self, into: int, other: int) -> None:
        """Let one group fire wherever either did; the other is no more."""
        kept, added, slots = self._units[into], self._units[other], self._slots[other]
        at = numpy.searchsorted(kept, added)
        twice = kept[numpy.minimum(at, len(kept) - 1)] == added
        self._of_units.indices[slots[twice]] = self._count
        self._of_units.indices[slots[~twice]] = into
        units = numpy.concatenate([kept, added[~twice]])
        order = numpy.argsort(units, kind="stable")
        self._units[into], self._units[other] = units[order], units[:0]
        self._slots[into] = numpy.concatenate([self._slots[into], slots[~twice]])[order]
        self._slots[other] = slots[:0]
        self._known[into] = False
        if self._table is not None:
            self._table[other] = self._table[:, other] = 0
        self._gone += int(twice.sum())
        if 2 * self._gone > self._of_units.nnz:
            self._compact()

    def _compact(self) -> None:
        """Let go of the firings that are no more."""
        whole = self._of_units
        kept = whole.indices < self._count
        place = numpy.concatenate([[0], kept.cumsum()])
        starts = place[whole.indptr]
        self._of_units = csr_array((whole.data[kept], whole.indices[kept], starts), shape=whole.shape)
        self._slots = [place[slots] for slots in self._slots]
        self._gone = 0


class Partners:
    """The best partner of every group, found again only where it may have changed.

    What a pair is worth is ``cost - together * rate`` plus what is the same for all pairs; ``rate`` falls with every
    merger. So a group's best partner stays the best until the rate falls below one at which another overtakes it,
    which is known from the time that it was found; and what a group's best pair was worth once is a bound for later.
    Groups whose partner is gone keep that bound, and are looked at again when nothing else is better than it.

    Args:
        groups: who fires when.
        alpha: the price of a rank in bits.
    """

    def __init__(self, groups: GroupFirings, alpha: float) -> None:
        self._groups, self._alpha = groups, alpha
        self.firings = groups.often()
        self.count, self.total = len(self.firings), float(self.firings.sum())
        self.ranks, self.alive = numpy.ones(self.count), numpy.ones(self.count, dtype=bool)
        self._best = numpy.full(self.count, -1)
        self._cost, self._together = numpy.full(self.count, -numpy.inf), numpy.zeros(self.count)
        self._until = numpy.full(self.count, -numpy.inf)

    @property
    def _rate(self) -> float:
        return log2(self.count - 1)

    def ranked(self, most: int) -> list[tuple[int, int, float]]:
        """The best pairs of a group and its best partner: both, and the change of the length; the best come first.

        Args:
            most: how many; there may be fewer.
        """
        while True:
            bounds = numpy.where(
                self.alive, self._cost - self._together * numpy.maximum(self._until, self._rate), numpy.inf
            )
            wanted = min(2 * most - 1, self.count)  # a pair may come up from either side
            first = _lowest(bounds, wanted)
            stale = first[(self._best[first] < 0) | (self._until[first] > self._rate)]
            if not len(stale):
                return self._pairs(first)[:most]
            self._find(int(stale[0]))

    def _pairs(self, groups: Whole) -> list[tuple[int, int, float]]:
        changes = merge_change(self.total, self.count, self._cost[groups], self._together[groups])
        found: dict[tuple[int, int], float] = {}
        for group, change in zip(groups.tolist(), changes.tolist(), strict=True):
            pair = min(group, int(self._best[group])), max(group, int(self._best[group]))
            found.setdefault(pair, change)
        return [(*pair, change) for pair, change in found.items()]

    def _row(self, group: int) -> tuple[Numbers, Numbers]:
        """Costs with all others, infinite for what is no partner, and on how many units they fire together."""
        together = self._groups.together(group)
        firings = self.firings[group], self.firings
        cost = merge_cost(firings, (self.ranks[group], self.ranks), together, self._alpha)
        cost[~self.alive], cost[group] = numpy.inf, numpy.inf
        return cost, together

    def _find(self, group: int) -> None:
        self._take(group, *self._row(group))

    def _take(self, group: int, cost: Numbers, together: Numbers) -> None:
        best = int(numpy.argmin(cost - together * self._rate))
        self._best[group], self._cost[group], self._together[group] = best, cost[best], together[best]
        rivals = numpy.isfinite(cost) & (together < together[best])
        overtaking = (cost[best] - cost[rivals]) / (together[best] - together[rivals])
        self._until[group] = overtaking.max(initial=-numpy.inf)

    def merge(self, into: int, other: int) -> None:
        """Merge two groups, and find partners again where that is cheap."""
        self._settle(numpy.isin(self._best, (into, other)))
        self._groups.merge(into, other)
        self.total -= self.firings[into] + self.firings[other]
        self.firings[into], self.firings[other] = self._groups.size(into), 0
        self.total += self.firings[into]
        self.ranks[into] += self.ranks[other]
        self.alive[other] = False
        self.count -= 1
        if self.count < 2:
            return
        self._settle(self._until > self._rate)
        cost, together = self._row(into)
        self._offer(into, cost, together)
        self._take(into, cost, together)

    def _settle(self, which: NDArray[numpy.bool_]) -> None:
        """Keep of some groups' partners nothing but how good they were."""
        known = which & (self._best >= 0)
        bound = self._cost - self._together * numpy.maximum(self._until, self._rate)
        self._cost[known], self._together[known] = bound[known], 0
        self._best[known], self._until[known] = -1, -numpy.inf

    def _offer(self, group: int, cost: Numbers, together: Numbers) -> None:
        """Let all others consider a group that is new."""
        now, new = self._cost - self._together * self._rate, cost - together * self._rate
        better = new < now
        less, more = (together < self._together) & numpy.isfinite(cost), together > self._together
        with numpy.errstate(divide="ignore", invalid="ignore"):
            crossing = (self._cost - cost) / (self._together - together)
        risky = (better & more) | (~better & less & (self._best >= 0))
        self._until[risky] = numpy.maximum(self._until[risky], crossing[risky])
        self._best[better], self._cost[better], self._together[better] = group, cost[better], together[better]


def _lowest(values: Numbers, wanted: int) -> Whole:
    """Where the lowest values stand, in their order."""
    if wanted == 1:
        return numpy.array([values.argmin()])  # many times faster than sorting apart
    first = numpy.argpartition(values, wanted - 1)[:wanted] if wanted < len(values) else numpy.arange(wanted)
    ordered: Whole = first[numpy.lexsort((first, values[first]))]
    return ordered
