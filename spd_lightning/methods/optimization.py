"""How components and importance function are optimised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from spd_lightning.errors import check_choice, check_fraction, check_whole
from spd_lightning.files.progress import progress
from spd_lightning.functional import faithfulness, lr_factor, relative_faithfulness
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.losses.base import check_positive
from spd_lightning.model import ComponentModel
from spd_lightning.parallel.sharding import sharded_like

EXACT = 1e-8
"""Squared difference from the target's weights, relative to them, below which nothing is left to warm up."""
Through = Callable[..., Tensor]
"""Takes a computation and its arguments."""


@dataclass(frozen=True)
class Optimization:
    """One AdamW over components and importance function, without weight decay unless asked for (SPD paper).

    Args:
        lr: learning rate at the schedule's height; 0 beside an ``importance_lr`` leaves the components as they start.
        importance_lr: learning rate of the importance function; ``None`` for the same.
        schedule: ``quarter_cosine`` (paper's code), ``half_cosine`` (later library) or ``constant``.
        warmup_fraction: fraction of the steps over which the rate first rises from 0.
        final_fraction: fraction of the rate that the cosines end at.
        clip_components: largest gradient norm of the components; ``None`` for no limit (paper).
        clip_importance: the same for the importance function, 1 as in later work: with exponents below 1 its gradient
            grows without bound where an importance nears 0, which ended a run there after 310 000 steps.
        importance_weight_decay: AdamW's weight decay of the importance function's matrices, not of its biases (ours).
            What answers to nothing in training fades, and stays silent on inputs that training has not seen.
    """

    lr: float = 1e-3
    importance_lr: float | None = None
    schedule: LRSchedule = "quarter_cosine"
    warmup_fraction: float = 0.0
    final_fraction: float = 0.0
    clip_components: float | None = None
    clip_importance: float | None = 1.0
    importance_weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "importance_lr", "clip_components", "clip_importance"):
            value = getattr(self, name)
            if value is not None or name == "lr":
                still = name == "lr" and self.importance_lr is not None
                check_positive(f"optimization.{name}", value, allow_zero=still)
        decay = self.importance_weight_decay
        check_positive("optimization.importance_weight_decay", decay, allow_zero=True)
        for name in ("warmup_fraction", "final_fraction"):
            check_fraction(f"optimization.{name}", getattr(self, name))
        check_choice("optimization.schedule", self.schedule, get_args(LRSchedule))

    def build(self, model: ComponentModel, total_steps: int, fused: bool = False) -> tuple[AdamW, LambdaLR]:
        """The optimiser, with named groups, and its schedule.

        Args:
            model: what is optimised.
            total_steps: number of updates that the schedule spans.
            fused: whether all parameters are updated in one call.

        Returns:
            Optimiser and scheduler, to be stepped once per update.
        """
        rate = self.importance_lr or self.lr
        groups: list[dict[str, Any]] = [{"name": "components", "params": list(model.components.parameters())}]
        groups += [{"lr": rate, **group} for group in self._importance_groups(model.importance_function)]
        groups = [group for group in groups if group["params"]]  # not every method predicts importances
        optimizer = AdamW(groups, lr=self.lr, weight_decay=0.0, fused=fused)
        if model.twins:
            _join_twins(optimizer, model)
        shape = (total_steps, self.schedule, self.warmup_fraction, self.final_fraction)
        return optimizer, LambdaLR(optimizer, lambda step: lr_factor(step, *shape))

    def _importance_groups(self, function: nn.Module) -> list[dict[str, Any]]:
        """One group, or two where only a part decays."""
        if not self.importance_weight_decay:
            return [{"name": "importance", "params": list(function.parameters())}]
        parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in function.named_parameters():
            parts[parameter.ndim > 1 and not _own_name(name).startswith("bias")].append(parameter)
        return [
            {"name": "importance", "params": parts[True], "weight_decay": self.importance_weight_decay},
            {"name": "importance_biases", "params": parts[False]},
        ]

    def clip(self, model: ComponentModel) -> dict[str, Tensor]:
        """Limit the gradient norm of each group on its own.

        Returns:
            The norms before, by group, where they were looked at.
        """
        norms = {}
        limits = {"components": self.clip_components, "importance": self.clip_importance}
        for name, limit in limits.items():
            if limit is not None:
                norms[name] = torch.nn.utils.clip_grad_norm_(trained(model, name), limit)
        return norms


