"""Work that is shared by several processes of one machine, watched by the one that started them."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from spd_lightning.errors import WRONG_USAGE, UsageError

Moved = Callable[[int], object]
"""Is told how many steps were taken."""
Work = Callable[[int, Moved], None]
"""Takes the number of the process, and tells of its steps."""


def in_processes(what: str, own: Callable[[Moved], object], work: Work, count: int, moved: Moved) -> None:
    """Share work with processes that are started for it, and wait until all are done.

    All processes together use as many threads as this one would, or each as many as ``OMP_NUM_THREADS`` says. When one
    fails or is killed, or this one is, the others end too.

    Args:
        what: is being done, for messages.
        own: what this process does, which is number 0.
        work: what the others do. It can be pickled, and raises what users are meant to read as a :class:`UsageError`.
        count: how many processes, this one included.
        moved: told of the steps of all.

    Raises:
        UsageError: the first that one of them raises; or if one is killed or fails in another way.
    """
    before = torch.get_num_threads()
    threads = before if "OMP_NUM_THREADS" in os.environ else max(1, before // count)
    started: list[SpawnProcess] = []
    running: dict[Connection, SpawnProcess] = {}

    def listen(patience: float | None) -> None:
        ready = wait(list(running), patience)
        for receiver in [one for one in running if one in ready]:
            if not _heard(receiver, moved):
                _check_ended(what, running.pop(receiver))

    def moved_here(steps: int) -> None:
        moved(steps)
        listen(0)

    try:
        for index in range(1, count):
            process, receiver = _started(partial(_run, work, index, threads))
            started.append(process)
            running[receiver] = process
        torch.set_num_threads(threads)
        own(moved_here)
        while running:
            listen(None)
    finally:
        torch.set_num_threads(before)
        for process in started:
            process.terminate()
            process.join()


def _started(target: Callable[[Connection], None]) -> tuple[SpawnProcess, Connection]:
    """A process, and what it tells; that ends when the process does."""
    context = get_context("spawn")  # a fork would share locks and threads of torch, which then wait for nobody
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(sender,))
    process.start()
    sender.close()
    return process, receiver


def _run(work: Work, index: int, threads: int, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this is interrupted too, and ends it
    torch.set_num_threads(threads)
    try:
        work(index, sender.send)
    except UsageError as error:
        sender.send(str(error))
        sys.exit(WRONG_USAGE)
    except BrokenPipeError:  # whoever started this is gone
        sys.exit(1)


def _heard(receiver: Connection, moved: Moved) -> bool:
    """Pass on what a process tells; whether there was anything.

    Raises:
        UsageError: that the process has raised.
    """
    try:
        told = receiver.recv()
    except EOFError:
        return False
    if isinstance(told, str):
        raise UsageError(told)
    moved(told)
    return True


def _check_ended(what: str, process: SpawnProcess) -> None:
    """Raise a :class:`UsageError` unless a process has ended well."""
    process.join()
    code = process.exitcode or 0
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise UsageError(f"{what}: one of the processes {how}; the same command goes on from what was kept")
