"""Processes that make the runs of a table, each one run after the other."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks.options import ROOT
from benchmarks.reproduce.child import Making, ending, environment
from benchmarks.reproduce.job import Job
from benchmarks.reproduce.logs import ERROR, last_line
from benchmarks.reproduce.plan import shown

UNFINISHED = "it ended without metrics.json; the config needs FinalReport and a logger"


class Worker:
    """A process that waits for runs to make.

    Args:
        cache: folder of trained targets.
        threads: of the process.
        log: where it says what goes wrong before its first run.
    """

    def __init__(self, cache: Path, threads: int, log: Path) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.seeds.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                env=environment(cache, threads),
                start_new_session=True,  # Ctrl-C reaches it once, and from us
            )
        assert self._process.stdin
        assert self._process.stdout
        self._orders, self._replies = self._process.stdin, self._process.stdout
        os.set_blocking(self._replies.fileno(), False)
        self._said, self.busy = b"", False

    @property
    def ended(self) -> int | None:
        """The exit code of the process, if it is over."""
        return self._process.poll()

    def order(self, arguments: list[str], log: Path) -> None:
        """Have a run made."""
        self.busy = True
        with suppress(BrokenPipeError):  # it has just died; that is found as if it died later
            self._orders.write(json.dumps({"arguments": arguments, "log": str(log)}).encode() + b"\n")
            self._orders.flush()

    def reply(self) -> str | None:
        """Why the run failed, or an empty text, once it is over."""
        self._said += self._replies.read() or b""
        line, newline, self._said = self._said.partition(b"\n")
        if not newline:
            self._said = line
            return None
        self.busy = False
        return str(json.loads(line))

    def interrupt(self) -> None:
        """Ctrl-C."""
        if self.ended is None:
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Let it end, and wait for that."""
        with suppress(BrokenPipeError):
            self._orders.close()
        self._process.wait()
        self._replies.close()


class Task(Making):
    """A run in the hands of a worker.

    Args:
        run: the run.
        jobs: runs at a time.
        threads: of this one.
        worker: who makes it.
    """

    def __init__(self, run: Job, jobs: int, threads: int, worker: Worker) -> None:
        super().__init__(run, jobs, threads)
        self._worker, self._failure = worker, ""
        self._start = run.log.stat().st_size if run.log.exists() else 0
        worker.order(run.planned.arguments(), run.log)

    def over(self) -> bool:
        """Whether the worker is done with it, or has died of it."""
        code = self._worker.ended  # asked before the pipe is read, so that no last words are missed
        reply = self._worker.reply()
        if reply is None and code is None:
            return False
        if self.run.record.state != "finished":
            self._failure = reply or UNFINISHED if reply is not None else self._death(code or 0)
            if not reply and code not in (0, -signal.SIGINT):
                with self.run.log.open("a") as log:  # the worker could not say so itself
                    log.write(f"\n{ERROR}{self._failure}\n")
        return True

    def _death(self, code: int) -> str:
        return f"{last_line(self.run.log, self._start)} ({ending(code)}, {shown(self.run.log)})"

    def failure(self) -> str:
        """Why there is no finished run, after the end; empty if there is one."""
        return self._failure

    def interrupt(self) -> None:
        """Ctrl-C: the worker finishes its step, saves and ends; a second time it ends at once."""
        self._worker.interrupt()


class Pool:
    """Hands runs to workers that are free, and starts workers where none is.

    Args:
        cache: folder of trained targets, shared by all.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._workers: list[Worker] = []

    def start(self, run: Job, jobs: int, threads: int) -> Task:
        """Begin to make a run."""
        run.log.parent.mkdir(parents=True, exist_ok=True)
        free = [worker for worker in self._workers if not worker.busy and worker.ended is None]
        if not free:
            free = [Worker(self._cache, threads, run.log)]
            self._workers += free
        return Task(run, jobs, threads, free[0])

    def close(self) -> None:
        """Let all workers end."""
        for worker in self._workers:
            worker.close()
