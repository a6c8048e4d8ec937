"""Schedules as functions of the step or of the fraction of training done."""

import math
from collections.abc import Sequence
from typing import Literal

LRSchedule = Literal["constant", "quarter_cosine", "half_cosine"]


def lr_factor(
    step: int, total_steps: int, schedule: LRSchedule, warmup_fraction: float = 0.0, final_fraction: float = 0.0
) -> float:
    """What the learning rate is multiplied by at a step.

    Args:
        step: 0 for the first update.
        total_steps: number of updates ``T``.
        schedule: ``"constant"``; ``"quarter_cosine"``, ``cos(pi/2 * t/(T-1))`` (SPD paper's code and APD);
            ``"half_cosine"``, ``(1 + cos(pi * t/(T-1))) / 2`` (later SPD library).
        warmup_fraction: fraction of the steps over which the rate first rises linearly from 0.
        final_fraction: value that the cosines end at.

    Returns:
        A factor in [0, 1].

    Raises:
        ValueError: if the schedule is unknown.
    """
    warmup = int(warmup_fraction * total_steps)
    if step < warmup:
        return step / warmup
    progress = min((step - warmup) / max(total_steps - warmup - 1, 1), 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "quarter_cosine":
        shape = math.cos(0.5 * math.pi * progress)
    elif schedule == "half_cosine":
        shape = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        raise ValueError(f"schedule must be 'constant', 'quarter_cosine' or 'half_cosine', got {schedule!r}")
    return final_fraction + (1 - final_fraction) * shape


def geometric_anneal(progress: float, start: float, end: float, window: tuple[float, float] = (0.0, 1.0)) -> float:
    """The same as :func:`linear_anneal` in the logarithm, for scales such as coefficients.

    Args:
        progress: fraction of training done, in [0, 1].
        start: value before the window, above 0.
        end: value after the window, above 0.
        window: fractions of training at which the change begins and ends.

    Returns:
        The value at ``progress``.
    """
    return start * float((end / start) ** linear_anneal(progress, 0.0, 1.0, window))


def along_points(progress: float, start: float, points: Sequence[tuple[float, float]]) -> float:
    """A path from point to point, geometric between values above 0; next to a 0 it stays, then jumps.

    Args:
        progress: fraction of training done, in [0, 1].
        start: value at 0.
        points: fractions of training, in order, and values at least 0 there; the last value holds to the end.

    Returns:
        The value at ``progress``.
    """
    before = (0.0, start)
    for point in points:
        if progress < point[0]:
            moves = before[1] > 0 and point[1] > 0
            return geometric_anneal(progress, before[1], point[1], (before[0], point[0])) if moves else before[1]
        before = (point[0], point[1])
    return before[1]


def linear_anneal(progress: float, start: float, end: float, window: tuple[float, float] = (0.0, 1.0)) -> float:
    """Linear path from ``start`` to ``end`` over a window of training, constant outside it.

    Args:
        progress: fraction of training done, in [0, 1].
        start: value before the window.
        end: value after the window.
        window: fractions of training at which the change begins and ends.

    Returns:
        The value at ``progress``.
    """
    first, last = window
    if last <= first:
        return end if progress >= first else start
    fraction = min(max((progress - first) / (last - first), 0.0), 1.0)
    return start + fraction * (end - start)
