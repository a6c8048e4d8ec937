"""Training steps without a trainer: batch, objective, backward pass, optimiser, schedule."""

import resource
import time
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmarks import systems
from benchmarks.reference_step import ReferenceStep
from spd_lightning import StochasticDecomposition
from spd_lightning.functional import WeightedBatch
from spd_lightning.losses import Noise
from spd_lightning.model import FastForm

Kind = Literal["reference", "plain", "uncompiled", "fast"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The papers' step as it is written; the package's readable form; its fast form without and with compiled kernels."""

SCHEDULE_LENGTH = 100_000
"""Longer than any measurement, so that the learning rate never reaches 0."""


class Loop:
    """Consecutive training steps of one system in one form.

    The reference and the plain step take whole batches, the fast ones merged batches, as they are by default.

    Args:
        config: see :func:`benchmarks.systems.build`.
        kind: form of the step.
        device: where it runs.
        merged: whether batches merge empty examples, instead of the form's default.
    """

    def __init__(self, config: systems.Config, kind: Kind, device: str = "cpu", merged: bool | None = None) -> None:
        fast = kind in ("fast", "uncompiled")
        system = systems.build(config, "fast" if fast else "plain", kind == "fast", merged)
        self.module, self.data, self.kind, self.device = system.module.to(device), system.data, kind, device
        self.optimizer, self.scheduler = self.module.optimization.build(self.module.model, SCHEDULE_LENGTH, fast)
        self._objective = self._reference() if kind == "reference" else self._packaged()
        self.taken, self._own_s, self._system_s = 0, 0.0, 0.0
        if fast:
            self.check_tables()

    def step(self) -> Tensor:
        """Take one step; returns the loss it was taken on."""
        x, weights = self.batch(self.taken)
        loss = self._objective(x, weights)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.scheduler.step()
        self.taken += 1
        return loss.detach()

    def timed_step(self) -> float:
        """Take one step; returns its wall time in seconds."""
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        self.step()
        if self.device != "cpu":
            torch.cuda.synchronize()
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        self._own_s += after.ru_utime - before.ru_utime
        self._system_s += after.ru_stime - before.ru_stime
        return seconds

    @property
    def system_share(self) -> float:
        """Share of the processor time of all timed steps that the operating system took."""
        return self._system_s / max(self._own_s + self._system_s, 1e-9)

    def batch(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Examples and, where empty ones are merged, their weights."""
        batch = self.data.train_batch(index)
        if isinstance(batch, WeightedBatch):
            return batch.x.to(self.device), batch.weights.to(self.device)
        return batch.to(self.device), None

    def check_tables(self) -> None:
        """Choose as many table nodes as the gates need now, as training does at its start and every 500 steps."""
        tables = self.module.tables
        tables.check(FastForm(self.module.model, self.batch(0)[0], tables.options), at_start=False)

    def _reference(self) -> Callable[[Tensor, Tensor | None], Tensor]:
        reference = ReferenceStep(self.module.model, systems.formula(self.module))
        return lambda x, weights: reference(x, weights)[0]

    def _packaged(self) -> Callable[[Tensor, Tensor | None], Tensor]:
        def objective(x: Tensor, weights: Tensor | None) -> Tensor:
            noise = noise_of(self.module, self.taken, torch.device(self.device))
            batch = x if weights is None else WeightedBatch(x, weights)
            return self.module.objective(batch, noise, self.taken / SCHEDULE_LENGTH)[0]

        return objective


def noise_of(module: StochasticDecomposition, index: int, device: torch.device) -> Noise:
    """The streams of step ``index``, keyed as training keys them."""
    return Noise((module.seed, "train", index, 0, 0), device)
