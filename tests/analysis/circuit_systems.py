"""Decompositions whose circuits are known."""

import functools

import torch
from torch import Tensor, nn

from spd_lightning import DecomposedModel, GateMLP, PerSite, PositionalCall
from spd_lightning.functional import induction_sequences, keyed_generator
from spd_lightning.model import ComponentModel
from spd_lightning.targets import HandMadeInduction

GAIN = 2.0
IMPORTANCE = functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[]))


@torch.no_grad()
def as_read(model: DecomposedModel, gain: float = GAIN) -> DecomposedModel:
    """Importances that are inner activations, times a gain, as far as [0, 1]."""
    for function in model.importance_function.functions.values():
        function.weights[0].fill_(gain)
        function.biases[0].zero_()
    return model


@torch.no_grad()
def known_induction(extra: int = 1) -> DecomposedModel:
    """Every known term of the induction transformer as a component, and some idle ones."""
    target = HandMadeInduction()
    known = target.known_mechanisms()
    counts = {name: one.count + extra for name, one in known.items()}
    model = as_read(DecomposedModel(target, counts, PositionalCall(labels=1), IMPORTANCE))
    for name, parts in model.components.items():
        terms = known[name].terms
        parts.V.copy_(torch.cat([terms.read.T, torch.zeros(len(parts.V), extra)], 1))
        parts.U.copy_(torch.cat([terms.write, torch.zeros(extra, parts.U.shape[1])]))
    return model


def sequences(rows: int) -> tuple[Tensor, Tensor]:
    """Tokens and answers for it."""
    return induction_sequences(rows, 8, 10, keyed_generator("circuit tests"))


class Decoy(nn.Module):
    """Reads one signal and many inputs whose effects cancel each other; two classes."""

    def __init__(self, decoys: int = 40, effect: float = 0.4) -> None:
        super().__init__()
        self.read = nn.Linear(1 + decoys, 1, bias=False)
        signs = torch.tensor([1.0, -1.0]).repeat(decoys // 2)
        with torch.no_grad():
            self.read.weight.copy_(torch.cat([torch.tensor([2.0]), effect * signs])[None])

    def forward(self, x: Tensor) -> Tensor:
        signal = self.read(x)
        return torch.cat([signal, -signal], -1)


@torch.no_grad()
def known_decoy() -> tuple[DecomposedModel, Tensor]:
    """The network with a component for each input, all of them thought important, and its one example."""
    target = Decoy()
    inputs = target.read.in_features
    model = as_read(DecomposedModel(target, {"read": inputs}, importance=IMPORTANCE, use_delta=False))
    model.components["read"].V.copy_(torch.eye(inputs))
    model.components["read"].U.copy_(target.read.weight.T)
    return model, torch.ones(1, inputs)


def nodes_of(model: ComponentModel, circuit) -> set[tuple[str, int, int, int]]:
    """Nodes of a circuit as (site call, row, position, component)."""
    calls, nodes = list(circuit.importances), circuit.nodes
    columns = (column.tolist() for column in nodes[:4])
    return {(calls[call], row, position, component) for call, row, position, component in zip(*columns, strict=True)}
