"""Penalties on importances that count components smoothly, with a slope that stays finite (later SPD work)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spd_lightning.functional.losses import mean_over_examples


def smooth_l0(g: Tensor, gamma: float) -> Tensor:
    r"""Nearly 1 where an importance is well above ``gamma``, nearly 0 where it is well below.

    .. math:: \varphi(g) = \frac{g^2}{g^2 + \gamma^2}

    Its slope is at most :math:`3 \sqrt 3 / (8 \gamma)` and vanishes at 0, where that of :math:`g^p` with ``p < 1`` has
    no bound.

    Args:
        g: importances, any shape.
        gamma: where the value is one half, above 0.

    Returns:
        Values in [0, 1), shaped as ``g``.
    """
    square = g.square()
    return square / (square + gamma**2)


def smooth_importance(upper: Iterable[Tensor], gamma: float, weights: Iterable[Tensor | None]) -> Tensor:
    """:func:`smooth_l0` summed over sites and components, mean over examples and positions.

    Args:
        upper: upper-leaky importances ``[..., C]`` of every site.
        gamma: see :func:`smooth_l0`.
        weights: of the examples of every site, see :func:`mean_over_examples`.

    Returns:
        A scalar.
    """
    pairs = zip(upper, weights, strict=True)
    return torch.stack([mean_over_examples(smooth_l0(g, gamma).sum(-1), some) for g, some in pairs]).sum()
