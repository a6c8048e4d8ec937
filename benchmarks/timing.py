"""Times of several loops, taken in turn."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.loops import Loop

TURNS = 10
WARM_UP_STEPS, WARM_UP_SECONDS = 5, 2.0


def warm_up(loop: Loop) -> float:
    """Take the first steps, five or as many as fit in two seconds; returns how long the last of them took."""
    taken = [loop.timed_step()]
    while len(taken) < WARM_UP_STEPS and sum(taken) < WARM_UP_SECONDS:
        taken.append(loop.timed_step())
    return taken[-1]


def in_turn(loops: Mapping[str, Loop], seconds: float, least: int) -> Iterator[tuple[str, list[float]]]:
    """Let loops take blocks of steps alternately, so that a disturbance of the machine meets them all.

    Args:
        loops: by name, warmed up here.
        seconds: time to spend on each.
        least: steps that each takes at least.

    Yields:
        A name and the wall times of a block of its steps, block after block. The first step of a longer block is
        left out: it finds the caches full of what another loop needed.
    """
    counts = {name: max(least, min(2000, round(seconds / warm_up(loop)))) for name, loop in loops.items()}
    for turn in range(TURNS):
        for name, loop in loops.items():
            steps = math.ceil(counts[name] / TURNS)
            if turn * steps >= counts[name]:
                continue
            if steps > 1:
                loop.step()
            yield name, [loop.timed_step() for _ in range(steps)]


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Number, median and quartiles of wall times, in milliseconds."""
    low, middle, high = (
        statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else 3 * list(seconds)
    )
    return {"steps": len(seconds), "median_ms": 1e3 * middle, "q25_ms": 1e3 * low, "q75_ms": 1e3 * high}
