"""All systems in one table, and what they cost beside the paper's settings."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks import report
from benchmarks.options import ROOT
from benchmarks.reproduce.layout import NOTHING, filled_columns, joined
from benchmarks.reproduce.plan import read_config
from benchmarks.reproduce.results import Result, finished
from benchmarks.reproduce.systems import PAPER_PREFIX, System

BENCHMARKS = ROOT / "docs" / "benchmarks"
Results = Mapping[System, Sequence[Result]]


class Cost(NamedTuple):
    """Time of one run.

    Attributes:
        seconds: of the whole process, or steps times milliseconds per step.
        estimated: whether it is the latter.
    """

    seconds: float
    estimated: bool = False

    def __str__(self) -> str:
        return f"{'≈ ' if self.estimated else ''}{duration(self.seconds)}"


def duration(seconds: float) -> str:
    """Seconds below five minutes, then minutes below five hours, then hours."""
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 18000 else f"{seconds / 3600:.1f} h"


def summary(results: Results, step_ms: Mapping[str, float]) -> list[str]:
    """One line per system, and the sum over systems.

    Args:
        results: of the runs, by system.
        step_ms: milliseconds per step of configs by the name that benchmarks use, ``paper/tms_5-2``.
    """
    header = ["system", "recovered", "not finished", "steps", "mean wall time", "paper's steps", "paper's settings"]
    costs = {system: (_own(own), _of_the_paper(system, results, step_ms)) for system, own in results.items()}
    lines = [_line(system, own, *costs[system]) for system, own in results.items()]
    both = {system: pair for system, pair in costs.items() if pair[0] and pair[1] and not _is_papers(system)}
    return [*filled_columns(header, lines), *_total(both), *_note(costs)]


def _is_papers(system: System) -> bool:
    return system.name.startswith(PAPER_PREFIX)


def _line(system: System, results: Sequence[Result], own: Cost | None, papers: Cost | None) -> list[str]:
    done = finished(results)
    recovered = sum(not result.shortfalls for result in done)
    return [
        system.name,
        f"{recovered} of {len(done)}",
        str(len(results) - len(done)),
        joined(str(result.metric("steps")) for result in done) or NOTHING,
        NOTHING if own is None else str(own),
        NOTHING if _is_papers(system) or papers is None else str(_paper_steps(system)),
        NOTHING if papers is None else str(papers),
    ]


def _own(results: Sequence[Result]) -> Cost | None:
    seconds = [result.wall_s for result in finished(results) if result.wall_s is not None]
    return Cost(statistics.fmean(seconds)) if seconds else None


def _of_the_paper(system: System, results: Results, step_ms: Mapping[str, float]) -> Cost | None:
    """Measured where the paper's settings were run, else steps times their measured duration."""
    if _is_papers(system):
        return None
    measured = next((_own(own) for other, own in results.items() if other.name == system.twin), None)
    name = f"paper/{system.name}"
    if measured or name not in step_ms:
        return measured
    return Cost(_paper_steps(system) * step_ms[name] / 1000, estimated=True)


def _paper_steps(system: System) -> int:
    return int(read_config(f"paper/{system.name}.yaml")["trainer"]["max_steps"])


def _total(both: Mapping[System, tuple[Cost | None, Cost | None]]) -> list[str]:
    if len(both) < 2:
        return []
    own = sum(pair[0].seconds for pair in both.values() if pair[0])
    papers = sum(pair[1].seconds for pair in both.values() if pair[1])
    names = ", ".join(system.name for system in both)
    return [f"One seed of each ({names}): {duration(own)}; with the paper's settings {duration(papers)}.", ""]


def _note(costs: Mapping[System, tuple[Cost | None, Cost | None]]) -> list[str]:
    if not any(papers.estimated for _, papers in costs.values() if papers):
        return []
    return [
        "≈: not run; the steps of the paper's config times the milliseconds of its fast step in "
        "`docs/benchmarks/results.md`, measured alone on the machine named there.",
        "",
    ]


def measured_steps() -> dict[str, float]:
    """Milliseconds per fast step by config, as the benchmarks found them on the CPU."""
    part = report.load(BENCHMARKS).get("step_time", {})
    found = [row for row in part.get("found", []) if (row["kind"], row["device"]) == ("fast", "cpu")]
    return {row["system"]: row["median_ms"] for row in found}
