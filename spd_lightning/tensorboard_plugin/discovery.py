"""Which run directories there are below a log directory."""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.runs.record import CONFIG_NAME, METRICS_NAME

MAX_DEPTH, MAX_FOLDERS, MAX_RUNS = 8, 20_000, 2_000
"""How far a log directory is searched."""
KEPT_S = 2.0
"""Seconds for which a search counts."""
_CLOSED = {FOLDER, "checkpoints", "figures"}
"""Folders of runs that hold no runs."""


@dataclass(frozen=True)
class Found:
    """Run directories.

    Attributes:
        runs: by their path from the log directory, ``.`` for the log directory itself.
        is_cut: whether the search was given up before its end.
    """

    runs: Mapping[str, Path] = field(default_factory=dict)
    is_cut: bool = False


class Discovery:
    """Looks for run directories, at most every two seconds.

    A run directory holds ``config.yaml``, ``metrics.json``, a folder ``analysis``, or ``config.json`` beside
    ``components.safetensors``. Links are not followed.

    Args:
        roots: log directories by name; the name begins the names of their runs, unless it is empty.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = roots
        self._found, self._at = Found(), -float("inf")

    def __call__(self) -> Found:
        """What there is now."""
        if time.monotonic() - self._at > KEPT_S:
            self._found, self._at = self._search(), time.monotonic()
        return self._found

    def is_any(self) -> bool:
        """Whether there is a run; the search ends with the first."""
        if self._found.runs:
            return bool(self().runs)
        return any(True for name, root in self._roots.items() for _ in _Walk(name, root))

    def _search(self) -> Found:
        runs, is_cut = {}, False
        for name, root in self._roots.items():
            walk = _Walk(name, root)
            for run, folder in walk:
                runs[run] = folder
                if len(runs) >= MAX_RUNS:
                    return Found(runs, True)
            is_cut |= walk.is_cut
        return Found(dict(sorted(runs.items())), is_cut)


class _Walk:
    """Goes through folders, the nearest first."""

    def __init__(self, name: str, root: Path) -> None:
        self._name, self._root, self.is_cut = name, root, False

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        waiting, seen = deque([(self._root, 0)]), 0
        while waiting:
            folder, depth = waiting.popleft()
            seen += 1
            if seen > MAX_FOLDERS:
                self.is_cut = True
                return
            files, folders = _entries(folder)
            if _is_run(files, folders):
                yield self._id(folder), folder
            if depth < MAX_DEPTH:
                inner = sorted(name for name in folders if name not in _CLOSED and not name.startswith("."))
                waiting.extend((folder / name, depth + 1) for name in inner)
            else:
                self.is_cut |= bool(folders - _CLOSED)

    def _id(self, folder: Path) -> str:
        path = folder.relative_to(self._root).as_posix()
        return path if not self._name else self._name if path == "." else f"{self._name}/{path}"


def _entries(folder: Path) -> tuple[set[str], set[str]]:
    """Names of files and of folders; links to files count, links to folders do not."""
    files, folders = set(), set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                else:
                    files.add(entry.name)
    except OSError:  # gone meanwhile, or not to be read
        pass
    return files, folders


def _is_run(files: set[str], folders: set[str]) -> bool:
    artefact = {"config.json", "components.safetensors"} <= files
    return artefact or FOLDER in folders or not files.isdisjoint({CONFIG_NAME, METRICS_NAME})
