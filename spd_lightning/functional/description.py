"""What it costs to say which groups of components are active: the length that clustering makes short."""

from math import log2

import numpy
from numpy.typing import NDArray

Numbers = NDArray[numpy.float64]


def description_length(firings: Numbers, ranks: Numbers, alpha: float = 1.0) -> float:
    """Bits that say, unit by unit, which groups are active and with what (later SPD work).

    ``L = sum_i s_i (log2 k + alpha r_i)``: every firing names one of ``k`` groups, and pays for its rank.

    Args:
        firings: ``s``, on how many units any member of each group is active, ``[k]``.
        ranks: ``r``, the summed rank of each group's members, ``[k]``.
        alpha: the price of a rank in bits.

    Returns:
        The length; 0 without groups.
    """
    return float((firings * (log2(max(len(firings), 1)) + alpha * ranks)).sum())


def merge_change(total: float, count: int, pair_cost: Numbers, together: Numbers) -> Numbers:
    """What merging two groups changes about :func:`description_length`, for many pairs.

    With ``s_ij = s_i + s_j - n_ij`` units on which either is active, the change ``(S - s_i - s_j) log2((k - 1) / k) +
    s_ij log2(k - 1) - (s_i + s_j) log2 k + alpha (s_ij (r_i + r_j) - s_i r_i - s_j r_j)`` is ``S log2((k - 1) / k) -
    n_ij log2(k - 1) +`` :func:`merge_cost`.

    Args:
        total: ``S``, the sum of all groups' firings.
        count: ``k``, the number of groups, at least 2.
        pair_cost: :func:`merge_cost` of the pairs.
        together: ``n_ij``, on how many units both groups of each pair are active.

    Returns:
        The changes, below 0 where the length shrinks.
    """
    change: Numbers = total * log2((count - 1) / count) + pair_cost - together * log2(count - 1)
    return change


def merge_cost(
    firings: tuple[float, Numbers], ranks: tuple[float, Numbers], together: Numbers, alpha: float
) -> Numbers:
    """What ranks cost more when a group is merged with others: each is paid for whenever the other is active.

    ``alpha (s_ij (r_i + r_j) - s_i r_i - s_j r_j) = alpha (s_i r_j + s_j r_i - n_ij (r_i + r_j))``

    Args:
        firings: ``s_i`` of the one group, and ``s_j`` of the others.
        ranks: the same of their ranks.
        together: ``n_ij``.
        alpha: the price of a rank in bits.
    """
    (s_i, s_j), (r_i, r_j) = firings, ranks
    cost: Numbers = alpha * (s_i * r_j + s_j * r_i - together * (r_i + r_j))
    return cost
