"""A process that makes runs one after the other, as its standard input tells it; imports are paid for once.

Each line it reads is an order, ``{"arguments": [...], "log": ...}``; each line it writes says why that run failed, or
nothing. What a run prints goes to its log, which stays locked meanwhile, so that no run is ever made by two processes.
When its input ends, because whoever gave the orders is gone, it saves the run under way and ends.
"""

import fcntl
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from benchmarks.reproduce.logs import ERROR
from spd_lightning.sweep.execute import attempt

Orders = queue.Queue[dict[str, Any] | None]


def main() -> None:
    """Work until there are no more orders, or Ctrl-C."""
    orders: Orders = queue.Queue()
    busy = threading.Event()
    with os.fdopen(os.dup(1), "w") as replies:
        threading.Thread(target=_listen, args=(orders, busy), daemon=True).start()
        try:
            while (order := orders.get()) is not None:
                busy.set()
                failure = make(order["arguments"], order["log"])
                busy.clear()
                replies.write(json.dumps(failure) + "\n")
                replies.flush()
        except KeyboardInterrupt:
            return


def _listen(orders: Orders, busy: threading.Event) -> None:
    """Pass orders on; reading from Python's own standard input would keep the process from ending."""
    with os.fdopen(os.dup(0), "rb", buffering=0) as lines:
        for line in lines:
            orders.put(json.loads(line))
    orders.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)


def make(arguments: list[str], log: str) -> str:
    """Make one run.

    Args:
        arguments: of ``python -m spd_lightning``.
        log: the file for what it prints.

    Returns:
        Why it failed, in one line; empty if it did not.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the run has saved its last step.
    """
    with open(log, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return f"another process is making it; see {log}"
        with _printed_to(file):
            failure = attempt(arguments)
            if failure:
                sys.stderr.write(f"\n{ERROR}{failure}\n")
    return failure


@contextmanager
def _printed_to(file: BinaryIO) -> Iterator[None]:
    """Both outputs, of C as of Python."""
    _point_at(file.fileno())
    try:
        yield
    finally:
        with open(os.devnull, "wb") as nowhere:
            _point_at(nowhere.fileno())


def _point_at(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for output in (1, 2):
        os.dup2(descriptor, output)


if __name__ == "__main__":
    main()
