"""Run what is missing of a table, and keep it up to date."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.reproduce.plan import shown
from benchmarks.reproduce.schedule import Schedule, make_missing
from benchmarks.seeds.document import publish, sheet_in, write_table
from benchmarks.seeds.options import Options, parse
from benchmarks.seeds.plan import PLAN_NAME, TablePlan, read_plan
from benchmarks.seeds.pool import Pool
from benchmarks.seeds.published import published_rows
from benchmarks.seeds.runs import EntryRuns, TableRun, runs_of
from spd_lightning.errors import INTERRUPTED, WRONG_USAGE, UsageError
from spd_lightning.files.whole import written_whole
from spd_lightning.runs.checkpoints import check_writable

THREADS = 1
LOCK_NAME = "seeds.lock"
"""All that is left where the plan could not be written."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report.

    Args:
        arguments: those of the process by default.

    Returns:
        Exit code: 0; 1 if runs that were asked for are not finished, 2 for wrong usage, 130 after Ctrl-C.
    """
    try:
        return run_table(parse(arguments))
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return WRONG_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def run_table(options: Options) -> int:
    """Do what is left to do of a table.

    Args:
        options: of this call.

    Returns:
        As :func:`main`.

    Raises:
        UsageError: if the folder holds another table, or a value is refused; nothing has been written.
    """
    plan = _with_former(options)
    entries = runs_of(plan, options.folder)
    if options.docs and options.keep:
        published_rows(entries, sheet_in(options.docs, plan))  # refused now, not after hours of runs
    check_writable(options.folder, "--runs")
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(options.folder / LOCK_NAME, timeout=0):
            with written_whole(options.folder / PLAN_NAME) as aside:
                aside.write_text(plan.text())
            return _make(options, plan, entries)
    except Timeout:
        raise UsageError(f"another process is at work on {shown(options.folder)}; wait for it to end") from None


def _make(options: Options, plan: TablePlan, entries: Sequence[EntryRuns]) -> int:
    asked = [run for own in entries if own.entry.name in options.entries for run in own.asked(options.plan)]
    interrupted = not options.table_only and _make_missing(asked, options, plan, entries)
    for page in publish(options.folder, plan, entries, options.docs, keep=options.keep):
        sys.stdout.write(f"wrote {shown(page)}\n")
    if interrupted:
        sys.stderr.write("interrupted; the same command goes on\n")
        return INTERRUPTED
    left = [run for run in asked if run.obstacle or run.record.state != "finished"]
    return 1 if left and not options.table_only else 0


def _make_missing(asked: Sequence[TableRun], options: Options, plan: TablePlan, entries: Sequence[EntryRuns]) -> bool:
    """Make what is missing, the table written after every run; whether Ctrl-C was pressed."""
    pool = Pool(options.cache)
    once: dict[Path, TableRun] = {}
    for run in asked:
        once.setdefault(run.folder, run)

    def told(failures: dict[TableRun, str]) -> None:
        write_table(options.folder, plan, entries)

    def schedule(missing: Sequence[TableRun]) -> Schedule[TableRun]:
        return Schedule(missing, min(options.jobs, max(1, len(missing))), THREADS, pool.start, told)

    told({})
    try:
        return make_missing(list(once.values()), schedule)[0]
    finally:
        pool.close()


def _with_former(options: Options) -> TablePlan:
    """The plan joined to the one that the folder holds already, whose sizes were drawn once."""
    path = options.folder / PLAN_NAME
    if path.is_file():
        return replace(read_plan(path), name=options.plan.name).resolved().joined(options.plan)
    if options.folder.is_dir() and any(path.name != LOCK_NAME for path in options.folder.iterdir()):
        raise UsageError(f"{shown(options.folder)} exists and holds no {PLAN_NAME}; choose another --name")
    return options.plan


if __name__ == "__main__":
    sys.exit(main())
