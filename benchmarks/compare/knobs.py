"""How far each method's most delicate numbers may be off, from sweeps of the same size."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.compare.measures import Found
from benchmarks.compare.pairs import KNOBS, Knob
from spd_lightning.figures.style import CATEGORIES, TICK_SIZE, describe, new_figure
from spd_lightning.runs.record import read_record

Row = dict[str, Any]
MARKS = "o-", "s--", "^:"
TABLE, SEED_COLUMN = "results.csv", "seed_everything"
SEEDS = ("0",)
"""Of each sweep's runs those that count: the same number for each."""


def outcomes(knob: Knob, sweeps: Path) -> list[Row]:
    """One row per value: share of features found over its finished runs, and how many runs these are.

    Args:
        knob: the number.
        sweeps: folder of all sweeps.

    Returns:
        Rows by value; none if the sweep was not made.
    """
    by_value: dict[float, list[float]] = {}
    for value, folder in _runs(sweeps / knob.sweep, knob.key):
        record = read_record(folder)
        if record.state == "finished":
            found, all_of_them = Found(folder).found_features()
            by_value.setdefault(value, []).append(found / all_of_them)
    return [
        {"knob": knob.words, "value": value, "ratio": value / knob.default, "share": fmean(shares), "runs": len(shares)}
        for value, shares in sorted(by_value.items())
    ]


def _runs(folder: Path, key: str) -> list[tuple[float, Path]]:
    if not (folder / TABLE).is_file():
        return []
    with (folder / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(float(row[key]), folder / row["run"]) for row in rows if row[SEED_COLUMN] in SEEDS]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Share of features found against the factor by which the shipped value was missed."""
    figure, (axes,) = new_figure("Features found, one number changed (5-2 toy model)", 1, 5.5, 3.0)
    for knob, color, mark in zip(KNOBS, CATEGORIES, MARKS, strict=False):
        points = [row for row in rows if row["knob"] == knob.words]
        label = f"{knob.method}: {knob.words}"
        ratios, shares = [row["ratio"] for row in points], [row["share"] for row in points]
        axes.plot(ratios, shares, mark, color=color, label=label, alpha=0.8)
    axes.axvline(1, color="0.8", linewidth=1, zorder=0)
    axes.set(xscale="log", ylim=(-0.05, 1.05))
    axes.grid(alpha=0.3)
    describe(axes, "", f"seed {', '.join(SEEDS)}", "value over shipped value", "share of features")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=TICK_SIZE)
    figure.savefig(path)
