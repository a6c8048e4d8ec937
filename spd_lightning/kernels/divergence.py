"""Divergence of the masked network's predictions from the target's."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from spd_lightning.functional.distances import kl_rows
from spd_lightning.kernels.dispatch import address, library_for, rows


def divergences(prediction: Tensor, target: Tensor, compiled: bool = True) -> Tensor:
    """``KL(softmax(target) || softmax(prediction))`` of every row, without a table of either distribution.

    Args:
        prediction: logits ``[..., d]``.
        target: logits ``[..., d]``, without gradient.
        compiled: whether compiled kernels may be used.

    Returns:
        ``[...]`` in nats, see :func:`kl_rows`.
    """
    library = library_for(prediction, compiled)
    if library is None or target.dtype != prediction.dtype or target.requires_grad:
        return kl_rows(prediction, target)
    found: Tensor = _Divergences.apply(prediction, target, library)  # type: ignore[no-untyped-call]
    return found


class _Divergences(torch.autograd.Function):
    """The compiled form; what is kept for the backward pass is the gradient itself, and neither of the logits."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, library: ctypes.CDLL) -> Tensor:
        q, p = rows(prediction), rows(target)
        found, gradient = q.new_empty(prediction.shape[:-1]), torch.empty_like(q) if ctx.needs_input_grad[0] else None
        pointers = address(q), address(p), address(found), address(gradient)
        library.divergence(*q.shape, *pointers, torch.get_num_threads())
        ctx.save_for_backward(gradient)
        ctx.library, ctx.shape = library, prediction.shape
        return found

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        scaled = gradient * grad_outputs[0].reshape(-1, 1)
        return scaled.view(ctx.shape), None, None
