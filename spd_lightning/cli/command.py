"""The command line: one LightningCLI subclass."""

import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden

import spd_lightning.data
import spd_lightning.targets  # noqa: F401 (classes can be named without their package once imported)
from spd_lightning import callbacks
from spd_lightning.callbacks.publishing import apart, run_folder
from spd_lightning.cli.arguments import NO_SUBTYPE, one_line, trainer_message, with_shipped_configs
from spd_lightning.cli.checkpoint_choice import chosen_checkpoint
from spd_lightning.cli.config_order import notes_on_order
from spd_lightning.cli.inputs import input_batches
from spd_lightning.cli.method_choice import HELP, Method, chosen_method
from spd_lightning.cli.notices import tell
from spd_lightning.cli.parser import OneLineParser, add_own_arguments, full_help, named_in_errors
from spd_lightning.cli.quick import answer_at_once
from spd_lightning.cli.resuming import find_stop, read_weights, trained_settings
from spd_lightning.cli.run_config import RunConfig
from spd_lightning.cli.settings import (
    as_seed,
    check_classes,
    check_trainer,
    drop_switched_off,
    logger_folder,
    resumable_place,
    settle_callbacks,
    tensorboard_settings,
)
from spd_lightning.errors import INTERRUPTED, WRONG_USAGE, UsageError
from spd_lightning.lightning_private import LeanEpochLoop
from spd_lightning.parallel.processes import check_strategy, ended_together
from spd_lightning.report import REPORT_NAME, read_run, run_page, write_page
from spd_lightning.runs.checkpoints import check_writable, newest_checkpoint, read_checkpoint, run_of
from spd_lightning.runs.notices import silence_notices
from spd_lightning.runs.record import METRICS_NAME


class DecompositionCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` for decompositions.

    Args:
        args: arguments as on the command line; those of the process by default.
    """

    def __init__(self, args: list[str]) -> None:
        self._checkpoint: dict[str, Any] | None = None
        self._finished: Path | None = None
        self.parsers: dict[str, LightningArgumentParser] = {}
        super().__init__(
            chosen_method(args),
            parser_class=OneLineParser,
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},  # Lightning's own way writes in place
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for everything, and the method, which decides what ``model`` takes."""
        parser.add_argument("--method", type=Method, default="spd", help=HELP)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=as_seed)
        parser.add_instantiator(named_in_errors, object)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Give ``fit`` its ways to start, ``predict`` its input and output files."""
        parser: LightningArgumentParser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        self.parsers[subcommand] = parser
        add_own_arguments(parser, subcommand)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse them, unless they ask for help."""
        for word in args[1:]:
            if word.startswith("--help."):
                sys.stdout.write(full_help(self.parsers[args[0]], word.removeprefix("--help.")))
                sys.exit(0)
        super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """The config is the truth: hyper-parameters stored in a checkpoint never override it."""

    @property
    def _settings(self) -> Namespace:
        settings: Namespace = self.config[self.config.subcommand]
        return settings

    def before_instantiate_classes(self) -> None:
        """Check what can be checked before anything is built or written, and choose the run directory."""
        settings = self._settings
        if self.subcommand == "fit":
            check_trainer(settings.trainer)
        check_classes(settings)
        settle_callbacks(settings.trainer)
        drop_switched_off(settings.trainer)
        if self.subcommand == "fit":
            self._choose_start(settings)
        if settings.ckpt_path is not None:
            self._use_checkpoint(settings)
        elif self.subcommand != "fit":
            tell("no --ckpt_path: components are as they start, nothing has trained them")
        if self.subcommand == "fit" and settings.trainer.logger and not settings.trainer.fast_dev_run:
            check_writable(logger_folder(settings))
        if self.subcommand in ("validate", "test"):
            settings.verbose = False  # the report replaces Lightning's table
        elif self.subcommand == "predict":
            settings.trainer.logger = False  # what it makes is a file; a logger would leave an empty folder

    def _choose_start(self, settings: Namespace) -> None:
        """Find where ``--resume auto`` goes on; it leaves ``--init_from`` to the beginning of a run."""
        if settings.resume == "auto":
            stop = find_stop(*resumable_place(settings), settings)
            if stop is None:
                return
            settings.init_from = None
            if stop.finished:
                self._finished = stop.record.folder
            else:
                settings.ckpt_path = str(stop.checkpoint)
                tell(f"goes on from {stop.checkpoint}, step {stop.steps} of {settings.trainer.max_steps}")
        elif settings.init_from is not None and settings.ckpt_path is not None:
            raise UsageError("--init_from starts a run and --ckpt_path continues one; give one of them")

    def _use_checkpoint(self, settings: Namespace) -> None:
        if settings.ckpt_path == "last":
            settings.ckpt_path = str(newest_checkpoint(logger_folder(settings)))
        settings.ckpt_path = str(chosen_checkpoint(Path(settings.ckpt_path)))
        self._checkpoint = read_checkpoint(Path(settings.ckpt_path))
        run = run_of(Path(settings.ckpt_path))
        logger = tensorboard_settings(settings)
        if run is None or logger is None:
            return
        if self.subcommand == "fit":
            logger.save_dir, logger.name, logger.version = str(run.parent.parent), run.parent.name, run.name
        else:
            logger.save_dir, logger.name = str(run), self.subcommand

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint that does not fit, while nothing is written yet."""
        if self.subcommand == "fit":
            self._start()
        if self._checkpoint is None:
            return
        if self.subcommand == "fit":
            self.model.prepare_data()
        self.model.check_checkpoint(self._checkpoint, same_target=self.subcommand == "fit")
        self._checkpoint = None

    def _start(self) -> None:
        self.model.settings = trained_settings(self._settings)
        origin = self._settings.init_from
        if origin is not None:
            weights = read_weights(Path(origin))
            self.model.prepare_data()
            self.model.start_from(weights, f"--init_from {origin}")

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it, unless that has been done."""
        if self._finished is None:
            with ended_together(self.trainer):
                super()._run_subcommand(subcommand)
            return
        tell(f"{self._finished} is finished: nothing to train. --resume does not start a new run; leave it out for one")
        report = self._finished / REPORT_NAME
        wanted = any(isinstance(c, callbacks.HtmlReport) for c in self.trainer.callbacks)  # type: ignore[attr-defined]
        if wanted and self.trainer.is_global_zero and not report.exists():
            write_page(report, run_page(read_run(self._finished)), ours=True)
            sys.stdout.write(f"{report} was missing and is written\n")

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
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except UsageError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:  # Lightning knows several kinds
            raise UsageError(trainer_message(str(error))) from None
        check_strategy(trainer, str(self.subcommand))
        LeanEpochLoop.install(trainer)
        if self.subcommand == "predict":
            trainer.callbacks.append(callbacks.PredictionWriter(self._settings.output))  # type: ignore[attr-defined]
        return trainer

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "predict" and self._settings.input is not None:
            kwargs["dataloaders"] = input_batches(Path(self._settings.input), self.model.target)
            del kwargs["datamodule"]
        return kwargs

    def after_fit(self) -> None:
        """Test (or, without test data, validate) the finished decomposition; exit with code 130 after an interrupt."""
        guards = [c for c in self.trainer.callbacks if isinstance(c, callbacks.InterruptGuard)]  # type: ignore[attr-defined]
        if any(guard.interrupted for guard in guards):
            if not self.trainer.is_global_zero:
                sys.exit(0)  # a process that fails would have rank zero killed
            sys.stderr.write("interrupted: the last step is saved; continue with the same command and --resume auto\n")
            sys.exit(INTERRUPTED)
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and self.trainer.is_global_zero and run_folder(self.trainer):
                # scores that never made it into metrics.json will be found again
                apart(logger, ".final", again=not (Path(logger.log_dir) / METRICS_NAME).exists())
        has_test = is_overridden("test_dataloader", self.datamodule)
        evaluate = self.trainer.test if has_test else self.trainer.validate
        evaluate(self.model, datamodule=self.datamodule, verbose=False)


def main(args: list[str] | None = None) -> DecompositionCLI:
    """Run the command line.

    Args:
        args: arguments; those of the process by default.

    Returns:
        The finished command, with ``trainer``, ``model`` and ``datamodule``.

    Raises:
        SystemExit: with code 2 and one line on stderr for wrong usage, 130 after Ctrl-C or SIGTERM.
    """
    args = sys.argv[1:] if args is None else args
    answer_at_once(args)
    silence_notices()
    try:
        resolved = with_shipped_configs(args)
        for note in notes_on_order(resolved):
            tell(note)
        return DecompositionCLI(resolved)
    except (UsageError, MisconfigurationException) as error:
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        sys.exit(WRONG_USAGE)
    except SystemExit as error:
        if isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        raise
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
