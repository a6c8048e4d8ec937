"""Reading a table of values, slopes and curvatures between its nodes."""

from typing import Any

import torch
from torch import Tensor


def _basis(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quintic Hermite basis of the right node's value and of the left node's slope and curvature; ``t`` in [0, 1]."""
    u = 1 - t
    value = t**3 * (10 + t * (6 * t - 15))
    return value, t * u**3 * (1 + 3 * t), 0.5 * t.square() * u**3


def _shares(t: Tensor) -> tuple[Tensor, Tensor]:
    """How a logit between two nodes depends on the left and the right node's entries, ``[..., 3]`` each."""
    value, slope, curvature = _basis(t)
    _, right_slope, right_curvature = _basis(1 - t)
    return torch.stack([1 - value, slope, curvature], -1), torch.stack([value, -right_slope, right_curvature], -1)


def read_table(inner: Tensor, table: Tensor, spacing: Tensor, first: Tensor) -> Tensor:
    """Logits by quintic Hermite interpolation; their gradient to ``inner`` by cubic interpolation of the slopes.

    The slope is not the derivative of the interpolated value: differences of neighbouring values, divided by the
    spacing, would lose digits that the tabulated slopes have.

    Args:
        inner: ``[..., C]``.
        table: ``[C, nodes, 3]``: value, spacing times slope, squared spacing times curvature.
        spacing: ``[C]``.
        first: number of the first node, ``[C]``.

    Returns:
        ``[..., C]``, with gradient to ``inner`` and ``table``.
    """
    read: Tensor = _ReadTable.apply(inner, table, spacing, first)  # type: ignore[no-untyped-call]
    return read


class _ReadTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inner: Tensor, table: Tensor, spacing: Tensor, first: Tensor) -> Tensor:
        components, nodes, _ = table.shape
        scaled = inner / spacing
        cell = torch.floor(scaled)
        column = torch.arange(components, device=inner.device) * nodes
        entry = column + (cell - first).long().clamp(0, nodes - 2)
        flat, t = table.reshape(-1, 3), scaled - cell
        left, right = flat[entry], flat[entry + 1]
        ctx.save_for_backward(entry, t, left, right, spacing)
        ctx.table_shape = table.shape
        value, slope, curvature = _basis(t)
        _, right_slope, right_curvature = _basis(1 - t)
        read = (
            left[..., 0] + (right[..., 0] - left[..., 0]) * value + left[..., 1] * slope - right[..., 1] * right_slope
        )
        return read + left[..., 2] * curvature + right[..., 2] * right_curvature

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        entry, t, left, right, spacing = ctx.saved_tensors
        incoming = grad_outputs[0]
        blend, u = t.square() * (3 - 2 * t), 1 - t
        slope = left[..., 1] + (right[..., 1] - left[..., 1]) * blend + t * u * (left[..., 2] * u - right[..., 2] * t)
        gradient = incoming.new_zeros(ctx.table_shape).reshape(-1, 3)
        for offset, share in enumerate(_shares(t)):
            gradient.index_add_(0, (entry + offset).flatten(), (incoming[..., None] * share).reshape(-1, 3))
        return incoming * slope / spacing, gradient.reshape(ctx.table_shape), None, None
