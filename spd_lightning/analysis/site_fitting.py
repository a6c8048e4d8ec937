"""Read and write vectors of components, fitted to data: sharper ones than training needs, for edits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spd_lightning.analysis.edit_outcomes import fires, raw_weights
from spd_lightning.errors import UsageError
from spd_lightning.functional.weights import Weights
from spd_lightning.model import CausalImportance, Components

RIDGE = 1e-6
"""Added to the second moments, as a share of their mean eigenvalue: far below what data say, far above rounding."""
MOST_INPUTS = 16_384
"""Widest input whose second moments are kept, 2 GiB."""


@dataclass(frozen=True)
class FittedVectors:
    """Vectors of some components of a site.

    Attributes:
        components: their numbers.
        read: ``[d_in, k]``.
        write: ``[k, d_out]``.
        explained: share of the mean square of what the component reads where it is important, and 0 elsewhere, that the
            fitted vector reads, ``[k]``. Far below 1, no linear read tells when the component is important.
    """

    components: tuple[int, ...]
    read: Tensor
    write: Tensor
    explained: Tensor


class Moments:
    """Second moments of a site's input, and with what some components read where they are important.

    Args:
        site: its name.
        parts: its components.
        numbers: those that are fitted.
    """

    def __init__(self, site: str, parts: Components, numbers: Sequence[int]) -> None:
        if parts.site.d_in > MOST_INPUTS:
            raise UsageError(f"edit: fits sites of at most {MOST_INPUTS} inputs, {site!r} has {parts.site.d_in}")
        self._name, self._parts, self._numbers = site, parts, list(numbers)
        self._unit = torch.eye(parts.site.d_in, dtype=parts.V.dtype, device=parts.V.device)
        self._moment = torch.zeros_like(self._unit, dtype=torch.double)
        self._with = self._moment.new_zeros(parts.site.d_in, len(numbers))
        self._square = self._with.new_zeros(len(numbers))
        self._positions = 0

    def add(self, site_input: Tensor, importance: CausalImportance, weights: Weights, threshold: float) -> None:
        """Take a call's input; positions by their weights, padding not at all."""
        vectors = self._parts.site.read(site_input, self._unit)
        weight = raw_weights(weights, vectors.shape[:-1]).to(vectors.device)
        counted = weight > 0
        vectors, weight = vectors[counted].double(), weight[counted][:, None]
        important = fires(importance, weights, threshold)[..., self._numbers][counted]
        wanted = torch.where(important, vectors @ self._parts.V[:, self._numbers].double(), 0)
        self._moment += vectors.T @ (vectors * weight)
        self._with += vectors.T @ (wanted * weight)
        self._square += (wanted.square() * weight).sum(0)
        self._positions += len(vectors)

    def solved(self, threshold: float) -> FittedVectors:
        """The vectors that fit best."""
        self._check(threshold)
        ridge = RIDGE * self._moment.diagonal().mean()
        read = torch.linalg.solve(self._moment + ridge * self._unit, self._with)
        moved = self._moment @ read
        within = read.T @ moved
        write = torch.linalg.pinv(within, hermitian=True) @ moved.T @ self._parts.site.weight().double().T
        missed = self._square - 2 * (read * self._with).sum(0) + within.diagonal()
        like = self._parts.V
        return FittedVectors(tuple(self._numbers), read.to(like), write.to(like), (1 - missed / self._square).to(like))

    def _check(self, threshold: float) -> None:
        if self._positions < self._parts.site.d_in:
            raise UsageError(
                f"edit: {self._name!r} has {self._parts.site.d_in} inputs, which {self._positions} positions do not "
                "determine; fit to more batches"
            )
        for number, square in zip(self._numbers, self._square.tolist(), strict=True):
            if not square > 0:
                raise UsageError(
                    f"edit: {self._name}:{number} is nowhere important (above {threshold:g}) on the data "
                    "that it is fitted to; fit to more batches, or edit it as it is"
                )
