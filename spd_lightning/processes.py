"""Several processes as one computation: which ways to start them are supported, and that none waits for a dead one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen, TimeoutExpired

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from spd_lightning.errors import UsageError

SECONDS_TO_EXPLAIN = 10
OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"


def check_strategy(trainer: Trainer, subcommand: str) -> None:
    """Refuse ways of running that are not known to give the results of one process.

    Args:
        trainer: as configured.
        subcommand: what it will do.

    Raises:
        UsageError: for a strategy other than one device or ``ddp``, or predictions by several processes.
    """
    strategy = trainer.strategy
    launched = strategy.launcher is None or type(strategy.launcher) is _SubprocessScriptLauncher
    if not (isinstance(strategy, SingleDeviceStrategy) or (type(strategy) is DDPStrategy and launched)):
        raise UsageError(
            f"trainer.strategy: {type(strategy).__name__} is not supported, since components are not sharded and "
            "processes are started by a launcher; use ddp"
        )
    if subcommand == "predict" and trainer.world_size > 1:
        raise UsageError(
            f"predict runs on one process, since rows must keep their order, got {trainer.world_size}; set "
            "--trainer.devices 1 --trainer.strategy auto"
        )


@contextmanager
def ended_together(trainer: Trainer) -> Iterator[None]:
    """Where this process started others: if it fails, none of them is left behind.

    They first get a moment to say why they failed, if it was them.
    """
    logging.getLogger(OBSERVER).setLevel(logging.INFO)  # names a process that was killed and could say nothing
    try:
        yield
    except BaseException:
        for child in started_by(trainer):
            with suppress(TimeoutExpired):
                child.wait(SECONDS_TO_EXPLAIN)
            child.kill()
        raise


def started_by(trainer: Trainer) -> list["Popen[bytes]"]:
    """The processes that this one started to train with it; none on others."""
    launcher = trainer.strategy.launcher
    return list(launcher.procs) if isinstance(launcher, _SubprocessScriptLauncher) else []
