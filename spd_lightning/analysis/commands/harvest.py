"""``python -m spd_lightning.analysis harvest RUN_DIR``."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from spd_lightning.analysis.commands.shared import add_loading, aligned, check_one_process, on_device
from spd_lightning.analysis.end_rows import EndRows
from spd_lightning.analysis.ends import ends
from spd_lightning.analysis.harvest import PLACES, REACH, TOKENS, UNITS, Harvest, Tally, harvest, options
from spd_lightning.analysis.harvest_files import HarvestFiles
from spd_lightning.artefact import load_model
from spd_lightning.files.progress import progress
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import DecomposedModel
from spd_lightning.runs.reopened import Reopened, reopened


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("harvest", help="what each component fires on, reads and comes before")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="run directory; its analysis/ gets the files")
    parser.add_argument("--batches", type=int, help="batches of held-out data at most (all of them)")
    parser.add_argument("--threshold", type=float, default=ALIVE_THRESHOLD, help="importance that counts (%(default)s)")
    parser.add_argument("--places", type=int, default=PLACES, help="strongest places kept per component (%(default)s)")
    parser.add_argument("--reach", type=int, default=REACH, help="tokens kept on either side of them (%(default)s)")
    parser.add_argument("--units", type=int, default=UNITS, help="positions kept for clustering at most (%(default)s)")
    parser.add_argument("--tokens", default=TOKENS, help="entry of the batches that holds tokens (%(default)s)")
    add_loading(parser, "where the network runs")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Harvest, or go on where it was stopped, and say what was found."""
    check_one_process("harvest")
    chosen = options(given.threshold, given.places, given.reach, given.units, given.tokens, given.batches)
    model = load_model(given.folder, given.import_classes)
    files = HarvestFiles(given.folder)
    begun = files.begun(model, chosen)
    if begun is not None and files.is_done:
        files.clear()
        said = f"{files.done} is finished already; nothing was done"
    else:
        begun = _harvested(given, model, files, begun)
        said = f"written to {files.done} and {files.rows.name}"
    sys.stdout.write("\n".join([*table(begun.result()), said]) + "\n")


def _harvested(given: argparse.Namespace, model: Any, files: HarvestFiles, begun: Tally | None) -> Tally:
    found = reopened(given.folder, given.import_classes, model)
    batches = replace(found.batches, limit=None)  # the run's own limit keeps its test short
    boundary = getattr(found.tokenizer, "boundary", None)
    chosen = options(given.threshold, given.places, given.reach, given.units, given.tokens, given.batches)
    tally = Tally(model, chosen, boundary) if begun is None else begun
    total = min(filter(None, (batches.count(), chosen.batches)), default=None)
    with progress("harvest", total=total) as bar:
        bar.update(tally.batches)

        def after(tally: Tally) -> None:
            files.save(tally)
            bar.update()

        harvest(found.model, on_device(found.model, batches, given.device), tally=tally, after=after)
    files.finish(tally, getattr(found.tokenizer, "decode", None), _ends(found, tally, given.device))
    return tally


def _ends(found: Reopened, tally: Tally, device: str) -> EndRows:
    first = next(iter(on_device(found.model, found.batches, device)))
    assert isinstance(found.model, DecomposedModel)  # nothing else has been harvested
    return EndRows(found.model, ends(found.model, first), tally.result().firings, found.tokenizer)


def table(found: Harvest) -> list[str]:
    """A line for every site call."""
    rows = [("site call", "positions", "components", "important anywhere", "at a position")]
    for call, one in found.calls.items():
        alive, per_position = int((one.firings > 0).sum()), float(one.density.sum())
        rows.append((call, str(one.positions), str(len(one.firings)), str(alive), f"{per_position:.2f}"))
    return aligned(rows)
