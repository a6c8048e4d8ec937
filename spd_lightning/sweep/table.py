"""A sweep as one table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from spd_lightning.files.whole import written_whole
from spd_lightning.sweep.runs import SweptRun

TABLE_NAME = "results.csv"
TAIL = ("steps", "wall_time_s", "process_peak_memory_mb", "folder")
"""Last columns. Peak memory is that of the process so far: all runs of a sweep share one."""

Row = dict[str, object]


def write_table(path: Path, runs: Sequence[SweptRun], failures: Mapping[str, str]) -> None:
    """Write the table, whole: one row per run, whatever its state.

    Columns: the run, its swept values, ``state``, ``problem`` (why it is not finished), ``recovered`` (0 or 1),
    ``shortfalls`` (why it is not recovered), every score, steps, wall time, memory, folder.

    Args:
        path: of the CSV file.
        runs: in order.
        failures: why runs failed, by name.
    """
    rows = [_row(run, failures.get(run.name, "")) for run in runs]
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in TAIL))
    with written_whole(path) as aside, aside.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *TAIL], restval="")
        writer.writeheader()
        writer.writerows(rows)


def _row(run: SweptRun, failure: str) -> Row:
    state, problem = run.standing(failure)
    row: Row = {"run": run.name, **run.point, "state": state, "problem": problem, "recovered": "", "shortfalls": ""}
    row["folder"] = str(run.planned.folder)
    if state != "finished":
        return row
    record = run.record
    row |= {"recovered": int(not record.shortfalls), "shortfalls": "; ".join(record.shortfalls)}
    metrics = record.metrics
    row |= {"steps": metrics.get("steps"), "wall_time_s": metrics.get("wall_time_s")}
    return row | {"process_peak_memory_mb": metrics.get("peak_memory_mb")} | dict(record.scores)
