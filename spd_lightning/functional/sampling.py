"""Sparse synthetic features, the input of every toy model of the SPD paper."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor


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
        weights: ``[rows]``, summing to 1.
    """

    x: Tensor
    weights: Tensor


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
    empty = (1 - probability) ** n_features
    draw = torch.rand((2, rows + 1, n_features), generator=generator, device=generator.device)
    active = draw[0] < probability
    # the first active feature of a row that has one: a geometric distribution, cut off and inverted
    quantile = torch.rand(rows, generator=generator, device=generator.device, dtype=torch.float64)
    first = (torch.log1p(-quantile * (1 - empty)) / math.log1p(-probability)).long().clamp(max=n_features - 1)
    column = torch.arange(n_features, device=generator.device)
    active[:rows] = (active[:rows] & (column > first[:, None])) | (column == first[:, None])
    active[rows] = False
    weights = torch.full((rows + 1,), (1 - empty) / rows, device=generator.device)
    weights[rows] = empty
    return WeightedBatch(torch.where(active, low + (high - low) * draw[1], 0.0), weights)
