"""An attribution graph as what a picture of it needs: columns, rows, labels."""

from collections.abc import Mapping
from typing import Any

import torch

from spd_lightning.analysis.attribution_graph import KINDS, NONE, OUTPUT, AttributionGraph
from spd_lightning.analysis.graph_flow import GraphPath, influence, strongest_paths

SAID = 3
"""Paths that are said in words with the picture."""


def drawing(graph: AttributionGraph, most: int, entries: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Arguments of :class:`spd_lightning.figures.Drawn`.

    The strength of an edge is the share of the attribution to the outputs that passes along it.

    Args:
        graph: best pruned.
        most: nodes that are drawn at most, those through which most passes.
        entries: text of entries of the output, where it is known.

    Returns:
        Its arguments by name.
    """
    through = influence(graph)
    shown = _shown(graph, through, most)
    number = shown.cumsum(0) - 1
    kept = shown[graph.source] & shown[graph.target]
    source, target = graph.source[kept], graph.target[kept]
    strength = through[target] * graph.shares[kept] * torch.sign(graph.signed[kept])
    columns = torch.unique(graph.place[shown])
    positions = torch.unique(graph.position[shown])
    rows = positions[positions != NONE].tolist()
    last = max(len(rows) - 1, 0)  # what has no position stands with the last one
    row_of = {position: row for row, position in enumerate(rows)} | {NONE: last}
    nodes = shown.nonzero()[:, 0].tolist()
    hidden = graph.n_nodes - len(nodes)
    return {
        "columns": [graph.places[place] for place in columns.tolist()],
        "rows": [graph.position_name(row) for row in rows] or [""],
        "column": torch.searchsorted(columns, graph.place[shown]).numpy(),
        "row": torch.tensor([row_of[int(graph.position[node])] for node in nodes]).numpy(),
        "labels": [_label(graph, node, entries or {}) for node in nodes],
        "kinds": [KINDS[int(graph.kind[node])] for node in nodes],
        "source": number[source].numpy(),
        "target": number[target].numpy(),
        "strength": strength.numpy(),
        "note": f"{hidden} nodes through which less passes are not drawn" if hidden else "",
        "said": [path_line(graph, path, entries) for path in strongest_paths(graph, SAID)],
    }


def _shown(graph: AttributionGraph, through: torch.Tensor, most: int) -> torch.Tensor:
    shown = torch.zeros(graph.n_nodes, dtype=torch.bool)
    first = torch.where(graph.kind == OUTPUT, 2.0, through)  # outputs whatever reaches them
    shown[first.topk(min(most, graph.n_nodes)).indices] = True
    return shown


def _label(graph: AttributionGraph, node: int, entries: Mapping[int, str]) -> str:
    kind, index = int(graph.kind[node]), int(graph.index[node])
    if kind == OUTPUT and index in entries:
        return repr(entries[index])
    return KINDS[kind] if index == NONE else str(index)


def path_line(graph: AttributionGraph, path: GraphPath, entries: Mapping[int, str] | None = None) -> str:
    """A path in words: its share with its sign, and its nodes."""
    sign = "+" if path.sign > 0 else "-"
    return f"{sign}{path.share:.1%}  {' -> '.join(graph.name_of(node, entries) for node in path.nodes)}"
