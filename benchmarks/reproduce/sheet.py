"""All runs as one CSV file."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.reproduce.results import Found, JobT, Result
from spd_lightning.files.whole import written_whole

METRICS = ("steps", "peak_memory_mb", "device", "machine")


def write_sheet(path: Path, results: Sequence[Result]) -> None:
    """Write one row per run.

    Columns: ``system``, ``seed``, ``config``, ``state``, ``recovered`` (0 or 1, empty if not finished), ``verdict``
    (why not), ``wall_s``, ``jobs`` and ``threads`` of its last process, what ``metrics.json`` says of the machine,
    versions as ``version/NAME``, thresholds and budgets as ``setting/NAME``, then every score by its own name.

    Args:
        path: the file.
        results: the runs, in order.
    """
    write_rows(path, [_row(result) for result in results])


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV; what a row does not have stays empty.

    Args:
        path: the file.
        rows: values by column. Columns that start with ``version/``, ``setting/`` and ``score/`` come last, in this
            order, scores without that prefix.
    """
    groups = ("", "version/", "setting/", "score/")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(names, key=lambda name: max(i for i, group in enumerate(groups) if name.startswith(group)))
    with written_whole(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([name.removeprefix("score/") for name in columns])
        writer.writerows([[row.get(name, "") for name in columns] for row in rows])


def _row(result: Result) -> dict[str, object]:
    run = result.run
    row: dict[str, object] = {"system": run.system.name, "seed": run.seed, "config": run.system.config}
    return row | numbers(result)


def numbers(result: Found[JobT]) -> dict[str, object]:
    """What any table says of a run, by column.

    Args:
        result: the run.
    """
    row: dict[str, object] = {"state": result.record.state, "recovered": "", "verdict": result.verdict}
    if result.problem:
        return row
    row |= {"recovered": int(not result.shortfalls), "wall_s": result.wall_s}
    row |= {name: part[name] for part in result.process.get("parts", [])[-1:] for name in ("jobs", "threads")}
    row |= {name: result.metric(name) for name in METRICS}
    row |= {f"version/{name}": value for name, value in result.versions.items()}
    row |= {f"setting/{name}": value for name, value in result.settings.items()}
    return row | {f"score/{name}": value for name, value in result.scores.items()}
