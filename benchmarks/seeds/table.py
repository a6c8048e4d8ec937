"""How often every entry recovers, and why it does not."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reproduce.kept import kept_result
from benchmarks.reproduce.layout import NOTHING, filled_columns
from benchmarks.reproduce.logs import final_error
from benchmarks.reproduce.results import FAILED, Found, finished, result_of
from benchmarks.reproduce.sheet import numbers, write_rows
from benchmarks.reproduce.summary import duration
from benchmarks.seeds.published import Row, has_verdict
from benchmarks.seeds.runs import EntryRuns, Identity, TableRun
from spd_lightning.functional import wilson_interval
from spd_lightning.report import rows
from spd_lightning.report.reading import feature_count
from spd_lightning.runs.verdict import known_sites
from spd_lightning.sweep.grid import Point, short_keys

Result = Found[TableRun]
IDENTITY = ("entry", "value", "seed", "config")
HEADER = ("entry", "value", "recovered", "share, 95 % interval", "still to do", "mean steps", "mean wall time")


@dataclass(frozen=True)
class Group:
    """The seeds of an entry at one of its points.

    Attributes:
        entry: name of the entry.
        point: its values by varied key; empty if the entry varies the seed alone.
        results: of all its runs, those that are still to be made included.
    """

    entry: str
    point: Point
    results: Sequence[Result]

    @property
    def value(self) -> str:
        """The point in words."""
        return stated(self.point)

    @property
    def recovered(self) -> int:
        """How many runs found all there is to find."""
        return sum(not result.shortfalls for result in self.results)

    @property
    def count(self) -> int:
        """How many runs there are to judge: finished ones, and those whose process failed."""
        return sum(judged(result) for result in self.results)

    def mean(self, values: Iterable[float | None]) -> float | None:
        """Of those that are known."""
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None

    @property
    def steps(self) -> float | None:
        """Mean steps of finished runs."""
        return self.mean(result.metric("steps") for result in finished(self.results))

    @property
    def wall_s(self) -> float | None:
        """Mean seconds of finished runs."""
        return self.mean(result.wall_s for result in finished(self.results))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the recovered share."""
        return wilson_interval(self.recovered, self.count) if self.count else None


def stated(point: Point) -> str:
    """A point with keys as short as they are clear."""
    short = short_keys(list(point)) if point else {}
    return ", ".join(f"{short[key]}={value}" for key, value in point.items())


def judged(result: Result) -> bool:
    """Whether there is a verdict on a run; that its process failed is one."""
    return not result.problem or result.problem.startswith(FAILED)


def groups_of(entries: Iterable[EntryRuns], published: Mapping[Identity, Row] | None = None) -> list[Group]:
    """The table's lines, read from the run directories; runs that failed have said so at the end of their logs.

    Args:
        entries: of the table.
        published: what the documentation says of runs, which is kept where there is no verdict here.
    """
    kept = published or {}
    groups = []
    for own in entries:
        points = {stated(run.point): run.point for run in own.runs}
        for value, point in points.items():
            runs = [run for run in own.runs if stated(run.point) == value]
            groups.append(Group(own.entry.name, point, [_result(run, kept.get(run.identity)) for run in runs]))
    return groups


def _result(run: TableRun, row: Row | None) -> Result:
    here = result_of(run, final_error(run.log))
    if row is None or judged(here) or not _holds(row, run):
        return here
    return kept_result(row, run, IDENTITY, run.swept.config)


def _holds(row: Row, run: TableRun) -> bool:
    """Whether a row has a verdict, on a run of as many steps as it is planned with now."""
    return has_verdict(row) and row.get("steps") in (None, "", str(run.steps))


def reason(result: Result) -> str:
    """Why a run is not recovered: what was measured, and what the target itself lacks; else why there is no run."""
    if result.problem:
        return result.problem
    return "; ".join([*result.shortfalls, *lost(result)])


def lost(result: Result) -> list[str]:
    """A sentence if the target itself dropped features, which its known mechanisms then leave out."""
    scores = result.scores
    return rows.unrepresented(scores, known_sites(scores), feature_count(result.record))


def summary(groups: Sequence[Group]) -> list[str]:
    """A line for every point of every entry."""
    return filled_columns(HEADER, [_line(group) for group in groups])


def _line(group: Group) -> list[str]:
    share = NOTHING
    if group.interval:
        low, high = group.interval
        share = f"{group.recovered / group.count:.2f}, {low:.2f} to {high:.2f}"
    missing = len(group.results) - group.count
    return [
        group.entry,
        group.value or NOTHING,
        f"{group.recovered} of {group.count}",
        share,
        str(missing) if missing else NOTHING,
        rows.number(group.steps, 0),
        NOTHING if group.wall_s is None else duration(group.wall_s),
    ]


def failed(groups: Sequence[Group]) -> list[str]:
    """A line for every run that is not recovered, with its reason."""
    return _with_reasons(groups, "why it is not recovered", lambda result: judged(result) and bool(result.shortfalls))


def uncounted(groups: Sequence[Group]) -> list[str]:
    """A line for every run that has begun, but has no verdict."""
    return _with_reasons(groups, "why it is not counted", lambda result: not judged(result) and result.run.exists)


def _with_reasons(groups: Sequence[Group], header: str, wanted: Callable[[Result], bool]) -> list[str]:
    lines = [
        [group.entry, group.value or NOTHING, str(result.run.seed), reason(result)]
        for group in groups
        for result in group.results
        if wanted(result)
    ]
    return filled_columns(["entry", "value", "seed", header], lines)


def losses(groups: Sequence[Group]) -> list[str]:
    """A line for every entry whose target dropped features; its runs are scored on the others."""
    found = [(group.entry, sentence) for group in groups for result in group.results for sentence in lost(result)]
    return [f"- {entry}: {sentence}" for entry, sentence in dict.fromkeys(found)]


def write_sheets(folder: Path, name: str, groups: Sequence[Group]) -> list[Path]:
    """Write ``NAME.csv``, a row for every point of every entry, and ``NAME_runs.csv``, a row for every run.

    Args:
        folder: where they go.
        name: of the table.
        groups: its lines.

    Returns:
        Their paths.
    """
    paths = [folder / f"{name}.csv", folder / f"{name}_runs.csv"]
    write_rows(paths[0], [_row(group) for group in groups])
    write_rows(paths[1], [_run_row(group, result) for group in groups for result in group.results])
    return paths


def _row(group: Group) -> dict[str, object]:
    low, high = group.interval or ("", "")
    row: dict[str, object] = {"entry": group.entry, "value": group.value, "recovered": group.recovered}
    row |= {"runs": group.count, "low": low, "high": high, "still to do": len(group.results) - group.count}
    return row | {"mean_steps": group.steps, "mean_wall_s": group.wall_s}


def _run_row(group: Group, result: Result) -> dict[str, object]:
    row: dict[str, object] = {"entry": group.entry, "value": group.value, "seed": result.run.seed}
    row |= {"config": " ".join(result.run.entry.configs)} | numbers(result)
    return row | {"verdict": reason(result) or "recovered"}
