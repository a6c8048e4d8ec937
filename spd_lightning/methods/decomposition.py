"""The base of decomposition methods: the objective, and what a step is."""

import copy
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from torchmetrics import MeanMetric
from tqdm import tqdm

from spd_lightning.errors import UsageError
from spd_lightning.files.describe import check_kept
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Loss, Noise, Step
from spd_lightning.losses.base import check_trained
from spd_lightning.losses.sharing import mean_over_processes, processes
from spd_lightning.losses.sources import fixed_masks
from spd_lightning.methods.checkpointed import CHECKPOINT_KEY, CheckpointedModule
from spd_lightning.methods.compared import trained_distance
from spd_lightning.methods.non_finite import NonFiniteGuard, Running
from spd_lightning.methods.optimization import Optimization
from spd_lightning.methods.step_memory import StepMemory, available_memory, measured
from spd_lightning.model import ComponentModel, Form, check_wrapping
from spd_lightning.model.acceptance import taking
from spd_lightning.model.call import rows_of
from spd_lightning.targets import TargetRecipe

WORTH_TELLING = 2**27
"""Bytes; what holds less fits everywhere."""


class Decomposition(CheckpointedModule):
    """Base of decomposition methods: the objective, and what a step is.

    A subclass calls ``__init__``, :meth:`set_losses` and then :meth:`remember`, and implements :meth:`form_of`.
    Training stops before a step whose loss or gradient is not finite, see :class:`NonFiniteGuard`.

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
        super().__init__(model, recipe, optimization, save_target, seed)
        self._guard = (NonFiniteGuard(self),)  # a tuple hides it from nn.Module's registration
        self._wrapping_checked = False
        self._added_up: list[dict[str, Tensor]] = []
        self._distance, self._l0 = MeanMetric(), MeanMetric()

    @property
    def guard(self) -> "NonFiniteGuard":
        """What stops training before a step whose numbers are not finite."""
        return self._guard[0]

    def set_losses(self, losses: dict[str, Loss]) -> None:
        """Keep the terms of the objective.

        Args:
            losses: by the name they are logged under.

        Raises:
            UsageError: if none of them is trained on, or one is not made for this method or forgets an argument.
        """
        self.losses = nn.ModuleDict(losses)
        check_trained(losses)
        for name, loss in losses.items():
            if not isinstance(self.model, loss.needs):
                raise UsageError(
                    f"losses: {name!r} is a {type(loss).__name__}, no part of {type(self).__name__}; remove it"
                )
            check_kept(loss, f"losses: {name}")
            loss.check_beside(losses)

    def terms(self) -> dict[str, Loss]:
        """The terms of the objective by name."""
        return dict(self.losses.items())  # type: ignore[arg-type]

    @property
    def distance(self) -> DistanceKind:
        """How outputs are compared in training, by its first term that does."""
        return trained_distance(self.terms().values())

    @abstractmethod
    def form_of(self, batch: Any) -> Form:
        """A batch, seen once for all losses of a training step."""

    @abstractmethod
    def readable_form_of(self, batch: Any) -> Form:
        """A batch, seen once for evaluation."""

    def chosen(self, step: Step) -> Step:
        """A step whose importances depend on the whole batch may choose them here; others leave it as it is."""
        return step

    def note(self, step: Step) -> None:
        """See what a training step sees; nothing to remember for most methods."""
        return

    def evaluated(self, batch: Any, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Each term that counts on a batch, with gradient, by name; of several processes, each its own part."""
        step = self.chosen(Step.seen(self.form_of(batch), noise, progress).among_processes())
        self.note(step)
        return {name: loss(step.named(name)) for name, loss in self.terms().items() if not loss.waits(progress)}

    def step(self, batch: Any, noise: Noise, progress: float = 0.0) -> Step:
        """See a batch once, for all callbacks."""
        self.check_rows(batch)
        return self.seen(batch, noise, progress).unweighted()  # callbacks count what they see, and sum over processes

    def seen(self, batch: Any, noise: Noise, progress: float = 0.0) -> Step:
        """See a batch once, in the form that evaluation reads; of several processes, each its own part."""
        with torch.autocast(self.device.type, enabled=False):  # what is read off does not depend on how training rounds
            return self.chosen(Step.seen(self.readable_form_of(batch), noise, progress).among_processes())

    @staticmethod
    def check_rows(batch: Any) -> None:
        """Refuse an empty batch, which has no mean."""
        if rows_of(batch) == 0 and processes() == 1:
            raise UsageError("data: a batch holds no examples; leave it out in the data module, or set drop_last")

    @property
    def progress(self) -> float:
        """Fraction of training done, for schedules: 0 in the first step, 1 in the last."""
        return self.global_step / max(self.trainer.max_steps - 1, 1)

    def micro_batch(self, batch_idx: int) -> int:
        """Which of the batches that a step adds up this is, from 0."""
        return batch_idx % self.trainer.accumulate_grad_batches

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step.

        Returns:
            ``loss``, the weighted sum, and ``terms``, each term unweighted and detached, by name.

        Raises:
            UsageError: if a term is not finite; the step is not taken, but kept in a file to repeat it from. (Where
                looking would make the host wait for the device, only every 50th step is looked at, and no checkpoint
                of such a state is written.)
        """
        # the last number was the process's; processes now share one stream, see Noise
        noise = Noise((self.seed, "train", self.global_step, self.micro_batch(batch_idx), 0), self.device)
        progress = self.progress
        self.check_once(batch)
        self.guard.begin(Running(batch, noise.key, progress))
        total, terms = self.with_whole_parameters(self.objective, batch, noise, progress)
        self.guard.check_loss(total, terms)
        self._added_up = [*(self._added_up if self.micro_batch(batch_idx) else ()), terms]
        return {"loss": total, "terms": terms}

    def on_after_backward(self) -> None:
        """Check the gradients before they reach the parameters, and let terms see them that keep what they learn."""
        self.guard.check_gradients()
        progress, parts = self.guard.running.progress, self.trainer.accumulate_grad_batches
        for loss in self.terms().values():
            loss.after_backward(loss.coefficient_at(progress) / parts)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Let terms see what the step came to, once, however many batches it adds up."""
        parts, self._added_up = self._added_up, []
        terms = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}
        for loss in self.terms().values():
            loss.observe(terms, self.progress)

    def stamp(self) -> dict[str, Any]:
        """Add what terms remember of their past."""
        states = {name: loss.state() for name, loss in self.terms().items()}
        kept = {name: state for name, state in states.items() if state is not None}
        return super().stamp() | ({"losses": kept} if kept else {})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit, then give terms back what they remembered."""
        super().on_load_checkpoint(checkpoint)
        for name, state in checkpoint[CHECKPOINT_KEY].get("losses", {}).items():
            if name in self.losses:
                self.terms()[name].load_state(state)

    def check_once(self, batch: Any) -> None:
        """Refuse an empty batch and, at the first step, what cannot be wrapped and what does not fit into memory."""
        self.check_rows(batch)
        if not self._wrapping_checked:
            self.check_wrapping(batch)
            if self.global_step == 0 and processes() == 1:
                self.check_memory(batch)

    def check_memory(self, batch: Any) -> None:
        """Say what a step will hold, where that is much.

        Raises:
            UsageError: if there is less memory, with the batch that fits.
        """
        found = self.step_memory(batch)
        rows, free = rows_of(batch) or 0, available_memory(self.device)
        if found is None or found.of(rows) < WORTH_TELLING:
            return
        told = f"a step on {rows} rows holds about {found.of(rows) / 1e9:.1f} GB, {found.per_row / 1e6:.0f} MB a row"
        if free is not None and found.of(rows) > free:
            raise UsageError(
                f"data: {told}, and {free / 1e9:.1f} GB are free; at most {found.largest_batch(free)} rows fit, lower "
                "batch_size (trainer.accumulate_grad_batches adds up several)"
            )
        beside = "" if free is None else f"; {free / 1e9:.1f} GB are free, for at most {found.largest_batch(free)} rows"
        tqdm.write(told + beside, file=sys.stderr)

    def step_memory(self, batch: Any) -> StepMemory | None:
        """What a step will hold for its gradients, see :func:`measured`; ``None`` where that cannot be told."""
        return measured(self._tried, batch, self)

    def _tried(self, batch: Any) -> Tensor:
        with self.forgetful_terms(), torch.random.fork_rng(devices=[]):
            return self.objective(batch, Noise((self.seed, "memory"), self.device))[0]

    @contextmanager
    def forgetful_terms(self) -> Iterator[None]:
        """A context with copies of the terms: what they see in it they do not remember."""
        own, self.losses = self.losses, copy.deepcopy(self.losses)
        try:
            yield
        finally:
            self.losses = own

    def check_wrapping(self, batch: Any) -> None:
        """Prove on a batch that the target computes the same thing however it is run, before the first step.

        A batch without rows, as a process that shares one may hold, or with a value that is not finite, proves nothing.

        Args:
            batch: as :meth:`training_step` takes it.

        Raises:
            UsageError: naming the site, what the network does, and the way out.
        """
        finite = all(leaf.isfinite().all() for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
        with self.whole_parameters():
            if finite and rows_of(batch) != 0:
                self.with_whole_parameters(check_wrapping, self.model, batch, self.checked_form)
        self._wrapping_checked = True  # on every process at the same step

    @property
    def checked_form(self) -> Callable[[Any], Form] | None:
        """What makes the form of a batch that is held against the plain one; ``None`` where training uses that one."""
        return None

    def objective(self, batch: Any, noise: Noise, progress: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the terms on one batch, computed as ``speed`` says; needs no trainer.

        Where several processes train, each is given some rows of the batch: values are those over the whole batch, and
        the mean over processes of the gradients is the whole batch's.

        Args:
            batch: as :meth:`training_step` takes it.
            noise: where masks and subsets are drawn from.
            progress: fraction of training done, for schedules.

        Returns:
            The sum, with gradient, and each term unweighted and detached, by name.
        """
        terms = self.evaluated(batch, noise, progress)
        stacked = torch.stack(list(terms.values()))
        if processes() > 1:
            stacked = mean_over_processes(stacked)
        coefficients = [self.terms()[name].coefficient_at(progress) for name in terms]
        total = torch.dot(stacked, stacked.new_tensor(coefficients))
        return total, dict(zip(terms, stacked.detach().unbind(), strict=True))

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Step]:
        """Clean pass and importances of one batch, for the callbacks that analyse it."""
        return {"step": self.step(batch, Noise((self.seed, "evaluation", batch_idx, 0), self.device))}

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log two numbers where no callback scores.

        ``val/distance`` is that of the output with importances as masks, ``val/l0`` the mean number of components in
        use over all sites.
        """
        if not any(hasattr(callback, "every_n_validations") for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            self._log_headline(outputs["step"])

    def _log_headline(self, step: Step) -> None:
        self._distance.update(step.distance(self.distance, step.masked(fixed_masks(step, "ci"))), weight=step.mass)
        self._l0.update(step.l0(ALIVE_THRESHOLD), weight=step.mass)
        self.log_dict({"val/distance": self._distance, "val/l0": self._l0})

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Step]:
        """The same as :meth:`validation_step`."""
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Lower-leaky causal importances ``[..., C]`` per site call.

        Raises:
            UsageError: for a batch that the target cannot take.
        """
        with taking(self.model.call, batch), torch.autocast(self.device.type, enabled=False):
            importances = self.model.importance_of(batch)
        return {call: importance.lower for call, importance in importances.items()}
