"""Components of a site as arrays, of rank one or of any rank."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from spd_lightning.figures.style import Array, to_array


class Factors(NamedTuple):
    """A target's matrix and its components.

    Attributes:
        weight: ``[d_out, d_in]``.
        read: ``[d_in, C, m]``.
        write: ``[C, m, d_out]``.
    """

    weight: Array
    read: Array
    write: Array

    def component(self, index: int) -> Array:
        """The matrix of one component, ``[d_out, d_in]``."""
        matrix: Array = (self.read[:, index] @ self.write[index]).T
        return matrix

    def total(self) -> Array:
        """The sum of all components, ``[d_out, d_in]``."""
        matrix: Array = np.tensordot(self.read, self.write, 2).T
        return matrix


def checked_factors(what: str, names: Sequence[str], weight: Tensor, read: Tensor, write: Tensor) -> Factors:
    """Arrays of a site's matrix, V and U, once they fit.

    Args:
        what: what to call all three in an error.
        names: what to call each.
        weight: ``[d_out, d_in]``.
        read: ``[d_in, C]`` or ``[d_in, C, m]``.
        write: ``[C, d_out]`` or ``[C, m, d_out]``.

    Returns:
        The arrays; components of rank one get a third dimension.

    Raises:
        ValueError: if they do not fit each other.
    """
    ranks = ("m",) if read.ndim == 3 else ()
    arrays = (
        to_array(names[0], weight, "d_out", "d_in"),
        to_array(names[1], read, "d_in", "C", *ranks),
        to_array(names[2], write, "C", *ranks, "d_out"),
    )
    target, v, u = arrays
    if v.shape[0] != target.shape[1] or u.shape != (*v.shape[1:], target.shape[0]):
        shapes = f"{list(target.shape)}, {list(v.shape)} and {list(u.shape)}"
        wanted = "[d_out, d_in], [d_in, C] and [C, d_out] (or [d_in, C, m] and [C, m, d_out])"
        raise ValueError(f"{what} must be {wanted}, got {shapes}")
    return Factors(target, v, u) if ranks else Factors(target, v[:, :, None], u[:, None])
