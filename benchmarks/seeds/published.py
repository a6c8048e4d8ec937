"""What the documentation says of runs that are not here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.reproduce.kept import read_rows
from benchmarks.reproduce.plan import shown
from benchmarks.reproduce.results import FAILED
from benchmarks.seeds.runs import EntryRuns, Identity, entry_runs, meanings
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import SEED, Point, short_keys

Row = Mapping[str, str]


def published_rows(entries: Sequence[EntryRuns], sheet: Path) -> dict[Identity, Row]:
    """What a sheet says of runs, by run.

    Args:
        entries: of the table.
        sheet: a row for every run, as :func:`benchmarks.seeds.table.write_sheets` wrote it; none is no rows.

    Raises:
        UsageError: if a verdict would be lost, because its row fits no entry; a sheet does not say how it was made.
    """
    known = {own.entry.name: own for own in entries}
    found: dict[Identity, Row] = {}
    for row in read_rows(sheet):
        point = _point(row, known[row["entry"]]) if row["entry"] in known else None
        if point is not None:
            found[row["entry"], meanings(point)] = row
        elif has_verdict(row):
            raise UsageError(
                f"--keep keeps every run of {shown(sheet)}, but the plan has no entry {_named(row)}; "
                "put it into the plan, or leave --keep out to drop it"
            )
    return found


def with_published(entries: Sequence[EntryRuns], rows: Mapping[Identity, Row], folder: Path) -> list[EntryRuns]:
    """The entries with the seeds and values added that only the documentation has; its runs come first, in its order.

    Args:
        entries: of the table.
        rows: of :func:`published_rows`.
        folder: of the table.

    Raises:
        UsageError: if a value that was published is refused by now.
    """
    return [_widened(own, rows, folder / own.entry.name) for own in entries]


def has_verdict(row: Row) -> bool:
    """Whether a run was finished, or its process failed; the others are still to be made."""
    return bool(row["recovered"]) or row["verdict"].startswith(FAILED)


def _widened(own: EntryRuns, rows: Mapping[Identity, Row], folder: Path) -> EntryRuns:
    runs, here = list(own.runs), {run.identity for run in own.runs}
    missing = [row for identity, row in rows.items() if row["entry"] == own.entry.name and identity not in here]
    points = [point for point in (_point(row, own) for row in missing) if point]
    if points:
        grids = tuple({key: (value,) for key, value in point.items()} for point in points)
        runs += entry_runs(replace(own.entry, grids=grids), folder).runs
    places = {identity: place for place, identity in enumerate(rows)}
    return replace(own, runs=sorted(runs, key=lambda run: places.get(run.identity, len(places))))


def _named(row: Row) -> str:
    return f"{row['entry']!r} with {row['value']}" if row["value"] else repr(row["entry"])


def _point(row: Row, own: EntryRuns) -> Point | None:
    """Where a run stands in its entry, values spelt as there; nothing if the entry varies other keys."""
    keys = list(own.runs[0].point)
    short = short_keys(keys) if keys else {}
    stated = re.fullmatch(", ".join(f"{re.escape(short[key])}=(.*)" for key in keys), row["value"])
    if stated is None:
        return None
    values = dict(zip(keys, stated.groups(), strict=True))
    spelt = {meanings(run.point): run.point for run in own.runs}
    return {**spelt.get(meanings(values), values), SEED: row["seed"]}
