"""Which tokens a component goes with: sparse counts, so that neither components nor vocabulary make it large."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy
import torch
from torch import Tensor

from spd_lightning.analysis.kept import check_below, check_lengths

SHIFT = 1 << 32
"""Tokens are numbered below this; a pair is one number."""


@dataclass(frozen=True)
class TokenReading:
    """A token that says when a component is important, one entry per component.

    Attributes:
        firings: positions where it was important, ``[C]``.
        tokens: the token with the highest F1, ``[C]``; -1 for a component that has none.
        precision: share of the component's firings that were on the token, ``[C]``.
        recall: share of the token's positions on which the component fired, ``[C]``.
        pmi: pointwise mutual information in nats: the logarithm of how much oftener the two come together than they
            would by chance, ``[C]``; 0 for a component that has no token.
    """

    firings: Tensor
    tokens: Tensor
    precision: Tensor
    recall: Tensor
    pmi: Tensor

    @property
    def f1(self) -> Tensor:
        """Harmonic mean of precision and recall, ``[C]``; 0 for a component that has no token."""
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
        self._waiting: list[Counts] = []

    def update(self, fires: Tensor, tokens: Tensor) -> None:
        """Count some positions.

        Args:
            fires: whether each component is important there, boolean ``[positions, C]``.
            tokens: what stands there, whole numbers ``[positions]``, at least 0.
        """
        places, components = fires.cpu().nonzero(as_tuple=True)
        self.update_sparse(places, components, tokens.cpu().long())

    def update_sparse(self, places: Tensor, components: Tensor, tokens: Tensor) -> None:
        """Count some positions, where it is known which components are important.

        Args:
            places: positions of the firings, ``[firings]``.
            components: which component each is of, ``[firings]``.
            tokens: what stands at all positions, ``[positions]``, at least 0.
        """
        self.positions += len(tokens)
        self._waiting.append(_counted(components * SHIFT + tokens[places]))
        self._tokens = _added(self._tokens, _counted(tokens))
        if sum(len(numbers) for numbers, _ in self._waiting) > len(self._pairs[0]):
            self._settle()  # which sorts all pairs: done when there are twice as many, the sum of it stays small

    def _settle(self) -> None:
        self._pairs, self._waiting = _added(self._pairs, *self._waiting), []

    def add(self, other: Self) -> None:
        """Count what another has counted, such as another process."""
        self.positions += other.positions
        self._pairs = _added(self._pairs, *self._waiting, other._pairs, *other._waiting)
        self._tokens, self._waiting = _added(self._tokens, other._tokens), []

    def tensors(self) -> dict[str, Tensor]:
        """All that has been counted, to be kept in a file."""
        self._settle()
        parts = {"pairs": self._pairs[0], "together": self._pairs[1], "tokens": self._tokens[0]}
        return parts | {"often": self._tokens[1]}

    @classmethod
    def of(cls, n_components: int, tensors: Mapping[str, Tensor]) -> Self:
        """Counts that :meth:`tensors` gave, to go on with.

        Raises:
            ValueError: for tensors that none can have given.
        """
        counts = cls(n_components)
        pairs, together, tokens, often = (tensors[name] for name in ("pairs", "together", "tokens", "often"))
        check_lengths(pairs, together)
        check_lengths(tokens, often)
        check_below(pairs // SHIFT, n_components)
        if not torch.isin(pairs % SHIFT, tokens).all():
            raise ValueError("a component on a token that was nowhere")
        counts._pairs, counts._tokens, counts.positions = (pairs, together), (tokens, often), int(often.sum())
        return counts

    def reading(self) -> TokenReading:
        """The best token of every component; of equally good ones the lowest number."""
        return self.best(1)[0]

    def best(self, shown: int) -> list[TokenReading]:
        """The best tokens of every component, by F1; of equally good ones the lowest number comes first.

        Args:
            shown: how many.

        Returns:
            The best of all components, then the second best, and so on.
        """
        self._settle()
        (pairs, together), (tokens, often) = self._pairs, self._tokens
        components, paired = pairs // SHIFT, pairs % SHIFT
        firings = torch.zeros(self.n_components, dtype=torch.long).index_add(0, components, together)
        there = often[torch.searchsorted(tokens, paired)]
        f1 = 2 * together.double() / (firings[components] + there)
        order = torch.from_numpy(numpy.lexsort((paired.numpy(), -f1.numpy(), components.numpy())))
        rank = ranks(components[order])
        return [self._reading(order[rank == place], firings, there) for place in range(shown)]

    def _reading(self, chosen: Tensor, firings: Tensor, there: Tensor) -> TokenReading:
        """Of some pairs, at most one for each component."""
        pairs, together = self._pairs[0][chosen], self._pairs[1][chosen].double()
        components = pairs // SHIFT
        precision, recall = together / firings[components], together / there[chosen]
        pmi = (precision * self.positions / there[chosen]).log()
        found = torch.full((self.n_components,), -1).index_put((components,), pairs % SHIFT)
        nothing = torch.zeros(self.n_components)
        shares = (nothing.index_put((components,), share.float()) for share in (precision, recall, pmi))
        return TokenReading(firings, found, *shares)


def ranks(groups: Tensor) -> Tensor:
    """How many entries of the same group come before each, of groups ``[n]`` in order."""
    sizes: Tensor = torch.unique_consecutive(groups, return_counts=True)[1]
    starts = sizes.cumsum(0) - sizes
    return torch.arange(len(groups)) - starts.repeat_interleave(sizes)


Counts = tuple[Tensor, Tensor]
"""Different numbers in order, and how often each was seen."""


def _counted(numbers: Tensor) -> Counts:
    found, often = numbers.unique(return_counts=True)  # type: ignore[no-untyped-call]
    return found, often


def _added(*counts: Counts) -> Counts:
    together = torch.cat([numbers for numbers, _ in counts])
    numbers, places = together.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    often = torch.cat([often for _, often in counts])
    return numbers, torch.zeros(len(numbers), dtype=torch.long).index_add(0, places, often)
