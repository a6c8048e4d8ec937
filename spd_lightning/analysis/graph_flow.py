"""How much of what reaches the outputs passes along each edge; the smallest graph that keeps a share; paths."""

import heapq
from dataclasses import dataclass

import torch
from torch import Tensor

from spd_lightning.analysis.attribution_graph import KINDS, OUTPUT, AttributionGraph
from spd_lightning.errors import UsageError, check_fraction, check_whole


@dataclass(frozen=True)
class GraphPath:
    """A way through a graph.

    Attributes:
        nodes: numbers of its nodes, from one that nothing acts on to an output.
        share: the share of all that reaches the outputs that passes along it.
        sign: whether what it begins with raises the output, 1, or lowers it, -1: the product of its edges' signs.
    """

    nodes: tuple[int, ...]
    share: float
    sign: int


class _Flow:
    """Shares along the edges of a graph, some of which may be left out."""

    def __init__(self, graph: AttributionGraph, kept: Tensor | None = None) -> None:
        self.graph, edges = graph, torch.arange(graph.n_edges) if kept is None else kept.nonzero()[:, 0]
        self.edges = edges[graph.place[graph.source[edges]].argsort(stable=True)]
        self.source, self.target = graph.source[self.edges], graph.target[self.edges]
        self.share = graph.shares[self.edges]

    def _by_place(self, ends: Tensor) -> list[Tensor]:
        """Numbers of edges, those together whose ends are at one place, in the order of places."""
        places = self.graph.place[ends]
        order, counts = places.argsort(stable=True), places.bincount(minlength=len(self.graph.places))
        return list(torch.split(order, counts.tolist()))

    def down(self) -> Tensor:
        """The share of what reaches the outputs that passes through every node, ``[n]``."""
        graph = self.graph
        passes = torch.where((graph.kind == OUTPUT) & (graph.total > 0), graph.importance, 0.0)
        passes = passes / passes.sum().clamp(min=torch.finfo(passes.dtype).tiny)
        for some in reversed(self._by_place(self.source)):
            passes.index_add_(0, self.source[some], self.share[some] * passes[self.target[some]])
        return passes

    def up(self) -> Tensor:
        """The share of what acts on every node, over any way, that comes from where paths begin, ``[n]``."""
        comes = (self.graph.total == 0).to(self.share)
        for some in self._by_place(self.target):
            comes.index_add_(0, self.target[some], self.share[some] * comes[self.source[some]])
        return comes

    def along(self) -> Tensor:
        """What whole paths carry along every edge, ``[kept edges]``."""
        return self.down()[self.target] * self.share * self.up()[self.source]

    def kept(self) -> float:
        """What whole paths carry to the outputs, of 1."""
        outputs = self.graph.kind == OUTPUT
        weights = _Flow(self.graph, torch.zeros(self.graph.n_edges, dtype=torch.bool)).down()
        return float((weights * self.up())[outputs].sum())


def influence(graph: AttributionGraph) -> Tensor:
    """The share of the attribution to the outputs that passes through every node, ``[n]``.

    What acts on a node is divided among its sources by magnitude; so what reaches an output is followed back to where
    nothing acts any more (ours, after the node influence of attribution graphs with transcoders). Outputs count alike,
    in a sum as often as they occur.
    """
    return _Flow(graph).down()


def share_kept(graph: AttributionGraph) -> float:
    """The share of the attribution to the outputs that whole paths of the graph carry; 1 where no edge was dropped.

    A path is whole if it begins at a node that nothing acts on, such as an input or a rest.
    """
    return _Flow(graph).kept()


def beginnings(graph: AttributionGraph) -> dict[str, float]:
    """Where the attribution to the outputs begins: its shares by the kind of node that paths begin at.

    Args:
        graph: whole or pruned; what a pruned one has lost is in no kind.

    Returns:
        Shares by kind. That of ``"rest"`` is what components do not explain; components are those that read no other
        node, such as an embedding's.
    """
    through = torch.where(graph.total == 0, influence(graph), 0.0)
    return {kind: float(through[graph.kind == number].sum()) for number, kind in enumerate(KINDS) if number != OUTPUT}


def pruned(graph: AttributionGraph, share: float) -> AttributionGraph:
    """A smallest graph that keeps a share of the attribution to the outputs.

    Edges are taken away, those first along which whole paths carry least, until none can be spared: every smaller graph
    within the result keeps less than the share. Nodes that are on no whole path go with their edges. (Which of all
    graphs has the fewest edges cannot be found fast; another choice of edges may be a little smaller.)

    Args:
        graph: with the edges to choose from.
        share: of what ``graph`` itself keeps, in (0, 1].

    Returns:
        The smaller graph.

    Raises:
        UsageError: for a share outside its range, or a graph in which nothing reaches the outputs.
    """
    check_fraction("graph: share", share, zero=False)
    whole = share_kept(graph)
    if whole == 0:
        raise UsageError("graph: nothing reaches the outputs; choose other outputs, or a lower threshold")
    kept = torch.ones(graph.n_edges, dtype=torch.bool)
    while True:
        flow = _Flow(graph, kept)
        lost, order = flow.along().sort()
        spare = flow.kept() - share * whole
        count = int(((lost == 0) | (lost.cumsum(0) <= spare)).sum())
        if count == 0:
            return graph.with_edges(kept)
        kept[flow.edges[order[:count]]] = False


def strongest_paths(graph: AttributionGraph, count: int) -> list[GraphPath]:
    """The ways along which most reaches the outputs, the strongest first.

    Args:
        graph: whole or pruned.
        count: how many at most.
    """
    check_whole("graph: paths", count, least=1)
    flow = _Flow(graph)
    into: dict[int, list[tuple[int, float, int]]] = {}
    signs = torch.sign(graph.signed[flow.edges]).int().tolist()
    for source, target, share, sign in zip(
        flow.source.tolist(), flow.target.tolist(), flow.share.tolist(), signs, strict=True
    ):
        into.setdefault(target, []).append((source, share, sign))
    best = _best(graph, flow)
    weights = torch.where(graph.kind == OUTPUT, flow.down(), 0.0)
    waiting = [
        (-float(weights[node] * best[node]), (node,), float(weights[node]), 1)
        for node in weights.nonzero()[:, 0].tolist()
    ]
    heapq.heapify(waiting)
    found: list[GraphPath] = []
    while waiting and len(found) < count and waiting[0][0] < 0:
        _, nodes, share, sign = heapq.heappop(waiting)
        if nodes[0] not in into:
            found.append(GraphPath(nodes, share, sign))
            continue
        for source, part, edge_sign in into[nodes[0]]:
            longer = share * part
            heapq.heappush(waiting, (-longer * float(best[source]), (source, *nodes), longer, sign * edge_sign))
    return found


def _best(graph: AttributionGraph, flow: _Flow) -> Tensor:
    """The largest share that one path carries to every node of what acts on it, ``[n]``."""
    best = (graph.total == 0).to(flow.share)
    for some in flow._by_place(flow.target):
        best.scatter_reduce_(0, flow.target[some], flow.share[some] * best[flow.source[some]], "amax")
    return best
