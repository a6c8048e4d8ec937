"""A sum that is the same to the last bit, whoever has added up which part of it."""

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Self

import torch
from torch import Tensor


class TreeSum:
    """The sum of terms that are numbered.

    Sums of floating-point numbers depend on the order. Here it is fixed by the numbers: terms 0 and 1, 2 and 3, ... are
    added, then 0 to 3, 4 to 7, ..., and so on. A sum waits until the one that it is added to is known; of terms that
    follow each other about two wait for every doubling of their number.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], Tensor] = {}

    def add(self, number: int, term: Tensor, level: int = 0) -> None:
        """Add a term.

        Args:
            number: of the term; one by one, or of the sum of ``2 ** level`` terms among all such sums.
            term: of the same shape every time.
            level: see ``number``.
        """
        while (level, number ^ 1) in self._waiting:
            term = term + self._waiting.pop((level, number ^ 1))
            level, number = level + 1, number >> 1
        self._waiting[level, number] = term

    def join(self, other: Self) -> None:
        """Add the terms of another sum."""
        for (level, number), term in other._waiting.items():
            self.add(number, term, level)

    def total(self) -> Tensor:
        """The sum of all terms; there must be one."""
        return reduce(add, (self._waiting[place] for place in sorted(self._waiting)))

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept in a file: ``levels`` and ``numbers`` ``[n]``, ``terms`` ``[n, ...]``."""
        places = sorted(self._waiting)
        levels, numbers = torch.tensor(places).unbind(1)
        return {"levels": levels, "numbers": numbers, "terms": torch.stack([self._waiting[place] for place in places])}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """A sum that :meth:`tensors` gave, to go on with."""
        found = cls()
        places = zip(tensors["levels"].tolist(), tensors["numbers"].tolist(), strict=True)
        found._waiting = dict(zip(places, tensors["terms"].unbind(), strict=True))
        return found
