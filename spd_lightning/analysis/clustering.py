"""Components that are active together become mechanisms: the grouping that makes the data's description short."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

import numpy
import torch
from torch import Generator, Tensor

from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.merging import GroupFirings, Partners
from spd_lightning.errors import UsageError, check_finite, check_whole
from spd_lightning.functional import adjusted_rand_index, keyed_generator
from spd_lightning.functional.description import description_length
from spd_lightning.model import Grouping

DECAY = 0.2
"""A pair of rank ``n`` is drawn with a probability in proportion to ``exp(-DECAY * n)`` (later SPD work)."""
MOST_RANKS = 64
"""Pairs among which one is drawn; the next would come up in one of 400 000 draws."""


@dataclass(frozen=True)
class Clustering:
    """Components in groups.

    Attributes:
        labels: the group of every component of all sites, ``[C of all sites]``; -1 for those that are left out.
        firings: on how many units any member of each group is important, ``[groups]``; the most frequent come first.
        coherence: mean share of each group's members that are important where any of them is, ``[groups]``; 1 for
            members that are always important together, and one over their number for members that never are.
        merges: members of the two groups of each merger, by one number each, ``[mergers, 2]``, in their order.
        changes: what each changed about the description length, ``[mergers]``, all below 0.
        before: bits that describe the data with every component a group by itself.
        after: bits that describe it with these groups.
        counts: ``C`` per site.
    """

    labels: Tensor
    firings: Tensor
    coherence: Tensor
    merges: Tensor
    changes: Tensor
    before: float
    after: float
    counts: dict[str, int]

    @property
    def grouping(self) -> Grouping:
        """The groups as masks, ablations and edits take them."""
        parts = torch.split(self.labels, list(self.counts.values()))
        return Grouping(dict(zip(self.counts, parts, strict=True)))


def cluster(
    firings: Firings,
    alpha: float = 1.0,
    fewest: int = 1,
    seed: int | None = None,
    after: Callable[[int], None] = lambda groups: None,
) -> Clustering:
    """Merge groups as long as that makes the description of the data shorter (later SPD work).

    A group is important where any member is. The description names, on every unit, the groups that are important, and
    pays for their ranks: see :func:`spd_lightning.functional.description.description_length`. Memory grows with the
    firings. Up to 8192 components there is a table of all pairs besides, of 256 MiB at most; beyond, nothing grows with
    pairs.

    Args:
        firings: which components are important when.
        alpha: the price of a rank in bits; a larger one gives smaller groups.
        fewest: units on which a component has to be important to be grouped; all others are left out.
        seed: ``None`` takes the best pair every time. A number draws one from the best pairs of a group with its best
            partner, the more likely the better it is, to see how much the result depends on the order.
        after: called after every merger with the number of groups.

    Returns:
        The groups.

    Raises:
        UsageError: for a value outside its range, or if no component is left.
    """
    check_finite("cluster: alpha", alpha)
    if alpha < 0:
        raise UsageError(f"cluster: alpha must be at least 0, got {alpha}")
    check_whole("cluster: fewest", fewest, least=1)
    grouped = (firings.often() >= fewest).nonzero()[:, 0]
    if not len(grouped):
        raise UsageError(f"cluster: no component is important on {fewest} or more of the {firings.n_units} units")
    partners = _partners(firings, grouped, alpha)
    before = description_length(partners.firings, partners.ranks, alpha)
    generator = None if seed is None else keyed_generator(seed, "clustering")
    parent, merges, changes = list(range(len(grouped))), [], []
    while partners.count > 1:
        into, other, change = _chosen(partners, generator)
        if change >= 0:
            break
        partners.merge(into, other)
        parent[other] = into
        merges.append((into, other))
        changes.append(change)
        after(partners.count)
    roots = torch.tensor([_root(parent, index) for index in range(len(grouped))])
    alive = partners.alive
    length = description_length(partners.firings[alive], partners.ranks[alive], alpha)
    labels, often = _numbered(roots, torch.from_numpy(partners.firings))
    members = labels.bincount()
    coherence = torch.zeros(len(often)).index_add(0, labels, firings.often()[grouped].float()) / (members * often)
    whole = torch.full((firings.n_components,), -1).index_put((grouped,), labels)
    pairs = grouped[torch.tensor(merges, dtype=torch.long).reshape(-1, 2)]
    return Clustering(whole, often, coherence, pairs, torch.tensor(changes), before, length, firings.counts)


def _partners(firings: Firings, grouped: Tensor, alpha: float) -> Partners:
    number = torch.full((firings.n_components,), -1).index_put((grouped,), torch.arange(len(grouped)))
    groups = number[firings.components.long()]
    kept = groups >= 0
    units = firings.units[kept].long().numpy()
    return Partners(GroupFirings(groups[kept].numpy(), units, len(grouped), firings.n_units), alpha)


def _chosen(partners: Partners, generator: Generator | None) -> tuple[int, int, float]:
    """The best pair, or one drawn from those that shorten the description."""
    if generator is None:
        return partners.ranked(1)[0]
    weights = torch.tensor([exp(-DECAY * rank) for rank in range(MOST_RANKS)])
    rank = int(torch.multinomial(weights, 1, generator=generator))
    pairs = partners.ranked(rank + 1)
    good = [pair for pair in pairs if pair[2] < 0] or pairs[:1]
    return good[min(rank, len(good) - 1)]


def _root(parent: Sequence[int], index: int) -> int:
    while parent[index] != index:
        index = parent[index]
    return index


def _numbered(roots: Tensor, often: Tensor) -> tuple[Tensor, Tensor]:
    """Groups by number, those that fire most first."""
    groups, labels = roots.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    order = torch.from_numpy(numpy.lexsort((groups.numpy(), -often[groups].numpy())))
    return order.argsort()[labels], often[groups][order].long()


def agreement_with(found: Clustering, others: Sequence[Clustering]) -> list[float]:
    """How much clusterings of the same components in other orders agree with one: the adjusted Rand index of each.

    Components that are left out take no part.
    """
    kept = found.labels >= 0
    return [adjusted_rand_index(found.labels[kept], other.labels[kept]) for other in others]
