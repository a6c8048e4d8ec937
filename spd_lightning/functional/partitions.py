"""Agreement of two ways to put the same things into groups."""

import torch
from torch import Tensor


def adjusted_rand_index(one: Tensor, other: Tensor) -> float:
    """How well two groupings agree, corrected for chance (Hubert and Arabie, 1985).

    Of all pairs of things it counts those that are together in both groupings, minus what would be expected of random
    groupings of the same sizes, over the largest possible value of that.

    Args:
        one: the group of each thing, whole numbers ``[n]``.
        other: the same for the other grouping; the groups' numbers need not be the same.

    Returns:
        1 where they are the same, about 0 where they agree by chance; 1 as well where there is nothing to disagree on.

    Raises:
        ValueError: if they are not of the same things.
    """
    if one.shape != other.shape or one.dim() != 1:
        raise ValueError(f"groupings must be of the same things, got {list(one.shape)} and {list(other.shape)}")
    both = torch.stack([one.cpu(), other.cpu()])
    together, first, second = _pairs(both), _pairs(both[:1]), _pairs(both[1:])
    expected = first * second / max(len(one) * (len(one) - 1) / 2, 1)
    largest = (first + second) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def _pairs(labels: Tensor) -> float:
    """Number of pairs of things that have the same labels ``[k, n]``."""
    sizes = labels.unique(dim=1, return_counts=True)[1].double()  # type: ignore[no-untyped-call]
    return float((sizes * (sizes - 1) / 2).sum())
