"""Several runs at a time, the longest first."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from benchmarks.reproduce.bar import Bar
from benchmarks.reproduce.child import Child
from benchmarks.reproduce.plan import Run
from spd_lightning.errors import UsageError

POLL_S = 0.2


class Schedule:
    """Makes runs in processes of their own until all are over or Ctrl-C is pressed.

    The longest come first, which keeps the end short. While one process trains a target, no second one that needs the
    same target is started.

    Args:
        runs: to be made.
        jobs: runs at a time.
        threads: of each.
    """

    def __init__(self, runs: Sequence[Run], jobs: int, threads: int) -> None:
        self._waiting = sorted(runs, key=lambda run: -run.expected_s)
        self._jobs, self._threads = jobs, threads
        self._children: list[Child] = []
        self._bar = Bar(runs)
        self._presses = self._passed_on = 0
        self.failures: dict[Run, str] = {}

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
                    self._bar.show(self._children)
        finally:
            self._bar.close()
            for child in self._children:  # only after an error of our own
                child.interrupt()
            for child in self._children:
                child.wait()

    def _fill(self) -> None:
        """Start what can be started."""
        while self._waiting and len(self._children) < self._jobs and not self.interrupted:
            in_training = {child.run.target for child in self._children if not child.prepared}
            free = [run for run in self._waiting if run.target not in in_training]
            if not free:
                return
            self._waiting.remove(free[0])
            try:
                self._children.append(Child(free[0], self._jobs, self._threads))
            except (UsageError, OSError) as error:
                self._end(free[0], 0.0, str(error))

    def _collect(self) -> None:
        """Take note of processes that are over."""
        for child in [child for child in self._children if child.ended()]:
            self._children.remove(child)
            self._end(child.run, child.clock.seconds, child.failure())

    def _end(self, run: Run, seconds: float, failure: str) -> None:
        if failure and self.interrupted:
            self._bar.say(f"{run.name}: stopped")
            return
        if failure:
            self.failures[run] = failure
        self._bar.finished(run, seconds, failure)

    def _pass_on(self) -> None:
        """Hand every new Ctrl-C to the processes."""
        if self._passed_on == self._presses:
            return
        if not self._passed_on:
            self._bar.say("stopping: every run finishes its step and saves; Ctrl-C again stops at once")
        self._passed_on = self._presses
        for child in self._children:
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
