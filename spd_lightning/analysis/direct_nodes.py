"""Nodes that write and nodes that read, as a network comes to them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.analysis.attribution_graph import NONE
from spd_lightning.errors import UsageError


class Nodes(NamedTuple):
    """Nodes of one kind at one place, ``[n]`` each; see :class:`AttributionGraph`."""

    place: str
    kind: int
    indices: Tensor
    positions: Tensor
    values: Tensor
    importances: Tensor


class Source(NamedTuple):
    """Nodes that write.

    Attributes:
        nodes: which.
        leaf: the numbers ``[..., d]`` that they add up to, or are.
        attributed: from gradients of ``k`` numbers with respect to the leaf, ``[k, positions, d]``, the attributions
            of the nodes, ``[k, n]``.
    """

    nodes: Nodes
    leaf: Tensor
    attributed: Callable[[Tensor], Tensor]


class Reader(NamedTuple):
    """Nodes that read.

    Attributes:
        nodes: which.
        reads: what each of them reads, ``[n]``, with gradient.
        earlier: how many sources there were when they read.
        writes: the number of the source that they are too; ``None`` for outputs.
    """

    nodes: Nodes
    reads: Tensor
    earlier: int
    writes: int | None


class Chosen(NamedTuple):
    """Which numbers of the output are nodes.

    Attributes:
        indices: entries of the last dimension; ``None`` for the ``top`` largest at each position.
        positions: numbers of positions, negative ones from the end; ``None`` for all that count.
        top: see ``indices``.
    """

    indices: Sequence[int] | None = None
    positions: Sequence[int] | None = (-1,)
    top: int = 1


def nodes_at(
    place: str,
    kind: int,
    indices: Tensor,
    at: Tensor,
    values: Tensor,
    leading: torch.Size,
    importances: Tensor | None = None,
) -> Nodes:
    """Nodes at numbers of positions; without any where there is one position and no dimension for it."""
    positions = torch.full_like(at, NONE) if len(leading) < 2 and leading.numel() == 1 else at
    importances = torch.ones_like(values) if importances is None else importances
    return Nodes(place, kind, indices, positions, values, importances)


def positions_of(counted: Tensor, length: int, wanted: Sequence[int] | None) -> Tensor:
    """Numbers of positions; negative ones are counted from the last one that counts."""
    if wanted is None:
        return counted
    for position in wanted:
        if not (0 <= position < length or -len(counted) <= position < 0):
            raise UsageError(f"graph: there is no position {position}; the output has {length}")
    return torch.stack([counted[p] if p < 0 else torch.full_like(counted[0], p) for p in wanted])


def entries_of(wanted: Sequence[int], width: int) -> list[int]:
    """Entries of the output, if it has them."""
    for index in wanted:
        if not 0 <= index < width:
            raise UsageError(f"graph: there is no output {index}; the network has {width}, from 0 to {width - 1}")
    return list(wanted)
