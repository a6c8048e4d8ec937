"""What the processes of a run wrote."""

import re
from pathlib import Path

TAIL = 8192
ERROR = "error: "
_STEP = re.compile(rb"^step (\d+)/\d+: ", re.MULTILINE)
_PROGRESS = re.compile(r"^step \d+(/\d+)?: |\d+/(\d+|\?) \[|\[A$|it/s")


def last_line(log: Path, start: int = 0) -> str:
    """The line that says most about how a process ended.

    Args:
        log: the file.
        start: where the output of that process begins, in bytes.

    Returns:
        Its last ``error:`` line, else its last line that does not tell of progress.
    """
    told = _told(log, start)
    errors = [line for line in told if line.startswith(ERROR)]
    return (errors or told or ["nothing was written"])[-1]


def final_error(log: Path) -> str:
    """Why the last process that wrote to a log failed; empty unless its very last words tell.

    Args:
        log: the file.
    """
    told = _told(log, 0)
    return told[-1].removeprefix(ERROR) if told and told[-1].startswith(ERROR) else ""


def _told(log: Path, start: int) -> list[str]:
    """The last lines that do not tell of progress."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 64 * TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line and not _PROGRESS.search(line)]


def current_step(log: Path) -> int:
    """The step that the last line of progress in a log tells; 0 before the first.

    Args:
        log: the file, which may be growing.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            found = _STEP.findall(file.read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0
