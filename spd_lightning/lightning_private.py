"""What of Lightning is used beyond its public interface, each with its reason; a test names the few exceptions.

A new release of Lightning is looked at here. Most of it keeps Lightning's bookkeeping off the hot path: a step of a toy
model takes a millisecond or two, of which Lightning's loop adds a third of one, in a hundred hooks that nobody
implements and profiler contexts that measure nothing. In the plain case (one device, 32-bit, no profiler) the loop here
makes the same calls in the same order, but only those that somebody implements. Every other case, and every release of
Lightning but those this was written for, runs Lightning's own loop.
"""

from contextlib import suppress
from inspect import getattr_static
from typing import Any, cast

from lightning import __version__
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from lightning.pytorch.loops.optimization.automatic import ClosureResult
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim import Optimizer

SubprocessLauncher = _SubprocessScriptLauncher
"""Started processes, to say which of them failed; Lightning offers no list of them."""


def is_accumulating(trainer: Trainer) -> bool:
    """Whether gradients of this batch are added to before they are used; Lightning tells no hook."""
    return bool(trainer.fit_loop._should_accumulate())


def validation_follows(trainer: Trainer) -> bool:
    """Whether a validation is still to run before the step under way is over; asked when its batch ends."""
    loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    return (
        fetcher is not None
        and not loop._skip_next_val
        and sum(trainer.num_val_batches) > 0
        and loop._should_check_val_fx(fetcher)
    )


def skip_validation(trainer: Trainer) -> None:
    """Leave out the validation that Lightning would run because it is asked to stop."""
    trainer.fit_loop.epoch_loop._skip_next_val = True


def has_trainer(module: LightningModule) -> bool:
    """Whether a trainer runs a module; asking for ``module.trainer`` is an error where none does."""
    return module._trainer is not None


def tear_down(trainer: Trainer) -> None:
    """Do what Lightning does next after an exception, which another error in its place would skip."""
    trainer._teardown()


def let_go(logger: TensorBoardLogger) -> None:
    """Write what can still be written; Lightning would close the logger once more and fail again."""
    if logger._experiment is None:
        return
    with suppress(OSError):
        logger.experiment.flush()
        logger.experiment.close()
    logger._experiment = None


def is_plain(part: object, base: type) -> bool:
    """Whether a part of Lightning's does what its class ``base`` does: a subclass that changes anything does not."""
    names = [name for name in dir(base) if not name.startswith(("__", "_abc_"))]
    return isinstance(part, base) and all(
        getattr_static(type(part), name) is getattr_static(base, name) for name in names
    )


KNOWN_RELEASES = "2.6."
SHARED_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
HOOKS = ("on_train_batch_start", *SHARED_HOOKS, "on_train_batch_end")
TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
LEFT_TO_LIGHTNING = ("on_train_batch_start", "optimizer_step", "lr_scheduler_step", *TRANSFER)


class LeanEpochLoop(_TrainingEpochLoop):
    """Lightning's loop, calling only hooks that somebody implements, where nothing else could tell the difference.

    Checkpoints, resuming, logging from hooks, accumulation and clipping are as before. Callbacks are looked up when
    an epoch starts; one added in its middle is called from the next on.
    """

    @classmethod
    def install(cls, trainer: Trainer) -> None:
        """Make a trainer use it, if its loop is the one this was written for.

        Args:
            trainer: the trainer; its loop keeps its state.
        """
        if __version__.startswith(KNOWN_RELEASES) and is_plain(trainer.fit_loop.epoch_loop, _TrainingEpochLoop):
            trainer.fit_loop.epoch_loop.__class__ = cls

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Decide how the epoch is run."""
        super().on_run_start(data_fetcher)
        trainer, module = self.trainer, cast(LightningModule, self.trainer.lightning_module)
        owners: list[Any] = [module, *([trainer.datamodule] if trainer.datamodule else [])]
        self._plain = (
            is_plain(trainer.strategy, SingleDeviceStrategy)
            and is_plain(trainer.precision_plugin, Precision)
            and is_plain(trainer.profiler, PassThroughProfiler)
            and trainer.strategy.model is module
            and module.automatic_optimization
            and not self.automatic_optimization._skip_backward
            and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
            and not any(hasattr(o, h) and is_overridden(h, o) for o in owners for h in LEFT_TO_LIGHTNING)
        )
        self._indexed = "batch_idx" in self._build_kwargs({}, None, 0)  # type: ignore[arg-type]
        self._called = {
            hook: (
                [getattr(c, hook) for c in trainer.callbacks if _differs(c, Callback, hook)],
                [getattr(module, hook)] if _differs(module, LightningModule, hook) else [],
            )
            for hook in HOOKS
        }

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on one batch."""
        if not self._plain or self.restarting:
            super().advance(data_fetcher)
            return
        trainer, progress, module = self.trainer, self.batch_progress, self.trainer.lightning_module
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = move_data_to_device(batch, trainer.strategy.root_device)
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        output = None
        if batch is not None:
            self._hook(module, "on_train_batch_start", batch, batch_idx)
            progress.increment_started()
            output = self._optimize(module, trainer.optimizers[0], batch, batch_idx)
        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._hook(module, "on_train_batch_end", output, batch, batch_idx)
        trainer._logger_connector.on_batch_end()
        progress.increment_completed()
        trainer._logger_connector.update_train_step_metrics()

    def _optimize(self, module: LightningModule, optimizer: Optimizer, batch: Any, batch_idx: int) -> dict[str, Any]:
        trainer, progress = self.trainer, self.automatic_optimization.optim_progress.optimizer
        accumulate, updates = trainer.accumulate_grad_batches, not self._should_accumulate()
        result: ClosureResult

        def closure() -> Any:
            nonlocal result
            arguments = (batch, batch_idx) if self._indexed else (batch,)
            output = self._within(module, "training_step", module.training_step, *arguments)
            result = ClosureResult.from_training_step_output(output, accumulate)
            if batch_idx % accumulate == 0:
                progress.zero_grad.increment_ready()
                self._hook(module, "on_before_zero_grad", optimizer)
                progress.zero_grad.increment_started()
                module.optimizer_zero_grad(trainer.current_epoch, batch_idx, optimizer)
                progress.zero_grad.increment_completed()
            if result.closure_loss is not None:
                self._hook(module, "on_before_backward", result.closure_loss)
                self._within(module, "backward", module.backward, result.closure_loss)
                self._hook(module, "on_after_backward")
            if updates:
                self._hook(module, "on_before_optimizer_step", optimizer)
                clip = module.configure_gradient_clipping
                limits = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                self._within(module, "configure_gradient_clipping", clip, optimizer, *limits)
            return result.loss

        if updates:
            progress.step.increment_ready()
            optimizer.step(closure)
            progress.step.increment_completed()
        else:
            closure()
        return {} if result.loss is None else result.asdict()

    def _hook(self, module: LightningModule, name: str, *args: Any) -> None:
        callbacks, own = self._called[name]
        for call in callbacks:
            self._within(module, name, call, self.trainer, module, *args)
        for call in own:
            self._within(module, name, call, *args)

    @staticmethod
    def _within(module: LightningModule, name: str, call: Any, *args: Any) -> Any:
        state = module.__dict__  # Module.__setattr__ costs more than most of these calls
        before, state["_current_fx_name"] = state.get("_current_fx_name"), name
        result = call(*args)
        state["_current_fx_name"] = before
        return result


def _differs(owner: object, base: type, hook: str) -> bool:
    """Whether calling the hook does something; anything but the base class's own empty method counts."""
    return getattr(getattr(owner, hook), "__func__", None) is not getattr(base, hook)
