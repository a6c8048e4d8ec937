"""Several runs at a time, the longest first."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Generic

from benchmarks.reproduce.bar import Bar
from benchmarks.reproduce.child import POLL_S, Child, Making
from benchmarks.reproduce.results import JobT
from spd_lightning.errors import UsageError

Start = Callable[[JobT, int, int], Making]
"""Begins to make a run, one of so many at a time, with so many threads."""


class Schedule(Generic[JobT]):
    """Makes runs in processes of their own until all are over or Ctrl-C is pressed.

    The longest come first, which keeps the end short. While one process trains a target, no second one that needs the
    same target is started.

    Args:
        runs: to be made.
        jobs: runs at a time.
        threads: of each.
        start: what begins to make one.
        told: called whenever a run is over, with the failures so far.
    """

    def __init__(
        self,
        runs: Sequence[JobT],
        jobs: int,
        threads: int,
        start: "Start[JobT]" = Child,
        told: Callable[[dict[JobT, str]], None] = lambda failures: None,
    ) -> None:
        self._waiting = sorted(runs, key=lambda run: -run.expected_s)
        self._jobs, self._threads = jobs, threads
        self._start, self._told = start, told
        self._children: list[tuple[JobT, Making]] = []
        self._bar = Bar(runs)
        self._presses = self._passed_on = 0
        self.failures: dict[JobT, str] = {}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._presses > 0

    def work(self) -> None:
        """Make the runs; returns when no process is left. :attr:`failures` then says what went wrong."""
        try:
            with self._catching():
                while self._children or (self._waiting and not self.interrupted):
                    self._pass_on()
                    self._fill()
                    time.sleep(POLL_S)
                    self._collect()
                    self._bar.show([child for _, child in self._children])
        finally:
            self._bar.close()
            for _, child in self._children:  # only after an error of our own
                child.interrupt()
            for _, child in self._children:
                child.wait()

    def _fill(self) -> None:
        """Start what can be started."""
        while self._waiting and len(self._children) < self._jobs and not self.interrupted:
            in_training = {run.target for run, child in self._children if not child.prepared}
            free = [run for run in self._waiting if run.target not in in_training]
            if not free:
                return
            self._waiting.remove(free[0])
            try:
                self._children.append((free[0], self._start(free[0], self._jobs, self._threads)))
            except (UsageError, OSError) as error:
                self._end(free[0], 0.0, str(error))

    def _collect(self) -> None:
        """Take note of processes that are over."""
        for run, child in [pair for pair in self._children if pair[1].ended()]:
            self._children.remove((run, child))
            self._end(run, child.clock.seconds, child.failure())

    def _end(self, run: JobT, seconds: float, failure: str) -> None:
        if failure and self.interrupted:
            self._bar.say(f"{run.name}: stopped")
            return
        if failure:
            self.failures[run] = failure
        self._bar.finished(run, seconds, failure)
        self._told(self.failures)

    def _pass_on(self) -> None:
        """Hand every new Ctrl-C to the processes."""
        if self._passed_on == self._presses:
            return
        if not self._passed_on:
            self._bar.say("stopping: every run finishes its step and saves; Ctrl-C again stops at once")
        self._passed_on = self._presses
        for _, child in self._children:
            child.interrupt()

    @contextmanager
    def _catching(self) -> Iterator[None]:
        """Count Ctrl-C and requests to end instead of dying of them."""

        def note(number: int, frame: FrameType | None) -> None:
            self._presses += 1

        caught = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, note) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_missing(
    runs: Sequence[JobT], schedule: Callable[[Sequence[JobT]], Schedule[JobT]]
) -> tuple[bool, dict[JobT, str]]:
    """Make those runs that are missing.

    Args:
        runs: of the table.
        schedule: how those that are missing are made.

    Returns:
        Whether Ctrl-C was pressed, and why each run that was left alone or failed is not there.
    """
    left_alone = {run: reason for run in runs if (reason := run.obstacle)}
    for run, reason in left_alone.items():
        sys.stderr.write(f"{run.name}: left alone: {reason}\n")
    work = schedule([run for run in runs if run not in left_alone and run.record.state != "finished"])
    work.work()
    return work.interrupted, {**left_alone, **work.failures}
