"""Leaky hard sigmoids: the map from a gate's logit to a causal importance (SPD paper, section 2)."""

from typing import Any, Literal

import torch
from torch import Tensor

SLOPE = 0.01
"""Slope of the leaks, the value of the SPD paper."""

Leak = Literal["one_sided", "linear"]


class _OneSidedLeak(torch.autograd.Function):
    """Clamp to [0, 1]; below 0 only gradients that would raise the logit leak through."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.slope = slope
        return logits.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        (grad,) = grad_outputs
        leaked = ctx.slope * grad.clamp(max=0.0)
        inside = torch.where(logits <= 1, grad, torch.zeros_like(grad))
        return torch.where(logits <= 0, leaked, inside), None


def lower_leaky(logits: Tensor, leak: Leak = "one_sided", slope: float = SLOPE) -> Tensor:
    """Causal importance used for masks: saturates at 1, leaks gradient below 0.

    ``"linear"`` is the paper's: ``slope * z`` for ``z <= 0`` (slightly negative), ``z`` up to 1, then 1.
    ``"one_sided"`` is the later library's: ``clamp(z, 0, 1)`` whose gradient at ``z <= 0`` is
    ``slope * G`` if the incoming gradient ``G`` is negative (descent would raise ``z``), otherwise 0.
    In both, ``z = 0`` belongs to the leak and ``z = 1`` passes the gradient on.

    Args:
        logits: pre-sigmoid values ``z``, any shape.
        leak: which version.
        slope: slope of the leak.

    Returns:
        Importances, the shape of ``logits``.

    Raises:
        ValueError: if ``leak`` is neither version.
    """
    if leak == "one_sided":
        leaked: Tensor = _OneSidedLeak.apply(logits, slope)  # type: ignore[no-untyped-call]
        return leaked
    if leak == "linear":
        return torch.where(logits <= 0, slope * logits, logits.clamp(max=1.0))
    raise ValueError(f"leak must be 'one_sided' or 'linear', got {leak!r}")


def upper_leaky(logits: Tensor, slope: float = SLOPE) -> Tensor:
    """Causal importance used by the importance penalty: 0 below 0, leaks above 1.

    ``0`` for ``z <= 0``, ``z`` up to 1, then ``1 + slope * (z - 1)``, so that a saturated component can
    still be pushed down (SPD paper, section 2).

    Args:
        logits: pre-sigmoid values ``z``, any shape.
        slope: slope above 1.

    Returns:
        Importances, the shape of ``logits``; at least 0.
    """
    return torch.where(logits > 1, 1 + slope * (logits - 1), logits.relu())
