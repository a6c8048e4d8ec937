"""Projected gradient ascent on sources: the worst masks that the importances still allow."""

from collections.abc import Callable, Mapping

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
