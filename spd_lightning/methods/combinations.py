"""Vectors of components as combinations of others', and what others take over."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.methods.seen_vectors import SeenVectors, Sides
from spd_lightning.model.components import Components

LEFT = 1e-3
"""What is left of either vector of a component that was merged into others."""
SHORTEST = 1e-3
"""Of components that are more than next to nothing, in units of their site's longest."""
RIDGE = 1e-4
"""Added to each vector's square, in units of their mean, so that of many combinations the shortest is found."""


class Made(NamedTuple):
    """What others make of one vector."""

    shares: Tensor
    """``[K]``: how much of each of theirs comes closest to it."""
    missed: float
    """Length of what they do not make, over its own length, both as they are seen."""
    missed_as_such: float
    """The same over its own length as such: little for a vector that is hardly seen."""


class Ways(NamedTuple):
    """What each component of a site would cost if others took it, by one of its two vectors."""

    taken: Tensor
    """``[K, K]`` for the ``K`` components that are there: what each other one takes, in units of its own length."""
    shares: Tensor
    """``[K, K]``: how much of each other one's vector makes one's own."""
    cost: Tensor
    """``[K]``, to be held against ``spread``."""
    missed: Tensor
    """``[K]``: share of each vector that others do not make."""


def plain_lengths(parts: Components) -> Tensor:
    """Of every component's matrix, as it is, ``[C]``."""
    lengths: Tensor = parts.V.norm(dim=0) * parts.U.norm(dim=1)
    return lengths


def is_there(parts: Components) -> Tensor:
    """Which components are more than next to nothing by their lengths, ``[C]``."""
    lengths = plain_lengths(parts)
    return lengths > SHORTEST * lengths.max()


def lengths_of(sides: Sides) -> Tensor:
    """Of every component's matrix, as it is seen, ``[C]``."""
    return sides[0].lengths() * sides[1].lengths()


def shares_of(sides: Sides) -> Tensor:
    """How long every component's matrix is as it is seen, in units of what they sum to, ``[C]``."""
    read, write = (side.products(torch.arange(len(side.plain))) for side in sides)
    whole = (read * write).sum().clamp_min(0.0)
    return (read.diagonal() * write.diagonal() / whole.clamp_min(torch.finfo(whole.dtype).tiny)).sqrt()


def ways_of(side: SeenVectors, lengths: Tensor, there: Tensor, missing: Tensor) -> Ways:
    """By the combination of all others that comes closest to each vector, all as long as their components, not 0."""
    products = side.products(there)
    units = lengths / products.diagonal().sqrt()
    products = products * torch.outer(units, units)
    same = torch.eye(len(there), dtype=products.dtype)
    precision = torch.linalg.inv(_ridged(products))
    taken = (-precision / precision.diagonal()[:, None]).fill_diagonal_(0.0)
    across = same - taken
    missed = (((across @ products) * across).sum(-1).clamp_min(0.0) / products.diagonal()).sqrt()
    cost = (taken.abs() * missing).sum(-1)
    return Ways(taken, taken * units / units[:, None], cost, missed)


def made_of(side: SeenVectors, there: Tensor, given: int) -> Made:
    """By the combination of the vectors ``[K]`` that are there which comes closest to one that is not among them."""
    products = side.products(torch.cat([there, torch.tensor([given])]))
    among, own, square = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    shares = torch.linalg.solve(_ridged(among), own)
    left = (square - 2 * shares @ own + shares @ among @ shares).clamp_min(0.0)
    missed, as_such = (left / torch.stack([square, side.plain[given, given]])).sqrt().tolist()
    return Made(shares, missed, as_such)


def _ridged(products: Tensor) -> Tensor:
    return products + RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=products.dtype)


def give(parts: Components, sides: Sides, side: int, given: int, takers: Tensor, shares: Tensor) -> None:
    """Split a component among others, and leave next to nothing.

    What others make of one vector carries the other vector to them. What they do not make of it comes to them by what
    they make, once they have taken, of the other one: only what neither side makes is lost.

    Args:
        parts: a site's components.
        sides: their vectors as they are seen.
        side: whose combination comes first: of read vectors (0) or of write vectors (1).
        given: which component.
        takers: numbers ``[K]`` of those that take it.
        shares: how much of each of their vectors comes closest to its own, ``[K]``.
    """
    whole = torch.zeros(parts.n_components, dtype=shares.dtype)
    whole[given] = 1.0
    rest = whole.index_add(0, takers, shares, alpha=-1.0)
    _add(parts, sides, 1 - side, takers, shares, whole)
    plain = sides[side].plain
    if rest @ plain @ rest > LEFT**2 * plain[given, given]:  # what gates read stays where nothing is missing
        _add(parts, sides, side, takers, made_of(sides[1 - side], takers, given).shares, rest)
    parts.V[:, given] *= LEFT
    parts.U[given] *= LEFT
    for vectors in sides:
        vectors.shrink(given, LEFT)


def _add(parts: Components, sides: Sides, side: int, takers: Tensor, shares: Tensor, taken: Tensor) -> None:
    """Add shares ``[K]`` of a combination ``[C]`` of all vectors to those of some components."""
    vectors = parts.U if side else parts.V.T
    vectors[takers.to(vectors.device)] += torch.outer(shares.to(vectors), taken.to(vectors) @ vectors)
    sides[side].add(takers, shares, taken)


def put_together(parts: Components, numbers: Sequence[int]) -> None:
    """Let some components share out what they sum to by its singular vectors; what is not needed becomes zero.

    One by one they may write what no other does, and sum to what others make.

    Args:
        parts: a site's components.
        numbers: which of them, one at least.
    """
    read, write = (torch.linalg.qr(vectors.cpu().double()) for vectors in (parts.V[:, numbers], parts.U[numbers].T))
    left, values, right = torch.linalg.svd(read.R @ write.R.T, full_matrices=False)
    V, U = read.Q.new_zeros(len(read.Q), len(numbers)), read.Q.new_zeros(len(numbers), len(write.Q))
    V[:, : len(values)], U[: len(values)] = read.Q @ left * values.sqrt(), (write.Q @ right.T * values.sqrt()).T
    parts.V[:, numbers], parts.U[numbers] = V.to(parts.V), U.to(parts.U)


def take_up(parts: Components, used: Tensor) -> None:
    """Let components that are used take up what all of them leave of the weight, as far as their vectors reach.

    First by their write vectors, then by their read vectors; each time by least squares (ours). What neither reaches
    stays, and so do components that are not used, or that are next to nothing, as what has just gone into others.

    Args:
        parts: a site's components.
        used: which of them are, ``[C]``.
    """
    used = used.to(parts.V.device) & is_there(parts)
    if not used.any():
        return
    rest = parts.delta().T
    V, U, rest = (values.cpu().double() for values in (parts.V[:, used], parts.U[used], rest))
    written = _closest(V, rest)
    read = _closest((U + written).T, (rest - V @ written).T).T
    parts.V[:, used], parts.U[used] = (V + read).to(parts.V), (U + written).to(parts.U)


def _closest(vectors: Tensor, wanted: Tensor) -> Tensor:
    """What to multiply ``[d, K]`` by to come closest to ``[d, n]``, ``[K, n]``: of many ways the shortest."""
    lengths = vectors.norm(dim=0).clamp_min(torch.finfo(vectors.dtype).tiny)
    units = vectors / lengths
    shares: Tensor = torch.linalg.solve(_ridged(units.T @ units), units.T @ wanted) / lengths[:, None]
    return shares
