"""What the tables said before of systems whose runs are not here."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.reproduce.plan import make_run
from benchmarks.reproduce.results import Result
from benchmarks.reproduce.sheet import METRICS
from benchmarks.reproduce.systems import System
from spd_lightning.runs.record import RunRecord

KNOWN = ("system", "seed", "config", "state", "recovered", "verdict", "wall_s", "jobs", "threads")


def kept_results(sheet: Path, systems: Sequence[System], runs: Path) -> dict[System, list[Result]]:
    """Runs as the sheet of an earlier call has them.

    Args:
        sheet: the CSV file that :func:`benchmarks.reproduce.sheet.write_sheet` wrote; none is no runs.
        systems: those that are looked for.
        runs: folder where their directories would lie.

    Returns:
        Results of the systems that it has, in their order.
    """
    if not sheet.is_file():
        return {}
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {system: [_result(row, system, runs) for row in rows if row["system"] == system.name] for system in systems}
    return {system: results for system, results in found.items() if results}


def _result(row: Mapping[str, str], system: System, runs: Path) -> Result:
    run = make_run(system, int(row["seed"]), runs)
    filled = {name: value for name, value in row.items() if value != ""}
    metrics: dict[str, object] = {name: filled[name] for name in METRICS if name in filled}
    metrics["versions"], metrics["settings"] = _group(filled, "version/"), _group(filled, "setting/")
    others = {name: value for name, value in filled.items() if name not in KNOWN + METRICS and "setting/" not in name}
    metrics["scores"] = {name: float(value) for name, value in others.items() if not name.startswith("version/")}
    part = {name: filled[name] for name in ("jobs", "threads") if name in filled}
    process: dict[str, object] = {"parts": [part]} if part else {}
    if "wall_s" in filled:
        process["wall_s"] = float(filled["wall_s"])
    record = RunRecord(run.folder, "finished" if row["state"] == "finished" else "started", metrics=metrics)
    return Result(run, record, "" if row["recovered"] else row["verdict"], process)


def _group(row: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def kept_sections(page: Path) -> dict[str, list[str]]:
    """The page's text by system, heading included.

    Args:
        page: the Markdown file of an earlier call; none is no text.

    Returns:
        Lines by the words of their heading.
    """
    sections: dict[str, list[str]] = {}
    own: list[str] = []
    for line in page.read_text().split("\n") if page.is_file() else []:
        if line.startswith("## "):
            own = sections.setdefault(line.removeprefix("## "), [])
        own.append(line)
    return sections
