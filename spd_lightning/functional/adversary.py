"""Projected gradient ascent on sources: the worst masks that the importances still allow."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


def ascend(
    objective: Callable[[dict[str, Tensor]], Tensor],
    sources: Mapping[str, Tensor],
    steps: int,
    step_size: float,
    combine: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Push sources towards a higher objective by signed gradient steps, clamped to [0, 1] after each.

    With ``steps * step_size`` around 2 every source can cross its whole range (later SPD library).

    Args:
        objective: scalar function of the sources; everything else in it is treated as constant.
        sources: starting values in [0, 1], by name.
        steps: number of ascents; 0 returns the start.
        step_size: length of one step per coordinate.
        combine: turns a gradient over this process's examples into that over all, where processes share one source.

    Returns:
        Detached sources, shaped as given.
    """
    current = {name: source.detach().clone() for name, source in sources.items()}
    for _ in range(steps):
        leaves = {name: source.requires_grad_() for name, source in current.items()}
        with torch.enable_grad():
            gradients = torch.autograd.grad(objective(leaves), list(leaves.values()))
        if combine is not None:
            gradients = tuple(combine(gradient) for gradient in gradients)
        current = {
            name: (leaf.detach() + step_size * gradient.sign()).clamp(0.0, 1.0)
            for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
        }
    return {name: source.detach() for name, source in current.items()}


class AdamRates(NamedTuple):
    """Rates of an ascent by Adam.

    Attributes:
        lr: length of a push where gradients agree.
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.
        eps: added to its root.
    """

    lr: float
    beta1: float
    beta2: float
    eps: float


class AscentMoments(NamedTuple):
    """What Adam remembers of the gradients of sources.

    Attributes:
        first: decaying means, by name.
        second: decaying means of squares, by name.
        pushes: number of ascents so far.
    """

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    pushes: int


@torch.no_grad()
def adam_ascent(
    sources: Mapping[str, Tensor], gradients: Mapping[str, Tensor], moments: AscentMoments, rates: AdamRates
) -> tuple[dict[str, Tensor], AscentMoments]:
    """Push sources up by one step of Adam and clamp them to [0, 1] (VPD, section on the persistent adversary).

    Args:
        sources: values in [0, 1], by name.
        gradients: of what is to grow, for each.
        moments: as the last call returned them; zeros and 0 at first.
        rates: of Adam.

    Returns:
        The new sources and moments; those given are left as they are.
    """
    pushes = moments.pushes + 1
    first = {name: torch.lerp(g, moments.first[name], rates.beta1) for name, g in gradients.items()}
    second = {name: torch.lerp(g.square(), moments.second[name], rates.beta2) for name, g in gradients.items()}
    step, root = rates.lr / (1 - rates.beta1**pushes), (1 - rates.beta2**pushes) ** 0.5
    pushed = {
        name: (source + step * first[name] / (second[name].sqrt() / root + rates.eps)).clamp(0.0, 1.0)
        for name, source in sources.items()
    }
    return pushed, AscentMoments(first, second, pushes)
