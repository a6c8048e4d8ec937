"""Attribution graphs and circuits of a run, as columns for a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array, ArrayFile
from spd_lightning.runs.analysis_files import FOLDER, LABELS, fits
from spd_lightning.tensorboard_plugin.answers import MissingError, Parameters
from spd_lightning.tensorboard_plugin.run_files import RunFiles

KINDS = ("input", "component", "rest", "bias", "output")
OUTPUT = KINDS.index("output")
NODES = ("kind", "place", "index", "position", "value", "importance", "entering", "total")
EDGES = ("source", "target", "signed", "absolute")
MOST_NODES, MOST_EDGES = 1_000_000, 5_000_000
SENT_EDGES, SENT_NODES = 6000, 1500
"""Edges and nodes that are sent, the strongest."""
GRAPH_SHAPE = {"places": [str], "tokens": [str], "examples": int, "notes": {}}
CIRCUIT_SHAPE: Mapping[str, Any] = {"calls": {}, "circuits": {}, "outcomes": {}, "goal": {}, "about": {}}
COLUMNS = ("calls", "rows", "positions", "components", "importances")
_TINY = np.finfo(np.float64).tiny


def graphs(run: RunFiles) -> dict[str, Any]:
    """Names of the run's graphs, with the text, example or data that each is of."""
    names = run.listed("graphs")
    if not names:
        raise MissingError("no graphs here; python -m spd_lightning.analysis graph makes them")
    return {"graphs": [{"name": name, "title": _title(run, name)} for name in names]}


def _title(run: RunFiles, name: str) -> str:
    try:
        notes = run.pair("graphs", name)[0].get("notes")
    except UsageError:
        return name
    notes = notes if isinstance(notes, dict) else {}
    if isinstance(notes.get("text"), str):
        return str(notes["text"])[:300]
    return f"example {notes['example']}" if isinstance(notes.get("example"), int) else name


