"""Prompt circuits: the importances that an output needs on a few examples, searched for one by one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spd_lightning.analysis.circuit_goal import Goal
from spd_lightning.analysis.edit_outcomes import fires
from spd_lightning.errors import UsageError, check_flag, check_fraction, check_whole
from spd_lightning.functional import ALIVE_THRESHOLD, ascend, importance_minimality, lower_leaky, lr_factor, upper_leaky
from spd_lightning.losses import Noise, Step, check_positive
from spd_lightning.losses.sources import masks_from_channels, random_channels, stochastic_masks, zero_masks
from spd_lightning.model import CausalImportance, ComponentModel, DecomposedModel, FastForm, FastOptions, Mask

NATS, SHARE = 0.1, 0.01
"""What a node costs by default: of divergences in nats (VPD), of squared errors as a share of what it costs to ablate
everything (ours)."""
EPS = 1e-12


@dataclass(frozen=True)
class CircuitSearch:
    """How a circuit is searched for.

    Attributes:
        steps: updates of the importances.
        lr: largest learning rate of AdamW, without weight decay; it falls to 0 along half a cosine.
        penalty: what a node of importance 1 costs; ``None`` for 0.1 nats, or, of squared errors, a hundredth of what
            ablating everything costs.
        p: exponent of the penalty.
        adversary_steps: signed gradient steps of the adversary inside the search.
        adversary_step_size: length of one of them.
        alive: predicted importance above which a node may be part of a circuit.
        threshold: importance above which a node is part of the circuit that was found.
        shared: whether all rows of the batch have one set of importances.
        seed: seeds masks and adversaries.

    Raises:
        UsageError: for a value outside its range.
    """

    steps: int = 2000
    lr: float = 0.01
    penalty: float | None = None
    p: float = 0.3
    adversary_steps: int = 4
    adversary_step_size: float = 1.0
    alive: float = 0.0
    threshold: float = ALIVE_THRESHOLD
    shared: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "adversary_steps"):
            check_whole(f"circuit: {name}", getattr(self, name), least=1)
        for name in ("lr", "p", "adversary_step_size"):
            check_positive(f"circuit: {name}", getattr(self, name))
        if self.penalty is not None:
            check_positive("circuit: penalty", self.penalty, allow_zero=True)
        for name in ("alive", "threshold"):
            check_fraction(f"circuit: {name}", getattr(self, name))
        check_flag("circuit: shared", self.shared)
        check_whole("circuit: seed", self.seed, most=None)


class FreeForm(FastForm):
    """A batch whose importances are anybody's.

    Args:
        model: the decomposition.
        batch: as the call takes it.
    """

    def __init__(self, model: DecomposedModel, batch: Any) -> None:
        super().__init__(model, batch, FastOptions(nodes=0, compiled=False))

    def set(self, importance: Mapping[str, CausalImportance]) -> None:
        """From now on these are the importances."""
        self.__dict__["importance"] = importance  # in the place of the cached property


class Terms(NamedTuple):
    """The objective of a search and its parts, scalars; the adversary's is NaN where there is none."""

    total: Tensor
    stochastic: Tensor
    adversarial: Tensor
    importance: Tensor


