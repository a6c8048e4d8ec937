"""How often components are needed, and how often together."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.functional.losses import TINY, mean_over_examples
from spd_lightning.functional.precision import full_precision

Combine = Callable[[Tensor], Tensor] | None
"""Turns means over this process's examples into those over all; ``None`` where they are all here."""
RAREST = 0.01
"""Of the frequency that is typical of a site; what is rarer is priced as if it were this frequent."""
ALWAYS = 1e-4
"""Added to what importances may differ by, of which components that are always on leave nothing."""


def component_shares(values: Tensor, weights: Tensor | None = None, combine: Combine = None) -> Tensor:
    """Each component's mean over examples.

    Args:
        values: ``[..., C]``.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: as in :func:`frequency_minimality`.

    Returns:
        ``[C]``.
    """
    values = values.flatten(0, -2)
    with full_precision(values):
        shares = values.mean(0) if weights is None else weights.flatten().to(values.dtype) @ values
    return shares if combine is None else combine(shares)


def mean_products(values: Tensor, weights: Tensor | None = None, combine: Combine = None) -> Tensor:
    """Means over examples of the products of every two components' values.

    Args:
        values: ``[..., C]``.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: as in :func:`frequency_minimality`.

    Returns:
        ``[C, C]``.
    """
    flat = values.flatten(0, -2)
    weighted = flat / len(flat) if weights is None else weights.flatten().to(flat.dtype)[:, None] * flat
    with full_precision(flat):
        products = weighted.T @ flat
    return products if combine is None else combine(products)


def frequency_minimality(
    upper: Iterable[Tensor],
    p: float,
    reference: float,
    eps: float = 1e-12,
    weights: Tensor | None = None,
    combine: Combine = None,
) -> Tensor:
    """``sum_l sum_c f_lc log2(1 + reference * f_lc)``, ``f`` being the mean of ``(g + eps) ** p`` (later SPD library).

    A component that many examples need costs more per example than one that few need; how many is many, ``reference``
    says: the logarithm takes over at a share of ``1 / reference`` of the examples.

    Args:
        upper: upper-leaky importances ``[..., C]`` of every site.
        p: the exponent.
        reference: examples that the logarithm counts on.
        eps: added inside the power.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: turns means over this process's examples into those over all, where several processes share a batch;
            the logarithm of a mean is not the mean of logarithms.

    Returns:
        A scalar.
    """
    shares = [component_shares((g + eps).pow(p), weights, combine) for g in upper]
    return frequency_cost(shares, reference)


def frequency_weighted_importance(
    upper: Iterable[Tensor],
    p: float,
    exponent: float,
    rare_exponent: float,
    eps: float = 1e-12,
    weights: Tensor | None = None,
    combine: Combine = None,
) -> Tensor:
    r"""Importance minimality whose price depends on how frequent a component is beside its site's others (ours).

    .. math:: \sum_l \sum_c w^l_c f^l_c, \qquad \sum_c w^l_c f^l_c = \sum_c f^l_c, \qquad
        w^l_c \propto \begin{cases} (r^l_c)^a & r^l_c \geq 1 \\ \max(r^l_c, \varepsilon)^b & r^l_c < 1 \end{cases},
        r^l_c = f^l_c / \bar f^l, \qquad
        \log \bar f^l = \frac{\sum_c (f^l_c)^{1/2} \log f^l_c}{\sum_c (f^l_c)^{1/2}}

    ``f`` is the mean of ``(g + eps) ** p`` over examples, and the weights ``w`` are constants to the gradient. What is
    typical of a site (``f`` with a bar) is a geometric mean by square roots, which neither a component that is on for
    everything decides nor many that are hardly ever on. The value is that of :func:`importance_minimality`, whatever
    the exponents, and so is the gradient where all components are equally frequent.

    Args:
        upper: upper-leaky importances ``[..., C]`` of every site.
        p: the exponent of importances.
        exponent: ``a``, of what is more frequent than is typical. At 1 a component that is needed twice as often as
            another costs twice as much each time, so that none is on for everything and two mechanisms do not share
            one.
        rare_exponent: ``b``, of what is rarer. At 1 it costs less each time, so that what is shared comes apart; at -1
            it costs in all what is typical, so that none lives for few examples.
        eps: added inside the power.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: as in :func:`frequency_minimality`.

    Returns:
        A scalar.
    """
    costs = []
    for g in upper:
        shares = component_shares((g + eps).pow(p), weights, combine)
        constant = shares.detach()
        ratio = constant / _typical(constant)
        price = ratio.clamp_min(1.0).pow(exponent) * ratio.clamp(RAREST, 1.0).pow(rare_exponent)
        costs.append((price * shares).sum() * constant.sum() / (price * constant).sum().clamp_min(TINY))
    return torch.stack(costs).sum()


def _typical(shares: Tensor) -> Tensor:
    sizes = shares.sqrt()
    return ((sizes * shares.clamp_min(TINY).log()).sum() / sizes.sum().clamp_min(TINY)).exp()


