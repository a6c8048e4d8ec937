"""Pictures of the measurements."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.loops import KINDS
from spd_lightning.figures.style import CATEGORIES, TICK_SIZE, describe, new_figure

Row = dict[str, Any]
COLORS = dict(zip(KINDS, (CATEGORIES[7], CATEGORIES[1], CATEGORIES[5], CATEGORIES[0]), strict=True))
LABELS = {
    "reference": "papers' step as written",
    "plain": "plain step",
    "uncompiled": "fast step without compiled kernels",
    "fast": "fast step",
}
MARKERS = {"plain": "s", "fast": "o"}


def draw_step_time(rows: Sequence[Row], device: str, path: Path) -> None:
    """Bars of the median time per step, a group per system, with quartiles, on a logarithmic scale."""
    chosen = [row for row in rows if row["device"] == device]
    names = list(dict.fromkeys(row["system"] for row in chosen))
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in chosen)]
    figure, (axes,) = new_figure(f"Time of one training step ({device})", 1, max(4.5, 1.25 * len(names)), 3.6)
    width = 0.84 / len(kinds)
    for position, kind in enumerate(kinds):
        bars = {row["system"]: row for row in chosen if row["kind"] == kind}
        places = [index + (position - (len(kinds) - 1) / 2) * width for index, name in enumerate(names) if name in bars]
        _bars(axes, places, [bars[name] for name in names if name in bars], width, kind)
    _log_times(axes)
    axes.set_xticks(range(len(names)), [name.replace("paper/", "paper\n") for name in names], fontsize=TICK_SIZE)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    describe(axes, "", "median, lines from the first to the third quartile", "", "milliseconds per step")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=TICK_SIZE)
    figure.savefig(path)


def _bars(axes: Axes, places: Sequence[float], rows: Sequence[Row], width: float, kind: str) -> None:
    medians = [row["median_ms"] for row in rows]
    spread = [[row["median_ms"] - row["q25_ms"] for row in rows], [row["q75_ms"] - row["median_ms"] for row in rows]]
    style: dict[str, Any] = {"color": COLORS[kind], "label": LABELS[kind]}  # type: ignore[index]
    axes.bar(places, medians, width, yerr=spread, error_kw={"lw": 0.8, "ecolor": "0.4"}, **style)


def draw_curves(rows: Sequence[Row], base: str, path: Path) -> None:
    """One panel per size that is varied, both scales logarithmic."""
    curves = list(dict.fromkeys(row["curve"] for row in rows))
    figure, panels = new_figure(f"Time of one training step around {base}", len(curves), 3.2, 2.6)
    highest, lowest = 1.3 * max(row["q75_ms"] for row in rows), min(row["q25_ms"] for row in rows) / 1.3
    for axes, curve in zip(panels, curves, strict=True):
        _curve(axes, [row for row in rows if row["curve"] == curve])
        axes.set_ylim(lowest, highest)
        describe(axes, "", "", curve, "milliseconds per step" if axes is panels[0] else "")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=TICK_SIZE)
    figure.savefig(path)


def _curve(axes: Axes, rows: Sequence[Row]) -> None:
    for kind, marker in MARKERS.items():
        points = [row for row in rows if row["kind"] == kind]
        sizes, medians = [row["size"] for row in points], [row["median_ms"] for row in points]
        low, high = [row["q25_ms"] for row in points], [row["q75_ms"] for row in points]
        axes.fill_between(sizes, low, high, color=COLORS[kind], alpha=0.25, linewidth=0)  # type: ignore[index]
        axes.plot(sizes, medians, marker=marker, color=COLORS[kind], label=LABELS[kind], markersize=4)  # type: ignore[index]
    axes.set_xscale("log")
    _log_times(axes)
    ticks = sorted({row["size"] for row in rows})
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)


def _log_times(axes: Axes) -> None:
    """A logarithmic scale of times, its ticks written as plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
