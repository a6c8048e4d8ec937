"""Masked inner activations whose noise is drawn where it is used, and never stored."""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from spd_lightning.functional.masks import mask_from_source, random_source
from spd_lightning.functional.sampling import RowShare
from spd_lightning.kernels.dispatch import address, library_for, rows


def row_uniforms(shape: torch.Size, seed: int, like: Tensor, compiled: bool, share: RowShare | None = None) -> Tensor:
    """The uniform numbers in [0, 1) that :func:`masked_inner` draws under a seed.

    Compiled: Philox 4x32-10, numbered by entry, so that neither threads nor vector width matter.
    Otherwise torch's generator on the tensor's device. The two streams differ.

    Args:
        shape: ``[..., C]``.
        seed: 63 bits.
        like: a tensor of the wanted device and type.
        compiled: whether compiled kernels may be used.
        share: which rows of a batch the draw is for; a row's numbers do not depend on the split.

    Returns:
        Sources of that shape.
    """
    library = library_for(like, compiled)
    if library is None:
        generator = torch.Generator(device=like.device).manual_seed(seed)
        return random_source("uniform", shape, generator, like.dtype, share)
    out, before = torch.empty(shape, dtype=like.dtype), _entries_before(shape, share)
    library.uniform_rows(out.numel() // shape[-1], shape[-1], seed, before, address(out), torch.get_num_threads())
    return out


def _entries_before(shape: torch.Size, share: RowShare | None) -> int:
    """Entries of the whole batch's matrix that lie before the rows held here."""
    return 0 if share is None else share.first * math.prod(shape[1:])


def masked_inner(
    inner: Tensor,
    importance: Tensor,
    shift: Tensor | None,
    seed: int,
    compiled: bool = True,
    share: RowShare | None = None,
) -> Tensor:
    """``h (g + (1 - g) r - shift)`` with fresh uniform ``r`` (SPD paper's stochastic mask; the shift is ours).

    With the delta component's mask ``s`` as shift, ``y U + s (a Wᵀ)`` is the masked sum of the components plus
    ``s`` times what they leave unexplained: the difference ``W - (V U)ᵀ`` needs no product of its own.

    Args:
        inner: inner activations ``h``, ``[..., C]``.
        importance: lower-leaky causal importances ``g``, ``[..., C]``.
        shift: ``[...]``, without gradient; ``None`` for 0.
        seed: of the noise, see :func:`row_uniforms`.
        compiled: whether compiled kernels may be used.
        share: which rows of a batch these are, see :func:`row_uniforms`.

    Returns:
        ``[..., C]``, with gradient to ``inner`` and ``importance``.
    """
    library = library_for(inner, compiled)
    if library is None:
        mask = mask_from_source(importance, row_uniforms(inner.shape, seed, inner, compiled, share))
        return inner * (mask if shift is None else mask - shift[..., None])
    noise = seed, _entries_before(inner.shape, share)
    masked: Tensor = _MaskedInner.apply(inner, importance, shift, noise, library)  # type: ignore[no-untyped-call]
    return masked


def masked_chosen(
    inner: Tensor,
    chosen: Tensor,
    importance: Tensor,
    shift: Tensor | None,
    seed: int,
    compiled: bool = True,
    share: RowShare | None = None,
) -> Tensor:
    """:func:`masked_inner` of some positions alone, with the numbers that the whole would get there.

    Args:
        inner: inner activations of the chosen positions, ``[rows, C]``.
        chosen: their numbers among all positions, ``[rows]``, each once.
        importance: importances of all positions, ``[..., C]``.
        shift: of all positions, ``[...]``; ``None`` for 0.
        seed: of the noise.
        compiled: whether compiled kernels may be used.
        share: which rows of a batch all positions are.

    Returns:
        ``[rows, C]``, with gradient to ``inner`` and ``importance``.
    """
    library = library_for(inner, compiled)
    if library is None:
        mask = mask_from_source(importance, row_uniforms(importance.shape, seed, importance, compiled, share))
        return inner * (mask if shift is None else mask - shift[..., None]).flatten(0, -2).index_select(0, chosen)
    noise = seed, _entries_before(importance.shape, share)
    masked: Tensor = _MaskedChosen.apply(inner, importance, chosen, shift, noise, library)  # type: ignore[no-untyped-call]
    return masked


class _MaskedChosen(torch.autograd.Function):
    """The compiled form of :func:`masked_chosen`; importances that are not chosen get no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        inner: Tensor,
        importance: Tensor,
        chosen: Tensor,
        shift: Tensor | None,
        noise: tuple[int, int],
        library: ctypes.CDLL,
    ) -> Tensor:
        h, g = inner.contiguous(), rows(importance)
        s = None if shift is None else shift.contiguous()
        y = torch.empty_like(h)
        pointers = address(chosen), address(h), address(g), address(s)
        library.masked_chosen_forward(*h.shape, *pointers, *noise, address(y), torch.get_num_threads())
        ctx.save_for_backward(chosen, h, g, s)
        ctx.noise, ctx.library, ctx.shape = noise, library, importance.shape
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        chosen, h, g, s = ctx.saved_tensors
        incoming = grad_outputs[0].contiguous()
        dh, dg = torch.empty_like(incoming), torch.zeros_like(g)
        before = address(chosen), address(h), address(g), address(s)
        after = address(incoming), address(dh), address(dg)
        ctx.library.masked_chosen_backward(*h.shape, *before, *ctx.noise, *after, torch.get_num_threads())
        return dh, dg.view(ctx.shape), None, None, None, None


class _MaskedInner(torch.autograd.Function):
    """The compiled form; the noise is drawn again for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, inner: Tensor, importance: Tensor, shift: Tensor | None, noise: tuple[int, int], library: ctypes.CDLL
    ) -> Tensor:
        h, g = rows(inner), rows(importance)
        s = None if shift is None else shift.contiguous()
        y = torch.empty_like(inner, memory_format=torch.contiguous_format)
        pointers = (address(h), address(g), address(s))
        library.masked_forward(*h.shape, *pointers, *noise, address(y), torch.get_num_threads())
        ctx.save_for_backward(h, g, s)
        ctx.noise, ctx.library = noise, library
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        h, g, s = ctx.saved_tensors
        incoming = grad_outputs[0].contiguous()
        dh, dg = torch.empty_like(incoming), torch.empty_like(incoming)
        pointers = (address(incoming), address(dh), address(dg))
        ctx.library.masked_backward(
            *h.shape, address(h), address(g), address(s), *ctx.noise, *pointers, torch.get_num_threads()
        )
        return dh, dg, None, None, None
