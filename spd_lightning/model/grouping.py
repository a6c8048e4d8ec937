"""Which components belong together."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

ALL_SITES = "all sites"


class Grouping:
    """Components of any sites, in groups that act together: mechanisms.

    Every component belongs to at most one group.

    Args:
        labels: per site the number of each component's group, ``[C]``; -1 for none.
    """

    def __init__(self, labels: Mapping[str, Tensor]) -> None:
        self.labels = {site: label.long() for site, label in labels.items()}
        self._table_of = {site: self._first_alike(site) for site in self.labels}

    @classmethod
    def singletons(cls, counts: Mapping[str, int]) -> Self:
        """Every component by itself.

        Args:
            counts: ``C`` per site.
        """
        labels, first = {}, 0
        for site, count in counts.items():
            labels[site] = torch.arange(first, first + count)
            first += count
        return cls(labels)

    @classmethod
    def across(cls, sites: list[str], count: int) -> Self:
        """Component ``c`` of all sites as one group (APD paper: a parameter component spans the network)."""
        return cls(dict.fromkeys(sites, torch.arange(count)))

    @property
    def tables(self) -> dict[str, str]:
        """The different tables of importances: a title, and the first site whose table it is.

        Sites whose components all share their groups have one table, importance by importance.
        """
        firsts: dict[str, list[str]] = {}
        for site in self.labels:
            firsts.setdefault(self.table_of(site), []).append(site)
        if len(firsts) == 1 and len(self.labels) > 1:
            return {ALL_SITES: next(iter(firsts))}
        return {", ".join(sites): first for first, sites in firsts.items()}

    def table_of(self, site: str) -> str:
        """The first site that has the same table as this one; itself where no other has."""
        return self._table_of[site]

    def _first_alike(self, site: str) -> str:
        own = self.labels[site]
        if (own < 0).any():  # a component of no group shares its importance with no other
            return site
        return next(other for other, label in self.labels.items() if torch.equal(label, own))

    def members(self, site: str, component: int) -> dict[str, list[int]]:
        """The group of one component: components by site."""
        group = self.labels[site][component]
        if group < 0:
            return {site: [component]}
        found = {name: torch.nonzero(label == group).flatten().tolist() for name, label in self.labels.items()}
        return {name: components for name, components in found.items() if components}
