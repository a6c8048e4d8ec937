"""What ablating random halves of the components does to the output (scrubbing test of the APD paper, 2501.14926)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import ACCENT, CATEGORIES, MAIN, TICK_SIZE, Array, describe, new_figure, say, to_array

FLOOR = 0.5
"""Where the logarithmic count axis starts: a single value is visible, an empty bin is not."""
OPEN_SHARE = 0.12
"""Width of a bin that has no end, as a share of the axis between the others."""
MAX_TICKS = 6
_DRAWS = {"kept": ("important components kept", MAIN), "ablated": ("important components ablated", ACCENT)}
_LINES = {
    "unmasked": ("all components on", CATEGORIES[7], "--"),
    "zero": ("all components ablated", CATEGORIES[6], ":"),
}


class ScrubbedErrors(NamedTuple):
    """Errors of one view, counted into bins, and two to compare them with.

    Attributes:
        kept: ``[n_bins]``, errors of draws that keep the important components; the first bin holds those below the
            first edge, exact zeros among them, and the last bin those from the last edge on.
        ablated: the same, of draws that ablate the important components as well.
        unmasked: mean error with all components on.
        zero: mean error with all of them ablated.
    """

    kept: Tensor
    ablated: Tensor
    unmasked: float
    zero: float


def scrubbing_histograms(views: Mapping[str, ScrubbedErrors], edges: Tensor) -> Figure:
    """Histograms of errors, both kinds of draws in one panel, one panel per view; all axes are logarithmic and shared.

    Errors below the first edge are one bin, labelled and on grey ground; a line that belongs there stands in its
    middle. Empty bins between it and the others are left out. Errors beyond the last edge are shown alike, if any.

    Args:
        views: errors by the name of the view.
        edges: ``[n_bins - 1]``, positive and increasing.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no view, or counts do not fit the edges.
    """
    if not views:
        raise ValueError(f"views must not be empty, got {views!r}")
    bounds = to_array("edges", edges, "n_bins - 1")
    counts = np.stack([_counts(view, errors, bounds.size + 1) for view, errors in views.items()])
    lines = [value for errors in views.values() for value in (errors.unmasked, errors.zero)]
    open_above = bool(counts[..., -1].any()) or any(value >= bounds[-1] for value in lines)
    counts, limits = _trimmed(counts, bounds, lines)
    figure, axes = new_figure("Output error when a random half of the components is ablated", len(views), 4.8, 2.6)
    for panel, rows, (view, errors) in zip(axes, counts, views.items(), strict=True):
        _draw(panel, rows, limits)
        _draw_lines(panel, errors, bounds, limits)
        _scale(panel, bounds, limits, open_above, top=max(10.0, 2 * counts.max()))
        describe(panel, view, _note(rows, errors), "squared error, mean over outputs (log)", "errors per bin (log)")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=TICK_SIZE, loc="outside lower center", ncols=min(2 * len(views), 4))
    notes = (f"{view}: {_note(rows, views[view])}" for view, rows in zip(views, counts, strict=True))
    return say(figure, "; ".join(notes).replace("\n", ", "))


def _counts(view: str, errors: ScrubbedErrors, n_bins: int) -> Array:
    """Both kinds of draws, ``[2, n_bins]``, what is not a number as 0."""
    rows = [to_array(f"views[{view!r}].{name}", getattr(errors, name), "n_bins") for name in _DRAWS]
    if any(row.size != n_bins for row in rows):
        raise ValueError(f"views[{view!r}] must have {n_bins} bins, got {[row.size for row in rows]}")
    return np.nan_to_num(np.stack(rows))


def _trimmed(counts: Array, bounds: Array, lines: Sequence[float]) -> tuple[Array, Array]:
    """Leave out the bins at both ends that nothing lies in, the open ones excepted.

    Args:
        counts: ``[n_views, 2, n_bins]``.
        bounds: between the bins, ``[n_bins - 1]``.
        lines: errors that have a place on the axis as well.

    Returns:
        The remaining counts, and the limits of their bins as they are drawn, one more.
    """
    held = np.flatnonzero(counts[..., 1:].any((0, 1)))
    placed = [min(value, bounds[-1]) for value in lines if value >= bounds[0]]
    least = min([*bounds[held], *placed], default=bounds[0])
    most = max([*bounds[np.minimum(held + 1, bounds.size - 1)], *placed], default=least)
    first = np.searchsorted(bounds, 0.999 * 10 ** (np.ceil(np.log10(least)) - 1))  # some room before the smallest one
    wanted = max(10 ** np.ceil(np.log10(most)), 10 * bounds[first])
    last = min(np.searchsorted(bounds, 0.999 * wanted), bounds.size - 1)
    merged = np.add.reduceat(counts, [0, *range(first + 1, last + 2)], axis=-1)
    widening = max((bounds[last] / bounds[first]) ** OPEN_SHARE, 1.5)
    return merged, np.array([bounds[first] / widening, *bounds[first : last + 1], bounds[last] * widening])


def _draw(axes: Axes, rows: Array, limits: Array) -> None:
    """Filled steps from `FLOOR` up, one above the other, the open bins on grey ground."""
    for low, high in (limits[:2], limits[-2:]):
        axes.axvspan(low, high, color="0.92", linewidth=0)
    for row, (label, color) in zip(rows, _DRAWS.values(), strict=True):
        axes.stairs(row, limits, baseline=FLOOR, fill=True, color=color, alpha=0.3)
        axes.stairs(row, limits, baseline=FLOOR, color=color, linewidth=1.3, label=label)


def _draw_lines(axes: Axes, errors: ScrubbedErrors, bounds: Array, limits: Array) -> None:
    """A vertical line for each error to compare with; one outside the edges stands in the middle of the open bin."""
    below, above = np.sqrt(limits[:-1] * limits[1:])[[0, -1]]
    for name, (label, color, style) in _LINES.items():
        value = getattr(errors, name)
        place = below if value < bounds[0] else above if value >= bounds[-1] else value
        axes.axvline(place, color=color, linestyle=style, linewidth=1.5, label=label)


def _scale(axes: Axes, bounds: Array, limits: Array, open_above: bool, top: float) -> None:
    """Logarithmic axes, ticks at decades and one under each open bin."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = np.floor(np.log10(limits[[1, -2]]) + 1e-6)
    step = np.ceil(max(high - low, 1) / MAX_TICKS)
    decades = np.arange(low + step, high + (0 if open_above else 1), step)  # no room for one beside an open bin
    ticks = {10.0**decade: _power(10.0**decade) for decade in decades}
    below, above = np.sqrt(limits[:-1] * limits[1:])[[0, -1]]
    ticks[below] = f"0 to\n{_power(bounds[0])}"
    if open_above:
        ticks[above] = f"from\n{_power(bounds[-1])}"
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set(xlim=(limits[0], limits[-1 if open_above else -2]), ylim=(FLOOR, top))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _power(value: float) -> str:
    """A power of ten as such, any other number in digits."""
    exponent = np.log10(value)
    return f"$10^{{{exponent:.0f}}}$" if abs(exponent - round(exponent)) < 1e-6 else f"{value:.1e}"


def _note(rows: Array, errors: ScrubbedErrors) -> str:
    """How many draws there are, how many of each kind lie in the lowest bin, and the lines as numbers."""
    totals = rows.sum(1)
    if not totals.all():
        return "no errors"
    kept, ablated = rows[:, 0] / totals
    lines = f"all on {errors.unmasked:.2e}, all ablated {errors.zero:.2e}"
    return f"{totals[0]:,.0f} draws, in the lowest bin: kept {kept:.1%}, ablated {ablated:.1%}\n{lines}"
