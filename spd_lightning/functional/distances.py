"""How far one output is from another."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from spd_lightning.functional.losses import mean_over_examples
from spd_lightning.functional.precision import full_precision, single

DistanceKind = Literal["mse", "kl"]


def mse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared error averaged over every example, position and output dimension.

    Args:
        prediction: ``[..., d]``.
        target: ``[..., d]``.
        weights: of the examples, see :func:`mean_over_examples`.

    Returns:
        A scalar.
    """
    if weights is None:
        return F.mse_loss(prediction, target)
    return mean_over_examples((prediction - target).square().mean(-1), weights)


def kl_rows(prediction: Tensor, target: Tensor) -> Tensor:
    """``KL(softmax(target) || softmax(prediction))`` of every row.

    Args:
        prediction: logits ``[..., vocabulary]``.
        target: logits ``[..., vocabulary]``.

    Returns:
        ``[...]``, in nats.
    """
    log_q, log_p = F.log_softmax(prediction, -1), F.log_softmax(target, -1)
    gaps = (log_p - log_q).masked_fill(log_p == -torch.inf, 0)  # what the target rules out, such as padded vocabulary
    return (log_p.exp() * gaps).sum(-1)


def kl(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """``KL(softmax(target) || softmax(prediction))``, summed over the last dimension, averaged over the rest.

    Args:
        prediction: logits ``[..., vocabulary]``.
        target: logits ``[..., vocabulary]``.
        weights: of the examples, see :func:`mean_over_examples`.

    Returns:
        A scalar, in nats.
    """
    return mean_over_examples(kl_rows(prediction, target), weights)


def distance(kind: DistanceKind, prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Distance between outputs by name: :func:`mse` or :func:`kl`, in at least single precision.

    Args:
        kind: which distance.
        prediction: the masked network's output ``[..., d]``.
        target: the target's output ``[..., d]``.
        weights: of the examples, see :func:`mean_over_examples`.

    Returns:
        A scalar.

    Raises:
        ValueError: if ``kind`` is unknown.
    """
    prediction, target = single(prediction), single(target)
    with full_precision(prediction):
        if kind == "mse":
            return mse(prediction, target, weights)
        if kind == "kl":
            return kl(prediction, target, weights)
    raise ValueError(f"distance must be 'mse' or 'kl', got {kind!r}")


def distance_rows(kind: DistanceKind, prediction: Tensor, target: Tensor) -> Tensor:
    """:func:`distance` of every row by itself.

    Args:
        kind: which distance.
        prediction: ``[..., d]``.
        target: ``[..., d]``.

    Returns:
        ``[...]``, in at least single precision.
    """
    prediction, target = single(prediction), single(target)
    with full_precision(prediction):
        return kl_rows(prediction, target) if kind == "kl" else (prediction - target).square().mean(-1)


def mean_output(
    kind: DistanceKind,
    output: Tensor,
    weights: Tensor | None = None,
    combine: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The output that does not look at the input and comes closest to all of them: a unit for distances (ours).

    Args:
        kind: which distance; for ``"kl"`` the mean is taken over distributions.
        output: ``[..., d]``.
        weights: of the examples, ``[...]``, in any unit; ``None`` weighs all alike.
        combine: turns sums over this process's examples into those over all.

    Returns:
        ``[d]`` in double precision: the mean, or logits of the mean distribution.
    """
    values = (output.double().softmax(-1) if kind == "kl" else output.double()).flatten(0, -2)
    mass = values.new_ones(len(values)) if weights is None else weights.flatten().to(values)
    sums = torch.cat([mass @ values, mass.sum()[None]])
    sums = sums if combine is None else combine(sums)
    mean = sums[:-1] / sums[-1]
    return mean.log() if kind == "kl" else mean
