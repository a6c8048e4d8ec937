"""One run of a table or sweep: where it lies, what is run, and how to go on with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from spd_lightning.errors import UsageError
from spd_lightning.runs.record import RunRecord, read_record

LOGGER = "trainer.logger.init_args"
LOGGED = ("events.out.tfevents.", ".config.yaml.")


@dataclass(frozen=True)
class PlannedRun:
    """A run that is finished, begun, or still to be made.

    Attributes:
        folder: its run directory.
        configs: what ``--config`` is given, in order.
        overrides: dotted keys and values, as on the command line.
    """

    folder: Path
    configs: tuple[str, ...]
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        """What its directory says now; one that holds nothing but the logger's files has not begun."""
        record = read_record(self.folder)
        if record.state == "damaged" and all(path.name.startswith(LOGGED) for path in self.folder.iterdir()):
            return RunRecord(self.folder, "absent")  # it was stopped before its config was written
        return record

    def arguments(self) -> list[str]:
        """Arguments of ``python -m spd_lightning`` that start the run, or go on from its last checkpoint.

        A run that was stopped between the end of training and its final scores is tested and reported by them, too.

        Returns:
            ``["fit", "--config", ...]``.

        Raises:
            UsageError: if the directory's name would be taken for a number, which the logger would rename.
        """
        folder = self.folder.absolute()
        _check_name(folder.name)
        where = {"save_dir": str(folder.parent.parent), "name": folder.parent.name, "version": folder.name}
        settings = {**self.overrides, **{f"{LOGGER}.{name}": value for name, value in where.items()}}
        configs = [word for config in self.configs for word in ("--config", config)]
        checkpoint = read_record(folder).checkpoint
        going_on = [] if checkpoint is None else ["--ckpt_path", str(checkpoint)]
        return ["fit", *configs, *(f"--{name}={value}" for name, value in settings.items()), *going_on]


def _check_name(name: str) -> None:
    """Refuse what the command line would not read as text."""
    try:
        read = yaml.safe_load(name)
    except (yaml.YAMLError, ValueError):  # the latter for what looks like a date and is none
        return
    if read is None or (isinstance(read, int) and not isinstance(read, bool)):
        raise UsageError(f"a run directory must not be named by a bare number or null, got {name!r}")
