"""A residual stream that is never written out: coefficients and the directions they belong to, kept apart."""

import torch
from torch import Tensor

Key = tuple[object, ...]
Products = dict[Key, tuple[Tensor, Tensor, Tensor]]
"""Products of direction and read matrices by the identities of both, which are kept so that these stay theirs."""


class Factored:
    """``Σ coefficients @ directions``, of which only linear reads are ever wanted.

    Reading ``(c D) M`` as ``c (D M)`` replaces a product over the stream's width for every example by one small
    product per step. Exact up to rounding, in value and gradient.

    Args:
        terms: pairs of coefficients ``[..., k]`` and directions ``[k, d]``.
        products: where ``D M`` is kept for as long as ``D`` and ``M`` do not change: one step.
    """

    def __init__(self, terms: list[tuple[Tensor, Tensor]], products: Products) -> None:
        self.terms, self.products = terms, products

    def __add__(self, other: "Factored") -> "Factored":
        """The sum of two streams."""
        return Factored([*self.terms, *other.terms], self.products)

    def __matmul__(self, read: Tensor) -> Tensor:
        """The stream read by a matrix ``[d, r]``: ``[..., r]``."""
        first, *others = (coefficients @ self.product(directions, read) for coefficients, directions in self.terms)
        return sum(others, first)

    def scaled(self, factor: Tensor) -> "Factored":
        """Every example times its own factor ``[...]``."""
        return Factored([(factor[..., None] * c, directions) for c, directions in self.terms], self.products)

    def dense(self) -> Tensor:
        """The stream written out, ``[..., d]``."""
        first, *others = (coefficients @ directions for coefficients, directions in self.terms)
        return sum(others, first)

    def product(self, directions: Tensor, read: Tensor) -> Tensor:
        """Directions ``[k, d]`` read by a matrix ``[d, r]``, ``[k, r]``, computed once for as long as both stay."""
        key = (_identity(directions), _identity(read), torch.is_grad_enabled())
        if key not in self.products:
            self.products[key] = (directions, read, directions @ read)
        return self.products[key][2]


def _identity(matrix: Tensor) -> object:
    """The same for two views of the same constants, such as a weight transposed twice.

    Two parameters that share their numbers are two matrices all the same: each has a gradient of its own.
    """
    return id(matrix) if matrix.requires_grad else (matrix.data_ptr(), matrix.shape, matrix.stride())
