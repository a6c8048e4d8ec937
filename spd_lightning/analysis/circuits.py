"""Circuits and what they are worth: attacked afresh, alone, taken away, and beside circuits drawn at random."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spd_lightning.analysis.circuit_goal import Goal
from spd_lightning.analysis.circuit_search import CircuitSearch, Problem, frozen, searched
from spd_lightning.functional import keyed_generator
from spd_lightning.losses import Step
from spd_lightning.losses.sources import (
    fixed_masks,
    masks_from_channels,
    random_channels,
    rounded_masks,
    stochastic_masks,
    zero_masks,
)
from spd_lightning.model import ComponentModel, Mask, SiteMask

LONGER = 4
"""How many times the steps of the search's adversary the fresh one of the verdict takes, each as much shorter (ours): a
finer ascent finds worse masks than several as coarse as the search's."""
DRAWS = 8
"""Random masks, and random circuits, that are averaged."""
WITH, WITHOUT = "with the adversary", "without it"


class Nodes(NamedTuple):
    """Nodes of a circuit as columns.

    Attributes:
        calls: which site call each belongs to, as a number in the circuit's order, ``[n]``.
        rows: of the batch, ``[n]``; 0 where rows share.
        positions: flat position in the row, ``[n]``; 0 at sites that have none.
        components: ``[n]``.
        importances: ``[n]``.
    """

    calls: Tensor
    rows: Tensor
    positions: Tensor
    components: Tensor
    importances: Tensor


@dataclass(frozen=True)
class Outcome:
    """An output held against the goal.

    Attributes:
        distance: of every row, ``[rows]``.
        right: share of the positions of each row with the wanted answer, ``[rows]``; NaN where outputs are no logits.
    """

    distance: Tensor
    right: Tensor


@dataclass(frozen=True)
class Circuit:
    """A circuit.

    Attributes:
        importances: ``[rows, ..., C]`` by site call, 0 for what is no node; one row where rows share.
        history: see :class:`Found`.
        outcomes: of the network under each kind of masks, see :func:`prompt_circuits`.
    """

    importances: dict[str, Tensor]
    history: Tensor
    outcomes: dict[str, Outcome]

    @property
    def sizes(self) -> Tensor:
        """Number of nodes of every row, ``[rows]``; one number where rows share."""
        return _counts(self.importances)

    @property
    def nodes(self) -> Nodes:
        """The nodes, by site call, row, position and component."""
        columns = []
        for number, g in enumerate(self.importances.values()):
            flat = g.reshape(len(g), -1, g.shape[-1])
            rows, positions, components = flat.nonzero(as_tuple=True)
            columns.append(
                (torch.full_like(rows, number), rows, positions, components, flat[rows, positions, components])
            )
        return Nodes(*(torch.cat(parts) for parts in zip(*columns, strict=True)))

    def tables(self) -> dict[str, Tensor]:
        """Importances as matrices, by site call.

        ``[positions, C]``, means over rows; of sites without positions ``[rows, C]``.
        """
        flat = {call: g.reshape(len(g), -1, g.shape[-1]) for call, g in self.importances.items()}
        return {call: g[:, 0] if g.shape[1] == 1 else g.mean(0) for call, g in flat.items()}


@dataclass(frozen=True)
class PromptCircuits:
    """The circuits of one goal on one batch, searched for with an adversary and without.

    Attributes:
        circuits: by :data:`WITH` and :data:`WITHOUT`.
        goal: what was wanted.
        search: how it was looked for.
        alive: number of nodes that could take part, of every row, ``[rows]``; one number where rows share.
        outcomes: of what no circuit takes part in: ``target``, ``all_on``, ``nothing_on``.
    """

    circuits: dict[str, Circuit]
    goal: Goal
    search: CircuitSearch
    alive: Tensor
    outcomes: dict[str, Outcome] = field(default_factory=dict)


After = Callable[[str, float, float], None]


def prompt_circuits(
    model: ComponentModel, batch: Any, goal: Goal, search: CircuitSearch | None = None, after: After | None = None
) -> PromptCircuits:
    """Find what an output needs on a few examples, with an adversary inside the search and without one (VPD).

    Both circuits are then judged alike. ``alone``: the nodes on, all else off. ``stochastic``: masks drawn between
    importance and 1. ``attacked``: the worst of all that a fresh adversary passes, with four times the steps of the
    search's, over the nodes that could take part; what else there is has random masks. ``attacked_everywhere``: the
    same, with dead components and the delta component in the adversary's hands. ``ablated``: the nodes taken away
    from the target's own weights. ``random``: as many of the nodes that could take part, drawn, alone.

    Args:
        model: the decomposition; what is trained in it is left as it is.
        batch: a few examples as the model's call takes them, on its device.
        goal: what is wanted of them.
        search: how it is looked for; ``None`` for the defaults.
        after: is told after every step which search it was of, the objective and the number of nodes of a row.

    Returns:
        Both circuits, on the model's device.

    Raises:
        UsageError: see :class:`Problem`.
    """
    search = CircuitSearch() if search is None else search
    with frozen(model):
        problem = Problem(model, batch, goal, search)
        circuits = {}
        for name in (WITH, WITHOUT):
            told = None if after is None else lambda loss, size, name=name: after(name, loss, size)
            found = searched(problem, name == WITH, told)
            circuits[name] = Circuit(found.importances, found.history, judged(problem, found.importances))
        alive = _counts(problem.alive)
        return PromptCircuits(circuits, goal, search, alive, _without_circuit(problem))


