"""Sparse synthetic features, the input of every toy model of the SPD paper."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from spd_lightning.functional.seeds import keyed_generator, keyed_seed

BLOCK = 2**20
"""Entries that are drawn together, see :func:`own_rows`."""


def sparse_features(
    batch_size: int,
    n_features: int,
    probability: float,
    value_range: tuple[float, float],
    generator: Generator,
) -> Tensor:
    """Each feature is active with a probability, independently; an active one is uniform on a range.

    All-zero rows are kept ("at least zero active" in the paper's code).

    Args:
        batch_size: number of rows.
        n_features: number of columns.
        probability: chance that a feature is active.
        value_range: lowest and highest value of an active feature.
        generator: where the randomness comes from; its device is the result's.

    Returns:
        A tensor ``[batch_size, n_features]``.
    """
    low, high = value_range
    draw = torch.rand((2, batch_size, n_features), generator=generator, device=generator.device)
    return torch.where(draw[0] < probability, low + (high - low) * draw[1], 0.0)


class WeightedBatch(NamedTuple):
    """Examples that do not all count alike.

    Attributes:
        x: the examples, ``[rows, ...]``.
        weights: ``[rows]``, summing to 1; over all processes, if each holds some rows of one batch.
    """

    x: Tensor
    weights: Tensor


class RowShare(NamedTuple):
    """Which rows of a batch this process holds, where several share it.

    Attributes:
        first: number of the first row held; the others follow it.
        total: rows of the whole batch.
    """

    first: int
    total: int


def own_rows(
    draw: Callable[[Sequence[int], Generator], Tensor],
    shape: Sequence[int],
    generator: Generator,
    share: RowShare | None = None,
    dim: int = 0,
) -> Tensor:
    """The part of a draw for a whole batch that belongs to the rows held here.

    However a batch is split, a row gets the same numbers. torch's generators cannot begin in the middle, so a draw is
    made in blocks of rows, at most :data:`BLOCK` entries or one row each, and only in those with rows held here.
    The first block is what the generator gives; the others have generators of their own, keyed by the state in which it
    was found. After several blocks it goes on from a place that is so keyed as well, the same for all processes.

    Args:
        draw: makes a draw of a given shape from a given generator.
        shape: shape of the wanted part.
        generator: where the randomness comes from.
        share: which rows it is for; ``None`` for all.
        dim: the dimension that counts the rows.

    Returns:
        A tensor of the given shape.
    """
    if share is None and math.prod(shape) <= BLOCK:
        return draw(shape, generator)
    before, rows, after = shape[:dim], shape[dim], shape[dim + 1 :]
    first, total = (0, rows) if share is None else share
    length = max(1, BLOCK // max(1, math.prod(before) * math.prod(after)))
    if total <= length:
        return draw([*before, total, *after], generator).narrow(dim, first, rows).contiguous()
    key = hashlib.sha256(generator.get_state().numpy().tobytes()).hexdigest()
    start = generator.clone_state()
    generator.manual_seed(keyed_seed(key, "after"))
    blocks = range(first // length, -(-(first + rows) // length)) if rows else range(0)
    out = draw([*before, 0, *after], start).new_empty(shape)
    for block in blocks:
        begin = block * length
        source = keyed_generator(key, "block", block, device=generator.device) if block else start
        drawn = draw([*before, min(length, total - begin), *after], source)
        low, high = max(first, begin), min(first + rows, begin + drawn.shape[dim])
        out.narrow(dim, low - first, high - low).copy_(drawn.narrow(dim, low - begin, high - low))
    return out


def merged_rows(batch_size: int, n_features: int, probability: float) -> int:
    """Number of rows that :func:`merged_sparse_features` draws for a batch size; 0 if merging gains nothing.

    One row stands for all empty ones, so at least two of them must be expected, and one that is not empty.
    """
    empty = (1 - probability) ** n_features
    active = round(batch_size * (1 - empty))
    return active + 1 if active >= 1 and batch_size * empty >= 2 else 0


def merged_sparse_features(
    batch_size: int,
    n_features: int,
    probability: float,
    value_range: tuple[float, float],
    generator: Generator,
) -> WeightedBatch:
    """Sparse features with all empty rows merged into one (ours).

    Rows with at least one active feature are drawn from their conditional distribution, in the number expected of a
    batch; one empty row carries the probability of an empty one. Weighted means have the expectation of those over
    :func:`sparse_features`, and a lower variance, since the share of empty rows no longer varies.

    Args:
        batch_size: number of rows that the result stands for.
        n_features: number of columns.
        probability: chance that a feature is active.
        value_range: lowest and highest value of an active feature.
        generator: where the randomness comes from; its device is the result's.

    Returns:
        Rows ``[merged_rows(...), n_features]``, the empty one last, and their weights.

    Raises:
        ValueError: if merging gains nothing, see :func:`merged_rows`.
    """
    rows = merged_rows(batch_size, n_features, probability) - 1
    if rows < 1:
        raise ValueError(f"a batch of {batch_size} rows of {n_features} features at {probability} has nothing to merge")
    low, high = value_range
    device = generator.device
    boundaries, thresholds, weights = _merging(rows, n_features, probability, str(device))
    first = torch.bucketize(torch.rand(rows + 1, generator=generator, device=device), boundaries, right=True)
    first[rows] = n_features
    draw = torch.rand((2, rows + 1, n_features), generator=generator, device=device)
    values = draw[1] if value_range == (0.0, 1.0) else low + (high - low) * draw[1]
    return WeightedBatch(values * (draw[0] < thresholds[first]), weights.clone())


@lru_cache(maxsize=16)
def _merging(rows: int, n_features: int, probability: float, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """What merging needs of a distribution, once.

    Returns:
        Where a uniform number falls into the next first active feature, ``[n_features - 1]``; below which number a
        feature is active, by the row's first active one (the last row: none), ``[n_features + 1, n_features]``; and
        weights ``[rows + 1]``.
    """
    empty = (1 - probability) ** n_features
    before = 1 - (1 - probability) ** torch.arange(1, n_features, dtype=torch.float64)
    column, first = torch.arange(n_features), torch.arange(n_features + 1)[:, None]
    thresholds = torch.where(column > first, probability, torch.where(column == first, 2.0, -1.0))
    weights = torch.full((rows + 1,), (1 - empty) / rows)
    weights[rows] = empty
    return (before / (1 - empty)).float().to(device), thresholds.to(device), weights.to(device)
