"""The command line: one LightningCLI subclass."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, TensorDataset

import callbacks
import spd_lightning.data
import spd_lightning.targets  # noqa: F401 (classes can be named without their package once imported)
from spd_lightning.arguments import NO_SUBTYPE, one_line, with_shipped_configs
from spd_lightning.errors import UsageError
from spd_lightning.files import written_whole
from spd_lightning.inputs import read_inputs
from spd_lightning.lean import LeanEpochLoop
from spd_lightning.methods import StochasticDecomposition
from spd_lightning.processes import check_strategy, ended_together
from spd_lightning.runs import check_writable, newest_checkpoint, read_checkpoint, run_of

INTERRUPTED = 130
WRONG_USAGE = 2
PREDICTED_AT_ONCE = 4096


class OneLineParser(LightningArgumentParser):
    """Reports what is wrong with arguments or configs in one line."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print ``error: ...`` and exit with code 2."""
        hint = "; name a config, for example --config tms.yaml" if "arguments are required" in message else ""
        raise UsageError(one_line(message) + hint)


class RunConfig(SaveConfigCallback):
    """Saves the resolved config, whole; a resumed run keeps the first and adds ``config.resumed-N.yaml``."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose a free name, then save as usual."""
        self._folder, number = Path(trainer.log_dir or "."), 0
        while trainer.is_global_zero and not self.already_saved and (self._folder / self.config_filename).exists():
            number += 1
            self.config_filename = f"config.resumed-{number}.yaml"
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, on rank zero; half a config would make the run unreadable."""
        text = self.parser.dump(self.config, skip_none=False)
        with written_whole(self._folder / self.config_filename) as aside:
            aside.write_text(text)


class DecompositionCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` for decompositions.

    Args:
        args: arguments as on the command line; those of the process by default.
    """

    def __init__(self, args: list[str]) -> None:
        self._checkpoint: dict[str, Any] | None = None
        super().__init__(
            StochasticDecomposition,
            parser_class=OneLineParser,
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},  # Lightning's own way writes in place
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for everything."""
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_as_seed)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Give ``predict`` its input and output files."""
        parser: LightningArgumentParser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument(
                "--input", type=str | None, default=None, help="Inputs, .csv or .pt; default: one-hot probes."
            )
            parser.add_argument("--output", type=str, default="importances.csv", help="File to write, .csv or .pt.")
        return parser

    def _parse_ckpt_path(self) -> None:
        """The config is the truth: hyper-parameters stored in a checkpoint never override it."""

    @property
    def _settings(self) -> Namespace:
        settings: Namespace = self.config[self.config.subcommand]
        return settings

    def before_instantiate_classes(self) -> None:
        """Check what can be checked before anything is built or written, and choose the run directory."""
        settings = self._settings
        if self.subcommand == "fit" and settings.trainer.max_steps < 1:
            raise UsageError(f"trainer.max_steps must be at least 1, got {settings.trainer.max_steps}")
        _drop_switched_off(settings.trainer)
        if settings.ckpt_path is not None:
            self._use_checkpoint(settings)
        if self.subcommand == "fit" and settings.trainer.logger and not settings.trainer.fast_dev_run:
            check_writable(_logger_folder(settings))
        if self.subcommand in ("validate", "test"):
            settings.verbose = False  # the report replaces Lightning's table

    def _use_checkpoint(self, settings: Namespace) -> None:
        if settings.ckpt_path == "last":
            settings.ckpt_path = str(newest_checkpoint(_logger_folder(settings)))
        self._checkpoint = read_checkpoint(Path(settings.ckpt_path))
        run = run_of(Path(settings.ckpt_path))
        logger = _tensorboard_settings(settings)
        if run is None or logger is None:
            return
        if self.subcommand == "fit":
            logger.save_dir, logger.name, logger.version = str(run.parent.parent), run.parent.name, run.name
        else:
            logger.save_dir, logger.name = str(run), self.subcommand

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint that does not fit, while nothing is written yet."""
        if self._checkpoint is None:
            return
        if self.subcommand == "fit":
            self.model.prepare_data()
        self.model.check_checkpoint(self._checkpoint, same_target=self.subcommand == "fit")
        self._checkpoint = None

    def instantiate_classes(self) -> None:
        """Build module, data and trainer; a message wrapped by the parser is unwrapped."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if isinstance(error, UsageError) or not str(error).startswith(NO_SUBTYPE):
                raise
            raise UsageError(one_line(str(error))) from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Keep the Trainer's bookkeeping off the hot path; add the writer of predictions to ``predict``."""
        trainer = super().instantiate_trainer(**kwargs)
        check_strategy(trainer, str(self.subcommand))
        LeanEpochLoop.install(trainer)
        if self.subcommand == "predict":
            trainer.callbacks.append(callbacks.PredictionWriter(self._settings.output))  # type: ignore[attr-defined]
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        with ended_together(self.trainer):
            super()._run_subcommand(subcommand)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "predict" and self._settings.input is not None:
            inputs = TensorDataset(read_inputs(Path(self._settings.input), self.model.target))
            kwargs["dataloaders"] = DataLoader(inputs, batch_size=PREDICTED_AT_ONCE)
            del kwargs["datamodule"]
        return kwargs

    def after_fit(self) -> None:
        """Test (or, without test data, validate) the finished decomposition; after Ctrl-C, exit with code 130."""
        guards = [c for c in self.trainer.callbacks if isinstance(c, callbacks.InterruptGuard)]  # type: ignore[attr-defined]
        if any(guard.interrupted for guard in guards):
            if not self.trainer.is_global_zero:
                sys.exit(0)  # a process that fails would have rank zero killed
            sys.stderr.write(
                "interrupted: the last step is saved; continue with the same command and --ckpt_path last\n"
            )
            sys.exit(INTERRUPTED)
        has_test = is_overridden("test_dataloader", self.datamodule)
        evaluate = self.trainer.test if has_test else self.trainer.validate
        evaluate(self.model, datamodule=self.datamodule, verbose=False)


