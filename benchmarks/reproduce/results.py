"""What became of each run."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from benchmarks.reproduce.clock import read_process
from benchmarks.reproduce.job import Job
from benchmarks.reproduce.logs import last_line
from benchmarks.reproduce.plan import Run
from spd_lightning.report import rows
from spd_lightning.report.reading import mapping, with_floats
from spd_lightning.runs.record import RunRecord

LEFT_ALONE, FAILED = "left alone: ", "failed: "
JobT = TypeVar("JobT", bound=Job)


@dataclass(frozen=True)
class Found(Generic[JobT]):
    """A run as its directory shows it.

    Attributes:
        run: the run.
        record: its directory.
        problem: why its numbers are not used, or why there are none; empty for a finished run.
        process: content of its ``process.json``.
    """

    run: JobT
    record: RunRecord
    problem: str = ""
    process: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def scores(self) -> Mapping[str, float]:
        """Final scores by name; none unless the run is finished."""
        return {} if self.problem else self.record.scores

    @cached_property
    def shortfalls(self) -> list[str]:
        """Why it is not recovered; empty if it is."""
        return [self.problem] if self.problem else rows.missing(self.scores)

    @property
    def verdict(self) -> str:
        """Recovered, or why not, in words."""
        if self.problem:
            return self.problem
        return f"not recovered: {'; '.join(self.shortfalls)}" if self.shortfalls else "recovered"

    @property
    def wall_s(self) -> float | None:
        """Seconds of its processes."""
        return self.process.get("wall_s")

    @property
    def settings(self) -> Mapping[str, Any]:
        """Thresholds and budgets behind the scores."""
        return mapping(self.metric("settings"))

    @property
    def versions(self) -> Mapping[str, Any]:
        """Of the packages that made it."""
        return mapping(self.metric("versions"))

    def metric(self, name: str) -> Any:
        """An entry of ``metrics.json``; ``None`` unless the run is finished and has it."""
        return None if self.problem else self.record.metrics.get(name)


Result = Found[Run]


def results_of(runs: Iterable[JobT], failures: Mapping[JobT, str]) -> list[Found[JobT]]:
    """Read the directories of runs.

    Args:
        runs: the runs; of those that left nothing behind only the failed ones appear.
        failures: why runs failed just now.

    Returns:
        One result per run.
    """
    return [result_of(run, failures.get(run, "")) for run in runs if run.exists or run in failures]


def result_of(run: JobT, failure: str = "") -> Found[JobT]:
    """Read the directory of a run.

    Args:
        run: the run.
        failure: why it failed just now; empty if it did not.
    """
    record, reason = run.record, run.obstacle
    if reason:
        return Found(run, record, f"{LEFT_ALONE}{reason}")
    if record.state == "finished":
        return Found(run, with_floats(record), process=read_process(run.folder))
    return Found(run, record, f"{FAILED}{failure}" if failure else f"not finished: {last_line(run.log)}")


def finished(results: Iterable[Found[JobT]]) -> list[Found[JobT]]:
    """Those with scores."""
    return [result for result in results if not result.problem]


def sites(results: Iterable[Result]) -> list[str]:
    """Every site that was scored, in the order of the networks."""
    return list(dict.fromkeys(site for result in results for site in rows.sites(result.scores)))


def values(results: Iterable[Result], score: str) -> list[float]:
    """A score of every run that has it."""
    return [result.scores[score] for result in results if score in result.scores]


def spread(numbers: Sequence[float], digits: int = 3) -> str:
    """Mean and sample standard deviation, as in the paper's Table 1; a dash for nothing."""
    if not numbers:
        return "-"
    deviation = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else " (one seed)"
    return f"{statistics.fmean(numbers):.{digits}f}{deviation}"
