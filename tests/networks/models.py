"""Decompositions of the networks of the list."""

from functools import partial
from typing import Any

import torch

import spd_lightning.model.call as calls
from spd_lightning import DecomposedModel, GateMLP, PerSite
from spd_lightning.model import TargetCall
from tests.networks.zoo import ZOO, network


def call_of(name: str) -> TargetCall | None:
    """How a network is called, as its config would say."""
    described = ZOO[name].call
    return None if described is None else getattr(calls, described["class_path"])(**described["init_args"])


def decomposed(name: str, **options: Any) -> DecomposedModel:
    """A network of the list, taken apart."""
    settings = {"importance": partial(PerSite, function=partial(GateMLP, hidden=[3]))} | options
    return DecomposedModel(network(name), ZOO[name].sites, call=call_of(name), **settings)


@torch.no_grad()
def randomised(model: DecomposedModel, scale: float = 0.6) -> DecomposedModel:
    """The same with every trained number random, and logits on both sides of the sigmoids' corners."""
    generator = torch.Generator().manual_seed(17)
    for parameter in (*model.components.parameters(), *model.importance_function.parameters()):
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter))
    for function in model.importance_function.functions.values():
        bias = list(function.parameters())[-1]
        bias.copy_(torch.linspace(-0.7, 1.7, len(bias)).reshape(bias.shape))
    return model
