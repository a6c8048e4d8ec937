"""How many components a decomposition uses, read off as a cliff."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spd_lightning.figures.style import (
    ACCENT,
    BLANK,
    MAIN,
    TICK_SIZE,
    Array,
    describe,
    largest,
    new_figure,
    say,
    to_arrays,
)


def importance_spectrum(means: Mapping[str, Tensor], threshold: float = 1e-6, floor: float = 1e-9) -> Figure:
    """Mean causal importance of every component, sorted, one panel per site, on a logarithmic axis.

    Args:
        means: per site ``[C]``, the mean over examples and positions of the lower-leaky importance; any order.
        threshold: drawn as a line, components above it are counted in the panel's title.
        floor: start of the axis; what lies at or below it, 0 included, is drawn as a hollow mark on it.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no site, means are not a vector or not ``0 < floor < threshold``.
    """
    arrays = to_arrays("means", means, "C")
    if not 0 < floor < threshold:
        raise ValueError(f"threshold must exceed floor and floor must exceed 0, got {threshold} and {floor}")
    figure, axes = new_figure("Mean importance, sorted", len(arrays), 3.2, 2.4)
    for panel, (site, array) in zip(axes, arrays.items(), strict=True):
        _draw(panel, -np.sort(-array), threshold, floor)
        note = f"{int((array > threshold).sum())} of {array.size} above {threshold:g}"
        describe(panel, site, note, "rank of the component (1 = most important)", "mean importance (log)")
    figure.legend(handles=_legend(threshold, floor), fontsize=TICK_SIZE, loc="outside lower center", ncols=2)
    counts = (f"{site}: {int((array > threshold).sum())} of {array.size}" for site, array in arrays.items())
    return say(figure, f"components of mean importance above {threshold:g}: " + "; ".join(counts))


def _draw(axes: Axes, ranked: Array, threshold: float, floor: float) -> None:
    """Marks at ranks 1, 2, ...; the ones at the floor are hollow."""
    ranks = np.arange(1, ranked.size + 1)
    low = ranked <= floor
    size = 5.0 if ranked.size <= 50 else 3.0
    axes.set_yscale("log")
    axes.minorticks_off()
    margin = 0.5 + 0.02 * ranked.size
    axes.set(xlim=(1 - margin, ranked.size + margin), ylim=(floor / 3, max(2.0, 2 * largest([ranked]))))
    axes.axhline(threshold, color=ACCENT, linestyle="--", linewidth=1)
    axes.plot(ranks[~low], ranked[~low], "o", color=MAIN, markersize=size)
    axes.plot(ranks[low], np.full(low.sum(), floor), "o", color=BLANK, markersize=size, fillstyle="none")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.grid(color="0.9", linewidth=0.6)


def _legend(threshold: float, floor: float) -> list[Line2D]:
    """What the line and the hollow marks are."""
    line = Line2D([], [], color=ACCENT, linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    marks = Line2D([], [], color=BLANK, linestyle="", marker="o", fillstyle="none", label=f"at most {floor:g}, or 0")
    return [line, marks]
