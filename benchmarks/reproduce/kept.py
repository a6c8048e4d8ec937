"""What tables said before of runs that are not here."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks.reproduce.plan import make_run
from benchmarks.reproduce.results import Found, JobT, Result
from benchmarks.reproduce.sheet import METRICS
from benchmarks.reproduce.systems import System
from spd_lightning.runs.record import RunRecord, State

IDENTITY = ("system", "seed", "config")
KNOWN = ("state", "recovered", "verdict", "wall_s", "jobs", "threads")
_STATES: dict[str, State] = {state: state for state in get_args(State)}


def kept_results(sheet: Path, systems: Sequence[System], runs: Path) -> dict[System, list[Result]]:
    """Runs as the sheet of an earlier call has them.

    Args:
        sheet: the CSV file that :func:`benchmarks.reproduce.sheet.write_sheet` wrote; none is no runs.
        systems: those that are looked for.
        runs: folder where their directories would lie.

    Returns:
        Results of the systems that it has, in their order.
    """
    rows = read_rows(sheet)
    found: dict[System, list[Result]] = {}
    for system in systems:
        own = [row for row in rows if row["system"] == system.name]
        found[system] = [kept_result(row, make_run(system, int(row["seed"]), runs), IDENTITY) for row in own]
    return {system: results for system, results in found.items() if results}


def read_rows(sheet: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if there is no file."""
    if not sheet.is_file():
        return []
    with sheet.open(newline="") as file:
        return list(csv.DictReader(file))


def kept_result(
    row: Mapping[str, str], run: JobT, identity: Sequence[str], config: Mapping[str, Any] | None = None
) -> Found[JobT]:
    """A run as a row of a sheet has it.

    Args:
        row: the row.
        run: whose row it is.
        identity: columns that tell runs apart.
        config: of the run, as plain data.
    """
    filled = {name: value for name, value in row.items() if value != ""}
    metrics: dict[str, object] = {name: _parsed(filled[name]) for name in METRICS if name in filled}
    metrics["versions"], metrics["settings"] = _group(filled, "version/"), _group(filled, "setting/")
    named = {*identity, *KNOWN, *METRICS}
    others = {name: value for name, value in filled.items() if name not in named and "setting/" not in name}
    metrics["scores"] = {name: float(value) for name, value in others.items() if not name.startswith("version/")}
    part = {name: filled[name] for name in ("jobs", "threads") if name in filled}
    process: dict[str, object] = {"parts": [part]} if part else {}
    if "wall_s" in filled:
        process["wall_s"] = float(filled["wall_s"])
    record = RunRecord(run.folder, _STATES.get(row["state"], "started"), metrics=metrics, config=config or {})
    return Found(run, record, "" if row["recovered"] else row["verdict"], process)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
