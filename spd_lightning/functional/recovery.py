"""Agreement of a decomposition with mechanisms that are known (SPD paper, Table 1 and appendix)."""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

EPS = 1e-12
"""Added to norms, as in the paper's code."""
NEGLIGIBLE = 1e-3
"""Of the target's column; the direction of what is shorter is noise."""
UNMATCHED = -1
"""In place of a component's number: none."""


def _column_cosines(read: Tensor, write: Tensor, weight: Tensor) -> Tensor:
    """Cosine of every component's column with the target's, ``[C, d_in]``; 0 where it has next to no length."""
    if read.dim() == 3:
        columns = _columns(read, write)
        dots, norms = (columns @ weight.T[:, :, None])[..., 0].T, columns.norm(dim=-1).T + EPS
    else:
        dots, norms = read.T * (write @ weight), read.T.abs() * write.norm(dim=1, keepdim=True) + EPS
    lengths = weight.norm(dim=0) + EPS
    cosines: Tensor = (dots / norms / lengths).masked_fill(norms < NEGLIGIBLE * lengths, 0.0)
    return cosines


def _columns(read: Tensor, write: Tensor) -> Tensor:
    """Columns of components of any rank, ``[d_in, C, d_out]``."""
    return torch.einsum("icm,cmo->ico", read, write)


def max_cosine_similarity(read: Tensor, write: Tensor, weight: Tensor) -> Tensor:
    """Best signed cosine of a component's column with each column of the target's matrix.

    Column ``j`` of the rank-one matrix of component ``c`` is ``U[c] * V[j, c]``; of one of any rank, the sum of such
    products. A column shorter than a thousandth of the target's counts as orthogonal to it (ours): spares that have
    shrunk to nothing point anywhere, and in a plane one of them is often the nearest.

    Args:
        read: ``V``, ``[d_in, C]``, or ``[d_in, C, m]`` for components of any rank.
        write: ``U``, ``[C, d_out]`` or ``[C, m, d_out]``.
        weight: the target's matrix ``[d_out, d_in]``.

    Returns:
        ``[d_in]``; its mean is MMCS.
    """
    return _column_cosines(read, write, weight).amax(dim=0)


def l2_ratio(read: Tensor, write: Tensor, weight: Tensor) -> Tensor:
    """Length of the best-aligned component's column over the length of the target's column.

    Args:
        read: ``V``, ``[d_in, C]``, or ``[d_in, C, m]`` for components of any rank.
        write: ``U``, ``[C, d_out]`` or ``[C, m, d_out]``.
        weight: the target's matrix ``[d_out, d_in]``.

    Returns:
        ``[d_in]``; its mean is ML2R. Below 1 the components have shrunk.
    """
    best = _column_cosines(read, write, weight).argmax(dim=0)
    columns = torch.arange(weight.shape[1], device=weight.device)
    if read.dim() == 3:
        lengths = torch.einsum("im,imo->io", read[columns, best], write[best]).norm(dim=1)
    else:
        lengths = write.norm(dim=1)[best] * read[columns, best].abs()
    ratios: Tensor = lengths / (weight.norm(dim=0) + EPS)
    return ratios


def chance_mmcs(d_out: int, n_columns: int, n_components: int, draws: int, generator: Generator) -> float:
    """MMCS that components of random direction would score, by Monte Carlo.

    Needed because it is far from 0: about 0.98 for 20 components in the plane.

    Args:
        d_out: length of a column.
        n_columns: number of target columns.
        n_components: number of components.
        draws: number of random decompositions.
        generator: where the randomness comes from.

    Returns:
        The mean over draws.
    """
    total = 0.0
    for _ in range(draws):
        shape = (n_components + n_columns, d_out)
        directions = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=1)
        signs = torch.randint(0, 2, (n_components, n_columns), generator=generator) * 2 - 1
        cosines = directions[:n_components] @ directions[n_components:].T * signs
        total += cosines.amax(dim=0).mean().item()
    return total / draws


def identity_order(table: Tensor) -> Tensor:
    """Order of columns that puts the best one-to-one matching of rows on the diagonal (Hungarian).

    Args:
        table: importances ``[n_rows, C]``, one row per probe.

    Returns:
        A permutation ``[C]``: column ``order[i]`` is matched to row ``i`` for ``i < min(n_rows, C)``,
        unmatched columns follow by decreasing mass. With fewer columns than rows, the matched rows'
        columns come in row order.
    """
    matched = torch.as_tensor(linear_sum_assignment(table.detach().double().cpu().numpy(), maximize=True)[1])
    rest = torch.ones(table.shape[1], dtype=torch.bool)
    rest[matched] = False
    leftover = torch.nonzero(rest).flatten()
    mass = table.detach().cpu().sum(0)[leftover]
    return torch.cat([matched, leftover[mass.argsort(descending=True, stable=True)]])


def pattern_order(table: Tensor, kind: str | None) -> Tensor:
    """Order of columns in which an expected pattern is easy to see.

    Args:
        table: importances ``[n_rows, C]``, one row per probe.
        kind: ``"dense"`` sorts by decreasing mass; anything else is ordered by :func:`identity_order`.

    Returns:
        A permutation ``[C]``, on the table's device.
    """
    if kind == "dense":
        return table.sum(0).argsort(descending=True, stable=True)
    return identity_order(table).to(table.device)


