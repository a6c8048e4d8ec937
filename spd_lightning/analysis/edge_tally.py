"""Nodes and edges added up over examples, in memory that stays bounded."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spd_lightning.analysis.attribution_graph import KINDS, NONE, AttributionGraph
from spd_lightning.analysis.direct_nodes import Nodes
from spd_lightning.errors import UsageError

Whole = NDArray[np.int64]
Numbers = NDArray[np.float64]
BITS = 24
"""For an index and for a position in a node's code."""
COLUMNS = ("count", "value", "square", "importance", "entering", "total")
"""What is added up of every node."""


class EdgeTally:
    """What is known of nodes and edges so far.

    A node is a whole number in which its place, kind, position and index stand one after the other, so that the order
    of codes is the order in which the network comes to the nodes.

    Args:
        most: edges that are kept; of more, those are dropped that are the smallest share of what acts on their target.
        by_position: whether nodes at several positions are several nodes.
    """

    def __init__(self, most: int, by_position: bool) -> None:
        self.most, self.by_position = most, by_position
        self.places: tuple[str, ...] = ()
        self.examples = 0
        self._nodes, self._sums = np.empty(0, np.int64), np.empty((0, len(COLUMNS)))
        self._edges, self._weights = np.empty((0, 2), np.int64), np.empty((0, 2))
        self._waiting: list[tuple[Whole, Numbers]] = []
        self._waiting_sums: list[tuple[Whole, Numbers]] = []

    def begin(self, places: Sequence[str]) -> None:
        """Take up an example.

        Raises:
            UsageError: if it comes to other places, or in another order, than those before.
        """
        if self.places and self.places != tuple(places):
            raise UsageError("graph: the network calls its sites differently on other examples; sum up those alike")
        self.places, self.examples = tuple(places), self.examples + 1

    def code(self, nodes: Nodes) -> Whole:
        """Codes of nodes, ``[n]``."""
        kind = self.places.index(nodes.place) * len(KINDS) + nodes.kind
        positions = nodes.positions if self.by_position else torch.full_like(nodes.positions, NONE)
        found: Whole = ((((kind << BITS) + positions + 1) << BITS) + nodes.indices + 1).cpu().numpy()
        return found

    def add_nodes(self, nodes: Nodes) -> None:
        """Nodes of one place."""
        value, importance = nodes.values.cpu().double(), nodes.importances.cpu().double()
        zeros = torch.zeros_like(value)
        columns = torch.stack([zeros + 1, value, value.square(), importance, zeros, zeros], 1)
        self._waiting_sums.append((self.code(nodes), columns.numpy()))

    def add_edges(self, sources: Whole, targets: Whole, amounts: Numbers) -> None:
        """Edges into some nodes.

        Args:
            sources: codes of everything earlier, ``[s]``.
            targets: codes of the nodes, ``[k]``.
            amounts: attributions, ``[k, s]``.

        Raises:
            UsageError: if one is no finite number.
        """
        if not np.isfinite(amounts).all():
            raise UsageError(
                "graph: an attribution is no finite number; so is a gradient or an activation of the network"
            )
        sums = np.stack([*[np.zeros(len(targets))] * 4, amounts.sum(1), np.abs(amounts).sum(1)], 1)
        self._waiting_sums.append((targets, sums))
        row, column = amounts.nonzero()
        some = amounts[row, column]
        self._waiting.append((np.stack([targets[row], sources[column]], 1), np.stack([some, np.abs(some)], 1)))
        if sum(len(keys) for keys, _ in [*self._waiting, *self._waiting_sums]) > self.most:
            self._settle()

    def _settle(self) -> None:
        """Add up what waits, and drop the weakest of too many edges."""
        self._nodes, self._sums = _merged([(self._nodes, self._sums), *self._waiting_sums])
        self._edges, self._weights = _merged([(self._edges, self._weights), *self._waiting])
        self._waiting, self._waiting_sums = [], []
        if len(self._edges) > self.most:
            shares = self._weights[:, 1] / self._sums[np.searchsorted(self._nodes, self._edges[:, 0]), -1]
            kept = np.sort(np.argsort(-shares, kind="stable")[: self.most])
            self._edges, self._weights = self._edges[kept], self._weights[kept]

    def graph(self) -> AttributionGraph:
        """The graph of all that was added: the nodes that have edges, and the outputs."""
        self._settle()
        places, indices = self._nodes >> 2 * BITS, (self._nodes & (1 << BITS) - 1) - 1
        sums = dict(zip(COLUMNS, torch.from_numpy(self._sums.T.copy()), strict=True))
        mean_square = sums["square"] / sums["count"]
        whole = AttributionGraph(
            places=self.places,
            kind=torch.from_numpy(places % len(KINDS)),
            place=torch.from_numpy(places // len(KINDS)),
            index=torch.from_numpy(indices),
            position=torch.from_numpy((self._nodes >> BITS & (1 << BITS) - 1) - 1),
            value=sums["value"] if self.by_position else mean_square.sqrt(),
            importance=sums["importance"],
            entering=sums["entering"],
            total=sums["total"],
            source=torch.from_numpy(np.searchsorted(self._nodes, self._edges[:, 1])),
            target=torch.from_numpy(np.searchsorted(self._nodes, self._edges[:, 0])),
            signed=torch.from_numpy(self._weights[:, 0].copy()),
            absolute=torch.from_numpy(self._weights[:, 1].copy()),
            examples=0 if self.by_position else self.examples,
        )
        return whole.with_edges(torch.ones(whole.n_edges, dtype=torch.bool))


def _merged(parts: Sequence[tuple[Whole, Numbers]]) -> tuple[Whole, Numbers]:
    """Rows of equal keys added up, in the order of the keys."""
    keys, numbers = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    if not len(keys):
        return keys, numbers
    columns = keys.reshape(len(keys), -1)
    order = np.lexsort(columns.T[::-1])
    columns = columns[order]
    first = np.concatenate([[True], (columns[1:] != columns[:-1]).any(1)]).nonzero()[0]
    return keys[order][first], np.add.reduceat(numbers[order], first, axis=0)
