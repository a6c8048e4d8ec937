"""What is asked for on the command line."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import ROOT
from benchmarks.reproduce.systems import PAPER_PREFIX, System
from spd_lightning.errors import UsageError

RUNS, DOCS = ROOT / "runs" / "reproduce", ROOT / "docs"
MOST_JOBS, MANY_JOBS = 8, 1024
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Options:
    """Which systems and seeds, how many at a time, and where everything lies.

    Attributes:
        systems: in the order of the tables.
        seeds: instead of each system's own; empty for those.
        jobs: runs at a time; 0 to decide by the machine.
        table_only: run nothing.
        runs: folder of the run directories.
        output: folder of the tables, if it was named.
        keep: whether the tables keep what they say of systems that have no runs here.
    """

    systems: tuple[System, ...]
    seeds: tuple[int, ...] = ()
    jobs: int = 0
    table_only: bool = False
    runs: Path = RUNS
    output: Path | None = None
    keep: bool = False

    def shared_out(self, runs: int) -> tuple[int, int]:
        """Jobs and threads of each, for so many runs.

        The networks are small: two processes of one thread do more than one of two, so jobs come before threads.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jobs = max(1, min(self.jobs or min(cores, MOST_JOBS), runs))
        return jobs, max(1, cores // jobs)


def parse(arguments: Sequence[str] | None, systems: Mapping[str, System]) -> Options:
    """Read the command line.

    Args:
        arguments: those of the process by default.
        systems: all systems there are, by name.

    Returns:
        The options.

    Raises:
        UsageError: for an unknown system, or seeds or jobs out of range.
        SystemExit: for ``--help``, and with code 2 for an unknown flag.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce",
        description="Run every system of the SPD paper over seeds and write tables of what was found.",
    )
    parser.add_argument("--systems", nargs="*", default=[], metavar="SYSTEM", help=f"{', '.join(systems)}; ours")
    parser.add_argument("--seeds", nargs="*", default=[], metavar="SEED", help="instead of each system's own")
    parser.add_argument("--jobs", help=f"runs at a time; as many as cores by default, at most {MOST_JOBS}")
    parser.add_argument("--paper", action="store_true", help="the same systems with the paper's settings, too; hours")
    parser.add_argument("--table-only", action="store_true", help="run nothing, write tables from what was run earlier")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs; runs/reproduce")
    parser.add_argument("--output", type=Path, help="folder of the tables; docs once all systems were run")
    parser.add_argument("--keep", action="store_true", help="keep what the tables say of systems without runs here")
    given = parser.parse_args(arguments)
    chosen = _chosen(given.systems, given.paper, systems)
    seeds = tuple(dict.fromkeys(number_in("--seeds", seed, 0, LARGEST_SEED) for seed in given.seeds))
    jobs = 0 if given.jobs is None else number_in("--jobs", given.jobs, 1, MANY_JOBS)
    return Options(chosen, seeds, jobs, given.table_only, given.runs.absolute(), given.output, given.keep)


def _chosen(names: Sequence[str], paper: bool, systems: Mapping[str, System]) -> tuple[System, ...]:
    for name in names:
        if name not in systems:
            raise UsageError(f"--systems must name some of {', '.join(systems)}, got {name!r}")
    wanted = dict.fromkeys(names or [name for name in systems if not name.startswith(PAPER_PREFIX)])
    if paper:
        wanted |= {systems[name].twin: None for name in wanted if systems[name].twin.startswith(PAPER_PREFIX)}
    return tuple(system for name, system in systems.items() if name in wanted)


def number_in(flag: str, text: str, least: int, most: int) -> int:
    """A whole number within bounds.

    Args:
        flag: where it was given, for messages.
        text: what was given.
        least: lowest value.
        most: highest value.

    Raises:
        UsageError: for anything else.
    """
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"{flag} takes whole numbers, separated by spaces, got {text!r}") from None
    if not least <= number <= most:
        raise UsageError(f"{flag} must lie between {least} and {most}, got {number}")
    return number
