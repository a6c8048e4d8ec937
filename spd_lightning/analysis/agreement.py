"""Do decompositions from other seeds find the same components?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional import keyed_generator
from spd_lightning.model import DecomposedModel

Alive = Mapping[str, Tensor]
"""Which components are compared, boolean ``[C]`` by site."""
BLOCK = 1 << 24
"""Cosines that are looked at at once: 64 MiB of them."""


@dataclass(frozen=True)
class SiteAgreement:
    """How well the components of one site are found again.

    Attributes:
        alive: components that are compared, ``[runs]``.
        best: for every ordered pair of runs the mean, over the first run's components, of the largest cosine with one
            of the second's, ``[runs, runs]``; 1 on the diagonal, NaN where one of the two has none.
        chance: the same mean between as many random matrices of rank one, over all pairs.
    """

    alive: Tensor
    best: Tensor
    chance: float

    @property
    def mean(self) -> float:
        """Over all pairs of different runs that have components."""
        apart = ~torch.eye(len(self.best), dtype=torch.bool)
        return self.best[apart].nanmean().item()


def agreement(models: Sequence[DecomposedModel], alive: Sequence[Alive]) -> dict[str, SiteAgreement]:
    """Compare decompositions of one network (mean max cosine of later SPD work, between ``U ⊗ V``).

    The cosine of two components ``u ⊗ v`` is that of their matrices, ``cos(u, u') cos(v, v')``, with its sign.

    Args:
        models: decompositions of the same sites; numbers of components may differ.
        alive: of each, the components that count.

    Returns:
        By site.

    Raises:
        UsageError: for fewer than two, or for other sites.
    """
    if len(models) < 2:
        raise UsageError(f"agreement: needs at least two decompositions, got {len(models)}")
    names = models[0].site_names
    for model in models[1:]:
        if model.site_names != names:
            raise UsageError(f"agreement: sites must be the same, got {names} and {model.site_names}")
    return {name: _of_site([model.components[name] for model in models], [a[name] for a in alive]) for name in names}


def _of_site(parts: Sequence[object], alive: Sequence[Tensor]) -> SiteAgreement:
    factors = [_directions(one.V.detach(), one.U.detach(), kept) for one, kept in zip(parts, alive, strict=True)]  # type: ignore[attr-defined]
    shapes = {(read.shape[1], write.shape[1]) for read, write in factors}
    if len(shapes) > 1:
        raise UsageError(f"agreement: the sites' matrices must have one shape, got {sorted(shapes)}")
    best = torch.eye(len(factors))
    chance = []
    for first, second in permutations(range(len(factors)), 2):
        best[first, second] = _mean_best(factors[first], factors[second])
        drawn = (_random(factors[run], keyed_generator(0, "agreement", run)) for run in (first, second))
        chance.append(_mean_best(*drawn))
    return SiteAgreement(torch.tensor([len(read) for read, _ in factors]), best, float(torch.tensor(chance).nanmean()))


Directions = tuple[Tensor, Tensor]
"""Unit read vectors ``[C, d_in]`` and unit write vectors ``[C, d_out]``."""


def _directions(V: Tensor, U: Tensor, kept: Tensor) -> Directions:
    if V.dim() > 2:
        raise UsageError("agreement: compares components of rank one, not those of the older method")
    kept = kept.to(V.device)
    read, write = V.T[kept], U[kept]
    return torch.nn.functional.normalize(read.float(), dim=1), torch.nn.functional.normalize(write.float(), dim=1)


def _random(like: Directions, generator: torch.Generator) -> Directions:
    drawn = (torch.randn(part.shape, generator=generator) for part in like)
    read, write = (torch.nn.functional.normalize(part, dim=1) for part in drawn)
    return read, write


def _mean_best(one: Directions, other: Directions) -> float:
    """Mean over the first of the largest cosine with one of the second."""
    if not len(one[0]) or not len(other[0]):
        return float("nan")
    blocks = zip(*(torch.split(part, max(1, BLOCK // len(other[0]))) for part in one), strict=True)
    best = [((read @ other[0].T) * (write @ other[1].T)).amax(1) for read, write in blocks]
    return torch.cat(best).mean().item()
