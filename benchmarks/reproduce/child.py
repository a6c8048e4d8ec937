"""One process that makes, or goes on with, a run."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

from benchmarks.options import ROOT
from benchmarks.reproduce.clock import ProcessClock
from benchmarks.reproduce.job import Job
from benchmarks.reproduce.logs import current_step, last_line
from benchmarks.reproduce.plan import shown
from spd_lightning.errors import UsageError
from spd_lightning.files.whole import CACHE_VARIABLE
from spd_lightning.runs.record import CONFIG_NAME

SECONDS_BETWEEN_NOTES, POLL_S = 10.0, 0.2
CACHE_NAME = "cache"


class Making(ABC):
    """A run that is being made.

    Args:
        run: the run.
        jobs: runs at a time.
        threads: of this one.
    """

    def __init__(self, run: Job, jobs: int, threads: int) -> None:
        self.run, self.clock = run, ProcessClock(run.folder, jobs, threads)
        self._noted = time.monotonic()

    @property
    def prepared(self) -> bool:
        """Whether the target is trained: only then is there a run directory."""
        return (self.run.folder / CONFIG_NAME).is_file()

    @property
    def step(self) -> int:
        """The current step, as its log tells now and then."""
        return current_step(self.run.log) if self.prepared else 0

    def ended(self) -> bool:
        """Whether it is over; keeps ``process.json`` up to date."""
        over = self.over()
        if over or time.monotonic() - self._noted > SECONDS_BETWEEN_NOTES:
            self._noted = time.monotonic()
            self.clock.write()
        return over

    def wait(self) -> None:
        """Wait for the end."""
        while not self.ended():
            time.sleep(POLL_S)

    @abstractmethod
    def over(self) -> bool:
        """Whether it is over."""

    @abstractmethod
    def failure(self) -> str:
        """Why there is no finished run, after the end; empty if there is one."""

    @abstractmethod
    def interrupt(self) -> None:
        """Ctrl-C: it finishes its step, saves and ends; a second time it ends at once."""


class Child(Making):
    """A running ``python -m spd_lightning fit``; what it prints goes to the run's log.

    It leads a process group of its own, so that Ctrl-C reaches it once and from us. The log stays locked as long as
    the process lives, even if we do not, so that no run is ever made by two processes.

    Args:
        run: the run.
        jobs: runs at a time.
        threads: of this one.

    Raises:
        UsageError: if another process is making the run.
    """

    def __init__(self, run: Job, jobs: int, threads: int) -> None:
        super().__init__(run, jobs, threads)
        run.log.parent.mkdir(parents=True, exist_ok=True)
        with run.log.open("ab") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(f"another process is making it; see {shown(run.log)}") from None
            self._start = log.tell()
            command = [sys.executable, "-m", "spd_lightning", *run.planned.arguments()]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(run.folder.parent.parent / CACHE_NAME, threads),
                start_new_session=True,
            )

    def over(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    def failure(self) -> str:
        """Why there is no finished run, after the end; empty if there is one."""
        code = self._process.returncode
        if code == 0 and self.run.record.state == "finished":
            return ""
        return f"{last_line(self.run.log, self._start)} ({ending(code)}, {shown(self.run.log)})"

    def interrupt(self) -> None:
        """Ctrl-C: the process finishes its step, saves and ends; a second time it ends at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


def ending(code: int) -> str:
    """How a process ended, by its exit code."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def environment(cache: Path, threads: int) -> dict[str, str]:
    """Of a process. Targets are trained anew for the first run, so that its time can be told, and kept in ``cache``."""
    return {CACHE_VARIABLE: str(cache), **os.environ, "OMP_NUM_THREADS": str(threads)}
