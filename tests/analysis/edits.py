"""Edits of networks of the list, and decompositions whose mechanisms are known by hand."""

import functools

import torch
from torch import Tensor

from spd_lightning import DecomposedModel, GateMLP, PerSite, ResidualMLP
from spd_lightning.analysis import Edit
from spd_lightning.analysis.editing import alike
from spd_lightning.model import ComponentModel


def removals(model: ComponentModel, numbers=(0, 2)) -> tuple[list[Edit], dict[str, list[int]]]:
    """The same components of every site, as edits and as what the masked network is without."""
    sites = {alike(model, name)[0] for name in model.site_names}
    edits = [Edit(name, number) for name in model.site_names if name in sites for number in numbers]
    return edits, {name: list(numbers) for name in model.site_names}


@torch.no_grad()
def added_up(model: ComponentModel, site: str, changed: dict[int, Tensor]) -> Tensor:
    """A site's matrix, entry by entry, with other write vectors for some components, ``[d_out, d_in]``."""
    parts = model.components[site]
    matrix = parts.site.weight().clone()
    for number, write in changed.items():
        for row in range(matrix.shape[0]):
            for column in range(matrix.shape[1]):
                matrix[row, column] += (write[row] - parts.U[number, row]) * parts.V[column, number]
    return matrix


@torch.no_grad()
def known_residual_mlp(features: int = 4, layers: int = 2) -> DecomposedModel:
    """A residual MLP with a neuron per feature and layer; component ``k`` of every site is feature ``k``'s."""
    network = ResidualMLP(features, layers, d_mlp=features, d_embed=7)
    generator = torch.Generator().manual_seed(2)
    network.embedding.copy_(torch.linalg.qr(torch.randn(7, features, generator=generator))[0].T)
    shares = torch.linspace(0.2, 0.8, features)
    for number, layer in enumerate(network.layers):
        layer.mlp_in.weight.copy_(network.embedding)
        layer.mlp_out.weight.copy_(network.embedding.T * (shares if number else 1 - shares))
    importance = functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[]))
    model = DecomposedModel(network, {"layers.*.mlp_*": features + 1}, importance=importance)
    for parts in model.components.values():
        weight = parts.site.weight()
        inward = parts.site.d_in == 7
        unit = torch.eye(features)
        parts.V.copy_(torch.cat([weight.T if inward else unit, torch.zeros(len(parts.V), 1)], 1))
        parts.U.copy_(torch.cat([unit if inward else weight.T, torch.zeros(1, parts.U.shape[1])]))
    for function in model.importance_function.functions.values():
        function.weights[0].fill_(2.0)
        function.biases[0].zero_()
    return model
