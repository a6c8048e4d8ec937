"""The baseline's formulas: attributions, batch top-k, simplicity (APD paper, arXiv 2501.14926, section 2)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.functional.losses import mean_over_examples
from spd_lightning.functional.precision import full_precision, single

CHUNK = 2**24
"""Numbers of the largest intermediate tensor, 64 MB in single precision."""
ROUNDING = 1e-6
"""Share of a budget that weights may exceed it by: they are rounded."""
SIMPLICITY_EPS = 1e-16
"""Inside the power, as in the released code."""


class SitePart(NamedTuple):
    """What the attributions of one site are made of.

    Attributes:
        inner: what the components read, ``[N, C, m]``.
        write: their write vectors ``[C, m, d_out]``.
        gradients: of every output with respect to what the site puts out, ``[d, N, d_out]``.
    """

    inner: Tensor
    write: Tensor
    gradients: Tensor


def attributions(parts: Iterable[SitePart]) -> Tensor:
    r"""How much each component changes the output, to first order.

    .. math:: A_c = \sqrt{\frac{1}{d} \sum_{o=1}^{d} \Big( \sum_{l,i,j}
        \frac{\partial f_o}{\partial W^l_{ij}} P^l_{c,ij} \Big)^2}

    (APD paper, equation for attributions. The released code leaves out root and mean, which changes no order.)

    Args:
        parts: one per site; all sites have the same components and see the same examples.

    Returns:
        ``[N, C]``, without gradient.
    """
    with torch.no_grad():
        first, *others = (_changes(part) for part in parts)
        return sum(others, first).square().mean(-1).sqrt()


def _changes(part: SitePart) -> Tensor:
    """What each component does to each output through one site, ``[N, C, d]``."""
    inner, write, gradients = part
    if (gradients == gradients[:, :1]).all():  # a site that is read off linearly
        return torch.einsum("ncm,cmo->nco", inner, write @ gradients[:, 0].T)
    rows = max(1, CHUNK // (write.shape[0] * write.shape[2]))
    pairs = zip(torch.split(inner, rows), torch.split(gradients, rows, dim=1), strict=True)
    pieces = [torch.einsum("ncm,cmw->ncw", some, write) @ g.permute(1, 2, 0) for some, g in pairs]
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def relative_attributions(scores: Tensor) -> Tensor:
    """Attributions as shares of the example's largest (ours): in [0, 1], whatever else is in the batch.

    Args:
        scores: ``[..., C]``.

    Returns:
        ``[..., C]``; zero throughout where no component does anything.
    """
    largest = scores.amax(-1, keepdim=True)
    return torch.where(largest > 0, scores / largest, 0.0)


def batch_topk(scores: Tensor, k: float, weights: Tensor | None = None) -> Tensor:
    """The largest attributions of a batch, ``k`` per example on average (APD paper, section 2.2).

    An example may get several components or none. Entries of attribution 0 are never chosen (ours): they change
    nothing, to first order.

    Args:
        scores: ``[..., C]``.
        k: mean number of components per example, above 0.
        weights: of the examples, ``[...]``, summing to 1, where one row stands for many.

    Returns:
        0 or 1, of the shape and type of ``scores``: the ``floor(k N)`` largest of ``N`` examples, ties broken in any
        way. With weights, as many of the largest as weigh at most ``k`` together, those aside that alone weigh more.
    """
    flat, limit = scores.flatten(), k * (1 + ROUNDING)
    if weights is None:
        chosen = flat.topk(min(int(limit * (scores.numel() // scores.shape[-1])), flat.numel())).indices
    else:
        heights = weights[..., None].expand(scores.shape).flatten().double()
        fitting = flat.masked_fill(heights > limit, 0)  # what alone weighs too much must not shut out the rest
        order = fitting.topk(min(_most(weights, limit), flat.numel())).indices
        chosen = order[heights[order].cumsum(0) <= limit]
    mask = torch.zeros_like(flat)
    mask[chosen] = 1.0
    return (mask * (flat > 0)).reshape(scores.shape)


def _most(weights: Tensor, limit: float) -> int:
    """A number of entries that weigh more than a limit, whichever they are; entries of weight 0 aside."""
    positive = weights[weights > 0]
    return int(limit / float(positive.min())) + 1 + int((weights == 0).sum()) if positive.numel() else 0


def simplicity(
    factors: Mapping[str, tuple[Tensor, Tensor]], mask: Tensor, p: float, weights: Tensor | None = None
) -> Tensor:
    r"""Schatten quasi-norm of the active components' matrices, from their factors (APD paper, section 2.3).

    .. math:: \frac{1}{N n} \sum_{b,c,m,l} \big( s_c(b) \lVert A^l_{cm} \rVert^2 \lVert B^l_{cm} \rVert^2
        + \epsilon \big)^{p/2}

    ``n`` counts the entries of the decomposed matrices, as in the released code. A bound that the Schatten norm
    attains where the factors are orthogonal.

    Args:
        factors: per site ``V [d_in, C, m]`` and ``U [C, m, d_out]``.
        mask: 0 or 1, ``[..., C]``.
        p: the exponent, above 0.
        weights: of the examples, ``[...]``, summing to 1.

    Returns:
        A scalar.
    """
    rows = mask.flatten(0, -2)
    shares = rows.mean(0) if weights is None else weights.flatten().to(rows.dtype) @ rows
    terms, entries = [], 0
    for read, write in factors.values():
        squared = read.square().sum(0) * write.square().sum(-1)  # [C, m]
        active = (squared + SIMPLICITY_EPS).pow(p / 2).sum(-1)
        idle = SIMPLICITY_EPS ** (p / 2) * squared.shape[1]
        terms.append((shares * active + (1 - shares) * idle).sum())
        entries += read.shape[0] * write.shape[2]
    return torch.stack(terms).sum() / entries


def hidden_error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], weights: Tensor | None = None) -> Tensor:
    """Squared error of ReLU activations, summed over layers and neurons, over the total number of neurons.

    Args:
        found: pre-activations by site, ``[..., d_mlp]``.
        wanted: the target's own, same shapes.
        weights: of the examples, ``[...]``, summing to 1.

    Returns:
        A scalar, averaged over examples (released code of the APD paper).
    """
    errors = [(single(found[name]).relu() - single(wanted[name]).relu()).square().sum(-1) for name in wanted]
    width = sum(pre.shape[-1] for pre in wanted.values())
    with full_precision(errors[0]):
        return mean_over_examples(torch.stack(errors).sum(0), weights) / width
