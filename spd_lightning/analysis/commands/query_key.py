"""``python -m spd_lightning.analysis query_key RUN_DIR``."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from spd_lightning.analysis.attention_layers import AttentionLayer, attention_layers
from spd_lightning.analysis.circuit_files import NUMBERS, PICTURE, TENSORS
from spd_lightning.analysis.commands.shared import add_loading, aligned, on_device, write_picture
from spd_lightning.analysis.query_key import QueryKey, query_key
from spd_lightning.analysis.result_files import beside
from spd_lightning.artefact import load_model
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.figures import query_key_maps
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import check_free, written_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel
from spd_lightning.runs.reopened import reopened

FOLDER = Path("analysis") / "query_key"
FORMAT = 1
DRAWN_PAIRS, DRAWN_HEADS = 12, 24
ARRAYS = ("queries", "keys", "coupling", "static", "mean", "rms", "pairs")


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("query_key", help="which pairs of components make attention heads look how far back")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help=f"run directory; its {FOLDER}/ gets the files")
    parser.add_argument("--layer", help="path of one attention layer (all)")
    parser.add_argument("--head", type=int, help="number of one head (all)")
    parser.add_argument("--offsets", type=int, default=8, help="positions back, from 0 up to this many (%(default)s)")
    parser.add_argument("--batches", type=int, help="batches of held-out data at most (those of the run's test)")
    parser.add_argument("--threshold", type=float, default=ALIVE_THRESHOLD, help="importance that counts (%(default)s)")
    parser.add_argument("--top", type=int, default=5, help="pairs that are printed of each head (%(default)s)")
    parser.add_argument("--name", default="query_key", help="of the files (%(default)s)")
    add_loading(parser, "where the network runs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure, write, draw, and say which pairs are strongest."""
    if not re.fullmatch(r"[\w.-]*\w", options.name):
        raise UsageError(f"--name must be letters, digits, _, - and ., got {options.name!r}; name it otherwise")
    path = options.folder / FOLDER / options.name
    for ending in (TENSORS, NUMBERS, PICTURE):
        check_free(beside(path, ending))
    for name, least in {"offsets": 1, "top": 1}.items():
        check_whole(f"--{name}", getattr(options, name), least=least)
    model = load_model(options.folder, options.import_classes)
    layers = _chosen(attention_layers(model), options)
    found = _measured(options, model, layers)
    heads = {one.layer.name: [options.head] if options.head is not None else [*range(one.layer.heads)] for one in found}
    _write(path, found, model, heads)
    rows = [row for one in found for head in heads[one.layer.name] for row in _rows(one, head, options.top)]
    header = ("layer", "head", "query", "key", "back", "static", "mean", "rms")
    lines = [*aligned([header, *rows]), f"written to {path}{TENSORS}, {NUMBERS} and {PICTURE}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _chosen(layers: Sequence[AttentionLayer], options: argparse.Namespace) -> list[AttentionLayer]:
    names = [layer.name for layer in layers]
    if options.layer is not None and options.layer not in names:
        raise UsageError(f"--layer must be one of {', '.join(names)}, got {options.layer!r}")
    chosen = [layer for layer in layers if options.layer in (None, layer.name)]
    for layer in chosen:
        if options.head is not None:
            layer.check_head(options.head)
    return chosen


def _measured(options: argparse.Namespace, model: ComponentModel, layers: Sequence[AttentionLayer]) -> list[QueryKey]:
    reached = reopened(options.folder, options.import_classes, model)
    if options.batches is not None:
        check_whole("--batches", options.batches, least=1)
    batches = islice(on_device(model, reached.batches, options.device), options.batches)
    total = min(filter(None, (reached.batches.count(), options.batches)), default=None)
    seen = progress("query_key", batches, total)
    return query_key(model, layers, seen, range(options.offsets), options.threshold)


def _write(path: Path, found: Sequence[QueryKey], model: ComponentModel, heads: dict[str, list[int]]) -> None:
    tensors = {f"{one.layer.name}/{name}": getattr(one, name) for one in found for name in ARRAYS}
    with written_whole(beside(path, TENSORS)) as aside:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, aside)
    content = {
        "format": FORMAT,
        "weights": fingerprint(model),
        "offsets": list(found[0].offsets),
        "layers": {one.layer.name: _about(one, heads[one.layer.name]) for one in found},
    }
    with written_whole(beside(path, NUMBERS)) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n")
    write_picture(beside(path, PICTURE), _drawn(found, heads))


def _about(one: QueryKey, heads: Sequence[int]) -> dict[str, Any]:
    layer = one.layer
    return {
        "sites": [layer.query, layer.key],
        "heads": layer.heads,
        "key_heads": layer.key_heads,
        "scale": layer.scale,
        "rotary": layer.frequencies is not None,
        "pairs_of_positions": one.pairs.tolist(),
        "strongest": {
            str(head): [[int(one.queries[m]), int(one.keys[n])] for m, n in one.strongest(head, DRAWN_PAIRS)]
            for head in heads
        },
    }


def _drawn(found: Sequence[QueryKey], heads: dict[str, list[int]]) -> Any:
    """The heads with the strongest pairs."""
    places = [(one, head) for one in found for head in heads[one.layer.name]]
    sizes = [float(one.rms[head].nan_to_num().amax()) if one.rms[head].numel() else 0.0 for one, head in places]
    kept = sorted(sorted(range(len(places)), key=lambda number: -sizes[number])[:DRAWN_HEADS])
    tables, labels = {}, {}
    for one, head in (places[number] for number in kept):
        title, pairs = f"{one.layer.name}, head {head}", one.strongest(head, DRAWN_PAIRS)
        rows = [one.mean[head, :, m, n] for m, n in pairs]
        tables[title] = torch.stack(rows) if rows else torch.empty(0, len(one.offsets))
        labels[title] = [f"{one.queries[m]} : {one.keys[n]}" for m, n in pairs]
    return query_key_maps(tables, labels, found[0].offsets)


def _rows(one: QueryKey, head: int, count: int) -> list[tuple[str, ...]]:
    """A line for each of a head's strongest pairs, at the offset where it is strongest."""
    rows = []
    for m, n in one.strongest(head, count):
        at = int(one.rms[head, :, m, n].nan_to_num().argmax())
        numbers = (f"{table[head, at, m, n].item():.3g}" for table in (one.static, one.mean, one.rms))
        where = (one.layer.name, str(head), str(int(one.queries[m])), str(int(one.keys[n])), str(one.offsets[at]))
        rows.append((*where, *numbers))
    return rows