class Problem:
    """A batch, a goal, and the nodes that a circuit is made of: component, site call and position.

    To be used while the model is :func:`frozen`.

    Args:
        model: the decomposition.
        batch: as the model's call takes it, on its device.
        goal: what is wanted of it.
        search: how it is looked for.

    Attributes:
        alive: which nodes may take part, boolean ``[rows, ..., C]`` by site call; one row where rows share.
        start: logits that the search begins with, of the same shape.
        rows: number of rows of the batch.
        unit: what distances are divided by, in the objective.
        price: of a node, in that unit.

    Raises:
        UsageError: for the older method, a site without rows, or a batch on which nothing is alive.
    """

    def __init__(self, model: ComponentModel, batch: Any, goal: Goal, search: CircuitSearch) -> None:
        if not isinstance(model, DecomposedModel):
            raise UsageError("circuit: needs importances at positions, which components of the older method lack")
        self.goal, self.search, self.model = goal, search, model
        self.form = FreeForm(model, batch)
        clean, self.rows = self.form.clean, len(self.form.clean.output)
        found = {call: CausalImportance(*(part.detach() for part in ci)) for call, ci in self.form.importance.items()}
        for call, ci in found.items():
            if len(ci.lower) != self.rows:
                raise UsageError(
                    f"circuit: {call!r} has {len(ci.lower)} rows where the output has {self.rows}; leave the site out"
                )
        self.alive, self.start = {}, {}
        for call, ci in found.items():
            alive = fires(ci, clean.weights, search.alive)
            logits = ci.logits.masked_fill(~alive, -torch.inf)
            if search.shared:
                alive, logits = alive.any(0, keepdim=True), logits.amax(0, keepdim=True)
            self.alive[call] = alive
            # a logit above 1 is no more important, only further from being let go
            self.start[call] = torch.where(alive, logits.clamp(max=1), 0)
        if not any(bool(alive.any()) for alive in self.alive.values()):
            raise UsageError(
                f"circuit: no component is important (above {search.alive:g}) here; choose another example"
            )
        self.unit, self.price = self._prices()

    def _prices(self) -> tuple[float, float]:
        given = self.search.penalty
        if self.goal.distance == "kl":
            return 1.0, NATS if given is None else given
        step = self.step(self.start, "unit")
        everything = float(self.distance(step, zero_masks(step)))
        if not everything > 0:
            raise UsageError("circuit: ablating everything changes nothing here; choose another example or goal")
        return everything, SHARE if given is None else given

    def step(self, logits: Mapping[str, Tensor], *key: int | str) -> Step:
        """The batch with free importances, and noise under a key; good until the next one is asked for."""
        masked = {call: torch.where(self.alive[call], z, 0) for call, z in logits.items()}
        self.form.set({call: self._importance(z) for call, z in masked.items()})
        return Step.seen(self.form, Noise((self.search.seed, "circuit", *key), self.form.clean.output.device))

    def distance(self, step: Step, masks: Mapping[str, Mask]) -> Tensor:
        """Mean distance of the rows of a masked network's output from the goal, a scalar."""
        return self.goal.rows(step.masked(masks)).mean()

    def _importance(self, logits: Tensor) -> CausalImportance:
        whole = logits.expand(self.rows, *logits.shape[1:])
        return CausalImportance(whole, lower_leaky(whole), upper_leaky(whole))

    def attacked(
        self,
        step: Step,
        sources: Mapping[str, Tensor],
        steps: int,
        step_size: float,
        everywhere: bool = False,
    ) -> dict[str, Tensor]:
        """Sources after steps of ascent on the distance.

        Args:
            step: the batch; its importances are constants here.
            sources: where it starts, see :func:`random_channels`.
            steps: signed gradient steps.
            step_size: length of one of them.
            everywhere: whether the sources of dead components and of the delta component move as well.
        """
        constant = step.constant_importance
        movable = {call: self._movable(call, source) | everywhere for call, source in sources.items()}

        def distance(moved: dict[str, Tensor]) -> Tensor:
            channels = {call: torch.where(movable[call], moved[call], source) for call, source in sources.items()}
            return self.distance(step, masks_from_channels(step, constant, channels))

        return ascend(distance, sources, steps, step_size)

    def _movable(self, call: str, source: Tensor) -> Tensor:
        alive = self.alive[call].expand(self.rows, *self.alive[call].shape[1:])
        extra = source.shape[-1] - alive.shape[-1]  # the delta component's
        return torch.nn.functional.pad(alive, (0, extra), value=False)


