"""Both leaky sigmoids at once, of logits that are there already."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from spd_lightning.functional.sigmoids import Leak, lower_leaky, upper_leaky
from spd_lightning.kernels.dispatch import address, library_for


def leaky_sigmoids(logits: Tensor, leak: Leak, compiled: bool = True) -> tuple[Tensor, Tensor]:
    """Lower and upper leaky sigmoid of the same logits (SPD paper, section 2).

    Args:
        logits: ``[..., C]``.
        leak: version of the lower one.
        compiled: whether compiled kernels may be used.

    Returns:
        Two tensors ``[..., C]``, see :func:`lower_leaky` and :func:`upper_leaky`.
    """
    library = library_for(logits, compiled)
    if library is None:
        return lower_leaky(logits, leak), upper_leaky(logits)
    both: tuple[Tensor, Tensor] = _LeakySigmoids.apply(logits, int(leak == "linear"), library)  # type: ignore[no-untyped-call]
    return both


class _LeakySigmoids(torch.autograd.Function):
    """The compiled form."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, linear_leak: int, library: ctypes.CDLL) -> tuple[Tensor, Tensor]:
        z = logits.contiguous()
        lower, upper = torch.empty_like(z), torch.empty_like(z)
        pointers = address(lower), address(upper)
        library.sigmoids_forward(z.numel(), address(z), linear_leak, *pointers, torch.get_num_threads())
        ctx.save_for_backward(z)
        ctx.linear_leak, ctx.library = linear_leak, library
        ctx.set_materialize_grads(False)
        return lower, upper

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        incoming = [None if grad is None else grad.contiguous() for grad in grad_outputs]
        dz = torch.empty_like(z)
        pointers = *map(address, incoming), address(dz)
        ctx.library.sigmoids_backward(z.numel(), address(z), ctx.linear_leak, *pointers, torch.get_num_threads())
        return dz, None, None
