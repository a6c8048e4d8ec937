"""Small attributed models whose numbers are all random."""

import torch

from spd_lightning import AttributedModel, ResidualMLP, ToyModelOfSuperposition


def randomised(model: AttributedModel) -> AttributedModel:
    """The model in double precision, no parameter what it starts as."""
    model.to(torch.float64)
    with torch.no_grad():
        for parameter in model.components.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, dtype=torch.float64))
    return model


def toy(**options) -> AttributedModel:
    """On a toy model with a bias and a hidden layer of two."""
    torch.manual_seed(1)
    settings = {"sites": ["linear*"], "n_components": 4} | options
    return randomised(AttributedModel(ToyModelOfSuperposition(5, 2), **settings))


def residual(n_layers: int = 2, **options) -> AttributedModel:
    """On a residual MLP."""
    torch.manual_seed(1)
    target = ResidualMLP(n_features=4, n_layers=n_layers, d_mlp=3, d_embed=6)
    return randomised(AttributedModel(target, ["layers.*.mlp_*"], **({"n_components": 5} | options)))


def sites_of(model: AttributedModel):
    """As ``tests.reference`` takes them."""
    return [(parts.site.weight(), parts.V, parts.U) for parts in model.components.values()]


def toy_network(model: AttributedModel):
    """The toy model as a function of its weights and one example."""
    return lambda weights, x: torch.relu(weights[1] @ (weights[0] @ x) + model.target.linear2.bias)


def residual_network(model: AttributedModel):
    """The residual MLP, the same way."""
    embedding = model.target.embedding

    def network(weights, x):
        stream = x @ embedding
        for reading, writing in zip(weights[::2], weights[1::2], strict=True):
            stream = stream + writing @ torch.relu(reading @ stream)
        return embedding @ stream

    return network
