"""Sparse synthetic features, the input of every toy model of the SPD paper."""

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
