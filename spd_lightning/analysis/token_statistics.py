"""Which tokens a component goes with: sparse counts, so that neither components nor vocabulary make it large."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

SHIFT = 1 << 32
"""Tokens are numbered below this; a pair is one number."""


@dataclass(frozen=True)
class TokenReading:
    """The token that says best when a component is important, one entry per component.

    Attributes:
        firings: positions where it was important, ``[C]``.
        tokens: the token with the highest F1, ``[C]``; -1 for a component that was never important.
        precision: share of the component's firings that were on the token, ``[C]``.
        recall: share of the token's positions on which the component fired, ``[C]``.
    """

    firings: Tensor
    tokens: Tensor
    precision: Tensor
    recall: Tensor

    @property
    def f1(self) -> Tensor:
        """Harmonic mean of precision and recall, ``[C]``; 0 for a component that was never important."""
        return 2 * self.precision * self.recall / (self.precision + self.recall).clamp_min(torch.finfo().tiny)


class TokenCounts:
    """Counts, over positions, of tokens and of the components that were important there.

    Memory grows with the pairs that occur together, not with components times tokens.

    Args:
        n_components: ``C``.

    Attributes:
        positions: how many have been seen.
    """

    def __init__(self, n_components: int) -> None:
        self.n_components, self.positions = n_components, 0
        nothing = torch.empty(0, dtype=torch.long)
        self._pairs, self._tokens = (nothing, nothing), (nothing, nothing)

    def update(self, fires: Tensor, tokens: Tensor) -> None:
        """Count some positions.

        Args:
            fires: whether each component is important there, boolean ``[positions, C]``.
            tokens: what stands there, whole numbers ``[positions]``, at least 0.
        """
        fires, tokens = fires.cpu(), tokens.cpu().long()
        places, components = fires.nonzero(as_tuple=True)
        self.positions += len(tokens)
        self._pairs = _added(self._pairs, _counted(components * SHIFT + tokens[places]))
        self._tokens = _added(self._tokens, _counted(tokens))

    def add(self, other: Self) -> None:
        """Count what another has counted, such as another process."""
        self.positions += other.positions
        self._pairs, self._tokens = _added(self._pairs, other._pairs), _added(self._tokens, other._tokens)

    def reading(self) -> TokenReading:
        """The best token of every component; of equally good ones the lowest number."""
        (pairs, together), (tokens, often) = self._pairs, self._tokens
        components, paired = pairs // SHIFT, pairs % SHIFT
        firings = torch.zeros(self.n_components, dtype=torch.long).index_add(0, components, together)
        there = often[torch.searchsorted(tokens, paired)]
        f1 = 2 * together.double() / (firings[components] + there)
        best = torch.zeros(self.n_components, dtype=torch.double).scatter_reduce(0, components, f1, "amax")
        chosen = (f1 == best[components]).nonzero()[:, 0].flip(0)  # the lowest number is written last, and stays
        found = torch.full((self.n_components,), -1).index_put((components[chosen],), chosen)
        known, at = found >= 0, found.clamp_min(0)
        if not len(pairs):
            nothing = torch.zeros(self.n_components)
            return TokenReading(firings, found, nothing, nothing)
        shares = (torch.where(known, together[at] / whole, 0.0) for whole in (firings.clamp_min(1), there[at]))
        return TokenReading(firings, torch.where(known, paired[at], -1), *shares)


Counts = tuple[Tensor, Tensor]
"""Different numbers in order, and how often each was seen."""


def _counted(numbers: Tensor) -> Counts:
    found, often = numbers.unique(return_counts=True)  # type: ignore[no-untyped-call]
    return found, often


def _added(one: Counts, other: Counts) -> Counts:
    numbers, places = torch.cat([one[0], other[0]]).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    often = torch.zeros(len(numbers), dtype=torch.long).index_add(0, places, torch.cat([one[1], other[1]]))
    return numbers, often
