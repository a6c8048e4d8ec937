"""Several processes as one computation: which ways to start them are supported, and that none waits for a dead one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen, TimeoutExpired

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from spd_lightning.errors import UsageError
from spd_lightning.lightning_private import SubprocessLauncher, is_plain
from spd_lightning.parallel.strategy import ShardedStrategy

SECONDS_TO_EXPLAIN, SECONDS_TO_END = 10, 1
CONNECTION_LOST = ("peer", "remote worker", "Connection")
OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"


def check_strategy(trainer: Trainer, subcommand: str) -> None:
    """Refuse ways of running that are not known to give the results of one process.

    Args:
        trainer: as configured.
        subcommand: what it will do.

    Raises:
        UsageError: for a strategy other than one device, ``ddp`` or ``sharded``, or predictions by several processes.
    """
    strategy = trainer.strategy
    launched = strategy.launcher is None or isinstance(strategy.launcher, SubprocessLauncher)
    known = is_plain(strategy, DDPStrategy) or isinstance(strategy, ShardedStrategy)
    if not (isinstance(strategy, SingleDeviceStrategy) or (known and launched)):
        found = type(strategy).__name__ if launched else type(strategy.launcher).__name__.lstrip("_")
        raise UsageError(
            f"trainer.strategy: {found} is not supported, nobody has compared its numbers; use ddp or sharded"
        )
    if subcommand == "predict" and trainer.world_size > 1:
        raise UsageError(
            f"predict runs on one process, since rows must keep their order, got {trainer.world_size}; set "
            "--trainer.devices 1 --trainer.strategy auto"
        )


@contextmanager
def ended_together(trainer: Trainer) -> Iterator[None]:
    """Where this process started others: if one fails, the run ends, and it is said which.

    Args:
        trainer: whose processes they are.

    Raises:
        UsageError: in place of what a lost connection looks like from here.
    """
    logging.getLogger(OBSERVER).setLevel(logging.INFO)  # it ends a run whose rank zero waits for no message just now
    try:
        yield
    except BaseException as error:
        cut_off = isinstance(error, RuntimeError) and any(sign in str(error) for sign in CONNECTION_LOST)
        codes = _ended(started_by(trainer), SECONDS_TO_EXPLAIN if cut_off else SECONDS_TO_END)
        lost = [f"process {rank} of {len(codes) + 1} ended with code {code}" for rank, code in codes.items() if code]
        if lost and cut_off:
            raise UsageError(
                f"{lost[0]}, and with it the run; what it said is above, and -9 means that it was killed, for example "
                "for want of memory; earlier checkpoints are kept"
            ) from None
        raise


def _ended(children: list["Popen[bytes]"], patience: float) -> dict[int, int]:
    """Exit codes by rank, once all have ended; each gets some time to say why it failed, if it was the one."""
    for child in children:
        with suppress(TimeoutExpired):
            child.wait(patience)
        child.kill()
    return {rank: child.wait() for rank, child in enumerate(children, 1)}


def started_by(trainer: Trainer) -> list["Popen[bytes]"]:
    """The processes that this one started to train with it; none on others."""
    launcher = trainer.strategy.launcher
    return list(launcher.procs) if isinstance(launcher, SubprocessLauncher) else []
