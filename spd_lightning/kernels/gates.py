"""Per-component gates read from a table instead of being evaluated for every example.

A gate is a scalar function of one scalar. Its value, slope and curvature at ``nodes`` points per component are computed
once a step; examples read the logit by quintic Hermite interpolation (error: the sixth power of the spacing) and its
slope by cubic interpolation of the slopes (the fourth power). Gradients reach the gate's weights through the nodes.
One node lies at exactly 0: a component without input gets exactly the gate's value there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spd_lightning.functional.sigmoids import Leak, lower_leaky, upper_leaky
from spd_lightning.kernels.derivatives import gate_derivatives
from spd_lightning.kernels.dispatch import address, library_for, rows
from spd_lightning.kernels.hermite import read_table

CELL_TO_SPARE = 3
"""Rounding outwards to whole nodes can take one cell at each end."""


class Gate(NamedTuple):
    """The parameters of a :class:`spd_lightning.model.GateMLP`: weights ``[C, in, out]``, biases ``[C, out]``."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


class Grid(NamedTuple):
    """Where the nodes of every component lie, ``[C]`` each: node ``j`` is at ``(first + j) * spacing``."""

    spacing: Tensor
    first: Tensor

    def nodes(self, count: int) -> Tensor:
        """Positions ``[count, C]``."""
        steps = torch.arange(count, dtype=self.first.dtype, device=self.first.device)
        return (self.first + steps[:, None]) * self.spacing


@torch.no_grad()
def lay_grid(inner: Tensor, count: int) -> Grid:
    """A grid whose nodes cover each component's inner activations and 0.

    Args:
        inner: inner activations ``[..., C]``.
        count: number of nodes, at least 4.

    Returns:
        The grid.
    """
    matrix = rows(inner)
    low, high = matrix.amin(0).clamp(max=0), matrix.amax(0).clamp(min=0)
    size = (high - low) / (count - CELL_TO_SPARE)
    spacing = torch.where(size > 1e-30, size, torch.ones_like(size))
    return Grid(spacing, torch.floor(low / spacing))


def tabulate(gate: Gate, grid: Grid, count: int) -> Tensor:
    """Value, spacing times slope, squared spacing times curvature at every node, ``[C, count, 3]``, with gradient."""
    value, slope, curvature = gate_derivatives(gate.weights, gate.biases, grid.nodes(count))
    columns = (value, slope * grid.spacing, curvature * grid.spacing.square())
    return torch.stack(columns, -1).transpose(0, 1).contiguous()


@torch.no_grad()
def table_error(inner: Tensor, gate: Gate, nodes: int) -> Tensor:
    """Largest error of a table half-way between its nodes, where interpolation is worst, in double precision.

    Args:
        inner: inner activations that the table must cover, ``[..., C]``.
        gate: parameters of the gates.
        nodes: number of nodes per component.

    Returns:
        The larger of the logits' error and the slopes' error, each relative to the component's largest value where
        that is above 1; a scalar.
    """
    exact = Gate([part.double() for part in gate.weights], [part.double() for part in gate.biases])
    grid = lay_grid(inner.double(), nodes)
    between = grid.nodes(nodes)[:-1] + 0.5 * grid.spacing
    with torch.enable_grad():
        at = between.requires_grad_()
        value = read_table(at, tabulate(exact, grid, nodes), grid.spacing, grid.first)
        (slope,) = torch.autograd.grad(value.sum(), at)
    errors = [
        ((found - wanted).abs().amax(0) / wanted.abs().amax(0).clamp(min=1)).max()
        for found, wanted in zip((value, slope), gate_derivatives(*exact, between.detach()), strict=False)
    ]
    return torch.stack(errors).max()


def tabulated_importance(
    inner: Tensor, gate: Gate, nodes: int, leak: Leak, compiled: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and both leaky sigmoids, read from a table.

    Args:
        inner: inner activations ``h``, ``[..., C]``.
        gate: parameters of the gates, with at least one hidden layer.
        nodes: number of nodes per component, at least 4.
        leak: version of the lower-leaky sigmoid.
        compiled: whether compiled kernels may be used.

    Returns:
        Logits, lower-leaky and upper-leaky importances, ``[..., C]`` each, with gradient to ``inner`` and the gate.
    """
    library = library_for(inner, compiled)
    if library is None or len(gate.weights) != 2:
        grid = lay_grid(inner, nodes)
        logits = read_table(inner, tabulate(gate, grid, nodes), grid.spacing, grid.first)
        return logits, lower_leaky(logits, leak), upper_leaky(logits)
    parameters = (gate.weights[0], gate.biases[0], gate.weights[1], gate.biases[1])
    result: tuple[Tensor, Tensor, Tensor] = _TabulatedGates.apply(inner, *parameters, nodes, leak, library)  # type: ignore[no-untyped-call]
    return result


class _TabulatedGates(torch.autograd.Function):
    """The compiled form, for gates with one hidden layer: grid, table, reading and sigmoids in one call."""

    @staticmethod
    def forward(
        ctx: Any, inner: Tensor, w: Tensor, b: Tensor, o: Tensor, z0: Tensor, *options: Any
    ) -> tuple[Tensor, ...]:
        nodes, leak, library = options
        h, linear_leak = rows(inner), int(leak == "linear")
        gate = tuple(part.contiguous() for part in (w, b, o, z0))
        sizes = (*h.shape, b.shape[1], nodes)
        grid, table = h.new_empty(3, h.shape[1]), h.new_empty(h.shape[1], nodes, 4)
        outputs = tuple(torch.empty_like(inner, memory_format=torch.contiguous_format) for _ in range(3))
        pointers = [address(part) for part in (h, *gate)], [address(part) for part in (grid, table, *outputs)]
        library.gates_forward(*sizes, *pointers[0], linear_leak, *pointers[1], torch.get_num_threads())
        ctx.save_for_backward(h, *gate, grid, table, outputs[0])
        ctx.sizes, ctx.linear_leak, ctx.library = sizes, linear_leak, library
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        h, w, b, o, z0, grid, table, logits = ctx.saved_tensors
        incoming = [None if grad is None else grad.contiguous() for grad in grad_outputs]
        threads = torch.get_num_threads()
        results = (
            torch.empty_like(logits),
            table.new_empty(threads, *table.shape),
            *map(torch.empty_like, (w, b, o, z0)),
        )
        before = [address(part) for part in (h, w, b, o)]
        after = [address(part) for part in (grid, table, logits, *incoming, *results)]
        ctx.library.gates_backward(*ctx.sizes, *before, ctx.linear_leak, *after, threads)
        dh, _, *parameters = results
        return dh, *parameters, None, None, None
