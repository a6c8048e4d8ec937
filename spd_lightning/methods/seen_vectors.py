"""The vectors of a site's components as the network sees them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from spd_lightning.functional.frequency import mean_products
from spd_lightning.losses import Step
from spd_lightning.losses.sharing import processes
from spd_lightning.model.components import Components
from spd_lightning.model.wrapping import site_of


class SeenVectors(NamedTuple):
    r"""Products of the read vectors of a site's components, or of their write vectors, as the network sees them (ours).

    Inputs have no part in some directions, and nothing downstream reads others. What vectors hold there is left as it
    was by training, so that they may look independent where they are not. Hence read vectors are held against each
    other by their inner activations, and write vectors by what the output's gradient is along them. With these ``a``
    on ``n`` positions, in units that give them and the vectors ``v`` the same mean square, ``K`` vectors have products

    .. math:: M_{cd} = \frac{1}{n} \sum_i a_{ic} a_{id} + \frac{K}{n} \, v_c \cdot v_d

    The second term is what they are as such, as if ``K`` more positions had told: fewer than ``K`` cannot show that
    vectors are independent.

    Attributes:
        seen: ``[C, C]``, the means of the first term.
        plain: ``[C, C]``, products of the vectors as they are.
        positions: ``n``.
    """

    seen: Tensor
    plain: Tensor
    positions: float

    def lengths(self) -> Tensor:
        """Of the vectors as they are, ``[C]``."""
        return self.plain.diagonal().sqrt()

    def products(self, there: Tensor) -> Tensor:
        """``M`` of ``K`` of them, by number, ``[K, K]``."""
        return (self.seen + len(there) / self.positions * self.plain)[there][:, there]

    def add(self, takers: Tensor, shares: Tensor, taken: Tensor) -> None:
        """Add shares ``[K]`` of a combination ``[C]`` of all vectors to some, by number."""
        added = torch.zeros_like(taken).index_copy(0, takers, shares)
        for products in (self.seen, self.plain):
            along = products @ taken
            given_by = torch.outer(added, along + along @ taken / 2 * added)
            products += given_by + given_by.T

    def shrink(self, number: int, factor: float) -> None:
        """Make one vector shorter."""
        for products in (self.seen, self.plain):
            products[number] *= factor
            products[:, number] *= factor


Sides = tuple[SeenVectors, SeenVectors]
"""Read vectors and write vectors."""


def seen_vectors(parts: Components, gradients: Mapping[str, Tensor], step: Step) -> Sides:
    """Both sides of a site's components, on the CPU in double precision; on every process the same but for rounding.

    Args:
        parts: the components that own the parameters.
        gradients: of the output by the calls of all sites that use them, ``[..., d_out]``.
        step: the batch.

    Returns:
        Read vectors and write vectors, as they are at that site.
    """
    V, U = parts.V.detach().cpu().double(), parts.U.detach().cpu().double()
    plain = V.T @ V, U @ U.T
    seen, positions = [torch.zeros_like(products) for products in plain], 0.0
    for call, gradient in gradients.items():
        own = step.model.components[site_of(call)]
        inner = own.inner(step.clean.site_inputs[call])  # of the vectors as they are now
        found = [inner.detach(), gradient.to(own.U) @ own.U.T.detach()]
        count = _positions(found[0][..., :1], step)
        positions += count
        for side, values in enumerate(reversed(found) if own.transposed else found):
            seen[side] += count * _means(values, plain[side], step)
    return SeenVectors(seen[0] / positions, plain[0], positions), SeenVectors(seen[1] / positions, plain[1], positions)


def _means(values: Tensor, plain: Tensor, step: Step) -> Tensor:
    """Means of products of ``[..., C]`` over positions, in the units of others."""
    exact = torch.float32 if values.device.type == "mps" else torch.float64  # combinations of hardly anything matter
    products = mean_products(values.to(exact), step.weights_of(values), step.combine).cpu().double()
    size = products.trace()
    return products * (plain.trace() / size if size > 0 else 0.0)  # behind a unit that is off nothing is seen


def _positions(values: Tensor, step: Step) -> float:
    """How many positions count, on all processes."""
    counted = values.new_tensor(float(len(step.counted(values).flatten(0, -2))))
    return float(counted if step.combine is None else step.combine(counted) * processes())
