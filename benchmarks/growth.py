"""How costs grow with components and positions: tables, and slopes of the straight lines through the logarithms."""

import ctypes
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

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
Row = dict[str, float]


Measure = Callable[[int, int], Row]
"""Measures one case, of some components and some positions, in this process."""


def measured(
    parser: ArgumentParser, sizes: Mapping[str, Sequence[int]], staying: Mapping[str, int], measure: Measure
) -> None:
    """Be a command that measures components and positions, one growing while the other stays; prints as it goes.

    Every case is a process of its own, so that memory is that of one; they are forked from this one, which computes
    nothing itself.

    Args:
        parser: takes options for the sizes here.
        sizes: of what grows.
        staying: the size of either while the other grows.
        measure: one case; ``seconds`` and ``MB`` are among what it gives.
    """
    for growing, default in sizes.items():
        parser.add_argument(f"--{growing}", type=int, nargs="*", default=default, help="in turn (%(default)s)")
        parser.add_argument(f"--staying_{growing}", type=int, default=staying[growing], help="else (%(default)s)")
    given = vars(parser.parse_args())
    for growing in sizes:
        rows: list[Row] = []
        for size in tqdm(given[growing], desc=f"{growing} growing"):
            case = {name: given[f"staying_{name}"] for name in sizes} | {growing: size}
            with get_context("fork").Pool(1) as pool:
                rows.append(pool.apply(measure, (case["components"], case["positions"])))
            print("\n".join(lines(rows, growing)[0 if len(rows) == 1 else -1 :]), flush=True)
        if len(rows) > 1:
            powers = " and ".join(f"{cost} as the power {exponent(rows, growing, cost):.2f}" for cost in COSTS)
            print(f"\nIn {growing}: {powers}.\n", flush=True)


def exponent(rows: Sequence[Row], growing: str, what: str) -> float:
    """The power of a size that a cost grows as.

    Args:
        rows: sizes and costs by name.
        growing: the size.
        what: the cost.
    """
    x, y = (np.log([row[name] for row in rows]) for name in (growing, what))
    return float(np.polyfit(x, y, 1)[0])


def lines(rows: Sequence[Row], growing: str) -> list[str]:
    """A Markdown table of sizes and costs, and of the costs of a unit of what grows.

    Args:
        rows: by name, ``seconds`` and ``MB`` among them.
        growing: ``components`` or ``positions``.
    """
    unit = UNITS[growing]
    header = [*rows[0], *(f"{cost} per {unit.name}" for cost in COSTS)]
    cells = [header, ["---"] * len(header)]
    for row in rows:
        shares = (row[cost] / row[growing] * unit.size for cost in COSTS)
        cells.append([*map(_short, row.values()), *map(_short, shares)])
    return [f"| {' | '.join(line)} |" for line in cells]


def _short(number: float) -> str:
    """Whole numbers in full, others with two digits and more."""
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{number:.2g}"


def forget_peak() -> None:
    """Let the largest memory of this process so far be what it holds now, where Linux lets it."""
    if PEAK_RESET.exists():
        ctypes.CDLL(None).malloc_trim(0)  # what was freed counts as held until it is given back
        PEAK_RESET.write_text("5")
