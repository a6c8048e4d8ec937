"""How importances are distributed: a settled decomposition has them at 0 and 1."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from spd_lightning.figures.style import MAIN, Array, describe, new_figure, say, to_arrays

FLOOR = 0.5
"""Where the logarithmic count axis starts: a single value is visible, an empty bin is not."""


def importance_histograms(counts: Mapping[str, Tensor], quantity: str = "lower-leaky causal importance") -> Figure:
    """Histogram of lower-leaky importances, one panel per site, counts on a logarithmic axis shared by all panels.

    Args:
        counts: per site ``[n_bins]``, the number of values in each of ``n_bins`` equal bins over [0, 1], summed over
            examples, positions and components; batches add up.
        quantity: what the numbers are.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no site or counts are not a vector.
    """
    arrays = to_arrays("counts", counts, "n_bins")
    figure, axes = new_figure("Distribution of importances", len(arrays), 3.2, 2.2)
    top = max(10.0, 2 * max(array.max(initial=0) for array in arrays.values()))
    for panel, (site, array) in zip(axes, arrays.items(), strict=True):
        _draw(panel, array, top)
        describe(
            panel,
            site,
            _summary(array),
            quantity,
            f"values per bin (width {1 / array.size:.3g})",
        )
    return say(figure, "; ".join(f"{site}: {_summary(array)}".replace("\n", ", ") for site, array in arrays.items()))


def _draw(axes: Axes, array: Array, top: float) -> None:
    """Filled steps from `FLOOR` up."""
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.stairs(array, np.linspace(0, 1, array.size + 1), baseline=FLOOR, fill=True, color=MAIN)
    axes.set(xlim=(-0.02, 1.02), ylim=(FLOOR, top))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _summary(array: Array) -> str:
    """Number of values and how many of them sit at either end."""
    total = array.sum()
    if not total > 0:
        return "no values"
    return f"{total:,.0f} values\nlowest bin {array[0] / total:.2%}, highest bin {array[-1] / total:.2%}"
