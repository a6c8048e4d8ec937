"""The places at which a component is strongest, from distinct documents: a heap for every component."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy
import torch
from torch import Tensor

from spd_lightning.analysis.kept import check_lengths
from spd_lightning.analysis.token_statistics import ranks

NO_TOKEN = -1
"""Stands in a window where the example has no token any more."""


@dataclass(frozen=True)
class Places:
    """Places of components, ordered by component and then by score, the highest first.

    Attributes:
        components: whose place it is, ``[n]``.
        documents: which document or example it is from, ``[n]``; a component has one place in each.
        examples: number of the example in the data, ``[n]``.
        positions: position within the example, ``[n]``; of several leading dimensions the flat one.
        scores: magnitude of the inner activation times importance, ``[n]``.
        inner: the inner activation with its sign, ``[n]``.
        importance: the importance, ``[n]``.
        tokens: what stands around it, ``[n, window]``, the place in the middle; -1 beyond the example. Empty windows
            where the data is no text.
        importances: of the component at these tokens, ``[n, window]``.
    """

    components: Tensor
    documents: Tensor
    examples: Tensor
    positions: Tensor
    scores: Tensor
    inner: Tensor
    importance: Tensor
    tokens: Tensor
    importances: Tensor

    @classmethod
    def none(cls, window: int) -> Self:
        """No places yet, of windows of a width."""
        whole, number = torch.empty(0, dtype=torch.long), torch.empty(0)
        windows = torch.empty(0, window, dtype=torch.int32), torch.empty(0, window, dtype=torch.float16)
        return cls(whole, whole, whole, whole, number, number, number, *windows)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Places that :meth:`tensors` gave.

        Raises:
            ValueError: if they are of different numbers of places.
        """
        check_lengths(*tensors.values())
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return len(self.components)

    def __getitem__(self, chosen: Tensor) -> Self:
        return replace(self, **{name: tensor[chosen] for name, tensor in self.tensors().items()})

    def joined(self, other: Self) -> Self:
        """These and others, in no order."""
        theirs = other.tensors()
        return replace(self, **{name: torch.cat([tensor, theirs[name]]) for name, tensor in self.tensors().items()})

    def strongest(self, count: int) -> Self:
        """Of each document its strongest place, and of these the strongest, for every component.

        Args:
            count: how many are kept for a component. Of equally strong places the first in the data counts.
        """
        within = self[self._order("components", "documents", "-scores", "examples", "positions")]
        new = _changes(within.components) | _changes(within.documents)
        firsts = within[new.nonzero()[:, 0]]
        ordered = firsts[firsts._order("components", "-scores", "examples", "positions")]
        return ordered[(ranks(ordered.components) < count).nonzero()[:, 0]]

    def _order(self, *names: str) -> Tensor:
        keys = [getattr(self, name.removeprefix("-")).numpy() * (-1 if name[0] == "-" else 1) for name in names]
        return torch.from_numpy(numpy.lexsort(keys[::-1]))

    def bar(self, count: int, n_components: int) -> Tensor:
        """The score that a further place must reach to be among a component's strongest, ``[C]``."""
        last = ranks(self.components) == count - 1
        return torch.zeros(n_components).index_put((self.components[last],), self.scores[last])


def _changes(numbers: Tensor) -> Tensor:
    """Where an entry differs from the one before it, the first included."""
    return torch.cat([torch.ones(min(len(numbers), 1), dtype=torch.bool), numbers[1:] != numbers[:-1]])


def windows(table: Tensor, rows: Tensor, positions: Tensor, reach: int, beyond: float) -> Tensor:
    """What stands around places of a table.

    Args:
        table: ``[rows, positions]``.
        rows: of the places, ``[n]``.
        positions: of the places, ``[n]``.
        reach: how many positions on either side.
        beyond: what stands where the row has none.

    Returns:
        ``[n, 2 * reach + 1]``.
    """
    at = positions[:, None] + torch.arange(-reach, reach + 1)
    there = (at >= 0) & (at < table.shape[1])
    found = table[rows[:, None], at.clamp(0, table.shape[1] - 1)]
    return torch.where(there, found, torch.full_like(found, beyond))