def _own_name(name: str) -> str:
    """Of a parameter, without the modules, sites and numbers in front of and behind it."""
    return next(part for part in reversed(name.split(".")) if not part.isdigit())


def trained(model: ComponentModel, group: str) -> list[nn.Parameter]:
    """The parameters of one of the optimiser's groups, ``"components"`` or ``"importance"``."""
    module = model.components if group == "components" else model.importance_function
    return list(module.parameters())


@torch.no_grad()
def forget_momentum(optimizer: Optimizer, model: ComponentModel, site: str, numbers: Sequence[int]) -> None:
    """Let components that were changed by hand stay where they are: their running mean of gradients becomes zero.

    That of squares stays, or the next updates would be larger than others.

    Args:
        optimizer: what moves them; parameters may be sharded, and must not be whole just now.
        model: whose components they are.
        site: where they are.
        numbers: which of the site's.
    """
    owner = model.components[site].source
    for parts in (owner, *(twin for twin in model.twins if twin.source is owner)):
        for parameter, dim in ((parts.V, 1), (parts.U, 0)):
            mean = optimizer.state.get(parameter, {}).get("exp_avg")
            if mean is not None:
                kept = torch.ones(parameter.shape, dtype=mean.dtype, device=mean.device)
                mean.mul_(sharded_like(mean, kept.index_fill_(dim, kept.new_tensor(numbers, dtype=torch.long), 0.0)))


def _join_twins(optimizer: AdamW, model: ComponentModel) -> None:
    """After every step, let components that are kept equal take both of their updates."""
    before: list[tuple[Tensor, Tensor]] = []

    def note(*_: Any) -> None:
        before[:] = [(twin.V.detach().clone(), twin.U.detach().clone()) for twin in model.twins]

    def join(*_: Any) -> None:
        for twin, numbers in zip(model.twins, before, strict=True):
            twin.join(numbers)
        model.mirror_twins()  # several of one source: the last to join has moved what the others equal

    optimizer.register_step_pre_hook(note)
    optimizer.register_step_post_hook(join)


def _directly(compute: Callable[..., Tensor], *args: Any) -> Tensor:
    return compute(*args)


def _unexplained(model: ComponentModel) -> Tensor:
    return faithfulness(parts.delta() for parts in model.explained())


@torch.no_grad()
def is_exact(model: ComponentModel) -> bool:
    """Whether components, which must be whole here, sum to the target's weights already."""
    pairs = ((parts.delta(), parts.site.weight()) for parts in model.explained())
    return float(relative_faithfulness(pairs)) < EXACT


@dataclass(frozen=True)
class Warmup:
    """Faithfulness alone, on components alone, before the first step, with an optimiser that is then discarded.

    Args:
        steps: number of updates; 0 for none (paper), 200 in the later library's toys. Below 1, a share of training's.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay.
    """

    steps: int | float = 0
    lr: float = 0.01
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        if not self._is_share:
            check_whole("warmup.steps", self.steps, least=0)
        check_positive("warmup.lr", self.lr)
        check_positive("warmup.weight_decay", self.weight_decay, allow_zero=True)

    @property
    def _is_share(self) -> bool:
        return isinstance(self.steps, float) and 0 < self.steps < 1

    def updates(self, training_steps: int) -> int:
        """How many before training of so many steps."""
        return round(self.steps * training_steps) if self._is_share else int(self.steps)

    def run(self, model: ComponentModel, training_steps: int, show: bool = True, through: Through = _directly) -> None:
        """Move the components towards the target's weights, in place.

        Args:
            model: the decomposition.
            training_steps: how long training is.
            show: whether to show a progress bar, where there is a terminal.
            through: calls a computation, where parameters are sharded.
        """
        updates = self.updates(training_steps)
        if not updates:
            return
        optimizer = AdamW(model.components.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        if model.twins:
            _join_twins(optimizer, model)
        with torch.enable_grad():
            for _ in progress("Faithfulness warm-up", range(updates), show=show):
                optimizer.zero_grad()
                through(_unexplained, model).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        model.components.zero_grad()
