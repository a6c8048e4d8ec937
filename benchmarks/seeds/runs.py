"""The runs of a table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.reproduce.job import Job
from benchmarks.reproduce.plan import unusable
from benchmarks.reproduce.systems import SYSTEMS
from benchmarks.seeds.plan import TablePlan
from spd_lightning.errors import UsageError
from spd_lightning.files.progress import progress
from spd_lightning.runs.planned import PlannedRun
from spd_lightning.runs.record import RunRecord
from spd_lightning.sweep.configs import Config, lookup
from spd_lightning.sweep.grid import SEED, Point, meaning
from spd_lightning.sweep.plan import SweepPlan
from spd_lightning.sweep.runs import SweptRun, plan_runs

Identity = tuple[str, frozenset[tuple[str, str]]]
"""What tells the runs of a table apart, wherever they were made: the entry, then values and seed by key."""
STEP_MS = {system.config: system.step_ms for system in SYSTEMS.values()}
OTHER_STEP_MS = 20.0


class TableRun(Job):
    """One run of a table of sizes and settings.

    Args:
        entry: what it belongs to.
        swept: the same as a run of a sweep.

    Attributes:
        point: its values by varied key, the seed left out.
        seed: its seed.
    """

    def __init__(self, entry: SweepPlan, swept: SweptRun) -> None:
        self.entry, self.swept = entry, swept
        self.point: Point = {key: value for key, value in swept.point.items() if key != SEED}
        self.seed = int(swept.point[SEED])
        self.planned = swept.planned
        self._finished: RunRecord | None = None

    @property
    def name(self) -> str:
        """Entry, values and seed in words."""
        return f"{self.entry.name} {self.swept.name}"

    @property
    def identity(self) -> Identity:
        """The same for the same run on another machine."""
        return self.entry.name, meanings(self.swept.point)

    @property
    def record(self) -> RunRecord:
        """What its directory says; that of a finished run is read once, since the table is written after every run."""
        record = self._finished or self.planned.record
        self._finished = record if record.state == "finished" else None
        return record

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return int(lookup(self.swept.config, "trainer.max_steps"))

    @property
    def expected_s(self) -> float:
        """Rough seconds of the whole run."""
        return self.steps * STEP_MS.get(self.entry.configs[0], OTHER_STEP_MS) / 1000

    @property
    def target(self) -> str:
        """What tells targets and their training apart."""
        return json.dumps([lookup(self.swept.config, f"model.{part}") for part in ("target", "recipe")], sort_keys=True)

    @property
    def obstacle(self) -> str:
        """Why it can neither be used nor continued, and the way out, in one line; empty if nothing is in the way."""
        return unusable(self.record, self.swept.config, self.seed)


@dataclass(frozen=True)
class EntryRuns:
    """An entry and its runs.

    Attributes:
        entry: what is run.
        default: its config without what it varies.
        runs: in order.
    """

    entry: SweepPlan
    default: Config
    runs: Sequence[TableRun]

    def asked(self, plan: TablePlan) -> list[TableRun]:
        """Those runs that a plan asks for, which may be fewer than the folder's own plan has."""
        points = {meanings(point) for entry in plan.all if entry.name == self.entry.name for point in entry.points}
        return [run for run in self.runs if meanings(run.swept.point) in points]


def runs_of(plan: TablePlan, folder: Path) -> list[EntryRuns]:
    """The runs of every entry, all values checked; nothing is built or written.

    Runs of one config are one run, whichever entries ask for it: the first one's.

    Args:
        plan: with its configs resolved.
        folder: of the table.

    Raises:
        UsageError: naming the entry, if a key or value is refused.
    """
    entries = [entry_runs(entry, folder / entry.name) for entry in progress("Reading configs", plan.all)]
    first: dict[str, PlannedRun] = {}
    for run in (run for own in entries for run in own.runs):
        run.planned = first.setdefault(json.dumps(run.swept.config, sort_keys=True), run.planned)
    return entries


def entry_runs(entry: SweepPlan, folder: Path) -> EntryRuns:
    """The runs of one entry, whatever others ask for.

    Args:
        entry: with its configs resolved.
        folder: of the entry.

    Raises:
        UsageError: naming the entry, if a key or value is refused.
    """
    keys = [*(key for key in entry.keys if key != SEED), SEED]
    grids = tuple({key: grid[key] for key in keys} for grid in entry.grids)
    try:
        default, runs = plan_runs(replace(entry, grids=grids), folder)
    except UsageError as error:
        raise UsageError(f"entry {entry.name!r}: {error}") from None
    return EntryRuns(entry, default, [TableRun(entry, run) for run in runs])


def meanings(point: Point) -> frozenset[tuple[str, str]]:
    """A form that is the same for points that differ in spelling alone."""
    return frozenset((key, meaning(value)) for key, value in point.items())
