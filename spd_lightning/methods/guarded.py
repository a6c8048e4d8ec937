"""Training stops before a step whose numbers are not finite, and keeps that step."""

import math
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import lightning
import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.losses import Loss, Noise, Step
from spd_lightning.losses.sharing import largest_over_processes, mean_over_processes, processes
from spd_lightning.methods.base import CHECKPOINT_KEY, KEPT_STEP, Decomposition
from spd_lightning.methods.divergence import Running, fault, gradient_fault, is_odd, keep, looks_finite
from spd_lightning.methods.sharding import gathered

STEPS_PER_LOOK = 50


class GuardedDecomposition(Decomposition):
    """A decomposition that refuses steps whose loss or gradient is not finite.

    A subclass notes each step as :class:`Running` in ``self.running`` and hands its loss to :meth:`check_finite`. Where
    several processes share a batch they come to the same decision together: what is looked at is the whole batch's.
    """

    running: Running

    def set_losses(self, losses: dict[str, Loss]) -> None:
        """Keep the terms of the objective.

        Args:
            losses: by the name they are logged under.

        Raises:
            UsageError: if none of them is trained on, or one is not made for this method.
        """
        self.losses = nn.ModuleDict(losses)
        if not any(loss.coefficient for loss in losses.values()):
            raise UsageError("losses: at least one term must have a coefficient above 0")
        for name, loss in losses.items():
            if not isinstance(self.model, loss.needs):
                raise UsageError(
                    f"losses: {name!r} is a {type(loss).__name__}, no part of {type(self).__name__}; remove it"
                )

    def terms(self) -> dict[str, Loss]:
        """The terms of the objective by name."""
        return dict(self.losses.items())  # type: ignore[arg-type]

    @abstractmethod
    def evaluated(self, batch: Any, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Each term on a batch, with gradient, by name; of several processes, each its own part."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step.

        Returns:
            ``loss``, the weighted sum, and ``terms``, each term unweighted and detached, by name.

        Raises:
            UsageError: if a term is not finite; the step is not taken, but kept in a file to repeat it from. (Where
                looking would make the host wait for the device, only every 50th step is looked at, and no checkpoint
                of such a state is written.)
        """
        micro_batch = batch_idx % self.trainer.accumulate_grad_batches
        # the last number was the process's; processes now share one stream, see Noise
        noise = Noise((self.seed, "train", self.global_step, micro_batch, 0), self.device)
        self.running = Running(batch, noise.key, self.global_step / max(self.trainer.max_steps - 1, 1))
        total, terms = self.with_whole_parameters(self.objective, batch, noise, self.running.progress)
        self.check_finite(total, terms)
        return {"loss": total, "terms": terms}

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
        """Clean pass and importances of one batch, for the callbacks that look on."""
        return {"step": self.step(batch, Noise((self.seed, "evaluation", batch_idx, 0), self.device))}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Step]:
        """The same as :meth:`validation_step`."""
        return self.validation_step(batch, batch_idx)

    @abstractmethod
    def step(self, batch: Any, noise: Noise) -> Step:
        """See a batch once, for all callbacks."""

    def check_finite(self, total: Tensor, terms: dict[str, Tensor]) -> None:
        """Check a step's loss.

        Args:
            total: the weighted sum of the terms.
            terms: each term, by name.

        Raises:
            UsageError: if the sum is not finite; the step is not taken, but kept in a file to repeat it from.
        """
        if not self._looks or math.isfinite(total.item()):
            return
        odd = [f"loss term {name!r} became {term.item()}" for name, term in terms.items() if not term.isfinite()]
        told = (odd or [f"the weighted sum of the losses became {total.item()}"])[0]
        self._diverged(f"{told} at step {self.global_step}; ", at_site=True)

    def on_after_backward(self) -> None:
        """Check the gradients before they reach the parameters.

        Raises:
            UsageError: if one is not finite; the step is not taken, but kept in a file to repeat it from.
        """
        alone = processes() == 1
        if not self._looks or not (alone or not self.trainer.fit_loop._should_accumulate()):
            return  # gradients of processes that still accumulate differ, and one must not stop without the others
        fine = looks_finite(self._trained)
        if self._shards:  # each has seen its part alone
            fine = not largest_over_processes(int(not fine), self.device)
        if fine:
            return
        found = gradient_fault(self.model)
        if found is not None:
            self._diverged(f"the gradient became non-finite at step {self.global_step}; {found}{self._by_term()}")

    @property
    def _looks(self) -> bool:
        """Whether this step is looked at; elsewhere than on the CPU every look makes the host wait."""
        return self.device.type == "cpu" or self.global_step % STEPS_PER_LOOK == 0

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        """What the optimiser moves; of sharded parameters the shards, whoever holds them whole meanwhile."""
        return self._trainable()

    def _trainable(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _by_term(self) -> str:
        """The first term that alone gives such a gradient, each taken again with the same noise."""
        for name, loss in self.terms().items():
            with torch.enable_grad(), self.whole_parameters():
                terms = self.evaluated(self.running.batch, Noise(self.running.key, self.device), self.running.progress)
                term = loss.coefficient_at(self.running.progress) * terms[name]
                if not term.requires_grad:
                    continue
                # not backward: processes that train together would begin to exchange gradients
                gradients = torch.autograd.grad(term, self._trainable(), allow_unused=True)
            odd = int(any(is_odd(gradient) for gradient in gradients if gradient is not None))
            if odd if processes() == 1 else largest_over_processes(odd, self.device):
                return f", from loss term {name!r}"
        return ""

    def _diverged(self, told: str, at_site: bool = False) -> NoReturn:
        """Stop; every process comes here at the same step, and rank zero keeps the step for all."""
        whole = self.running.of_all()
        if at_site:
            with self.whole_parameters():
                told += fault(self.model, whole.batch)
        stopped = f"{told}; training stopped before that step, earlier checkpoints are kept"
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise UsageError(f"{stopped}; try a lower model.optimization.lr or clipping")
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)  # passed around, so asked by all
        content = gathered(self._content(told, whole))
        kept = keep(folder, self.global_step, content) if self.trainer.is_global_zero else "process 0 keeps the step"
        raise UsageError(f"{stopped}; try a lower model.optimization.lr or clipping; {kept}")

    def _content(self, told: str, whole: Running) -> dict[str, Any]:
        """What the step can be repeated from, in the form of a checkpoint; the parameters are those before it."""
        return {
            "state_dict": self.state_dict(),
            "optimizer_states": [optimizer.state_dict() for optimizer in self.trainer.optimizers],
            "hyper_parameters": dict(self.hparams),
            "epoch": self.current_epoch,
            "pytorch-lightning_version": lightning.__version__,
            "global_step": self.global_step,
            CHECKPOINT_KEY: self.stamp(),
            KEPT_STEP: whole.content(told, self.seed),
        }
