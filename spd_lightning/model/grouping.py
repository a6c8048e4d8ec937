"""Which components belong together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from spd_lightning.errors import UsageError

ALL_SITES = "all sites"


class Grouping:
    """Components of any sites, in groups that act together: mechanisms.

    Every component belongs to at most one group.

    Args:
        labels: per site the number of each component's group, ``[C]``; -1 for none.
        one_importance: whether the components of a group have one importance between them (APD paper), so that sites
            whose components all share their groups need but one table of importances. Components that were found to
            act together keep importances of their own.
    """

    def __init__(self, labels: Mapping[str, Tensor], one_importance: bool = False) -> None:
        self.labels = {site: label.long() for site, label in labels.items()}
        self.one_importance = one_importance
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
        return cls(dict.fromkeys(sites, torch.arange(count)), one_importance=True)

    @classmethod
    def of(cls, groups: Iterable[Mapping[str, Sequence[int]]], counts: Mapping[str, int]) -> Self:
        """Groups by their members.

        Args:
            groups: components by site, of each group; those that are in none belong to none.
            counts: ``C`` per site.

        Raises:
            UsageError: for a component that does not exist, or is named twice.
        """
        labels = {site: torch.full((count,), -1) for site, count in counts.items()}
        for number, group in enumerate(groups):
            for site, components in group.items():
                for component in components:
                    if site not in labels or not 0 <= component < len(labels[site]):
                        raise UsageError(f"mechanisms: there is no component {site}:{component}")
                    if labels[site][component] >= 0:
                        raise UsageError(f"mechanisms: {site}:{component} is in two groups, or twice in one")
                    labels[site][component] = number
        return cls(labels)

    @property
    def groups(self) -> list[dict[str, list[int]]]:
        """The members of every group by site, in the order of the groups' numbers."""
        found: dict[int, dict[str, list[int]]] = {}
        for site, label in self.labels.items():
            for component, group in enumerate(label.tolist()):
                if group >= 0:
                    found.setdefault(group, {}).setdefault(site, []).append(component)
        return [found[group] for group in sorted(found)]

    def flat(self) -> Tensor:
        """The groups of all components, site after site; one of no group gets a number of its own."""
        label = torch.cat(list(self.labels.values()))
        alone = torch.arange(len(label)) + int(label.amax()) + 1
        return torch.where(label < 0, alone, label)

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
        if not self.one_importance or (own < 0).any():  # a component of no group shares its importance with no other
            return site
        return next(other for other, label in self.labels.items() if torch.equal(label, own))

    def members(self, site: str, component: int) -> dict[str, list[int]]:
        """The group of one component: components by site."""
        group = self.labels[site][component]
        if group < 0:
            return {site: [component]}
        found = {name: torch.nonzero(label == group).flatten().tolist() for name, label in self.labels.items()}
        return {name: components for name, components in found.items() if components}
