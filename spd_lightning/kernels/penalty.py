"""The importance penalty's power sums."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from spd_lightning.kernels.dispatch import address, library_for, rows


def power_sums(upper: Tensor, p: float, eps: float, compiled: bool = True) -> Tensor:
    """``sum_c (g_c + eps) ** p`` per example (SPD paper, importance-minimality loss).

    Args:
        upper: upper-leaky importances ``[..., C]``.
        p: the exponent, above 0.
        eps: added inside the power.
        compiled: whether compiled kernels may be used.

    Returns:
        ``[...]``.
    """
    library = library_for(upper, compiled)
    if library is None:
        return (upper + eps).pow(p).sum(-1)
    sums: Tensor = _PowerSums.apply(upper, p, eps, library)  # type: ignore[no-untyped-call]
    return sums


class _PowerSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, upper: Tensor, p: float, eps: float, library: ctypes.CDLL) -> Tensor:
        g, sums = rows(upper), upper.new_empty(upper.shape[:-1])
        library.penalty_forward(*g.shape, address(g), p, eps, address(sums), torch.get_num_threads())
        ctx.save_for_backward(g)
        ctx.arguments, ctx.library, ctx.shape = (p, eps), library, upper.shape
        return sums

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = ctx.saved_tensors
        incoming, dg = grad_outputs[0].contiguous(), torch.empty_like(g)
        ctx.library.penalty_backward(
            *g.shape, address(g), address(incoming), *ctx.arguments, address(dg), torch.get_num_threads()
        )
        return dg.view(ctx.shape), None, None, None
