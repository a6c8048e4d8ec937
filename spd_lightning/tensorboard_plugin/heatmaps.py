"""Importances as a table: probes or positions by components."""

import json
from typing import Any

import numpy as np

from spd_lightning.errors import UsageError
from spd_lightning.files.arrays import Array, ArrayFile
from spd_lightning.runs.analysis_files import FOLDER, fits
from spd_lightning.tensorboard_plugin.answers import MAX_NUMBERS, Arrays, GoneError, MissingError, Parameters
from spd_lightning.tensorboard_plugin.run_files import IMPORTANCES, RunFiles

NOTE = "importances"
NOTE_SHAPE = {"format": int, "step": int, "rows": str, "row_labels": [str]}
VALUES, ORDER = "values/", "order/"
MAX_ROWS = 4096
"""Rows that are sent."""
SHOWN = 8
MAKER = "fit and test write them (callback ImportanceTables)"


def heat_maps(run: RunFiles, parameters: Parameters) -> dict[str, Any]:
    """Which heat maps there are at ``step``, the last one without: site calls, rows and components of each."""
    found = _file(run, parameters.whole("step"))
    calls = [name.removeprefix(VALUES) for name in found.names if name.startswith(VALUES)]
    sizes = {call: found.shape(VALUES + call) for call in calls}
    order = {call: place for place, call in enumerate(run.sites())}
    calls.sort(key=lambda call: (order.get(call.rpartition("@")[0] or call, len(order)), call))
    listed = [
        {"call": call, "rows": sizes[call][0], "count": sizes[call][1]} for call in calls if len(sizes[call]) == 2
    ]
    return {"calls": listed, **_notes(found)}


def heat_map(run: RunFiles, parameters: Parameters) -> Arrays:
    """One heat map, ``call`` at ``step``.

    Arrays: ``values``, float32 ``[rows, shown]``, whose columns stand in the picture's order, and ``order``, int32
    ``[shown]``, the component of each column. As many columns as 4 million numbers hold.
    """
    call = parameters.text("call")
    found = _file(run, parameters.whole("step"))
    if VALUES + call not in found or len(found.shape(VALUES + call)) != 2:
        raise GoneError(f"{run.id!r} has no heat map of {call!r}")
    rows, count = found.shape(VALUES + call)
    if rows * count > 16 * MAX_NUMBERS:
        raise UsageError(f"a heat map of {rows} by {count} is more than the tab reads")
    values = found.read(VALUES + call)[:MAX_ROWS]
    order = _order(found, call, count)[: max(1, MAX_NUMBERS // max(1, len(values)) - 1)]
    shown = np.nan_to_num(values[:, order].astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    notes = _notes(found)
    labels = notes.pop("row_labels")[: len(values)]
    about = {"call": call, "count": count, "n_rows": rows, "row_labels": labels, **notes}
    return Arrays(about, {"values": shown, "order": order.astype(np.int32)})


def most_important(run: RunFiles, call: str, component: int) -> dict[str, Any]:
    """The probes or positions on which a component is most important, with their labels."""
    found = _file(run, None)
    name = VALUES + call
    if name not in found or len(found.shape(name)) != 2 or component >= found.shape(name)[1]:
        raise MissingError(f"no importances of {call}")
    column = np.nan_to_num(found.column(name, component).astype(np.float64))
    best = np.argsort(-column, kind="stable")[:SHOWN]
    best, notes = best[column[best] > 0], _notes(found)
    labels = notes["row_labels"]
    shown = [{"row": row, "label": labels[row] if row < len(labels) else None} for row in best.tolist()]
    values = [{**one, "importance": value} for one, value in zip(shown, column[best].tolist(), strict=True)]
    return {"rows": notes["rows"], "of": len(column), "places": values}


def _file(run: RunFiles, step: int | None) -> ArrayFile:
    where = (FOLDER, IMPORTANCES) if step is None else (FOLDER, "steps", f"step={step}", IMPORTANCES)
    return run.arrays("importances", MAKER, *where)


def _order(found: ArrayFile, call: str, count: int) -> Array:
    """The order of the columns; what it leaves out, or holds wrongly, comes after in its own order."""
    name = ORDER + call
    given = found.read(name).reshape(-1).astype(np.int64) if name in found else np.zeros(0, np.int64)
    given = given[(given >= 0) & (given < count)]
    given = given[np.sort(np.unique(given, return_index=True)[1])]
    left = np.setdiff1d(np.arange(count), given)
    return np.concatenate([given, left])


def _notes(found: ArrayFile) -> dict[str, Any]:
    try:
        notes = json.loads(found.notes[NOTE])
    except (KeyError, TypeError, ValueError, RecursionError):
        notes = None
    if not fits(notes, NOTE_SHAPE):
        raise UsageError("the importances are damaged, or of another version")
    labels = [label[:300] for label in notes.get("row_labels", [])[:MAX_ROWS]]
    return {"step": notes.get("step"), "rows": notes.get("rows", "rows"), "row_labels": labels}
