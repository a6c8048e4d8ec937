"""Reconstruction losses: where the sources come from, what runs its components, how outputs are compared."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from spd_lightning.errors import UsageError, check_choice, check_flag, check_fraction, check_whole
from spd_lightning.functional import ascend, average, independent_subset, uniform_subset
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.sharing import mean_over_processes, processes
from spd_lightning.losses.sources import (
    AdversaryScope,
    Sources,
    adversary_start,
    fixed_masks,
    masks_from_channels,
    stochastic_masks,
    zero_masks,
)
from spd_lightning.losses.step import Step
from spd_lightning.model import DecomposedModel, Mask, SiteMask

Routing = Literal["all", "layerwise", "subset"]
Subset = dict[str, Tensor]
TINY = 1e-12
"""A batch on which ablating everything costs no more has no unit, and its distance does not count."""


def cost_of_everything(step: Step, kind: DistanceKind) -> Tensor:
    """What ablating every site does to the output, over the rows of all processes.

    Args:
        step: the batch.
        kind: distance of outputs.

    Returns:
        A scalar without gradient; computed once a step.
    """
    if kind not in step.costs:
        # not under no_grad: a form keeps products that other passes take gradients of
        cost = step.distance(kind, step.masked(zero_masks(step))).detach()
        step.costs[kind] = mean_over_processes(cost) if processes() > 1 else cost
    return step.costs[kind]


def measured_cost(step: Step, kind: DistanceKind) -> float:
    """What ablating every site does to the output, where that is something to measure by.

    Args:
        step: the batch.
        kind: distance of outputs.

    Returns:
        The distance, above 0.

    Raises:
        UsageError: if it does nothing, or is not a finite number.
    """
    cost = cost_of_everything(step, kind).item()
    if not math.isfinite(cost):
        raise UsageError(f"target: ablating all sites changes the output by {cost}; look at the data and the weights")
    if cost <= 0:
        raise UsageError("sites: ablating all of them does not change the output; choose sites that matter")
    return cost


class Reconstruction(Loss):
    """Distance between the masked network's output and the target's own (never a label).

    ``sources: uniform`` with ``routing: all`` is the paper's stochastic reconstruction, with ``routing: layerwise``
    its layerwise variant, averaged over sites and samples. Fresh noise is drawn per loss, sample, example and position.

    Args:
        coefficient: weight of the term; 1 for both of the paper's.
        sources: ``"uniform"`` (paper), ``"binomial"``, ``"ci"`` (importances as masks), ``"ones"`` (unmasked), or
            ``"adversarial"`` (projected gradient ascent). The delta component takes part in stochastic and
            adversarial sources only.
        routing: ``"all"`` sites at once; ``"layerwise"``, one site at a time while the others run the target's own
            weights; ``"subset"``, a random subset per example and position.
        distance: ``"mse"``, averaged over examples and outputs; ``"kl"``, summed over outputs, averaged over examples.
        samples: number ``S`` of mask draws that are averaged; 1 in the paper.
        subset_probability: with ``routing: subset``, chance that a site runs its components; ``None`` draws the
            size of the subset uniformly.
        adversary_steps: with ``sources: adversarial``, number of signed gradient steps.
        adversary_step_size: length of one of them.
        adversary_scope: one source ``"shared"`` by the batch or one ``"per_example"``.
        relative: whether the distance is divided by what ablating everything costs on the same batch (ours). Then a
            coefficient means the same for every network and output.
        coefficient_points: as in :class:`Loss`.

    Raises:
        UsageError: for a value outside its range or choices.
    """

    def __init__(
        self,
        coefficient: float = 1.0,
        sources: Sources = "uniform",
        routing: Routing = "all",
        distance: DistanceKind = "mse",
        samples: int = 1,
        subset_probability: float | None = None,
        adversary_steps: int = 1,
        adversary_step_size: float = 1.0,
        adversary_scope: AdversaryScope = "shared",
        relative: bool = False,
        coefficient_points: list[tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(coefficient, coefficient_points)
        check_choice("sources", sources, get_args(Sources))
        check_choice("routing", routing, get_args(Routing))
        check_choice("distance", distance, get_args(DistanceKind))
        check_choice("adversary_scope", adversary_scope, get_args(AdversaryScope))
        check_whole("samples", samples, least=1)
        check_whole("adversary_steps", adversary_steps, least=1)
        if subset_probability is not None:
            check_fraction("subset_probability", subset_probability, zero=False)
        check_flag("relative", relative)
        self.sources, self.routing, self.distance, self.samples = sources, routing, distance, samples
        self.relative = relative
        self.subset_probability = subset_probability
        if sources == "binomial":  # whose importances are jittered before the gate's sigmoid
            self.needs = DecomposedModel
        self.adversary_steps, self.adversary_scope = adversary_steps, adversary_scope
        self.adversary_step_size = check_positive("adversary_step_size", adversary_step_size)

    def forward(self, step: Step) -> Tensor:
        """The distance, averaged over samples and, layerwise, over sites."""
        samples = [self._sample(step, step.noise.generator(index)) for index in range(self.samples)]
        return self._in_units(average(samples), step)

    def _unit(self, step: Step) -> Tensor | None:
        return cost_of_everything(step, self.distance) if self.relative else None

    def _in_units(self, found: Tensor, step: Step) -> Tensor:
        unit = self._unit(step)
        return found if unit is None else torch.where(unit > TINY, found / unit.clamp_min(TINY), 0.0)

    def _sample(self, step: Step, generator: Generator) -> Tensor:
        subset = self._subset(step, generator)
        return self._routed_distance(step, self._masks(step, subset, generator), subset)

    def _masks(self, step: Step, subset: Subset | None, generator: Generator) -> Mapping[str, Mask]:
        match self.sources:
            case "adversarial":
                return self._adversarial_masks(step, subset, generator)
            case "ci" | "ones" as kind:
                return fixed_masks(step, kind)
            case kind:
                return stochastic_masks(step, kind, generator)

    def _adversarial_masks(self, step: Step, subset: Subset | None, generator: Generator) -> dict[str, SiteMask]:
        worst = self._pushed(step, subset, adversary_start(step, self.adversary_scope, generator), self.adversary_steps)
        return masks_from_channels(step, step.importance, worst)

    def _pushed(self, step: Step, subset: Subset | None, sources: dict[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Sources after some steps of ascent."""
        frozen = step.constant_importance

        def objective(channels: dict[str, Tensor]) -> Tensor:
            return self._routed_distance(step, masks_from_channels(step, frozen, channels), subset)

        combine = step.summed if self.adversary_scope == "shared" and step.noise.share is not None else None
        return ascend(objective, sources, steps, self.adversary_step_size, combine)

    def ladder(self, step: Step, rungs: Sequence[int]) -> dict[int, Tensor]:
        """What one adversary reaches after more and more steps: an ascent that soon ends may have ended too soon.

        Args:
            step: the batch.
            rungs: numbers of steps, in any order.

        Returns:
            The distance after each.
        """
        sources, taken = adversary_start(step, self.adversary_scope, step.noise.generator(0)), 0
        reached: dict[int, Tensor] = {}
        for rung in sorted(rungs):
            sources, taken = self._pushed(step, None, sources, rung - taken), rung
            reached[rung] = self._routed_distance(step, masks_from_channels(step, step.importance, sources), None)
        return reached

    def _subset(self, step: Step, generator: Generator) -> Subset | None:
        return self._drawn_subset(step, generator) if self.routing == "subset" else None

    def _drawn_subset(self, step: Step, generator: Generator) -> Subset:
        names = list(step.importance)
        leading = {call: importance.lower.shape[:-1] for call, importance in step.importance.items()}
        # calls with the same positions share one draw; one over other positions cannot be the same
        draws = {shape: self._draw(names, shape, generator, step) for shape in dict.fromkeys(leading.values())}
        return {call: draws[shape][call] for call, shape in leading.items()}

    def _draw(self, names: list[str], leading: torch.Size, generator: Generator, step: Step) -> Subset:
        if self.subset_probability is None:
            return uniform_subset(names, leading, generator, step.noise.share)
        return independent_subset(names, leading, self.subset_probability, generator, step.noise.share)

    def _routed_distance(self, step: Step, masks: Mapping[str, Mask], subset: Subset | None) -> Tensor:
        together = [{name: mask} for name, mask in masks.items()] if self.routing == "layerwise" else [masks]
        return average([step.distance(self.distance, step.masked(some, subset)) for some in together])
