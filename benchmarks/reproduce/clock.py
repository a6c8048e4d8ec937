"""``process.json``: how long the processes of a run took, and what they shared the machine with."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spd_lightning.files.whole import written_whole
from spd_lightning.runs.record import CONFIG_NAME

PROCESS_NAME = "process.json"


def read_process(folder: Path) -> dict[str, Any]:
    """Content of a run's ``process.json``; nothing if it is missing or damaged.

    Args:
        folder: the run directory.

    Returns:
        ``wall_s``: seconds of all processes; ``parts``: ``started``, ``wall_s``, ``jobs``, ``threads`` of each.
    """
    try:
        content = json.loads((folder / PROCESS_NAME).read_text())
        usable = isinstance(content["wall_s"], int | float) and all(isinstance(p, dict) for p in content["parts"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return content if usable else {}


class ProcessClock:
    """Counts the seconds of one process of a run, added to those of earlier ones.

    Args:
        folder: the run directory, which need not exist yet.
        jobs: runs at a time.
        threads: of this one.
    """

    def __init__(self, folder: Path, jobs: int, threads: int) -> None:
        self._folder, self._began = folder, time.monotonic()
        self._earlier: list[dict[str, Any]] = read_process(folder).get("parts", [])
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._part = {"started": started, "jobs": jobs, "threads": threads}

    @property
    def seconds(self) -> float:
        """Seconds of this process so far."""
        return time.monotonic() - self._began

    def write(self) -> None:
        """Write the file, once there is a run directory to write it to."""
        if not (self._folder / CONFIG_NAME).is_file():
            return
        parts = [*self._earlier, {**self._part, "wall_s": round(self.seconds, 1)}]
        content = {"wall_s": round(sum(part.get("wall_s", 0.0) for part in parts), 1), "parts": parts}
        with written_whole(self._folder / PROCESS_NAME) as aside:
            aside.write_text(json.dumps(content, indent=2) + "\n")
