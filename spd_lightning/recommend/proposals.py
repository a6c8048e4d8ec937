"""What is proposed for a network, and on what grounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from spd_lightning.analysis.commands.shared import aligned
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.model.decomposed import ImportanceFactory
from spd_lightning.recommend.measures import NetworkMeasure

WIDTH, INDENT = 120, 14
"""Of a line, and of what stands to the right of a name."""
OF_A_SITE = "sites."
HEADER = ("site", "weight", "rank", "dimension", "directions", "empty", "alone", "C")
LEGEND = (
    "rank: of the weight. dimension: in how many directions what reaches the site varies (participation ratio). "
    "directions: along which it was seen at several lengths, a lower bound on sparse features; 0 in dense data. empty: "
    "positions where nothing but 0 reaches it. alone: cost of ablating the site, as a share of ablating all."
)


@dataclass(frozen=True)
class Proposal:
    """A value and its ground.

    Attributes:
        name: what it is of, by the key that it has in a config.
        value: in words.
        ground: why, in words.
    """

    name: str
    value: str
    ground: str


@dataclass(frozen=True)
class Recommendation:
    """How to take a network apart.

    Attributes:
        sites: components ``C`` by site.
        left_out: why a module that holds a matrix is no site, by its path.
        ties: sites whose weight has the numbers of another site's, to that site.
        batch_size: examples of a step.
        steps: of training.
        recipe: further arguments of ``StochasticDecomposition``, :func:`default_recipe
            <spd_lightning.methods.default_recipe.default_recipe>` for this network. Its terms serve for one training.
        importance: builds the importance function; ``None`` for the recipe's own.
        distance: how outputs are compared.
        measured: what was found of the network.
        seconds: that training with its warm-up is expected to take here, scores and pictures left out.
        bytes: that a step holds, components and their moments included; ``None`` where that cannot be told.
        proposals: the values with their grounds, in words.
        given_up: what a budget or the memory took away, in words.
        described: the importance function as plain data.
    """

    sites: dict[str, int]
    left_out: dict[str, str]
    ties: dict[str, str]
    batch_size: int
    steps: int
    recipe: dict[str, Any]
    importance: ImportanceFactory | None
    distance: DistanceKind
    measured: NetworkMeasure
    seconds: float
    bytes: int | None
    proposals: tuple[Proposal, ...]
    given_up: tuple[str, ...]
    described: Mapping[str, Any]

    def __str__(self) -> str:
        return self.table({})

    def table(self, given: Mapping[str, str]) -> str:
        """Everything that is proposed, what it stands beside, and why.

        Args:
            given: what the caller's own config says, by the names of proposals, and ``C`` of a site by ``sites.NAME``.

        Returns:
            Several lines.
        """
        beside = any(name.startswith(OF_A_SITE) for name in given)
        rows = [(*HEADER, "given"), *(self._site(name, given) for name in self.sites)]
        lines = aligned([row if beside else row[:-1] for row in rows])
        lines += ["", *wrap(LEGEND, WIDTH), ""]
        for name, why in self.left_out.items():
            lines += wrap(f"no site: {name}, {why}", WIDTH, subsequent_indent="  ")
        lines += [""] * bool(self.left_out)
        for one in self.proposals:
            stands = f" (given: {given[one.name]})" if one.name in given else ""
            lines += _said(one.name, f"{one.value}{stands}. {one.ground}")
        return "\n".join([*lines, *(line for told in self.given_up for line in _said("given up", told))])

    def _site(self, name: str, given: Mapping[str, str]) -> tuple[str, ...]:
        site = self.measured.sites[name]
        seen = f"{site.reached.dimension:.1f}", str(site.reached.directions), f"{site.reached.empty:.0%}"
        shape = f"{site.shape[0]} x {site.shape[1]}"
        beside = given.get(OF_A_SITE + name, "")
        return name, shape, str(site.rank), *seen, f"{site.cost:.2g}", str(self.sites[name]), beside


def _said(name: str, text: str) -> list[str]:
    """A name, and text that stands to the right of it."""
    return wrap(text, WIDTH, initial_indent=f"{name:{INDENT}}", subsequent_indent=" " * INDENT)
