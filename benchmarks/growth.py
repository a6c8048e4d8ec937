"""How costs grow with a size: tables, and slopes of the straight lines through the logarithms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

PEAK_RESET = Path("/proc/self/clear_refs")


class Unit(NamedTuple):
    """What a cost is told for.

    Attributes:
        name: of the unit.
        size: of a unit.
    """

    name: str
    size: float


UNITS = {"components": Unit("1000 components", 1e3), "positions": Unit("million positions", 1e6)}
COSTS = ("seconds", "MB")


def exponent(rows: Sequence[Mapping[str, float]], growing: str, what: str) -> float:
    """The power of a size that a cost grows as.

    Args:
        rows: sizes and costs by name.
        growing: the size.
        what: the cost.
    """
    x, y = (np.log([row[name] for row in rows]) for name in (growing, what))
    return float(np.polyfit(x, y, 1)[0])


def curve(rows: Sequence[Mapping[str, float]], growing: str) -> str:
    """A Markdown table of sizes and costs, with the costs of a unit of what grows; and how they grow.

    Args:
        rows: by name, ``seconds`` and ``MB`` among them.
        growing: ``components`` or ``positions``.
    """
    unit = UNITS[growing]
    header = [*rows[0], *(f"{cost} per {unit.name}" for cost in COSTS)]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        shares = (row[cost] / row[growing] * unit.size for cost in COSTS)
        lines.append([*map(_short, row.values()), *map(_short, shares)])
    powers = " and ".join(f"{cost} as the power {exponent(rows, growing, cost):.2f}" for cost in COSTS)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nIn {growing}: {powers}."


def _short(number: float) -> str:
    """Whole numbers in full, others with two digits and more."""
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{number:.2g}"


def forget_peak() -> None:
    """Let the largest memory of this process so far be what it holds now, where Linux lets it."""
    if PEAK_RESET.exists():
        PEAK_RESET.write_text("5")
