"""A scalar function per component of its inner activation."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.model.importance.base import RELU_GAIN, SiteFunction, checked_widths, draw


class GateMLP(SiteFunction):
    """One independent scalar-to-scalar MLP per component, reading the inner activation (SPD paper).

    Weights are ``[C, in, out]`` with standard deviation ``sqrt(2/in)``, the head's ``1/sqrt(in)``; biases
    start at 0; the nonlinearity is the exact GELU. Without hidden layers the gate is affine. An even gate's head starts
    with absolute values.

    Args:
        n_components: ``C``.
        d_in: width of the features (not read by this gate).
        hidden: widths of the hidden layers. ``[16]`` is the paper's for all but its largest model.
        even: whether ``h`` and ``-h`` get the same logit (ours): the first hidden layer reads both, with the same
            parameters. A component is then important for how strongly it is read, and no two can share a direction
            by its sign.

    Raises:
        UsageError: if a gate without hidden layers shall be even.
    """

    reads_features = False

    def __init__(self, n_components: int, d_in: int, hidden: Sequence[int] = (16,), even: bool = False) -> None:
        super().__init__(n_components, d_in)
        self.hidden, self.even = checked_widths(hidden), even
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
            draw(weight, gain / weight.shape[1] ** 0.5, generator)
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

    def tabulated(self) -> bool:
        """Whether a table of the layers' values says all that :meth:`forward` does."""
        return bool(self.hidden) and type(self).forward is GateMLP.forward and type(self).layers is GateMLP.layers

    def forward(self, inner: Tensor | None, features: Tensor | None) -> Tensor:
        """Logits ``[..., C]`` from inner activations ``[..., C]``."""
        assert inner is not None
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