def graph(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """One graph, ``name``: the strongest edges and their nodes, as columns.

    ``strength`` of an edge is the share of all that reaches the outputs that passes along it, with the sign of the
    attribution; ``through`` of a node the share that passes through it (docs/graphs.md).
    """
    name = parameters.text("name")
    run.check_listed("graphs", name)
    folder = run.folder / FOLDER
    paths = [folder / "graphs" / f"{name}.safetensors", folder / "graphs" / f"{name}.json", folder / LABELS]
    return run.cache.of("graph", paths, lambda: _drawn(run, name), _takes)


def _takes(drawn: Mapping[str, Any]) -> int:
    return 8 * (len(NODES) * len(drawn["nodes"]["kind"]) + 4 * len(drawn["edges"]["source"])) + 200 * len(
        drawn["labels"]
    )


def _drawn(run: RunFiles, name: str) -> dict[str, Any]:
    notes, arrays = run.pair("graphs", name)
    if not fits(notes, GRAPH_SHAPE) or not notes.keys() >= GRAPH_SHAPE.keys():
        raise UsageError(f"graph {name!r} is damaged, or none that this version reads")
    columns = _columns(arrays, len(notes["places"]))
    through = _through(columns)
    share = columns["absolute"] / np.maximum(columns["total"][columns["target"]], _TINY)
    strength = np.nan_to_num(through[columns["target"]] * share * np.sign(columns["signed"]))
    nodes, edges = _strongest(columns, through, strength)
    numbers = np.full(len(through), -1)
    numbers[nodes] = np.arange(len(nodes))
    said = notes["notes"].get("said")
    return {
        "name": name,
        "title": _title(run, name),
        "places": notes["places"],
        "tokens": [token[:300] for token in notes["tokens"]],
        "examples": notes["examples"],
        "said": [line[:2000] for line in said[:20]] if fits(said, [str]) else [],
        "output_names": _names(notes["notes"].get("output_names")),
        "n_nodes": len(through),
        "n_edges": len(strength),
        "kinds": KINDS,
        "nodes": {column: columns[column][nodes] for column in NODES} | {"through": through[nodes]},
        "edges": {
            "source": numbers[columns["source"][edges]],
            "target": numbers[columns["target"][edges]],
            "signed": columns["signed"][edges],
            "strength": strength[edges],
        },
        "labels": _labels(run, notes["places"], columns, nodes),
    }


def _names(given: Any) -> dict[str, str]:
    return {name: text[:300] for name, text in list(given.items())[:1000]} if fits(given, {}) and _texts(given) else {}


def _texts(given: Mapping[str, Any]) -> bool:
    return all(isinstance(text, str) for text in given.values())


def _columns(arrays: ArrayFile, n_places: int) -> dict[str, Array]:
    """The arrays of a graph, after what numbers mean was checked: the file may come from anywhere.

    Raises:
        UsageError: if they are none.
    """
    damaged = UsageError(f"graph {arrays.path.stem!r} is damaged, or none that this version reads")
    if any(name not in arrays or len(arrays.shape(name)) != 1 for name in (*NODES, *EDGES)):
        raise damaged
    for names, most in ((NODES, MOST_NODES), (EDGES, MOST_EDGES)):
        lengths = {arrays.shape(name)[0] for name in names}
        if len(lengths) > 1 or max(lengths) > most:
            raise damaged
    found = {name: arrays.read(name) for name in (*NODES, *EDGES)}
    n_nodes = len(found["kind"])
    for name, most in (("kind", len(KINDS)), ("place", n_places), ("source", n_nodes), ("target", n_nodes)):
        if not _numbers(found[name], most):
            raise damaged
    if bool((found["place"][found["source"]] >= found["place"][found["target"]]).any()):
        raise damaged
    return found


def _through(columns: Mapping[str, Array]) -> Array:
    """The share of what reaches the outputs that passes through every node, ``[n]``; from the last place on."""
    total, source, target = columns["total"], columns["source"], columns["target"]
    passes = np.where((columns["kind"] == OUTPUT) & (total > 0), columns["importance"], 0.0)
    passes = np.nan_to_num(passes / max(passes.sum(), _TINY))
    share = np.nan_to_num(columns["absolute"] / np.maximum(total[target], _TINY))
    place = columns["place"][source]
    order = np.argsort(-place, kind="stable")
    for edges in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        np.add.at(passes, source[edges], share[edges] * passes[target[edges]])
    return np.asarray(passes)


def _strongest(columns: Mapping[str, Array], through: Array, strength: Array) -> tuple[Array, Array]:
    """Numbers of the nodes through which most passes, outputs first, and of the strongest edges between them."""
    first = np.where(columns["kind"] == OUTPUT, 2.0, through)
    nodes = np.sort(np.argsort(-first, kind="stable")[:SENT_NODES])
    kept = np.isin(columns["source"], nodes) & np.isin(columns["target"], nodes)
    edges = np.flatnonzero(kept)
    return nodes, edges[np.argsort(-np.abs(strength[edges]), kind="stable")[:SENT_EDGES]]


def _labels(run: RunFiles, places: list[str], columns: Mapping[str, Array], nodes: Array) -> dict[str, str]:
    """Labels of the nodes that are components."""
    own = nodes[columns["kind"][nodes] == KINDS.index("component")]
    return _named(run, places, columns["place"][own], columns["index"][own])


def _named(run: RunFiles, calls: list[str], places: Array, components: Array) -> dict[str, str]:
    """Labels by ``call:component``, of those that have one."""
    try:
        labels = run.labels()
    except UsageError:
        return {}
    keys = {(calls[place], component) for place, component in zip(places.tolist(), components.tolist(), strict=True)}
    return {f"{call}:{component}": labels[call, component][:200] for call, component in keys & labels.keys()}


def circuits(run: RunFiles) -> dict[str, Any]:
    """Names of the run's circuits, with what each was asked for."""
    names = run.listed("circuits")
    if not names:
        raise MissingError("no circuits here; python -m spd_lightning.analysis circuit searches for them")
    listed = []
    for name in names:
        about = or_nothing(run, name)
        text = about.get("text")
        prompt = text[0] if isinstance(text, list) and text and isinstance(text[0], str) else None
        title = about.get("title") if isinstance(about.get("title"), str) else name
        listed.append({"name": name, "title": str(title)[:300], "text": prompt})
    return {"circuits": listed}


def or_nothing(run: RunFiles, name: str) -> dict[str, Any]:
    """What circuits are about; empty if that cannot be read."""
    try:
        about = run.pair("circuits", name)[0].get("about")
    except UsageError:
        return {}
    return about if isinstance(about, dict) else {}


def circuit(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """Circuits of one prompt, ``name``: nodes of each as columns, and how each output fared, attacks among them."""
    name = parameters.text("name")
    notes, arrays = run.pair("circuits", name)
    if not fits(notes, CIRCUIT_SHAPE) or not notes.keys() >= CIRCUIT_SHAPE.keys():
        raise UsageError(f"circuits {name!r} are damaged, or none that this version reads")
    calls = list(notes["calls"])
    found = [
        {"name": title, "nodes": _nodes(arrays, number, len(calls)), "outcomes": _outcomes(one.get("outcomes"))}
        for number, (title, one) in enumerate(notes["circuits"].items())
        if isinstance(one, dict)
    ]
    return {
        "name": name,
        "about": or_nothing(run, name),
        "goal": notes["goal"],
        "calls": calls,
        "outcomes": _outcomes(notes["outcomes"]),
        "circuits": found,
        "labels": _named(
            run,
            calls,
            *(
                np.concatenate([[], *(one["nodes"][name] for one in found)]).astype(int)
                for name in ("calls", "components")
            ),
        ),
    }


def _nodes(arrays: ArrayFile, number: int, n_calls: int) -> dict[str, Array]:
    names = {column: f"{number}/{column}" for column in COLUMNS}
    if any(name not in arrays or len(arrays.shape(name)) != 1 for name in names.values()):
        raise UsageError("the circuits' arrays are damaged")
    columns = {column: arrays.read(name) for column, name in names.items()}
    if len({len(column) for column in columns.values()}) != 1 or not _numbers(columns["calls"], n_calls):
        raise UsageError("the circuits' arrays are damaged")
    strongest = np.argsort(-columns["importances"], kind="stable")[:SENT_NODES]
    return {name: column[strongest] for name, column in columns.items()}


def _numbers(column: Array, most: int) -> bool:
    """Whether a column holds numbers of things of which there are so many."""
    return column.dtype.kind in "iu" and not bool(((column < 0) | (column >= most)).any())


def _outcomes(given: Any) -> dict[str, dict[str, float | None]]:
    """Mean distance, and share of wanted answers, over the rows of the batch."""
    return {name: {part: _mean(one.get(part)) for part in ("distance", "right")} for name, one in _dicts(given)}


def _dicts(given: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, one) for name, one in given.items() if isinstance(one, dict)] if isinstance(given, dict) else []


def _mean(values: Any) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float)] if isinstance(values, list) else []
    return float(np.mean(numbers)) if numbers else None
