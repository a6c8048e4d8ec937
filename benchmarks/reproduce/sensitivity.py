"""How far the weight of the importance term can be off: sweeps, if they were made."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.reproduce.layout import filled_columns
from benchmarks.reproduce.pictures import PICTURES, keep_small

TABLE_NAME, FIGURES, PICTURE_NAME = "results.csv", "figures", "sensitivity.png"
FOLDER_PREFIX = "importance_"
SEED = "seed_everything"
Row = Mapping[str, str]


def sensitivity(system: str, sweeps: Path, output: Path) -> list[str]:
    """Lines on the sweep ``importance_SYSTEM``, with its picture; nothing without one.

    Args:
        system: name of the system.
        sweeps: folder of all sweeps.
        output: folder of the document.
    """
    folder = sweeps / f"{FOLDER_PREFIX}{system}"
    rows = _read(folder / TABLE_NAME)
    if not rows:
        return []
    columns = list(rows[0])
    swept = [name for name in columns[1 : columns.index("state")] if name != SEED]
    if len(swept) != 1:
        return []
    by_value: dict[str, list[Row]] = {}
    for row in rows:
        by_value.setdefault(row[swept[0]], []).append(row)
    lines = [_line(value, by_value[value]) for value in sorted(by_value, key=_order)]
    picture = _picture(system, folder / FIGURES / PICTURE_NAME, output)
    heading = [f"### Sensitivity of {system}", "", f"Runs by `{swept[0]}`:", ""]
    return [*heading, *filled_columns([swept[0].split(".init_args")[0], "recovered", "not finished"], lines), *picture]


def _read(path: Path) -> list[Row]:
    try:
        with path.open(newline="") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    needed = {"state", "recovered"}
    return [row for row in rows if needed <= set(row)]


def _line(value: str, rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if row["state"] == "finished"]
    return [value, f"{sum(row['recovered'] == '1' for row in done)} of {len(done)}", str(len(rows) - len(done))]


def _order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _picture(system: str, path: Path, output: Path) -> list[str]:
    if not path.is_file():
        return []
    name = f"{PICTURES}/{system}_sensitivity.png"
    keep_small(path, output / name)
    return [f"![Sensitivity of {system}]({name})", ""]
