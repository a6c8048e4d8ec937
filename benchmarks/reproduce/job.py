"""What a table needs to know of a run, whoever planned it."""

from abc import ABC, abstractmethod
from pathlib import Path

from spd_lightning.runs.planned import PlannedRun
from spd_lightning.runs.record import RunRecord


class Job(ABC):
    """A run of a table: finished, begun or to be made. Two of them are the same if they are the same object.

    Attributes:
        planned: its run directory and command.
    """

    planned: PlannedRun

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.planned.folder

    @property
    def log(self) -> Path:
        """What its processes wrote, one after the other."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def record(self) -> RunRecord:
        """What its directory says now."""
        return self.planned.record

    @property
    def exists(self) -> bool:
        """Whether there is anything of it."""
        return self.log.exists() or self.folder.exists()

    @property
    @abstractmethod
    def name(self) -> str:
        """It, in words."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of the whole run."""

    @property
    @abstractmethod
    def expected_s(self) -> float:
        """Rough seconds of the whole run, to order runs and to scale the bar."""

    @property
    @abstractmethod
    def target(self) -> str:
        """What tells targets and their training apart."""

    @property
    @abstractmethod
    def obstacle(self) -> str:
        """Why it can neither be used nor continued, and the way out, in one line; empty if nothing is in the way."""