@torch.no_grad()
def _without_circuit(problem: Problem) -> dict[str, Outcome]:
    step = problem.step(problem.start, "verdict")
    return {
        "target": _outcome(problem.goal, step.clean.output),
        "all_on": _outcome(problem.goal, step.masked(fixed_masks(step, "ones"))),
        "nothing_on": _outcome(problem.goal, step.masked(zero_masks(step))),
    }


@torch.no_grad()
def judged(problem: Problem, importances: Mapping[str, Tensor]) -> dict[str, Outcome]:
    """A circuit under every kind of masks, see :func:`prompt_circuits`.

    Args:
        problem: the batch, the goal, the nodes that could take part.
        importances: of the circuit.
    """
    goal, device = problem.goal, problem.form.clean.output.device
    drawn = list(_random_circuits(problem, importances, device))
    random = [_outcome(goal, step.masked(rounded_masks(step, 0))) for step in (problem.step(g, "drawn") for g in drawn)]
    step = problem.step(importances, "verdict")
    masks = [stochastic_masks(step, "uniform", step.noise.generator("stochastic", n)) for n in range(DRAWS)]
    return {
        "alone": _outcome(goal, step.masked(rounded_masks(step, 0))),
        "stochastic": _averaged([_outcome(goal, step.masked(some)) for some in masks]),
        "attacked": _worst(problem, step, everywhere=False),
        "attacked_everywhere": _worst(problem, step, everywhere=True),
        "ablated": _outcome(goal, step.masked(_taken_away(step))),
        "random": _averaged(random),
    }


def _worst(problem: Problem, step: Step, everywhere: bool) -> Outcome:
    """The worst that a fresh adversary comes by, row by row, its start included."""
    sources = random_channels(step, "uniform", step.noise.generator("fresh"))
    size = problem.search.adversary_step_size / LONGER
    worst = _under(problem, step, sources)
    for _ in range(LONGER * problem.search.adversary_steps):
        sources = problem.attacked(step, sources, 1, size, everywhere)
        found = _under(problem, step, sources)
        worse = found.distance > worst.distance
        worst = Outcome(*(torch.where(worse, a, b) for a, b in zip(_columns(found), _columns(worst), strict=True)))
    return worst


def _under(problem: Problem, step: Step, sources: Mapping[str, Tensor]) -> Outcome:
    return _outcome(problem.goal, step.masked(masks_from_channels(step, step.importance, sources)))


def _taken_away(step: Step) -> dict[str, Mask]:
    """Masks that take a circuit away from the target's own weights."""
    ones = {call: ci.lower.new_ones(ci.lower.shape[:-1]) for call, ci in step.importance.items()}
    return {call: SiteMask((ci.lower == 0).to(ci.lower.dtype), ones[call]) for call, ci in step.importance.items()}


def _random_circuits(
    problem: Problem, importances: Mapping[str, Tensor], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """As many nodes as a circuit has in each row, of those that could take part."""
    alive = torch.cat([a.flatten(1) for a in problem.alive.values()], 1)
    sizes = _counts(importances)
    widths = [a[0].numel() for a in problem.alive.values()]
    for number in range(DRAWS):
        generator = keyed_generator(problem.search.seed, "random circuit", number)
        scores = torch.rand(alive.shape, generator=generator).to(device).masked_fill(~alive, -1)
        ranks = scores.argsort(1, descending=True).argsort(1)
        parts = torch.split(ranks < sizes[:, None], widths, 1)
        yield {
            call: part.reshape(a.shape).to(problem.start[call])
            for part, (call, a) in zip(parts, problem.alive.items(), strict=True)
        }


def _counts(importances: Mapping[str, Tensor]) -> Tensor:
    """Entries above 0 of every row, over all site calls, ``[rows]``."""
    return torch.stack([(g > 0).flatten(1).sum(1) for g in importances.values()]).sum(0)


def _outcome(goal: Goal, output: Tensor) -> Outcome:
    distance, right = goal.rows(output), goal.right(output)
    return Outcome(distance, torch.full_like(distance, torch.nan) if right is None else right.to(distance))


def _columns(outcome: Outcome) -> tuple[Tensor, Tensor]:
    return outcome.distance, outcome.right


def _averaged(outcomes: list[Outcome]) -> Outcome:
    return Outcome(*(torch.stack(column).mean(0) for column in zip(*map(_columns, outcomes), strict=True)))
