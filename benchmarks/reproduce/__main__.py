"""Run what is missing, then write what was found."""

import sys
from collections.abc import Mapping, Sequence

from benchmarks.reproduce.document import write_document
from benchmarks.reproduce.options import Options, parse
from benchmarks.reproduce.plan import Run, runs_of
from benchmarks.reproduce.schedule import Schedule, make_missing
from benchmarks.reproduce.systems import SYSTEMS, System
from spd_lightning.errors import INTERRUPTED, WRONG_USAGE, UsageError


def main(arguments: Sequence[str] | None = None, systems: Mapping[str, System] = SYSTEMS) -> int:
    """Run and report.

    Args:
        arguments: those of the process by default.
        systems: all systems there are, by name.

    Returns:
        Exit code: 0; 1 if a run failed or had to be left alone, 2 for wrong usage or a full disk, 130 after
            Ctrl-C.
    """
    try:
        return _made_and_written(parse(arguments, systems), systems)
    except (UsageError, OSError) as error:  # the latter from a disk that is full
        sys.stderr.write(f"error: {error}\n")
        return WRONG_USAGE


def _made_and_written(options: Options, systems: Mapping[str, System]) -> int:
    failures: dict[Run, str] = {}
    if not options.table_only:
        interrupted, failures = make(runs_of(options.systems, options.seeds, options.runs), options)
        if interrupted:
            sys.stderr.write("interrupted; the same command goes on\n")
            return INTERRUPTED
    try:
        lines = write_document(options, systems, failures)
    except (UsageError, OSError) as error:
        sys.stderr.write(f"error: the tables cannot be written: {error}; --table-only tries again\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if failures else 0


def make(runs: Sequence[Run], options: Options) -> tuple[bool, dict[Run, str]]:
    """Make those runs that are missing, each in a process of its own; see :func:`make_missing`."""
    return make_missing(runs, lambda missing: Schedule(missing, *options.shared_out(len(missing))))


if __name__ == "__main__":
    sys.exit(main())
