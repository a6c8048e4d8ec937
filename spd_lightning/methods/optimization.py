"""How components and causal-importance functions are optimised."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import trange

from spd_lightning.errors import check_choice, check_fraction, check_whole
from spd_lightning.functional import faithfulness, lr_factor
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.losses.base import check_positive
from spd_lightning.model import ComponentModel

Through = Callable[..., Tensor]
"""Takes a computation and its arguments."""


@dataclass(frozen=True)
class Optimization:
    """One AdamW without weight decay over two groups, components and causal-importance functions (SPD paper).

    Args:
        lr: learning rate at the schedule's height.
        ci_fn_lr: learning rate of the causal-importance functions; ``None`` for the same.
        schedule: ``quarter_cosine`` (paper's code), ``half_cosine`` (later library) or ``constant``.
        warmup_fraction: fraction of the steps over which the rate first rises from 0.
        final_fraction: fraction of the rate that the cosines end at.
        clip_components: largest gradient norm of the components; ``None`` for no limit (paper).
        clip_ci_fns: the same for the causal-importance functions.
    """

    lr: float = 1e-3
    ci_fn_lr: float | None = None
    schedule: LRSchedule = "quarter_cosine"
    warmup_fraction: float = 0.0
    final_fraction: float = 0.0
    clip_components: float | None = None
    clip_ci_fns: float | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "ci_fn_lr", "clip_components", "clip_ci_fns"):
            value = getattr(self, name)
            if value is not None or name == "lr":
                check_positive(f"optimization.{name}", value)
        for name in ("warmup_fraction", "final_fraction"):
            check_fraction(f"optimization.{name}", getattr(self, name))
        check_choice("optimization.schedule", self.schedule, get_args(LRSchedule))

    def build(self, model: ComponentModel[Any], total_steps: int, fused: bool = False) -> tuple[AdamW, LambdaLR]:
        """The optimiser, with named groups, and its schedule.

        Args:
            model: what is optimised.
            total_steps: number of updates that the schedule spans.
            fused: whether all parameters are updated in one call. Parameters that share storage are so on the CPU
                alone, where one call updates them one after another; elsewhere their two updates would race.

        Returns:
            Optimiser and scheduler, to be stepped once per update.
        """
        components, ci_fns = list(model.components.parameters()), list(model.ci_fns.parameters())
        together = fused and not (model.shares_storage and components[0].device.type != "cpu")
        groups: list[dict[str, Any]] = [
            {"name": "components", "params": components, "fused": together},
            {"name": "ci_fns", "params": ci_fns, "lr": self.ci_fn_lr or self.lr, "fused": fused},
        ]
        groups = [group for group in groups if group["params"]]  # not every method has gates
        optimizer = AdamW(groups, lr=self.lr, weight_decay=0.0)
        shape = (total_steps, self.schedule, self.warmup_fraction, self.final_fraction)
        return optimizer, LambdaLR(optimizer, lambda step: lr_factor(step, *shape))

    def clip(self, model: ComponentModel[Any]) -> None:
        """Limit the gradient norm of each group on its own."""
        for modules, limit in ((model.components, self.clip_components), (model.ci_fns, self.clip_ci_fns)):
            if limit is not None:
                torch.nn.utils.clip_grad_norm_(modules.parameters(), limit)


def _directly(compute: Callable[..., Tensor], *args: Any) -> Tensor:
    return compute(*args)


def _unexplained(model: ComponentModel[Any]) -> Tensor:
    return faithfulness(parts.delta() for _, parts in model.components.items())


@dataclass(frozen=True)
class Warmup:
    """Faithfulness alone, on components alone, before the first step, with an optimiser that is then discarded.

    Args:
        steps: number of updates; 0 for none (paper), 200 in the later library's toys.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay.
    """

    steps: int = 0
    lr: float = 0.01
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        check_whole("warmup.steps", self.steps, least=0)
        check_positive("warmup.lr", self.lr)
        check_positive("warmup.weight_decay", self.weight_decay, allow_zero=True)

    def run(self, model: ComponentModel[Any], show: bool = True, through: Through = _directly) -> None:
        """Move the components towards the target's weights, in place.

        Args:
            model: the decomposition.
            show: whether to show a progress bar.
            through: calls a computation, where parameters are sharded.
        """
        if not self.steps:
            return
        optimizer = AdamW(model.components.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        with torch.enable_grad():
            for _ in trange(self.steps, desc="Faithfulness warm-up", leave=False, disable=not show):
                optimizer.zero_grad()
                through(_unexplained, model).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        model.components.zero_grad()
