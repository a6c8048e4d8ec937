from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spd_lightning.losses import Noise, Step
from spd_lightning.model import DecomposedModel
from spd_lightning.targets import ToyModelOfSuperposition


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_model() -> Callable[..., DecomposedModel]:
    """Builds a decomposed TMS 5-2 in float64 whose parameters are all random, so that no zero can hide an error."""

    def make(sites=None, *, n_identity_layers=0, dtype=torch.float64, **options) -> DecomposedModel:
        torch.manual_seed(1)
        target = ToyModelOfSuperposition(5, 2, n_identity_layers=n_identity_layers)
        model = DecomposedModel(target, sites or {"linear1": 4, "linear2": 3}, **options).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(0.7 * torch.randn(parameter.shape, dtype=dtype))
            for twin in model.twins:
                twin.mirror()
            for function in model.importance_function.functions.values():  # logits below 0, between and above 1
                bias = list(function.parameters())[-1]
                bias.copy_(torch.linspace(-0.7, 1.7, len(bias)).reshape(bias.shape))
        return model

    return make


@pytest.fixture(params=[(4,), (2, 3)], ids=["batch", "batch-position"])
def x(request) -> Tensor:
    """Inputs ``[..., 5]``, with one leading dimension and with two."""
    generator = torch.Generator().manual_seed(2)
    return torch.rand(*request.param, 5, generator=generator, dtype=torch.float64)


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """Builds a step of a model on a batch."""

    def make(model: DecomposedModel, x: Tensor, key=("test", 0), progress: float = 0.0) -> Step:
        return Step.of(model, x, Noise(key, x.device), progress)

    return make
