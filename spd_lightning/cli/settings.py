"""What a command's settings say about its run directory."""

import inspect
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger

from spd_lightning.cli.near import suggestion
from spd_lightning.cli.shipped import shipped_configs
from spd_lightning.cli.wording import classes_under
from spd_lightning.errors import UsageError, check_whole

PROGRESS_BAR = "ProgressBar"
CHECKPOINTING = ("ModelCheckpoint", "Checkpoints")
LEAST = {"max_steps": 1, "accumulate_grad_batches": 1, "log_every_n_steps": 0, "num_sanity_val_steps": -1}
"""The smallest values of some whole numbers of the trainer."""
LARGEST_SEED = 2**32 - 1
"""The largest that numpy takes."""


def drop_switched_off(trainer: Namespace) -> None:
    """Leave out callbacks of the base config that a trainer switch turns off; Lightning would refuse both at once."""
    for switch, names in (("enable_progress_bar", PROGRESS_BAR), ("enable_checkpointing", CHECKPOINTING)):
        if trainer[switch] is False:
            trainer.callbacks = [c for c in trainer.callbacks or [] if not c.class_path.endswith(names)]


def settle_callbacks(trainer: Namespace) -> None:
    """Put what a config adds in the place of an entry of ``base.yaml`` of the same class; there is one progress bar.

    Several entries that a config adds itself are left to Lightning, which takes those that it can tell apart.
    """
    given = list(trainer.callbacks or [])
    standing = _standing()
    if [entry.class_path.rpartition(".")[2] for entry in given[: len(standing)]] != standing:
        return  # the list was replaced
    own = given[len(standing) :]
    for place, entry in enumerate(given[: len(standing)]):
        later = next((one for one in own if _kind(one) == _kind(entry)), None)
        if later is not None:
            given[place] = own.pop(own.index(later))
    trainer.callbacks = [*given[: len(standing)], *own]


def _standing() -> list[str]:
    """Classes of the callbacks of ``base.yaml``, in order."""
    base = yaml.safe_load((shipped_configs() / "base.yaml").read_text(encoding="utf-8"))
    return [entry["class_path"].rpartition(".")[2] for entry in base["trainer"]["callbacks"]]


def _kind(entry: Namespace) -> str:
    path = str(entry.class_path)
    return PROGRESS_BAR if path.endswith(PROGRESS_BAR) else path


def check_trainer(trainer: Namespace) -> None:
    """Refuse ranges that Lightning lets pass and then fails or does nothing with.

    Raises:
        UsageError: naming the option.
    """
    for name, least in LEAST.items():
        if trainer[name] is not None:
            check_whole(f"trainer.{name}", trainer[name], least)
    if trainer.max_epochs not in (None, -1):
        raise UsageError(
            f"trainer.max_epochs must be -1, since training counts steps, got {trainer.max_epochs}; set "
            "trainer.max_steps"
        )
    interval = trainer.val_check_interval
    if isinstance(interval, int) and interval < 1:
        raise UsageError(f"trainer.val_check_interval must be at least 1 step, got {interval}")


def check_classes(settings: Namespace | dict[str, Any], key: str = "") -> None:
    """Refuse what no class is given for: a flag of a misspelt term, or arguments of something that has no class yet.

    Args:
        settings: of a command, or a part of them.
        key: where the part stands.

    Raises:
        UsageError: naming the key, and what it may have meant, or what a class of one's own lacks.
    """
    parts: dict[str, Any] = vars(settings) if isinstance(settings, Namespace) else settings
    for name, value in parts.items():
        here = f"{key}.{name}" if key else name
        if not isinstance(value, Namespace) and not isinstance(value, dict):
            continue
        base = locate(str(value["class_path"])) if "class_path" in value else None
        if isinstance(base, type) and inspect.isabstract(base):
            terms = [other for other in parts if other != name] if isinstance(settings, dict) else ()
            if any(map(inspect.isabstract, base.__mro__[1:])):  # no standing base class: somebody named it
                lacking = ", ".join(name for name, member in inspect.getmembers(base) if _is_missing(member))
                raise UsageError(f"{here}: {base.__name__} does not define {lacking}; name a class that does")
            raise UsageError(f"{here} has no class_path{suggestion(name, terms or classes_under(base))}")
        check_classes(value, here)


def _is_missing(member: object) -> bool:
    return bool(getattr(member, "__isabstractmethod__", False))


def as_seed(value: bool | int) -> int:
    """The seed of everything, or a :class:`UsageError` for one that is to be drawn."""
    check_whole("seed_everything", value, least=0, most=LARGEST_SEED)
    return value


def tensorboard_settings(settings: Namespace) -> Namespace | None:
    """Arguments of the logger, or the first of several, whose folder is the run's, if it is a ``TensorBoardLogger``."""
    logger = settings.trainer.logger
    if isinstance(logger, list):
        logger = logger[0] if logger else None
    is_tensorboard = isinstance(logger, Namespace) and logger.class_path.endswith(TensorBoardLogger.__name__)
    return logger.init_args if is_tensorboard else None


def resumable_place(settings: Namespace) -> tuple[Path, str | int | None]:
    """Folder of all versions of a run, and the version that is named, for ``--resume auto``.

    Raises:
        UsageError: if there is no such folder, or checkpoints are not kept in it.
    """
    logger = tensorboard_settings(settings)
    if settings.ckpt_path is not None:
        raise UsageError(f"--resume auto finds its checkpoint by itself; leave out --ckpt_path {settings.ckpt_path}")
    if logger is None or settings.trainer.fast_dev_run:
        raise UsageError("--resume auto needs a run directory, which trainer.logger (TensorBoardLogger) makes")
    keeping = [c for c in settings.trainer.callbacks or [] if c.class_path.endswith(CHECKPOINTING)]
    if settings.trainer.enable_checkpointing is False or any(c.init_args.dirpath is not None for c in keeping):
        raise UsageError("--resume auto needs checkpoints in the run directory; leave enable_checkpointing and dirpath")
    return logger_folder(settings), logger.version


def logger_folder(settings: Namespace) -> Path:
    """Folder of all versions of a run."""
    logger = tensorboard_settings(settings)
    if logger is None:
        return Path(settings.trainer.default_root_dir or ".")
    return Path(logger.save_dir) / (logger.name or "")
