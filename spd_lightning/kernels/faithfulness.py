"""Faithfulness of all sites at once, with its gradient written down."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Explained(NamedTuple):
    """A site's weight ``[d_out, d_in]`` and the components that explain it, ``V [d_in, C]`` and ``U [C, d_out]``."""

    weight: Tensor
    V: Tensor
    U: Tensor


def mean_squared_rest(sites: Sequence[Explained]) -> Tensor:
    """Mean squared entry of ``W - (V U)ᵀ`` over all sites (SPD paper's code), as one node of the graph.

    The same number as :func:`spd_lightning.functional.faithfulness`; its gradient is ``-2 Δ`` times the other factor,
    so that nothing between the product and the sum is kept or differentiated.

    Args:
        sites: at least one.

    Returns:
        A scalar, with gradient to every ``V`` and ``U``.
    """
    factors = [factor for site in sites for factor in (site.V, site.U)]
    mean: Tensor = _MeanSquaredRest.apply([site.weight.T for site in sites], *factors)  # type: ignore[no-untyped-call]
    return mean


class _MeanSquaredRest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Sequence[Tensor], *factors: Tensor) -> Tensor:
        pairs = list(zip(factors[::2], factors[1::2], strict=True))
        with torch.autocast(weights[0].device.type, enabled=False):  # a small difference of large numbers
            rests = [torch.addmm(weight, V, U, alpha=-1) for weight, (V, U) in zip(weights, pairs, strict=True)]
        ctx.save_for_backward(*rests, *factors)
        ctx.entries = entries = sum(rest.numel() for rest in rests)
        squares = [torch.dot(rest.flatten(), rest.flatten()) for rest in rests]
        total: Tensor = torch.stack(squares).sum()
        return total / entries

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 3
        rests, factors = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        scale, gradients = grad_outputs[0] * (-2 / ctx.entries), []
        for rest, V, U in zip(rests, factors[::2], factors[1::2], strict=True):
            scaled = rest * scale
            gradients += [scaled @ U.T, V.T @ scaled]
        return None, *gradients
