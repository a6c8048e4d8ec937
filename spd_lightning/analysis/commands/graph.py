"""``python -m spd_lightning.analysis graph RUN_DIR --text "for i in range("``."""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spd_lightning.analysis.attribution import attribution_graph, summed_graph
from spd_lightning.analysis.attribution_graph import OUTPUT, AttributionGraph
from spd_lightning.analysis.commands.examples import one_token, picked, prompts, whole_numbers
from spd_lightning.analysis.commands.shared import add_loading, on_device
from spd_lightning.analysis.graph_drawing import drawing, path_line
from spd_lightning.analysis.graph_files import ARRAYS_SUFFIX, GRAPHS, NOTES_SUFFIX, save_graph
from spd_lightning.analysis.graph_flow import beginnings, pruned, share_kept, strongest_paths
from spd_lightning.analysis.harvest import TOKENS
from spd_lightning.analysis.result_files import beside
from spd_lightning.artefact import load_model
from spd_lightning.errors import check_fraction, check_whole
from spd_lightning.figures import Drawn, attribution_diagram
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import check_free, written_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel
from spd_lightning.runs.reopened import Reopened, reopened

PICTURE = ".svg"


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("graph", help="which components act on which, from the inputs to an output")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="run directory")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="what the network reads, where it reads text")
    what.add_argument("--example", type=int, metavar="N", help="an example of the run's test data, from 0")
    what.add_argument("--data", action="store_true", help="the sum over the run's test data")
    parser.add_argument("--examples", type=int, default=100, help="of the data, with --data (%(default)s)")
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--next", action="append", metavar="TOKEN", help="whose logit is explained; may be given again")
    out.add_argument("--outputs", metavar="N[,N...]", help="entries of the output that are explained")
    out.add_argument("--top", type=int, default=1, help="or as many of the largest (%(default)s)")
    parser.add_argument("--position", type=int, help="of the output (the last; with --data, all)")
    parser.add_argument("--share", type=float, default=0.8, help="of the attribution that is shown (%(default)s)")
    parser.add_argument("--threshold", type=float, default=ALIVE_THRESHOLD, help="importance that counts (%(default)s)")
    parser.add_argument("--nodes", type=int, default=150, help="that are drawn at most (%(default)s)")
    parser.add_argument("--paths", type=int, default=10, help="that are printed (%(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="NAME", help=f"of the files, without ending (RUN_DIR/{GRAPHS}/...)"
    )
    parser.add_argument("--free_norms", action="store_true", help="let gradients pass through the scales of norms too")
    add_loading(parser, "where the network runs")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Read:
    """What the network is given.

    Attributes:
        batch: one example; ``None`` for the data.
        tokens: its text by position.
    """

    batch: Any = None
    tokens: tuple[str, ...] = ()


def run(given: argparse.Namespace) -> None:
    """Find the graph, write it and its picture, and say what is in it."""
    _check(given)
    path = given.output or given.folder / GRAPHS / _default_name(given)
    for suffix in (PICTURE, ARRAYS_SUFFIX, NOTES_SUFFIX):
        check_free(beside(path, suffix))
    model = load_model(given.folder, given.import_classes)
    found = reopened(given.folder, given.import_classes, model)
    entries = _entries(given, found)
    read = _read(given, found)
    graph = replace(_graph(given, found, read, entries), tokens=read.tokens)
    small = pruned(graph, given.share)
    outputs = graph.index[graph.kind == OUTPUT].tolist()
    names = {} if found.tokenizer is None else {index: found.tokenizer.decode([index]) for index in outputs}
    lines = list(told(graph, small, given.paths, names))
    save_graph(graph, path, {**_settings(given), "weights": fingerprint(model), "output_names": names, "said": lines})
    _draw(small, given, names, beside(path, PICTURE))
    lines.append(f"written to {beside(path, PICTURE)}, {ARRAYS_SUFFIX} and {NOTES_SUFFIX}")
    sys.stdout.write("\n".join(lines) + "\n")