def frequency_cost(shares: Iterable[Tensor], reference: float) -> Tensor:
    """``f log2(1 + reference * f)`` summed over sites and components.

    Args:
        shares: how often each component is needed, ``[C]`` per site.
        reference: examples that the logarithm counts on.

    Returns:
        A scalar.
    """
    return torch.stack([(f * torch.log2(1 + reference * f)).sum() for f in shares]).sum()


def importance_covariance(
    importances: Iterable[Tensor], weights: Tensor | None = None, combine: Combine = None
) -> Tensor:
    r"""Covariance over examples of the importances of two components, summed over all pairs of each site (ours).

    .. math:: \sum_l \sum_{c \neq d} \operatorname{Cov}(g^l_c, g^l_d)
        = \sum_l \operatorname{Var}\Big(\sum_c g^l_c\Big) - \sum_c \operatorname{Var}(g^l_c)

    Args:
        importances: ``[..., C]`` in [0, 1], one tensor per site.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: as in :func:`frequency_minimality`.

    Returns:
        A scalar; below 0 where components exclude each other.
    """
    return torch.stack([_covariance(g, weights, combine) for g in importances]).sum()


def _covariance(g: Tensor, weights: Tensor | None, combine: Combine) -> Tensor:
    together = mean_over_examples(g.sum(-1).square() - g.square().sum(-1), weights)
    shares = component_shares(g, weights, combine)
    return together - (shares.sum().square() - shares.square().sum())


class Company(NamedTuple):
    """How much components of a site act together, by two measures; see :func:`company`."""

    many: Tensor
    """``[C]``: with all others."""
    pairs: Tensor
    """``[C, C]``: with each other one; 0 with itself."""

    def among(self, some: Tensor | None = None) -> Tensor:
        """``k`` of some components, by number, without those that are not among them in pairs; of all by default."""
        if some is None:
            some = torch.arange(len(self.many), device=self.many.device)
        return torch.maximum(self.many[some], self.pairs[some][:, some].amax(-1))


def company(importances: Tensor, weights: Tensor | None = None, combine: Combine = None) -> Company:
    r"""How much a component acts together with others of its site: the larger of two measures (ours).

    .. math:: k_c = \max\Big(1 - \frac{\mathbb{E}[g_c \, a_c]}{\mathbb{E}[g_c] \, \mathbb{E}[a_c]}, \;
        \max_{d \neq c} \frac{\mathbb{E}[g_c g_d] - \mathbb{E}[g_c] \, \mathbb{E}[g_d]}
        {\sqrt{\mathbb{E}[g_c^2] \, \mathbb{E}[g_d^2]} - \mathbb{E}[g_c] \, \mathbb{E}[g_d]}\Big), \qquad
        a_c = \frac{1}{1 + \sum_{d \neq c} g_d}

    The first is how much less alone it is, where it is important, than on any example: close to 1 for one of many that
    come in changing companies. Examples on which much happens count little in ``a``, so that components that meet there
    alone are not taken for a group, as their covariance would have it. The second is how closely its importance keeps
    to that of a single other one: 1 for a pair that is only important together, be it always, however much else
    happens. It is a correlation but for its denominator: a product of standard deviations would say nothing of two
    that are always on.

    Args:
        importances: ``[..., C]`` in [0, 1], of one site.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: as in :func:`frequency_minimality`.

    Returns:
        Both measures, about 0 where the site's components come and go independently, and for one that is never
        important.
    """
    shares = component_shares(importances, weights, combine)
    return Company(_less_alone(importances, shares, weights, combine), _pairwise(importances, shares, weights, combine))


def absences(importances: Tensor, weights: Tensor | None = None, combine: Combine = None) -> Tensor:
    r"""How much of where a component is important each other one is not (ours).

    .. math:: 1 - \mathbb{E}[g_c \, g_d] / \mathbb{E}[g_c]

    Args:
        importances: ``[..., C]`` in [0, 1], of one site.
        weights: of the examples, see :func:`mean_over_examples`.
        combine: as in :func:`frequency_minimality`.

    Returns:
        ``[C, C]`` in [0, 1], components in rows; 0 for one that is never important.
    """
    shares = component_shares(importances, weights, combine)[:, None]
    missing = 1 - mean_products(importances, weights, combine) / shares.clamp_min(TINY)
    return torch.where(shares > 0, missing, 0.0)


def _less_alone(g: Tensor, shares: Tensor, weights: Tensor | None, combine: Combine) -> Tensor:
    alone = 1 / (1 + g.sum(-1, keepdim=True) - g)
    where, anywhere = (component_shares(part, weights, combine) for part in (g * alone, alone))
    return torch.where(shares > 0, 1 - where / (shares.clamp_min(TINY) * anywhere), 0.0)


def _pairwise(g: Tensor, shares: Tensor, weights: Tensor | None, combine: Combine) -> Tensor:
    together = mean_products(g, weights, combine)
    sizes = together.diagonal().sqrt().clamp_min(TINY)
    cosine, shares = together / sizes / sizes[:, None], shares / sizes
    close = 1 - (1 - cosine) / (1 - torch.outer(shares, shares) + ALWAYS)
    return close.fill_diagonal_(0.0)
