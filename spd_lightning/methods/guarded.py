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
from spd_lightning.losses import Loss, Noise
from spd_lightning.losses.sharing import largest_over_processes, processes
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

    @abstractmethod
    def terms(self) -> dict[str, Loss]:
        """The terms of the objective by name."""

    @abstractmethod
    def evaluated(self, batch: Any, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Each term on a batch, with gradient, by name; of several processes, each its own part."""

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
