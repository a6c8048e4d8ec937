"""Decompositions whose scores are known by hand."""

import functools

import torch
from lightning.pytorch import LightningDataModule

from spd_lightning import GateMLP, PerSite, StochasticDecomposition, ToyModelOfSuperposition
from tests.methods.tiny import Batches

GAIN = 2.0
"""A hand-set gate's logit is this times the inner activation."""


@torch.no_grad()
def perfect_decomposition(columns, **options) -> StochasticDecomposition:
    """A target with ``W = diag(columns)``, one component per feature in ``linear1`` and ``linear2``, one idle.

    On inputs of at least 0 the importances of ``linear1`` are ``clamp(2 * x, 0, 1)``, where the column is 1.
    """
    n = len(columns)
    target = ToyModelOfSuperposition(n, n, zero_bias=True)
    target.linear1.weight.copy_(torch.diag(torch.tensor(columns)))
    settings = {"importance": functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[]))} | options
    module = StochasticDecomposition(target, {"linear*": n + 1}, **settings)
    module.setup("test")  # draws the start now, so that no trainer draws it over what follows
    for name, parts in module.model.components.items():
        parts.V.copy_(torch.eye(n, n + 1))
        parts.U.copy_(torch.cat([torch.diag(torch.tensor(columns)), torch.zeros(1, n)]))
        gate = module.model.importance_function.functions[name]
        gate.weights[0].fill_(GAIN)
        gate.biases[0].zero_()
    return module


class Unprobed(LightningDataModule):
    """Batches without probes."""

    def __init__(self, batches) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        return Batches(*self.batches)

    def val_dataloader(self):
        return Batches(*self.batches)

    def test_dataloader(self):
        return Batches(*self.batches)


class Rows(Unprobed):
    """Batches and one-hot probes."""

    def __init__(self, batches, n_features=3) -> None:
        super().__init__(batches)
        self.n_features = n_features

    def probes(self, magnitude=0.75):
        return magnitude * torch.eye(self.n_features)
