"""A gate's value, slope and curvature at once, by forward differentiation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Jet = tuple[Tensor, Tensor, Tensor]
"""A function's value and its first two derivatives with respect to the gate's input."""


def gate_derivatives(weights: Sequence[Tensor], biases: Sequence[Tensor], at: Tensor) -> Jet:
    """Value, slope and curvature of per-component gates.

    Args:
        weights: ``[C, in, out]`` per layer; the first reads one number, the last writes one.
        biases: ``[C, out]`` per layer.
        at: points ``[n, C]``.

    Returns:
        Three tensors ``[n, C]``, with gradient to weights and biases.
    """
    jet: Jet = at[..., None], torch.ones_like(at)[..., None], torch.zeros_like(at)[..., None]
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        value, slope, curvature = (torch.einsum("nci,cio->nco", part, weight) for part in jet)
        jet = value + bias, slope, curvature
        if index < len(weights) - 1:
            jet = _gelu(jet)
    return jet[0][..., 0], jet[1][..., 0], jet[2][..., 0]


def _gelu(jet: Jet) -> Jet:
    """The chain rule through the exact GELU ``x Φ(x)``, whose derivatives are ``Φ + x φ`` and ``(2 - x²) φ``."""
    x, slope, curvature = jet
    density = torch.exp(-0.5 * x.square()) * 0.3989422804014327
    first = torch.special.ndtr(x) + x * density
    second = (2 - x.square()) * density
    return F.gelu(x), first * slope, second * slope.square() + first * curvature
