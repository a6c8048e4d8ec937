"""A graph of what acts on what: nodes and signed edges as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

KINDS = ("input", "component", "rest", "bias", "output")
"""Kinds of nodes, by their number."""
INPUT, COMPONENT, REST, BIAS, OUTPUT = range(len(KINDS))
NONE = -1
"""Stands where a node has no index or no position."""
NODE_ARRAYS = ("kind", "place", "index", "position", "value", "importance", "entering", "total")
EDGE_ARRAYS = ("source", "target", "signed", "absolute")


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Nodes of a network and the direct attributions between them, see :func:`attribution_graph`.

    Nodes stand in the order in which the network comes to them, so that every edge leads to a later one. In a graph of
    one example each has a position; in a sum over examples it stands for all positions.

    Attributes:
        places: names of the inputs, site calls and outputs.
        kind: of every node, a number of :data:`KINDS`, ``[n]``.
        place: where it is, a number of ``places``, ``[n]``.
        index: the component, the feature of an input, the token of an embedding, or the entry of the output, ``[n]``;
            -1 for what a site writes beside its live components.
        position: ``[n]``; -1 where there is none. Several dimensions of positions are counted through, the last one
            fastest.
        value: the inner activation, the number put in or out, or the length of a vector, ``[n]``; in a sum the root
            mean square over the places where the node occurs.
        importance: the causal importance, 1 for all that is no component, ``[n]``; in a sum the sum of it.
        entering: the sum of the attributions of everything that acts on the node directly, ``[n]``, kept as an edge or
            not.
        total: the sum of their magnitudes, ``[n]``; 0 where nothing acts on the node.
        source: the node that an edge leaves, ``[e]``.
        target: the node that it reaches, ``[e]``.
        signed: the attribution, ``[e]``; in a sum the sum of it.
        absolute: its magnitude, ``[e]``; in a sum the sum of magnitudes.
        examples: how many examples were added up; 0 for a graph of one example with positions.
        tokens: the text at each position, where it is known.
    """

    places: tuple[str, ...]
    kind: Tensor
    place: Tensor
    index: Tensor
    position: Tensor
    value: Tensor
    importance: Tensor
    entering: Tensor
    total: Tensor
    source: Tensor
    target: Tensor
    signed: Tensor
    absolute: Tensor
    examples: int = 0
    tokens: tuple[str, ...] = ()

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.kind)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.source)

    @property
    def shares(self) -> Tensor:
        """What each edge is of all magnitudes that act on its target, ``[e]``."""
        return self.absolute / self.total[self.target]

    @property
    def relative(self) -> Tensor:
        """Signed attributions over summed importance of the source and root mean square of the target, ``[e]``.

        Of a sum, with inner activations ``a`` and importances ``g``: ``Σ A / (Σ g_source · RMS(a_target))``, how far
        the source moves the target where it is important, in units of what the target usually is.
        """
        return self.signed / (self.importance[self.source] * self.value[self.target].abs())

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in ARRAYS}

    def with_edges(self, kept: Tensor) -> Self:
        """Some of the edges, with their nodes and the outputs.

        Args:
            kept: which edges, boolean ``[e]``.

        Returns:
            The smaller graph; what entered its nodes is still counted in ``entering`` and ``total``.
        """
        touched = self.kind == OUTPUT
        touched[self.source[kept]] = True
        touched[self.target[kept]] = True
        number = touched.cumsum(0) - 1
        nodes = {name: getattr(self, name)[touched] for name in NODE_ARRAYS}
        edges = {name: getattr(self, name)[kept] for name in EDGE_ARRAYS}
        edges |= {end: number[edges[end]] for end in ("source", "target")}
        return replace(self, **nodes, **edges)

    def name_of(self, node: int, entries: Mapping[int, str] | None = None) -> str:
        """A node in words: ``fc1:3`` for a component, ``fc1 (rest)``, ``input:0``; ``@ 4 'the'`` for its position.

        Args:
            node: its number.
            entries: text of entries of the output, where it is known.
        """
        kind, place = int(self.kind[node]), self.places[int(self.place[node])]
        index, position = int(self.index[node]), int(self.position[node])
        name = f"{place} ({KINDS[kind]})" if kind in (REST, BIAS) else place if index == NONE else f"{place}:{index}"
        if kind == OUTPUT and entries and index in entries:
            name = f"{name} {entries[index]!r}"
        return name if position == NONE else f"{name} @ {self.position_name(position)}"

    def position_name(self, position: int) -> str:
        """The number of a position, and its text where that is known."""
        return f"{position} {self.tokens[position]!r}" if position < len(self.tokens) else str(position)


ARRAYS = (*NODE_ARRAYS, *EDGE_ARRAYS)


def same(one: AttributionGraph, other: AttributionGraph) -> bool:
    """Whether two graphs are equal in every number and name."""
    names = (one.places, one.examples, one.tokens) == (other.places, other.examples, other.tokens)
    theirs = other.tensors()
    return names and all(torch.equal(tensor, theirs[name]) for name, tensor in one.tensors().items())
