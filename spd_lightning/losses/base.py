"""The base of losses and the checks they share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_list, check_number
from spd_lightning.functional import along_points
from spd_lightning.losses.step import Step
from spd_lightning.model import ComponentModel

TURNED = ("coefficient", "tolerance")
"""The arguments of a term that one tunes."""


def check_positive(name: str, value: float, allow_zero: bool = False) -> float:
    """Return a finite number of the right sign, or raise a :class:`UsageError` that names the argument."""
    check_number(name, value)
    if not math.isfinite(value) or value < 0 or (value == 0 and not allow_zero):
        rule = "at least 0" if allow_zero else "above 0"
        raise UsageError(f"{name} must be a finite number {rule}, got {value}")
    return value


def checked_points(name: str, points: list[tuple[float, float]] | None, what: str) -> list[tuple[float, float]] | None:
    """Fractions of training in order, each with a value, or a :class:`UsageError` that says what is wrong."""
    if points is None:
        return None
    check_list(name, points)
    last = 0.0
    for point in points:
        check_list(f"{name}: each", point)
        if len(point) != 2:
            raise UsageError(f"{name}: each must be a fraction and a {what}, got {list(point)}")
        check_number(f"{name}: the fraction of each", point[0])
        check_positive(f"{name}: the {what} of each", point[1], allow_zero=True)
        if not last <= point[0] <= 1:
            raise UsageError(f"{name}: fractions must rise from 0 to at most 1, got {point[0]} after {last}")
        last = point[0]
    return [(float(fraction), float(value)) for fraction, value in points]


def check_trained(terms: Mapping[str, "Loss"]) -> None:
    """Raise a :class:`UsageError` if from some fraction of training on no term of an objective is trained on."""
    fractions = {0.0, *(point[0] for term in terms.values() for point in term.coefficient_points or ())}
    for fraction in sorted(fractions):
        if not any(term.coefficient_at(fraction) > 0 for term in terms.values()):
            since = f"; from {fraction:g} of training on none has" if len(fractions) > 1 else ""
            raise UsageError(f"losses: at least one term must have a coefficient above 0{since}")


class Loss(nn.Module, ABC):
    """One term of the objective: a coefficient and a scalar function of a :class:`Step`.

    A subclass keeps its constructor's arguments as attributes of the same name.

    Args:
        coefficient: weight of the term, finite and at least 0. With 0 the term is reported but not trained on.
        coefficient_points: fractions of training in order, each with the coefficient there (ours). It moves
            geometrically; next to a 0 it stays, then jumps. While it is 0 the term is not computed. ``None`` keeps
            ``coefficient``.
    """

    needs: type[nn.Module] = ComponentModel
    """The kind of decomposition that the term is made for."""

    def __init__(self, coefficient: float = 1.0, coefficient_points: list[tuple[float, float]] | None = None) -> None:
        super().__init__()
        self.coefficient = check_positive("coefficient", coefficient, allow_zero=True)
        self.coefficient_points = checked_points("coefficient_points", coefficient_points, "coefficient")

    def coefficient_at(self, progress: float) -> float:
        """The coefficient at a fraction of training."""
        return along_points(progress, self.coefficient, self.coefficient_points or ())

    @property
    def is_trained(self) -> bool:
        """Whether the coefficient is above 0 at any time."""
        points = self.coefficient_points or ()
        return any(coefficient > 0 for coefficient in (self.coefficient, *(point[1] for point in points)))

    def waits(self, progress: float) -> bool:
        """Whether ``coefficient_points`` leave the term out at a fraction of training."""
        return self.coefficient_points is not None and self.coefficient_at(progress) == 0

    def matching(self, patterns: Sequence[str], names: Sequence[str]) -> list[str]:
        """The names that match any of the ``fnmatch`` patterns; a :class:`UsageError` if there are none."""
        found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not found:
            raise UsageError(f"{type(self).__name__}: sites {list(patterns)} match none of {list(names)}")
        return found

    def check_beside(self, terms: Mapping[str, "Loss"]) -> None:
        """Raise a :class:`UsageError` if the other terms of an objective do not go with this one.

        Args:
            terms: all terms by name, this one included.
        """
        return

    def observe(self, terms: Mapping[str, Tensor], progress: float) -> None:
        """See what all terms of a training step came to; nothing to do for most.

        Args:
            terms: each term unweighted and detached, by name, over the rows of all processes.
            progress: fraction of training done.
        """
        return

    def after_backward(self, scale: float) -> None:
        """See a backward pass of the objective before the optimiser does; nothing to do for most terms.

        Args:
            scale: what the term was multiplied by before gradients were taken.
        """
        return

    def numbers(self) -> dict[str, float]:
        """What is worth a curve beside the term's value, by name; nothing for most."""
        return {}

    def state(self) -> dict[str, Any] | None:
        """What a continued run must know of the term's past; ``None`` for nothing.

        Tensors on the CPU, plain numbers and dictionaries of them. Where several processes train, each of them asks.
        """
        return None

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        return

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