def _drop_switched_off(trainer: Namespace) -> None:
    """Leave out callbacks of the base config that a trainer switch turns off; Lightning would refuse both at once."""
    for switch, name in (("enable_progress_bar", "ProgressBar"), ("enable_checkpointing", "ModelCheckpoint")):
        if trainer[switch] is False:
            trainer.callbacks = [c for c in trainer.callbacks or [] if not c.class_path.endswith(name)]


def _as_seed(value: bool | int) -> int:
    if isinstance(value, bool):
        raise UsageError(f"seed_everything must be a whole number, got {str(value).lower()}")
    return value


def _tensorboard_settings(settings: Namespace) -> Namespace | None:
    logger = settings.trainer.logger
    is_tensorboard = isinstance(logger, Namespace) and logger.class_path.endswith(TensorBoardLogger.__name__)
    return logger.init_args if is_tensorboard else None


def _logger_folder(settings: Namespace) -> Path:
    logger = _tensorboard_settings(settings)
    if logger is None:
        return Path(settings.trainer.default_root_dir or ".")
    return Path(logger.save_dir) / (logger.name or "")


def _quiet() -> None:
    """Silence notices that are no use here; every one of them is by design or another library's business."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r".*in eval mode at the start of training.*",  # the frozen target stays in eval mode
        r".*isinstance\(treespec, LeafSpec\).*",  # lightning 2.6 on torch 2.13
        r"The dirpath has changed from .*",  # a moved run directory, or an evaluation in a folder of its own
        r"Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its directory
        r".*does not have many workers.*",  # batches are made in place
        r"It is recommended to use `self\.log\(.*sync_dist=True.*",  # what is logged is summed over processes before
        r"LightningCLI's args parameter.*",  # names of configs are resolved before parsing
    ):
        warnings.filterwarnings("ignore", message)


def main(args: list[str] | None = None) -> DecompositionCLI:
    """Run the command line.

    Args:
        args: arguments; those of the process by default.

    Returns:
        The finished command, with ``trainer``, ``model`` and ``datamodule``.

    Raises:
        SystemExit: with code 2 and one line on stderr for wrong usage, 130 after Ctrl-C.
    """
    _quiet()
    try:
        return DecompositionCLI(with_shipped_configs(sys.argv[1:] if args is None else args))
    except (UsageError, MisconfigurationException) as error:
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        sys.exit(WRONG_USAGE)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        raise
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
