"""Are components waves, or single numbers?"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spd_lightning.functional import (
    chance_plane_alignment,
    fourier_planes,
    frequency_power,
    keyed_generator,
)

EPS = 1e-12
SHORT = 0.1
"""A neuron whose vector is shorter than this share of the longest is not used: weight decay has taken it away."""


@dataclass(frozen=True)
class NumberSpectra:
    """Shares of the squared length of directions as functions of numbers.

    Attributes:
        shares: of every frequency, 0 first, over all numbers that are read side by side, ``[n, (modulus + 1) / 2]``.
        single: of the number that has most, ``[n]``: 1 for a row or column of the addition table.
    """

    shares: Tensor
    single: Tensor

    @property
    def alignment(self) -> Tensor:
        """Share in the best plane, frequency 0 left out, ``[n]``."""
        return self.shares[:, 1:].amax(1)

    @property
    def frequency(self) -> Tensor:
        """Frequency of the best plane, ``[n]``."""
        return self.shares[:, 1:].argmax(1) + 1


@dataclass(frozen=True)
class NumberSide:
    """One side of a site, seen on numbers modulo a modulus.

    Attributes:
        side: whether the vectors that components read or those that they write are functions of the numbers.
        numbers: ``[copies * modulus, d]``, takes a vector to its values on the numbers.
        modulus: number of numbers, odd.
    """

    side: Literal["read", "write"]
    numbers: Tensor
    modulus: int

    def of_components(self, read: Tensor, write: Tensor) -> Tensor:
        """Bundles of directions of components, ``[C, m, d]``; of one of any rank the rows or columns of its matrix.

        Args:
            read: ``V``, ``[d_in, C]`` or ``[d_in, C, m]``.
            write: ``U``, ``[C, d_out]`` or ``[C, m, d_out]``.
        """
        if read.dim() == 3:
            return torch.einsum("icm,cmo->coi" if self.side == "read" else "icm,cmo->cio", read, write)
        return (read.T if self.side == "read" else write)[:, None]

    def of_neurons(self, weight: Tensor) -> Tensor:
        """Directions of the neurons at the other side of a weight that are used, ``[neurons, 1, d]``.

        Args:
            weight: ``[d_out, d_in]``.
        """
        rows = weight if self.side == "read" else weight.T
        lengths = (rows @ self.numbers.T).norm(dim=1)
        return rows[lengths > SHORT * lengths.max()][:, None]

    def spectra(self, directions: Tensor) -> NumberSpectra:
        """See :class:`NumberSpectra`; directions are ``[n, m, d]``."""
        values = directions @ self.numbers.T
        power = frequency_power(values.reshape(*values.shape[:-1], -1, self.modulus)).sum((1, 2))
        squares = values.square().sum(1)
        total = squares.sum(-1, keepdim=True) + EPS
        return NumberSpectra(power / total, (squares / total).amax(-1))

    def chance(self, terms: int, draws: int) -> tuple[float, float]:
        """Mean alignment and mean share of a single number of bundles of random directions.

        Args:
            terms: directions in a bundle.
            draws: number of random bundles.
        """
        numbers = self.numbers.double().cpu()
        planes = fourier_planes(self.modulus, len(numbers) // self.modulus)
        single = torch.eye(len(numbers), dtype=torch.float64)[..., None]
        aligned, alone = (
            chance_plane_alignment(numbers, spaces, terms, draws, keyed_generator("chance", "fourier"))
            for spaces in (planes, single)
        )
        return aligned, alone
