"""Sources in [0, 1] and the masks built from them."""

from typing import Literal

import torch
from torch import Generator, Tensor

from spd_lightning.functional.sampling import RowShare, own_rows
from spd_lightning.functional.sigmoids import Leak, lower_leaky

SourceKind = Literal["uniform", "binomial"]


def mask_from_source(importance: Tensor, source: Tensor) -> Tensor:
    """Mask ``m = g + (1 - g) * source`` (SPD paper, equation for ``m``; ``g`` is the lower-leaky importance).

    Args:
        importance: lower-leaky causal importances ``[..., C]``.
        source: values in [0, 1], broadcastable to ``importance``.

    Returns:
        Masks ``[..., C]``: 1 where the component must stay, ``source`` where it may go.
    """
    return importance + (1 - importance) * source


def random_source(
    kind: SourceKind,
    shape: torch.Size | tuple[int, ...],
    generator: Generator,
    dtype: torch.dtype = torch.float32,
    share: RowShare | None = None,
) -> Tensor:
    """Draw sources, on the generator's device.

    Args:
        kind: ``"uniform"`` on [0, 1) (the paper's) or ``"binomial"``, 0 or 1 with equal probability.
        shape: shape of the draw.
        generator: where the randomness comes from.
        dtype: floating type of the result.
        share: which rows of a batch the draw is for, see :func:`own_rows`.

    Returns:
        Sources of the given shape.

    Raises:
        ValueError: if ``kind`` is unknown.
    """
    draw = own_rows(
        lambda size, g: torch.rand(size, generator=g, dtype=dtype, device=g.device), shape, generator, share
    )
    if kind == "uniform":
        return draw
    if kind == "binomial":
        return (draw < 0.5).to(dtype)
    raise ValueError(f"source kind must be 'uniform' or 'binomial', got {kind!r}")


def jittered_importance(logits: Tensor, leak: Leak, generator: Generator, share: RowShare | None = None) -> Tensor:
    """Lower-leaky importance of ``1.05 z - 0.05 u``, ``u ~ U(0, 1)``: noise at the threshold.

    The later SPD library pairs it with binomial sources, whose masks would otherwise jump.

    Args:
        logits: pre-sigmoid values ``[..., C]``.
        leak: version of the lower-leaky sigmoid.
        generator: where the randomness comes from.
        share: which rows of a batch the logits are of, see :func:`own_rows`.

    Returns:
        Importances ``[..., C]``.
    """
    noise = random_source("uniform", logits.shape, generator, logits.dtype, share)
    return lower_leaky(1.05 * logits - 0.05 * noise, leak)
