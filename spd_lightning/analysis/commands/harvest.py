"""``python -m spd_lightning.analysis harvest RUN_DIR``."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from spd_lightning.analysis.call_tally import HarvestOptions
from spd_lightning.analysis.commands.data_pass import DataPass, Place, place
from spd_lightning.analysis.commands.shared import add_loading, aligned, on_device
from spd_lightning.analysis.commands.workers import Moved, in_processes
from spd_lightning.analysis.end_rows import EndRows
from spd_lightning.analysis.ends import ends
from spd_lightning.analysis.harvest import PLACES, REACH, TOKENS, UNITS, decomposed, options
from spd_lightning.analysis.harvest_files import HarvestFiles
from spd_lightning.analysis.harvest_tally import Harvest, Tally
from spd_lightning.artefact import load_model
from spd_lightning.errors import UsageError
from spd_lightning.files.progress import progress
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.runs.reopened import reopened

PATIENCE_S = 0.5
"""Seconds between two looks at what other processes have kept."""


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
    parser.add_argument("--processes", type=int, default=1, help="processes that share the data (%(default)s)")
    add_loading(parser, "where the network runs")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Harvest, or go on where it was stopped, and say what was found."""
    here = place(given.processes)
    chosen = options(given.threshold, given.places, given.reach, given.units, given.tokens, given.batches)
    model = decomposed(load_model(given.folder, given.import_classes))
    files = HarvestFiles(given.folder, here.count)
    tally = files.finished(model, chosen)
    said = f"{files.done} is finished already; nothing was done"
    if tally is None:
        found = reopened(given.folder, given.import_classes, model)
        tally = _harvested(DataPass(found, files, chosen, given.device), here, given)
        said = f"written to {files.done} and {files.rows.name}"
    if tally is not None and not here.index:
        files.clear()
        sys.stdout.write("\n".join([*table(tally.result()), said]) + "\n")


def _harvested(data: DataPass, here: Place, given: argparse.Namespace) -> Tally | None:
    """The whole harvest, written by the first process; ``None`` for the others."""
    with progress("harvest", total=data.steps(here)) as bar:
        if here.starts:
            own, others = partial(data.gather, here.index), partial(_gather, given, data.chosen)
            in_processes("harvest", own, others, here.count, bar.update)
        else:
            tally = data.gather(here.index, bar.update)
    if here.index:
        return None
    if here.count > 1:
        tally = _joined(data)
    assert tally is not None  # one process alone always looks at all of it
    data.files.finish(tally, getattr(data.found.tokenizer, "decode", None), _ends(data, tally))
    return tally


def _joined(data: DataPass) -> Tally:
    """What all processes have added up; waits for those that ``torchrun`` has started."""
    while (tally := data.joined()) is None:
        if data.files.is_done:
            raise UsageError(f"harvest: another command has finished {str(data.files.done)!r} meanwhile")
        time.sleep(PATIENCE_S)
    return tally


def _gather(given: argparse.Namespace, chosen: HarvestOptions, index: int, moved: Moved) -> None:
    """What the processes do that are started for their share."""
    found = reopened(given.folder, given.import_classes)
    DataPass(found, HarvestFiles(given.folder, given.processes), chosen, given.device).gather(index, moved)


def _ends(data: DataPass, tally: Tally) -> EndRows:
    model = decomposed(data.found.model)
    first = next(iter(on_device(model, data.batches, data.device)))
    return EndRows(model, ends(model, first), tally.result().firings, data.found.tokenizer)


def table(found: Harvest) -> list[str]:
    """A line for every site call."""
    rows = [("site call", "positions", "components", "important anywhere", "at a position")]
    for call, one in found.calls.items():
        alive, per_position = int((one.firings > 0).sum()), float(one.density.sum())
        rows.append((call, str(one.positions), str(len(one.firings)), str(alive), f"{per_position:.2f}"))
    return aligned(rows)
