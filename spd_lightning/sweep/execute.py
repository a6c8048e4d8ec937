"""Runs one after the other in this process."""

import sys
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context

from tqdm import tqdm

from spd_lightning.cli import command as cli
from spd_lightning.cli.arguments import located, one_line
from spd_lightning.errors import INTERRUPTED
from spd_lightning.sweep.isolation import isolated
from spd_lightning.sweep.runs import LEFT_ALONE, SweptRun

Failures = dict[str, str]
"""Why runs failed, by name."""


def execute(runs: Sequence[SweptRun], after_each: Callable[[Failures], None]) -> Failures:
    """Do what is left to do of every run; one that fails does not stop the others.

    Args:
        runs: the runs, in order.
        after_each: called before the first run and after each that was tried, with the failures so far.

    Returns:
        Failures by the run's name.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the run under way has saved its last step.
    """
    failures: Failures = {}
    began = time.monotonic()
    after_each(failures)
    for run in runs:
        state, problem = run.standing()
        if state in LEFT_ALONE:
            say(f"{run.name}: left untouched, {problem}")
        if state in LEFT_ALONE or state == "finished":
            continue
        say(_overall(runs, failures, time.monotonic() - began))
        say(f"{run.name}: {'goes on' if run.record.checkpoint else 'starts'}")
        try:
            problem = attempt(run.planned.arguments())
            if not problem and run.record.state != "finished":
                problem = "it ended without metrics.json; the config needs FinalReport and a logger"
            if problem:
                failures[run.name] = problem
                say(f"{run.name}: failed, {problem}")
        finally:
            after_each(failures)
    say(_overall(runs, failures, time.monotonic() - began))
    return failures


def attempt(arguments: list[str]) -> str:
    """Run one command; nothing it changes in this process stays.

    Args:
        arguments: of ``python -m spd_lightning``.

    Returns:
        Empty if it ended well, else why not, in one line.

    Raises:
        KeyboardInterrupt: if it was interrupted.
    """
    with isolated():
        try:
            copy_context().run(cli.main, arguments)  # jsonargparse leaves the last parser in a context variable
        except SystemExit as stopped:
            if stopped.code == INTERRUPTED:
                raise KeyboardInterrupt from None
            return one_line(str(stopped.__context__ or "")) or f"it ended with exit code {stopped.code}"
        except Exception as error:  # whatever it is, the other runs are to go on
            return located(error)
    return ""


def say(line: str) -> None:
    """Write a line to stderr without disturbing a bar."""
    tqdm.write(line, file=sys.stderr)


def _overall(runs: Sequence[SweptRun], failures: Failures, elapsed: float) -> str:
    """The bar over all runs, as a line: a bar that stays would be torn by what a run prints."""
    finished = [run.record for run in runs if run.standing()[0] == "finished"]
    recovered = sum(not record.shortfalls for record in finished)
    counts = f"{recovered} recovered, {len(failures)} failed" if failures else f"{recovered} recovered"
    return tqdm.format_meter(len(finished), len(runs), elapsed, prefix="sweep", unit="run", postfix=counts, ncols=100)