def _check(given: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded."""
    check_fraction("--share", given.share, zero=False)
    check_fraction("--threshold", given.threshold)
    for name, least in (("examples", 1), ("top", 1), ("nodes", 2), ("paths", 1)):
        check_whole(f"--{name}", getattr(given, name), least=least)
    if given.outputs is not None:
        whole_numbers("--outputs", given.outputs)
    if given.example is not None:
        check_whole("--example", given.example, least=0)


def _default_name(given: argparse.Namespace) -> str:
    if given.data:
        return "data"
    if given.example is not None:
        return f"example-{given.example}"
    return f"text-{hashlib.sha256(given.text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    names = (
        "text",
        "example",
        "data",
        "examples",
        "next",
        "outputs",
        "top",
        "position",
        "share",
        "threshold",
        "free_norms",
    )
    return {name: getattr(given, name) for name in names}


def _entries(given: argparse.Namespace, found: Reopened) -> list[int] | None:
    """Entries of the output that are explained; ``None`` for the largest."""
    if given.next is not None:
        return [one_token(text, found.tokenizer) for text in given.next]
    return None if given.outputs is None else whole_numbers("--outputs", given.outputs)


def _read(given: argparse.Namespace, found: Reopened) -> _Read:
    """What the network is given, and its text."""
    if given.data:
        return _Read()
    if given.text is not None:
        batch, names = prompts([given.text], found)
        return _Read(batch, tuple(names))
    batch = picked(replace(found.batches, limit=None), [given.example])
    tokens = batch.get(TOKENS) if isinstance(batch, Mapping) else None
    if found.tokenizer is None or not isinstance(tokens, torch.Tensor):
        return _Read(batch)
    return _Read(batch, tuple(found.tokenizer.decode([token]) for token in tokens[0].tolist()))


def _graph(given: argparse.Namespace, found: Reopened, read: _Read, entries: list[int] | None) -> AttributionGraph:
    model: ComponentModel = found.model
    common: dict[str, Any] = {
        "outputs": entries,
        "top": given.top,
        "threshold": given.threshold,
        "hold_norms": not given.free_norms,
    }
    if read.batch is not None:
        (batch,) = on_device(model, [read.batch], given.device)
        last = [-1 if given.position is None else given.position]
        with progress("nodes") as bar:
            return attribution_graph(model, batch, positions=last, after=bar.update, **common)
    positions = None if given.position is None else [given.position]
    batches = on_device(model, replace(found.batches, limit=None), given.device)
    with progress("examples", total=given.examples) as bar:
        return summed_graph(model, batches, positions=positions, examples=given.examples, after=bar.update, **common)


def _draw(small: AttributionGraph, given: argparse.Namespace, names: Mapping[int, str], path: Path) -> None:
    what = "the data" if given.data else f"example {given.example}" if given.text is None else repr(given.text)
    title = f"What acts on what: {what[:200]}"
    figure = attribution_diagram(Drawn(**drawing(small, given.nodes, names)), title)
    with written_whole(path) as aside:
        figure.savefig(aside, format="svg", metadata={"Description": figure.get_label(), "Date": None})


def told(graph: AttributionGraph, small: AttributionGraph, paths: int, names: Mapping[int, str]) -> Iterator[str]:
    """What was found, in lines."""
    outputs = (graph.kind == OUTPUT).nonzero()[:, 0].tolist()
    if not graph.examples:
        for node in outputs[:paths]:
            value, entering = float(graph.value[node]), float(graph.entering[node])
            yield f"{graph.name_of(node, names)} is {value:.4g}; what acts on it adds up to {entering:.4g}"
    begin = ", ".join(f"{kind} {share:.1%}" for kind, share in beginnings(graph).items() if share)
    yield f"what acts on the output begins in: {begin}"
    yield (
        f"{small.n_nodes} of {graph.n_nodes} nodes and {small.n_edges} of {graph.n_edges} edges keep "
        f"{share_kept(small):.1%} of it; the strongest paths:"
    )
    for path in strongest_paths(small, paths):
        yield path_line(small, path, names)
