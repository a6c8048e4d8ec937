"""What the processes of a run wrote."""

import re
from pathlib import Path

TAIL = 8192
_STEP = re.compile(rb"Epoch \d+:[^\r\n]*?\| *(\d+)/(\d+) \[")
_BAR = re.compile(r"\d+/(\d+|\?) \[|\[A$|it/s")


def last_line(log: Path, start: int = 0) -> str:
    """The line that says most about how a process ended.

    Args:
        log: the file.
        start: where the output of that process begins, in bytes.

    Returns:
        Its last ``error:`` line, else its last line that belongs to no progress bar.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 64 * TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return "nothing was written"
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    told = [line for line in lines if line and not _BAR.search(line)]
    errors = [line for line in told if line.startswith("error: ")]
    return (errors or told or ["nothing was written"])[-1]


def current_step(log: Path, steps: int) -> int:
    """The step that the progress bar in a log shows; 0 before the first.

    Args:
        log: the file, which may be growing.
        steps: of the whole run; the bar of a resumed run counts what was left of them.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            found = _STEP.findall(file.read())
    except OSError:
        return 0
    done, left = map(int, found[-1]) if found else (0, steps)
    return max(0, steps - left + done)
