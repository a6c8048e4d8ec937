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
    """The compiled form; probabilities are computed again for the backward pass."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, library: ctypes.CDLL) -> Tensor:
        q, p = rows(prediction), rows(target)
        norms, found = q.new_empty(2, len(q), 2), q.new_empty(prediction.shape[:-1])
        pointers = address(q), address(p), address(norms[0]), address(norms[1])
        library.divergence_forward(*q.shape, *pointers, address(found), torch.get_num_threads())
        ctx.save_for_backward(q, p, norms)
        ctx.library, ctx.shape = library, prediction.shape
        return found

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, p, norms = ctx.saved_tensors
        incoming, dq = grad_outputs[0].contiguous(), torch.empty_like(q)
        pointers = address(q), address(p), address(norms[0]), address(norms[1]), address(incoming), address(dq)
        ctx.library.divergence_backward(*q.shape, *pointers, torch.get_num_threads())
        return dq.view(ctx.shape), None, None
