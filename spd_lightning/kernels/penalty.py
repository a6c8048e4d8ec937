"""The importance penalty's power sums."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spd_lightning.kernels.dispatch import address, library_for, rows


def power_sums(upper: Sequence[Tensor], p: float, eps: float, compiled: bool = True) -> Tensor:
    """``sum_l sum_c (g_lc + eps) ** p`` per example (SPD paper, importance-minimality loss).

    Args:
        upper: upper-leaky importances ``[..., C]`` of every site, with the same leading dimensions.
        p: the exponent, above 0.
        eps: added inside the power.
        compiled: whether compiled kernels may be used.

    Returns:
        ``[...]``.
    """
    library = library_for(upper[0], compiled)
    if library is None:
        sums = [(g + eps).pow(p).sum(-1) for g in upper]
        return sum(sums[1:], sums[0])
    total: Tensor = _PowerSums.apply(p, eps, library, *upper)  # type: ignore[no-untyped-call]
    return total


class _PowerSums(torch.autograd.Function):
    """The compiled form, one node for all sites."""

    @staticmethod
    def forward(ctx: Any, p: float, eps: float, library: ctypes.CDLL, *upper: Tensor) -> Tensor:
        sites, sums = [rows(g) for g in upper], upper[0].new_zeros(upper[0].shape[:-1])
        for g in sites:
            library.penalty_forward(*g.shape, address(g), p, eps, address(sums), torch.get_num_threads())
        ctx.save_for_backward(*sites)
        ctx.p, ctx.eps, ctx.library, ctx.leading = p, eps, library, upper[0].shape[:-1]
        return sums

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        incoming, gradients = grad_outputs[0].contiguous(), []
        for g in ctx.saved_tensors:
            dg, numbers = torch.empty_like(g), (ctx.p, ctx.eps)
            pointers = address(g), address(incoming)
            ctx.library.penalty_backward(*g.shape, *pointers, *numbers, address(dg), torch.get_num_threads())
            gradients.append(dg.view(*ctx.leading, g.shape[1]))
        return None, None, None, *gradients
