"""The terms of the SPD objective (SPD paper, section 2; normalisations of the code shipped with it)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from spd_lightning.functional.precision import single

TINY = 1e-30
"""In place of a whole that is zero, of which nothing can be a share."""


def mean_over_examples(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over examples and positions, weighted where one row of a batch stands for many.

    Args:
        values: ``[...]``.
        weights: ``[...]``, summing to 1; ``None`` weighs all alike.

    Returns:
        A scalar.
    """
    return values.mean() if weights is None else torch.dot(values.flatten(), weights.flatten().to(values.dtype))


def average(terms: Sequence[Tensor]) -> Tensor:
    """Mean of scalars; of one, that one."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).mean()


def faithfulness(deltas: Iterable[Tensor]) -> Tensor:
    r"""Mean squared entry of what the components leave unexplained.

    .. math:: \frac{\sum_l \lVert W^l - (V^l U^l)^\top \rVert_F^2}{\sum_l d^l_{out} d^l_{in}}

    Divided once by the entries of the decomposed matrices alone, as the paper's code does (its text
    divides by all parameters of the target).

    Args:
        deltas: one ``[d_out, d_in]`` difference per site.

    Returns:
        A scalar.
    """
    deltas = list(deltas)
    return torch.stack([d.square().sum() for d in deltas]).sum() / sum(d.numel() for d in deltas)


def relative_faithfulness(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    r"""Mean over sites of what the components leave unexplained, in units of the site's own weight.

    .. math:: \frac{1}{L} \sum_l \frac{\lVert W^l - (V^l U^l)^\top \rVert_F^2}{\lVert W^l \rVert_F^2}

    Args:
        pairs: per site the difference and the weight, both ``[d_out, d_in]``. A weight of zeros has no unit of its
            own, see :func:`squared_lengths`.

    Returns:
        A scalar.
    """
    left, weights = [], []
    for delta, weight in pairs:
        left.append(delta.square().sum())
        weights.append(weight)
    return (torch.stack(left) / squared_lengths(weights)).mean()


def squared_lengths(weights: Iterable[Tensor]) -> Tensor:
    """Squared Frobenius norms, to be divided by, in at least single precision.

    Args:
        weights: one per site.

    Returns:
        ``[sites]``, above 0. Weights of zeros count as long as the others are on average, or 1 if all are zero: what
        is added to them has no other unit.
    """
    squares = torch.stack([single(weight).square().sum() for weight in weights])
    there = squares > 0
    typical = squares.sum() / there.sum().clamp_min(1)
    return torch.where(there, squares, torch.where(there.any(), typical, 1.0))


def importance_minimality(
    upper: Iterable[Tensor], p: float, eps: float = 1e-12, weights: Tensor | None = None
) -> Tensor:
    r"""Sum over sites and components of :math:`g^p`, averaged over examples and positions only.

    Not divided by the number of sites or components (SPD paper, importance-minimality loss).

    Args:
        upper: upper-leaky importances ``[..., C]``, one tensor per site with the same leading dimensions.
        p: the exponent, above 0.
        eps: added inside the power; keeps the slope at ``g = 0`` finite when ``p < 1``.
        weights: of the examples, see :func:`mean_over_examples`.

    Returns:
        A scalar.
    """
    sums = [mean_over_examples((g + eps).pow(p).sum(-1), weights) for g in upper]
    return torch.stack(sums).sum()


def contribution_sparsity(sites: Iterable[tuple[Tensor, Tensor]], weights: Tensor | None = None) -> Tensor:
    r"""Summed length of what every component writes, mean over examples (ours).

    .. math:: \sum_l \sum_c \lvert h^l_c \rvert \, \lVert U^l_c \rVert_2

    Where components sum to the weights, what they write on an example sums to what the target's layer does; by the
    triangle inequality their lengths sum to least where as few as possible write it.

    Args:
        sites: inner activations ``h [..., C]`` and write vectors ``U [C, d_out]`` of every site, with the same leading
            dimensions.
        weights: of the examples, see :func:`mean_over_examples`.

    Returns:
        A scalar.
    """
    sums = [mean_over_examples(inner.abs() @ write.norm(dim=1), weights) for inner, write in sites]
    return torch.stack(sums).sum()


def written_length(inner: Tensor, write: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Length of what all components of a site write together, mean over examples (ours).

    Args:
        inner: inner activations ``h [..., C]``.
        write: write vectors ``U [C, d_out]``.
        weights: of the examples, see :func:`mean_over_examples`.

    Returns:
        A scalar.
    """
    return mean_over_examples((inner @ write).norm(dim=-1), weights)


LENGTH_EPS = 1e-8
"""Squared relative length at which the power levels off, so that its slope at 0 stays finite."""


def rank_penalty(sites: Iterable[tuple[Tensor, Tensor, Tensor]], power: float) -> Tensor:
    r"""Relative lengths of components to a power, summed over sites (ours).

    .. math:: \sum_l \sum_c \left(
        \frac{\lVert V^l_c \rVert^2 \lVert U^l_c \rVert^2}{\lVert W^l \rVert_F^2} + \varepsilon \right)^{q/2}

    For ``q <= 1`` no components that sum to a matrix cost less than its singular vectors do, whose lengths are its
    singular values (the variational form of Schatten's quasi-norms).

    Args:
        sites: read vectors ``V [d_in, C]``, write vectors ``U [C, d_out]`` and the target's weight of every site.
        power: ``q``.

    Returns:
        A scalar.
    """
    sites = list(sites)
    costs = []
    for (read, write, _), unit in zip(sites, squared_lengths(weight for _, _, weight in sites), strict=True):
        squared = read.square().sum(0) * write.square().sum(-1) / unit
        costs.append((squared + LENGTH_EPS).pow(power / 2).sum())
    return torch.stack(costs).sum()
