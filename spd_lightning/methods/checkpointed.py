"""The target, the optimiser and the checkpoints of a decomposition."""

from pathlib import Path
from typing import Any, ClassVar, Self

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from spd_lightning.errors import UsageError, check_flag
from spd_lightning.files.describe import init_args
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.tensors import read_pickled
from spd_lightning.lightning_private import has_trainer
from spd_lightning.methods.checkpoint_content import INSTANTIATOR, check_content, check_state, rebuilt_arguments
from spd_lightning.methods.optimization import Optimization
from spd_lightning.methods.shardable import Shardable
from spd_lightning.model import ComponentModel
from spd_lightning.targets import TargetRecipe

LARGEST_KEPT_TARGET = 10_000_000
"""Parameters up to which a target's weights go into every checkpoint, unless ``save_target`` says otherwise."""
CHECKPOINT_KEY = "spd_lightning"
CHECKPOINT_FORMAT = 2
KEPT_STEP = "non_finite"
"""Part of a file that keeps a step whose numbers are not finite; its weights may be so as well."""
MODEL_PREFIX = "model."
TARGET_PREFIX = f"{MODEL_PREFIX}target."
_TRAINED = ("components.", "importance_function.")


def keeps_files(trainer: Trainer) -> bool:
    """Whether anybody asked for files of a run: without a logger, in the working directory, nobody did."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return False
    return trainer.logger is not None or Path(trainer.default_root_dir).resolve() != Path.cwd()


def check_format(stamp: Any, what: str) -> dict[str, Any]:
    """What a checkpoint says about itself, or a one-line :class:`UsageError` if this version cannot read it.

    Args:
        stamp: its entry :data:`CHECKPOINT_KEY`.
        what: names the checkpoint in messages.
    """
    written_as = stamp.get("format") if isinstance(stamp, dict) else None
    if not isinstance(written_as, int) or isinstance(written_as, bool):
        raise UsageError(f"{what} was not written by spd_lightning (format {CHECKPOINT_FORMAT})")
    if stamp["format"] != CHECKPOINT_FORMAT:
        raise UsageError(
            f"{what} is of format {stamp['format']}, this version reads format {CHECKPOINT_FORMAT}; train again, or "
            "use the version of spd_lightning that wrote it"
        )
    checked: dict[str, Any] = stamp
    return checked


class CheckpointedModule(Shardable):
    """The part of a decomposition that has to do with its target, its optimiser and its checkpoints.

    A subclass calls ``__init__`` and then :meth:`remember`, and implements ``training_step``.

    Args:
        model: the decomposition to be trained.
        recipe: where the target's weights come from; ``None`` if it has them.
        optimization: optimiser, schedule, clipping.
        save_target: whether checkpoints hold the target's weights; ``None`` decides by their number.
        seed: seeds everything random in training.
    """

    def __init__(
        self,
        model: ComponentModel,
        recipe: TargetRecipe | None,
        optimization: Optimization,
        save_target: bool | None,
        seed: int,
    ) -> None:
        super().__init__(model)
        if save_target is None:
            save_target = sum(p.numel() for p in model.target.parameters()) <= LARGEST_KEPT_TARGET
        check_flag("save_target", save_target)
        self.recipe, self.optimization = recipe, optimization
        self.save_target, self.seed = save_target, seed
        self.strict_loading = save_target
        self._prepared = False
        self._started = False
        self._fingerprint: str | None = None
        self.settings: dict[str, Any] = {}

    predicted = "Causal importances"
    """What ``predict`` returns, in words."""
    method: ClassVar[str] = "spd"
    """Its name on the command line."""
    fused = False
    """Whether the optimiser updates all parameters in one call."""

    @property
    def target(self) -> nn.Module:
        """The frozen network."""
        return self.model.target

    @property
    def target_fingerprint(self) -> str:
        """Hash of the target's weights, which are frozen: taken once they are there."""
        if self._fingerprint is None or not self._prepared:
            self._fingerprint = fingerprint(self.target)
        return self._fingerprint

    def remember(self) -> None:
        """Keep the constructor's arguments as plain data, so that ``load_from_checkpoint`` can repeat the call."""
        self.save_hyperparameters(self.arguments() | {"_instantiator": INSTANTIATOR}, logger=False)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return init_args(self)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Rebuild a decomposition from a checkpoint; nothing that only the file names is imported or called.

        Args:
            checkpoint_path: the file.
            args: see :meth:`lightning.pytorch.LightningModule.load_from_checkpoint`.
            kwargs: the same, and arguments of the constructor that replace those in the file.

        Returns:
            The decomposition.

        Raises:
            UsageError: if the file is damaged, or names a class that is not imported already.
        """
        content = read_pickled(Path(checkpoint_path), "checkpoint")
        if not isinstance(content, dict):
            raise UsageError(f"checkpoint {str(checkpoint_path)!r} was not written by spd_lightning")
        check_content(content, finite=KEPT_STEP not in content)
        what = f"checkpoint {str(checkpoint_path)!r}"
        cls._check_method(check_format(content.get(CHECKPOINT_KEY), what), what)
        try:
            kwargs |= rebuilt_arguments(cls, content, kwargs)
            # nothing is left for Lightning to look up by a name in the file
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs, _instantiator=None)
        except UsageError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(f"checkpoint {str(checkpoint_path)!r} cannot be rebuilt ({reason})") from error

    def prepare_data(self) -> None:
        """Train the target on one process, if no earlier run has."""
        if has_trainer(self) and self.trainer.gradient_clip_val is not None:
            raise UsageError(
                "trainer.gradient_clip_val would clip both groups together; use model.optimization.clip_components "
                "and clip_importance"
            )
        self._prepare_target()

    def start_from(self, state: dict[str, Tensor], origin: str) -> None:
        """Start the components and importance functions from given ones; nothing else moves them before training.

        Args:
            state: tensors as :class:`ComponentModel` names them; those of a target are left aside.
            origin: where they come from, for messages.

        Raises:
            UsageError: if a tensor is missing, left over, or of another shape.
        """
        self._prepare_target()
        own = {name: tensor for name, tensor in self.model.state_dict().items() if name.startswith(_TRAINED)}
        given = {name: tensor for name, tensor in state.items() if name.startswith(_TRAINED)}
        check_state(given, own, origin)
        self.model.load_state_dict(given, strict=False)
        self._started = True

    def setup(self, stage: str) -> None:
        """Give the target its weights, then start the components from them."""
        self._prepare_target()

    def _prepare_target(self) -> None:
        if self._prepared:
            return
        if self.recipe is not None:
            self.recipe.prepare(self.target)
            self.target.requires_grad_(False).eval()
        self.model.reset()
        self._prepared, self._fingerprint = True, None

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One AdamW with two groups; its schedule spans ``trainer.max_steps``."""
        if self.trainer.max_steps < 1:
            raise UsageError(
                f"trainer.max_steps must be at least 1, since schedules span it, got {self.trainer.max_steps}"
            )
        optimizer, scheduler = self.optimization.build(self.model, self.trainer.max_steps, self.fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | int | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each group on its own; the trainer's global setting is refused before training."""
        self.optimization.clip(self.model)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The state, without the target where ``save_target`` is off."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        if self.save_target:
            return state
        return {name: tensor for name, tensor in state.items() if not name.startswith(TARGET_PREFIX)}

    def on_validation_epoch_end(self) -> None:
        """Date everything logged in this validation by the steps taken; Lightning would count one less."""
        self.log("step", float(self.trainer.global_step))

    def on_test_epoch_end(self) -> None:
        """Date the test by the steps taken, the same after a run that was continued."""
        self.log("step", float(self.trainer.global_step))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stamp the checkpoint, see :meth:`stamp`.

        Raises:
            UsageError: if a parameter is not finite: such a state is not worth keeping.
        """
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise UsageError(
                    f"{name} is not finite at step {self.global_step}; this state is not saved, earlier checkpoints "
                    "are kept; try a lower lr or clipping"
                )
        checkpoint[CHECKPOINT_KEY] = self.stamp()

    def stamp(self) -> dict[str, Any]:
        """What a checkpoint says about itself: format, target and the settings that the numbers depend on."""
        described = {"target_fingerprint": self.target_fingerprint, "settings": dict(self.settings)}
        return {"format": CHECKPOINT_FORMAT, "method": self.method, **described}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit."""
        self.check_checkpoint(checkpoint, same_target=has_trainer(self) and self.trainer.state.fn == "fit")
        self._fingerprint = None  # outside of training its target may be another one

    def check_checkpoint(self, checkpoint: dict[str, Any], same_target: bool) -> None:
        """Refuse a checkpoint of another format, of other shapes, or of another target.

        Args:
            checkpoint: its content.
            same_target: whether the target's weights must be the configured ones, as training on requires.

        Raises:
            UsageError: if it does not fit.
        """
        stamp = check_format(checkpoint.get(CHECKPOINT_KEY), "the checkpoint")
        self._check_method(stamp, "the checkpoint")
        if not isinstance(stamp.get("target_fingerprint"), str):
            raise UsageError("the checkpoint is damaged: it does not say which target it belongs to")
        check_content(checkpoint, finite=KEPT_STEP not in checkpoint)
        state = checkpoint["state_dict"]
        kept = {name: state[name] for name in state if self.save_target or not name.startswith(TARGET_PREFIX)}
        check_state(kept, self.state_dict(), "the checkpoint")
        if same_target and stamp["target_fingerprint"] != self.target_fingerprint:
            raise UsageError(
                f"the checkpoint belongs to another target (fingerprint {stamp['target_fingerprint'][:8]}, "
                f"configured {self.target_fingerprint[:8]}); use its config, or start anew without --ckpt_path"
            )

    @classmethod
    def _check_method(cls, stamp: dict[str, Any], what: str) -> None:
        made_by = stamp.get("method")
        if made_by != cls.method:
            raise UsageError(f"{what} was made by method {made_by!r}, not {cls.method!r}; use its config or class")
