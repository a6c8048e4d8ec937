"""Functions that predict causal importances: one logit per component."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn

from spd_lightning.errors import UsageError, check_list, check_whole

RELU_GAIN = 2**0.5


class CIFunction(nn.Module, ABC):
    """Base of causal-importance functions of one site.

    A subclass takes the number of components and the width of the site's input first, hyper-parameters
    after, keeps the latter as attributes of the same name, and implements :meth:`forward` and :meth:`reset`.

    Args:
        n_components: ``C``.
        d_in: width of the site's input.
    """

    def __init__(self, n_components: int, d_in: int) -> None:
        super().__init__()
        self.n_components = n_components
        self.d_in = d_in

    @abstractmethod
    def forward(self, inner: Tensor, site_input: Tensor) -> Tensor:
        """Predict logits.

        Args:
            inner: inner activations ``h = a V``, ``[..., C]``, with gradient to ``V``.
            site_input: the site's clean input ``a``, ``[..., d_in]``, without gradient.

        Returns:
            Logits ``[..., C]``.
        """

    @abstractmethod
    def reset(self, generator: Generator) -> None:
        """Draw new parameters from a generator."""


def _check_hidden(hidden: Sequence[int]) -> list[int]:
    check_list("hidden", hidden)
    for width in hidden:
        check_whole("hidden: every width", width)
    if any(width < 1 for width in hidden):
        raise UsageError(f"hidden: every width must be at least 1, got {list(hidden)}")
    return list(hidden)


def _draw(parameter: Tensor, std: float, generator: Generator) -> None:
    noise = torch.randn(parameter.shape, generator=generator, device=generator.device)
    parameter.copy_(noise.to(parameter) * std)


class GateMLP(CIFunction):
    """One independent scalar-to-scalar MLP per component, reading the inner activation (SPD paper).

    Weights are ``[C, in, out]`` with standard deviation ``sqrt(2/in)``, the head's ``1/sqrt(in)``; biases
    start at 0; the nonlinearity is the exact GELU. Without hidden layers the gate is affine. An even gate's head starts
    with absolute values.

    Args:
        n_components: ``C``.
        d_in: width of the site's input (not read by this gate).
        hidden: widths of the hidden layers. ``[16]`` is the paper's for all but its largest model.
        even: whether ``h`` and ``-h`` get the same logit (ours): the first hidden layer reads both, with the same
            parameters. A component is then important for how strongly it is read, and no two can share a direction
            by its sign.

    Raises:
        UsageError: if a gate without hidden layers shall be even.
    """

    def __init__(self, n_components: int, d_in: int, hidden: Sequence[int] = (16,), even: bool = False) -> None:
        super().__init__(n_components, d_in)
        self.hidden, self.even = _check_hidden(hidden), even
        if even and not self.hidden:
            raise UsageError("even: a gate without hidden layers is affine, it cannot be even; give hidden a width")
        sizes = list(pairwise([1, *self.hidden, 1]))
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(n_components, *size)) for size in sizes])
        self.biases = nn.ParameterList([nn.Parameter(torch.empty(n_components, size[1])) for size in sizes])

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Draw new weights, zero the biases."""
        for index, weight in enumerate(self.weights):
            gain = 1.0 if index == len(self.hidden) else RELU_GAIN
            _draw(weight, gain / weight.shape[1] ** 0.5, generator)
        if self.even:  # else half the gates would start by closing the more strongly their component is read
            self.weights[-1].abs_()
        for bias in self.biases:
            bias.zero_()

    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights ``[C, in, out]`` and biases ``[C, out]`` of the MLP that is evaluated.

        An even gate's first hidden layer is twice as wide as its parameters: it reads ``h`` and ``-h``.
        """
        weights: list[Tensor] = list(self.weights)
        biases: list[Tensor] = list(self.biases)
        if self.even:
            weights[0] = torch.cat([weights[0], -weights[0]], dim=2)
            biases[0] = torch.cat([biases[0], biases[0]], dim=1)
            weights[1] = torch.cat([weights[1], weights[1]], dim=1) * 0.5**0.5  # keeps the spread of the logits
        return weights, biases

    def forward(self, inner: Tensor, site_input: Tensor) -> Tensor:
        """Logits ``[..., C]`` from inner activations ``[..., C]``."""
        weights, biases = self.layers()
        *body, head = weights
        *body_biases, head_bias = biases
        if not body:
            return inner * head[:, 0, 0] + head_bias[:, 0]
        state = F.gelu(inner[..., None] * body[0][:, 0] + body_biases[0])
        for weight, bias in zip(body[1:], body_biases[1:], strict=True):
            state = F.gelu(torch.einsum("...ci,cio->...co", state, weight) + bias)
        # a product and a sum: einsum would permute the largest tensor of the step for one output
        return (state * head[..., 0]).sum(-1) + head_bias[:, 0]


class SharedMLP(CIFunction):
    """One MLP per site, from the site's input vector to all its logits (later SPD library).

    ``V`` receives no gradient through it. Weights have standard deviation ``sqrt(2/in)``, the head's
    ``1/sqrt(in)``; biases start at 0; the nonlinearity is the exact GELU.

    Args:
        n_components: ``C``.
        d_in: width of the site's input.
        hidden: widths of the hidden layers; empty for a linear map.
    """

    def __init__(self, n_components: int, d_in: int, hidden: Sequence[int] = (256,)) -> None:
        super().__init__(n_components, d_in)
        self.hidden = _check_hidden(hidden)
        self.layers = nn.ModuleList([nn.Linear(*size) for size in pairwise([d_in, *self.hidden, n_components])])

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Draw new weights, zero the biases."""
        for index, module in enumerate(self.layers):
            layer = cast(nn.Linear, module)
            gain = 1.0 if index == len(self.hidden) else RELU_GAIN
            _draw(layer.weight, gain / layer.in_features**0.5, generator)
            layer.bias.zero_()

    def forward(self, inner: Tensor, site_input: Tensor) -> Tensor:
        """Logits ``[..., C]`` from site inputs ``[..., d_in]``."""
        *body, head = self.layers
        state = site_input
        for layer in body:
            state = F.gelu(layer(state))
        return cast(Tensor, head(state))
