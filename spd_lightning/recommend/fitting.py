"""Makes what the rules say fit into the memory, and into a budget of time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spd_lightning.errors import UsageError
from spd_lightning.methods import StochasticDecomposition
from spd_lightning.methods.default_recipe import WARM_UP
from spd_lightning.methods.step_memory import available_memory
from spd_lightning.model.call import rows_of
from spd_lightning.recommend.measures import NetworkMeasure
from spd_lightning.recommend.rules import SPARE, batch_for, components_for, power_of_two, steps_for
from spd_lightning.recommend.subject import Subject
from spd_lightning.recommend.trial import seconds_of_a_step, seconds_of_warming_up, trained_bytes

SPARES = (SPARE, 2, 1)
"""Components for each feature or dimension that are tried, one after the other, until everything fits."""
MEMORY_SHARE = 0.5
"""Of the free memory that a step may take: scores and the passes' own arrays need some as well."""
FEWEST_STEPS = 2000
"""Below which components are given up before steps are."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a training.

    Attributes:
        components: ``C`` by site.
        batch_size: examples of a step.
        steps: of training.
        spare: components for each feature or dimension.
        bytes: that a step holds; ``None`` where that cannot be told.
        step_s: seconds of a step.
        warming_s: seconds of a step of the warm-up.
        given_up: what does not fit, in words.
    """

    components: dict[str, int]
    batch_size: int
    steps: int
    spare: int
    bytes: int | None = None
    step_s: float = 0.0
    warming_s: float = 0.0
    given_up: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of training and warm-up together."""
        return self.steps * self.step_s + WARM_UP.updates(self.steps) * self.warming_s

    def without(self, what: str, **sizes: Any) -> "Plan":
        """The same with something given up."""
        return replace(self, given_up=(*self.given_up, what), **sizes)


class Fitting:
    """Looks for sizes that fit.

    Args:
        subject: the network with its data.
        network: what was measured of it.
        together: sites whose components are the same numbers, to the one that owns them.
        build: makes a decomposition of so many components by site.
    """

    def __init__(
        self,
        subject: Subject,
        network: NetworkMeasure,
        together: Mapping[str, str],
        build: Callable[[Plan], StochasticDecomposition],
    ) -> None:
        self._subject, self._network, self._together, self._build = subject, network, together, build
        self._given, self._examples = subject.batch_size, subject.examples

    def planned(self, spare: int) -> Plan:
        """What the rules say."""
        network, sites = self._network, self._network.sites
        components = {name: components_for(s.rank, network.features_of(name), spare) for name, s in sites.items()}
        for name, owner in self._together.items():
            most = max(components[name], components[owner])
            components |= {name: most, owner: most}
        for name, owner in self._together.items():  # the owner's may have grown since
            components[name] = components[owner]
        batch = batch_for(network, components, self._examples) if self._subject.sizeable else self._given
        plan = Plan(components, batch, steps_for(network, components, batch, self._examples), spare)
        return plan if spare == SPARE else plan.without(f"components: {spare} in place of {SPARE} for each feature")

    def fitted(self, minutes: float | None) -> Plan:
        """The largest sizes that fit.

        Args:
            minutes: for training and its warm-up; ``None`` for as long as it takes.

        Raises:
            UsageError: if nothing fits.
        """
        for spare in SPARES:
            plan, module = self._in_memory(self.planned(spare))
            if plan.bytes is not None and module is None:
                needed = f"{plan.bytes / 1e9:.1f} GB for a step of {sum(plan.components.values())} components"
                why = f"the memory fits nothing: {needed}"
                continue
            assert module is not None
            plan = self._timed(plan, module)
            within = plan if minutes is None else self._within(plan, 60 * minutes)
            if within is not None:
                return within
            taken = FEWEST_STEPS * plan.seconds / plan.steps / 60
            why = f"a budget of {minutes:g} minutes fits nothing: {FEWEST_STEPS} steps take {taken:.2g} minutes here"
        raise UsageError(f"{why}; name fewer sites, or give more")

    def _in_memory(self, plan: Plan) -> tuple[Plan, StochasticDecomposition | None]:
        """The plan with a batch that fits; without a decomposition if none does."""
        self._subject.use_batches_of(plan.batch_size)
        module = self._build(plan)
        fixed, free = trained_bytes(module), available_memory(self._subject.device)
        batch = self._subject.first_batch()
        step, rows = module.step_memory(batch), rows_of(batch) or 1
        held = fixed + int(step.of(rows) if step is not None else 0)
        plan = replace(plan, bytes=held if step is not None else None)
        if free is None or held <= MEMORY_SHARE * free:
            return plan, module
        room = MEMORY_SHARE * free - fixed
        fitting = power_of_two(step.largest_batch(room) * plan.batch_size / rows) if step is not None else 0
        if fitting == 0 or not self._subject.sizeable:
            return replace(plan, bytes=held), None
        assert step is not None
        self._subject.use_batches_of(fitting)
        held = fixed + int(step.of(round(rows * fitting / plan.batch_size)))
        told = f"batch: {fitting} in place of {plan.batch_size}, so that a step takes half of the free memory at most"
        steps = steps_for(self._network, plan.components, fitting, self._examples)
        return plan.without(told, batch_size=fitting, bytes=held, steps=steps), module

    def _timed(self, plan: Plan, module: StochasticDecomposition) -> Plan:
        warming = seconds_of_warming_up(module)
        return replace(plan, warming_s=warming, step_s=seconds_of_a_step(module, self._subject.data, plan.steps))

    @staticmethod
    def _within(plan: Plan, seconds: float) -> Plan | None:
        """The plan with as many steps as fit; ``None`` if these are too few."""
        fitting = int(seconds / (plan.seconds / plan.steps))
        if fitting >= plan.steps:
            return plan
        if fitting < FEWEST_STEPS:
            return None
        steps = fitting // 100 * 100
        return plan.without(f"steps: {steps} in place of {plan.steps}", steps=steps)