def objective(problem: Problem, logits: Mapping[str, Tensor], number: int, adversary: bool = True) -> Terms:
    """Half the distance under random masks, half of it under adversarial ones, and the price of the nodes (VPD).

    ``0.5 d(stochastic) + 0.5 d(adversarial) + price * sum g ** p``, distances in the problem's unit, means over rows.
    Without the adversary the random masks count in full. The penalty reads upper-leaky importances, so that one of 1
    can fall.

    Args:
        problem: see there.
        logits: of the importances, ``[rows, ..., C]`` by site call.
        number: of the step; keys its noise.
        adversary: whether there is one.

    Returns:
        The terms, with gradient to the logits.
    """
    step = problem.step(logits, number)
    random = stochastic_masks(step, "uniform", step.noise.generator("stochastic"))
    stochastic = problem.distance(step, random) / problem.unit
    upper = [ci.upper.flatten(1) for ci in step.importance.values()]
    nothing = sum(one.shape[1] for one in upper) * EPS**problem.search.p  # what nodes of importance 0 would cost
    importance = problem.price * (importance_minimality(upper, problem.search.p, EPS) - nothing)
    if not adversary:
        return Terms(stochastic + importance, stochastic, torch.full_like(stochastic, torch.nan), importance)
    sources = random_channels(step, "uniform", step.noise.generator("adversary"))
    search = problem.search
    worst = problem.attacked(step, sources, search.adversary_steps, search.adversary_step_size)
    adversarial = problem.distance(step, masks_from_channels(step, step.importance, worst)) / problem.unit
    return Terms((stochastic + adversarial) / 2 + importance, stochastic, adversarial, importance)


class Found(NamedTuple):
    """What a search ended with.

    Attributes:
        importances: lower-leaky, ``[rows, ..., C]`` by site call, 0 for what is not part of the circuit; one row where
            rows share.
        history: of every step the objective, the distance under random and under adversarial masks, and the number of
            nodes of a row, ``[steps, 4]``.
    """

    importances: dict[str, Tensor]
    history: Tensor


def searched(problem: Problem, adversary: bool = True, after: Callable[[float, float], None] | None = None) -> Found:
    """Look for a circuit.

    Args:
        problem: see there.
        adversary: whether the search is attacked.
        after: is told the objective and the number of nodes of a row after every step.
    """
    search = problem.search
    logits = {call: start.clone().requires_grad_() for call, start in problem.start.items()}
    optimiser = torch.optim.AdamW(list(logits.values()), lr=search.lr, weight_decay=0.0)
    history = torch.empty(search.steps, 4)
    for number in range(search.steps):
        for group in optimiser.param_groups:
            group["lr"] = search.lr * lr_factor(number, search.steps, "half_cosine")
        with torch.enable_grad():
            terms = objective(problem, logits, number, adversary)
            gradients = torch.autograd.grad(terms.total, list(logits.values()))
        for leaf, gradient in zip(logits.values(), gradients, strict=True):
            leaf.grad = gradient
        history[number] = torch.stack([*terms[:3], _size(problem, logits)]).detach()
        if not bool(history[number, 0].isfinite()):
            raise UsageError(f"circuit: the objective is not finite at step {number}; lower lr")
        optimiser.step()
        if after is not None:
            after(float(history[number, 0]), float(history[number, 3]))
    return Found({call: _pruned(problem, call, z.detach()) for call, z in logits.items()}, history)


def _pruned(problem: Problem, call: str, logits: Tensor) -> Tensor:
    """Importances, 0 where they are not above the threshold: what is not counted is not protected either."""
    lower = lower_leaky(torch.where(problem.alive[call], logits, 0))
    return torch.where(lower > problem.search.threshold, lower, 0)


def _size(problem: Problem, logits: Mapping[str, Tensor]) -> Tensor:
    kept = torch.stack([(_pruned(problem, call, z.detach()) > 0).sum() for call, z in logits.items()]).sum()
    return kept / len(next(iter(logits.values())))


@contextmanager
def frozen(model: ComponentModel) -> Iterator[None]:
    """Ask for no gradient of any weight inside a ``with`` block; afterwards all is as it was."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
