"""Attribution graphs on disk: arrays in safetensors, names and what they were made of in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from spd_lightning.analysis.attribution_graph import ARRAYS, EDGE_ARRAYS, KINDS, NODE_ARRAYS, AttributionGraph
from spd_lightning.analysis.result_files import beside
from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import read_safetensors
from spd_lightning.files.whole import check_free, is_file, written_whole

GRAPHS = Path("analysis") / "graphs"
"""Where a run keeps its graphs."""
ARRAYS_SUFFIX, NOTES_SUFFIX = ".safetensors", ".json"
FORMAT = 1
WHOLE = ("kind", "place", "index", "position", "source", "target")
"""Arrays of whole numbers."""


def save_graph(graph: AttributionGraph, path: str | Path, notes: Mapping[str, Any] | None = None) -> None:
    """Write ``PATH.safetensors`` and ``PATH.json``.

    Args:
        graph: what to write.
        path: the common name of both files, without an ending; its folder is made.
        notes: what else is known of the graph, as plain data.

    Raises:
        UsageError: if either name is taken, or the disk refuses.
    """
    path = Path(path)
    for suffix in (ARRAYS_SUFFIX, NOTES_SUFFIX):
        check_free(beside(path, suffix))
    content = {"format": FORMAT, "places": graph.places, "examples": graph.examples, "tokens": graph.tokens}
    with written_whole(beside(path, ARRAYS_SUFFIX)) as aside:
        save_file({name: tensor.contiguous() for name, tensor in graph.tensors().items()}, aside)
    with written_whole(beside(path, NOTES_SUFFIX)) as aside:
        aside.write_text(json.dumps({**content, "notes": dict(notes or {})}, indent=1) + "\n", encoding="utf-8")


def read_graph(path: str | Path) -> AttributionGraph:
    """Read what :func:`save_graph` wrote.

    Args:
        path: the common name of both files, or either of them.

    Raises:
        UsageError: if one of them is missing or damaged, or they do not belong together.
    """
    path = Path(path)
    if path.suffix in (ARRAYS_SUFFIX, NOTES_SUFFIX) and is_file(path):
        path = path.with_suffix("")
    tensors = read_safetensors(beside(path, ARRAYS_SUFFIX), "graph")
    try:
        content = json.loads(beside(path, NOTES_SUFFIX).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("another format")
        names, tokens = (tuple(map(str, content[name])) for name in ("places", "tokens"))
        graph = AttributionGraph(names, **tensors, examples=int(content["examples"]), tokens=tokens)
        _check(graph, tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError(f"graph {str(path)!r} is damaged, incomplete, or none that this version reads") from None
    return graph


def _check(graph: AttributionGraph, tensors: Mapping[str, Tensor]) -> None:
    """Raise a ``ValueError`` for arrays that are no graph: the file may come from anywhere."""
    for names, count in ((NODE_ARRAYS, graph.n_nodes), (EDGE_ARRAYS, graph.n_edges)):
        if any(tensors[name].shape != (count,) for name in names):
            raise ValueError("lengths differ")
    types = {name: torch.int64 if name in WHOLE else torch.float64 for name in ARRAYS}
    if any(tensors[name].dtype != types[name] for name in ARRAYS):
        raise ValueError("types differ")
    limits = {"kind": len(KINDS), "place": len(graph.places), "source": graph.n_nodes, "target": graph.n_nodes}
    if any(not bool(((tensors[name] >= 0) & (tensors[name] < most)).all()) for name, most in limits.items()):
        raise ValueError("numbers of nothing")
    if bool((graph.place[graph.source] >= graph.place[graph.target]).any()):
        raise ValueError("an edge leads back")