def identity_contradictions(table: Tensor, tolerance: float) -> int:
    """Number of importances that contradict "one component per row, one row per component".

    After the best matching: entries off the diagonal above ``tolerance`` plus diagonal entries below
    ``1 - tolerance``. Every column counts, used or not; a row left without a column counts once.

    Args:
        table: lower-leaky importances ``[n_rows, C]`` on one-hot probes.
        tolerance: slack on either side.

    Returns:
        The count; 0 is a perfect match.
    """
    values = table.detach().cpu()
    rows, columns = linear_sum_assignment(values.double().numpy(), maximize=True)
    matched = torch.full((len(values),), UNMATCHED)
    matched[rows] = torch.as_tensor(columns)
    return term_contradictions(values, torch.eye(len(values), dtype=torch.bool), matched, tolerance)


def term_contradictions(table: Tensor, needed: Tensor, matched: Tensor, tolerance: float) -> int:
    """Number of importances that contradict where known terms are needed.

    A component that a term is matched to should be important where the term is needed and idle elsewhere, every
    other component idle everywhere. Every column counts; a term left without a component counts once.

    Args:
        table: lower-leaky importances ``[n_rows, C]``.
        needed: where terms are needed, boolean ``[n_rows, n]``.
        matched: number of the component that each term is matched to, ``[n]``; ``UNMATCHED`` for none.
        tolerance: slack on either side.

    Returns:
        The count; 0 is a perfect match.
    """
    values = table.detach().cpu()  # compared as they are: a float32 0.9 cast to double falls below 1 - 0.1
    found = matched != UNMATCHED
    expected = torch.zeros_like(values, dtype=torch.bool)
    expected[:, matched[found]] = needed[:, found]
    weak = int((values[expected] < 1 - tolerance).sum())
    leaks = int((values[~expected] > tolerance).sum())
    return weak + leaks + int((~found).sum())


class MatchedTerms(NamedTuple):
    """Which component comes closest to each of a site's known terms, one to one.

    Attributes:
        component: its number, ``[n]``; ``UNMATCHED`` where there are fewer components than terms.
        cosine: between the two matrices of rank one, ``[n]``, with sign; 0 without a component.
        length: Frobenius norm of the component over that of the term, ``[n]``; 0 without a component.
    """

    component: Tensor
    cosine: Tensor
    length: Tensor


def match_terms(read: Tensor, write: Tensor, term_read: Tensor, term_write: Tensor) -> MatchedTerms:
    """Match components to known terms so that cosines, times the shorter length over the longer, sum to most (ours).

    A component of hardly any length counts for nothing, wherever it happens to point. By direction alone one that has
    died would take the place of the one that does the work.

    Args:
        read: ``V``, ``[d_in, C]``.
        write: ``U``, ``[C, d_out]``.
        term_read: ``[n, d_in]``.
        term_write: ``[n, d_out]``.
    """
    norms = term_read.norm(dim=1) * term_write.norm(dim=1) + EPS
    lengths = ((read.norm(dim=0) * write.norm(dim=1))[None] / norms[:, None]).detach().cpu().double()
    along = ((term_read @ read) * (term_write @ write.T) / norms[:, None].square()).detach().cpu().double()
    cosines = along / (lengths + EPS)
    likeness = cosines * torch.minimum(lengths, 1 / (lengths + EPS))
    terms, components = map(torch.as_tensor, linear_sum_assignment(likeness.numpy(), maximize=True))
    component = torch.full((len(norms),), UNMATCHED)
    component[terms] = components
    cosine, length = torch.zeros(len(norms)), torch.zeros(len(norms))
    length[terms] = lengths[terms, components].float()
    cosine[terms] = cosines[terms, components].float()
    return MatchedTerms(component, cosine, length)


def dense_contradictions(table: Tensor, n_dense: int, tolerance: float, min_entries: int = 1) -> int:
    """Number of importances that contradict "``n_dense`` columns are used, all others are idle".

    Columns are ranked by their sum. Each of the first ``n_dense`` misses ``min_entries`` minus its entries of
    at least ``1 - tolerance`` (never less than 0); in the others every entry above ``tolerance`` counts.

    Args:
        table: lower-leaky importances ``[n_rows, C]`` on one-hot probes.
        n_dense: number of columns expected in use.
        tolerance: slack on either side.
        min_entries: strong entries that a used column must have.

    Returns:
        The count; 0 is a match. Columns that do not exist miss all their entries.
    """
    values = table.detach().cpu()  # compared as they are, see identity_contradictions
    order = values.sum(0, dtype=torch.float64).argsort(descending=True, stable=True)
    strong = (values[:, order[:n_dense]] >= 1 - tolerance).sum(0)
    missing = int((min_entries - strong).clamp(min=0).sum()) + min_entries * max(n_dense - values.shape[1], 0)
    return missing + int((values[:, order[n_dense:]] > tolerance).sum())
