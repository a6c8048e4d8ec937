"""How many components are in use."""

from torch import Tensor

ALIVE_THRESHOLD = 0.1
"""Importance above which a component counts as active, the later SPD library's value for toys."""


def active_counts(importance: Tensor, threshold: float = ALIVE_THRESHOLD) -> Tensor:
    """Number of active components per example and position.

    Args:
        importance: lower-leaky importances ``[..., C]``.
        threshold: a component is active where its importance exceeds this.

    Returns:
        Counts ``[...]``; their mean is L0.
    """
    return (importance > threshold).sum(-1)


def alive_components(importance: Tensor, threshold: float = ALIVE_THRESHOLD) -> Tensor:
    """Components that are active somewhere; every leading dimension is reduced.

    Args:
        importance: lower-leaky importances ``[..., C]``.
        threshold: a component is active where its importance exceeds this.

    Returns:
        A boolean tensor ``[C]``.
    """
    return (importance > threshold).reshape(-1, importance.shape[-1]).any(dim=0)
