"""One run of a table or sweep: where it lies, what is run, and how to go on with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spd_lightning.record import RunRecord, read_record

LOGGER = "trainer.logger.init_args"


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
        """What its directory says now."""
        return read_record(self.folder)

    def arguments(self) -> list[str]:
        """Arguments of ``python -m spd_lightning`` that start the run, or go on from its last checkpoint.

        Returns:
            ``["fit", "--config", ...]``.
        """
        folder = self.folder.absolute()
        where = {"save_dir": str(folder.parent.parent), "name": folder.parent.name, "version": folder.name}
        settings = {**self.overrides, **{f"{LOGGER}.{name}": value for name, value in where.items()}}
        configs = [word for config in self.configs for word in ("--config", config)]
        checkpoint = read_record(folder).checkpoint
        going_on = [] if checkpoint is None else ["--ckpt_path", str(checkpoint)]
        return ["fit", *configs, *(f"--{name}={value}" for name, value in settings.items()), *going_on]
