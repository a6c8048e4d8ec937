"""Functions of the vector that reaches a site."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn

from spd_lightning.model.importance.base import RELU_GAIN, SiteFunction, checked_widths, draw


class SharedMLP(SiteFunction):
    """One MLP per site, from the site's features to all its logits (later SPD library).

    ``V`` receives no gradient through it. Weights have standard deviation ``sqrt(2/in)``, the head's
    ``1/sqrt(in)``; biases start at 0; the nonlinearity is the exact GELU.

    Args:
        n_components: ``C``.
        d_in: width of the features.
        hidden: widths of the hidden layers; empty for a linear map.
    """

    reads_inner = False

    def __init__(self, n_components: int, d_in: int, hidden: Sequence[int] = (256,)) -> None:
        super().__init__(n_components, d_in)
        self.hidden = checked_widths(hidden)
        self.layers = nn.ModuleList([nn.Linear(*size) for size in pairwise([d_in, *self.hidden, n_components])])

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Draw new weights, zero the biases."""
        for index, module in enumerate(self.layers):
            layer = cast(nn.Linear, module)
            gain = 1.0 if index == len(self.hidden) else RELU_GAIN
            draw(layer.weight, gain / layer.in_features**0.5, generator)
            layer.bias.zero_()

    def forward(self, inner: Tensor | None, features: Tensor | None) -> Tensor:
        """Logits ``[..., C]`` from features ``[..., d_in]``."""
        assert features is not None
        return self._read(features)

    def _read(self, state: Tensor) -> Tensor:
        *body, head = self.layers
        for layer in body:
            state = F.gelu(layer(state))
        return cast(Tensor, head(state))


class InnerMLP(SharedMLP):
    """One MLP per site, from all its inner activations and their absolute values to all its logits (ours).

    What a component answers to may depend on the others: two features that one component reads are told apart by
    the components that read one of them. Absolute values let both signs of a feature share a component without having
    to be learned one by one. Starts as :class:`SharedMLP` does; inner activations need no scaling to their site,
    whatever the scale of its input.

    Args:
        n_components: ``C``.
        d_in: width of the features (not read by this function).
        hidden: widths of the hidden layers; empty for a linear map.
    """

    reads_inner = True
    reads_features = False

    def __init__(self, n_components: int, d_in: int, hidden: Sequence[int] = (64,)) -> None:
        super().__init__(n_components, 2 * n_components, hidden)

    def forward(self, inner: Tensor | None, features: Tensor | None) -> Tensor:
        """Logits ``[..., C]`` from inner activations ``[..., C]``."""
        assert inner is not None
        return self._read(torch.cat([inner, inner.abs()], dim=-1))


class VectorMLP(SiteFunction):
    """One independent MLP per component, reading the site's features (later SPD library, ``vector_mlp``).

    ``V`` receives no gradient through it. Weights are ``[C, in, out]`` with standard deviation ``sqrt(2/in)``, the
    head's ``1/sqrt(in)``; biases start at 0; the nonlinearity is the exact GELU.

    Args:
        n_components: ``C``.
        d_in: width of the features.
        hidden: widths of the hidden layers; empty for a linear map.
    """

    reads_inner = False

    def __init__(self, n_components: int, d_in: int, hidden: Sequence[int] = (16,)) -> None:
        super().__init__(n_components, d_in)
        self.hidden = checked_widths(hidden)
        sizes = list(pairwise([d_in, *self.hidden, 1]))
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(n_components, *size)) for size in sizes])
        self.biases = nn.ParameterList([nn.Parameter(torch.empty(n_components, size[1])) for size in sizes])

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Draw new weights, zero the biases."""
        for index, weight in enumerate(self.weights):
            gain = 1.0 if index == len(self.hidden) else RELU_GAIN
            draw(weight, gain / weight.shape[1] ** 0.5, generator)
        for bias in self.biases:
            bias.zero_()

    def forward(self, inner: Tensor | None, features: Tensor | None) -> Tensor:
        """Logits ``[..., C]`` from features ``[..., d_in]``."""
        assert features is not None
        state = torch.einsum("...i,cio->...co", features, self.weights[0]) + self.biases[0]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            state = torch.einsum("...ci,cio->...co", F.gelu(state), weight) + bias
        logits: Tensor = state[..., 0]
        return logits
