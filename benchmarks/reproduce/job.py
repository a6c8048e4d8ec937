"""What a table needs to know of a run, whoever planned it."""

from pathlib import Path
from typing import Protocol

from spd_lightning.runs.planned import PlannedRun
from spd_lightning.runs.record import RunRecord


class Job(Protocol):
    """A run of a table: finished, begun or to be made. Two of them are the same if they are the same object."""

    @property
    def name(self) -> str:
        """It, in words."""
        ...

    @property
    def planned(self) -> PlannedRun:
        """Its run directory and command."""
        ...

    @property
    def folder(self) -> Path:
        """The run directory."""
        ...

    @property
    def log(self) -> Path:
        """What its processes wrote, one after the other."""
        ...

    @property
    def record(self) -> RunRecord:
        """What its directory says now."""
        ...

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        ...

    @property
    def expected_s(self) -> float:
        """Rough seconds of the whole run, to order runs and to scale the bar."""
        ...

    @property
    def target(self) -> str:
        """What tells targets and their training apart."""
        ...

    @property
    def exists(self) -> bool:
        """Whether there is anything of it."""
        ...

    @property
    def obstacle(self) -> str:
        """Why it can neither be used nor continued, and the way out, in one line; empty if nothing is in the way."""
        ...
