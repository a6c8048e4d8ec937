"""A price of importance that follows what ablation costs."""

from collections.abc import Mapping
from math import exp, log
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from spd_lightning.errors import UsageError, check_finite
from spd_lightning.functional import along_points, frequency_weighted_importance, geometric_anneal, linear_anneal
from spd_lightning.losses.base import Loss, check_positive, checked_points
from spd_lightning.losses.penalties import ImportanceMinimality, check_window
from spd_lightning.losses.reconstruction import Reconstruction
from spd_lightning.losses.step import Step

MEMORY = 0.95
"""Decay of the average of errors: noise of single batches does not move the price, twenty steps do."""
SMALL = 0.03
"""Share of the tolerated error below which the price need not follow it."""
LEAST, MOST = 1e-9, 1e3
"""Bounds of the price, in units of what ablating everything costs."""


class ConstrainedImportance(ImportanceMinimality):
    """Importance minimality at the price that a tolerated error allows (GECO's constraint; used for importances, ours).

    In place of a coefficient the user says how much of what ablating everything costs random ablation may cost, a
    number without scale: it depends neither on the units of the output, nor on how sparse the data are, nor on ``C``.
    At every step the price moves by ``rate * clamp(log(tolerance / error), -1, 1)`` on a logarithmic scale, where
    ``error`` is the largest of the running means of the terms that are followed, each divided by its allowance. The
    tolerance falls geometrically: a wide one early lets components compete for what they explain, a narrow one late
    lets those that are left fit it.

    A network may have a floor below which error is bought with many more components. As long as the error is within
    what is tolerated at the start, the price does not fall below ``knee * error / penalty``: at that price one per cent
    more of the penalty pays only if it lowers the error by more than ``knee`` per cent. Another network may need all
    the components that are left, so that error which is tolerated buys hardly anything, and only makes importances
    smaller than they are. So the price does not rise above ``cliff * error / penalty``: at that price one per cent less
    of the penalty pays unless it raises the error by more than ``cliff`` per cent. A cliff that comes down slowly lets
    components stay closed: where the price falls at once, they open again. An error below 3% of ``tolerance`` counts as
    3%, so that price and error do not chase each other down to nothing.

    How frequent a component is beside its site's others may decide its price, too. With a ``frequency_exponent`` above
    0 what is more frequent than is typical is dearer, so that no component is on for everything, and what is rarer
    cheaper, so that what two mechanisms could share comes apart before it is settled which components live. With a
    ``frequency_exponent_final`` below 0 what is rarer becomes dearer in the end, so that spares which live for a few
    examples let go.

    Args:
        tolerance: error at the end, as a share of what ablating everything costs; above 0, below 1.
        start_factor: the error tolerated at the start, as a multiple of ``tolerance``; at least 1, below 1 / tolerance.
        fall_start: fraction of training at which the tolerance begins to fall.
        fall_end: fraction of training at which it arrives.
        follows: names of the terms whose values are errors, each a ``Reconstruction`` that is ``relative``, with its
            allowance: how many times the tolerance it may cost, below 1 / tolerance. ``None`` for
            ``{"stochastic": 1}``. What waits for its time to count is not followed till then.
        rate: logarithm of the most that the price moves by in one step.
        knee: elasticity of the error to the penalty at which the price stops falling; 0 for never.
        cliff_points: fractions of training in order, each with the elasticity at which the price stops rising, the
            cliff; it moves geometrically. Before the first point, and where it is 0, nothing stops it. ``None`` for
            never.
        frequency_exponent: power of a component's frequency, in units of what is typical of its site, in its price;
            0 for the same price for all.
        frequency_exponent_final: the same at the end for what is rarer than is typical, at least -1; it moves linearly
            while the tolerance falls. ``None`` keeps it.
        coefficient: the price at the start.
        p: exponent at the start of training.
        p_final: exponent at the end; ``None`` keeps ``p``.
        anneal_start: fraction of training at which the exponent starts to move.
        anneal_end: fraction of training at which it arrives.
        eps: added inside the power.

    Attributes:
        price: the coefficient of now, in units of what ablating everything costs.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(
        self,
        tolerance: float = 0.02,
        start_factor: float = 2.5,
        fall_start: float = 0.3,
        fall_end: float = 0.7,
        follows: dict[str, float] | None = None,
        rate: float = 0.02,
        knee: float = 0.5,
        cliff_points: list[tuple[float, float]] | None = None,
        frequency_exponent: float = 0.0,
        frequency_exponent_final: float | None = None,
        coefficient: float = 1e-3,
        p: float = 1.0,
        p_final: float | None = None,
        anneal_start: float = 0.0,
        anneal_end: float = 1.0,
        eps: float = 1e-12,
    ) -> None:
        super().__init__(check_positive("coefficient", coefficient), p, p_final, anneal_start, anneal_end, eps)
        self.follows = _allowances({"stochastic": 1.0} if follows is None else follows)
        self.tolerance, self.start_factor = _checked_start(tolerance, start_factor, self.follows)
        self.fall_start, self.fall_end = check_window("fall", fall_start, fall_end)
        self.rate = check_positive("rate", rate)
        self.knee = check_positive("knee", knee, allow_zero=True)
        self.cliff_points = _cliffs(cliff_points, knee)
        self.frequency_exponent = check_positive("frequency_exponent", frequency_exponent, allow_zero=True)
        self.frequency_exponent_final = _final_exponent(frequency_exponent, frequency_exponent_final)
        self.price = coefficient
        self._own = ""
        self._means: dict[str, float] = {}
        self._seen: dict[str, Any] = {}

    def coefficient_at(self, progress: float) -> float:
        """The current price; it does not depend on the fraction of training."""
        return self.price

    def tolerance_at(self, progress: float) -> float:
        """The tolerated error at a fraction of training."""
        return geometric_anneal(progress, self._tolerance_start, self.tolerance, (self.fall_start, self.fall_end))

    @property
    def _tolerance_start(self) -> float:
        return self.start_factor * self.tolerance

    def cliff_at(self, progress: float) -> float:
        """The elasticity at which the price stops rising, at a fraction of training; 0 where nothing stops it."""
        return along_points(progress, 0.0, self.cliff_points or ())

    def frequency_exponent_at(self, progress: float) -> float:
        """What the frequency of a rare component is raised to in its price, at a fraction of training."""
        window = (self.fall_start, self.fall_end)
        return linear_anneal(progress, self.frequency_exponent, self.frequency_exponent_final, window)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.frequency_weighted_importance`."""
        exponents = self.frequency_exponent, self.frequency_exponent_at(step.progress)
        if not any(exponents):
            return super().forward(step)
        p = self.exponent(step.progress)
        uppers = [importance.upper for importance in step.importance.values()]
        terms = [
            frequency_weighted_importance([upper], p, *exponents, self.eps, step.weights_of(upper), step.combine)
            for upper in uppers
        ]
        return torch.stack(terms).sum()

    def check_beside(self, terms: Mapping[str, Loss]) -> None:
        """Raise a :class:`UsageError` unless the terms that are followed are there and measure shares."""
        self._own = next(name for name, term in terms.items() if term is self)
        shares = [name for name, term in terms.items() if isinstance(term, Reconstruction) and term.relative]
        for followed in self.follows:
            if followed not in shares:
                raise UsageError(
                    f"losses: {self._own!r} follows {followed!r}, which is no Reconstruction with relative: true; "
                    f"those that are: {', '.join(shares) or 'none'}"
                )

    def observe(self, terms: Mapping[str, Tensor], progress: float) -> None:
        """Move the price by the step before, whose numbers are at hand without waiting for the device."""
        self._move()
        errors = {name: terms[name] for name in self.follows if name in terms}
        self._seen = {"errors": errors, "penalty": terms[self._own], "progress": progress} if errors else {}

    def _move(self) -> None:
        if not self._seen:
            return
        for name, value in self._seen["errors"].items():
            self._means[name] = MEMORY * self._means.get(name, float(value)) + (1 - MEMORY) * float(value)
        error = max(self._means[name] / self.follows[name] for name in self._seen["errors"])
        progress = self._seen["progress"]
        ratio = log(self.tolerance_at(progress) / max(error, LEAST))
        price = max(self.price * exp(self.rate * min(max(ratio, -1.0), 1.0)), LEAST)
        penalty = max(float(self._seen["penalty"]), LEAST)
        if error < self._tolerance_start:
            price = max(price, self.knee * error / penalty)
        if cliff := self.cliff_at(progress):
            price = min(price, cliff * max(error, SMALL * self.tolerance) / penalty)
        self.price = min(price, MOST)

    def numbers(self) -> dict[str, float]:
        """The price, which no schedule tells."""
        return {"price": self.price}

    def state(self) -> dict[str, Any]:
        """The price, the running means, and what the last step came to."""
        return {"price": self.price, "means": dict(self._means), "seen": tree_map_only(Tensor, Tensor.cpu, self._seen)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.price, self._means, self._seen = state["price"], dict(state["means"]), dict(state["seen"])


def _checked_start(tolerance: float, factor: float, follows: Mapping[str, float]) -> tuple[float, float]:
    check_positive("tolerance", tolerance)
    check_finite("start_factor", factor)
    if factor < 1:
        raise UsageError(f"start_factor must be at least 1, for a tolerance that stays the same; got {factor}")
    factors = {"start_factor": factor} | {f"follows.{name}": allowance for name, allowance in follows.items()}
    name, largest = max(factors.items(), key=itemgetter(1))
    if tolerance * largest >= 1:
        raise UsageError(
            f"tolerance * {name} must be below 1, what ablating everything costs; got {tolerance:g} * "
            f"{largest:g}: take a tolerance below {1 / largest:g}"
        )
    return tolerance, factor


def _allowances(follows: Mapping[str, float]) -> dict[str, float]:
    if not follows:
        raise UsageError("follows must name a term at least; leave it out for {stochastic: 1}")
    return {name: check_positive(f"follows: {name}", allowance) for name, allowance in follows.items()}


def _cliffs(points: list[tuple[float, float]] | None, knee: float) -> list[tuple[float, float]] | None:
    checked = checked_points("cliff_points", points, "cliff")
    if (lowest := min((cliff for _, cliff in checked or () if cliff), default=knee)) < knee:
        raise UsageError(f"cliff_points: each cliff must be at least knee, {knee:g}, or 0 for none; got {lowest:g}")
    return checked


def _final_exponent(first: float, final: float | None) -> float:
    final = first if final is None else final
    check_finite("frequency_exponent_final", final)
    if final < -1:
        raise UsageError(
            f"frequency_exponent_final must be at least -1, got {final}; below, what is rarer costs more in all"
        )
    return final
